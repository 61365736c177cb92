//! Memory and CPU time of the server under attack, by its process id or by its own metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::abuse::exchange;
use crate::failure::Failure;
use crate::measure::process::ProcessProbe;

/// Between two readings of a process.
const INTERVAL: Duration = Duration::from_millis(25);
/// Between two readings of the metrics.
const METRICS_INTERVAL: Duration = Duration::from_millis(500);

/// Where the figures come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// `/proc` of this process.
    Process(ProcessProbe),
    /// `/metrics` of the admin listener, and its token.
    Metrics(SocketAddr, Option<String>),
}

impl Source {
    /// Resident memory now, bytes.
    ///
    /// # Errors
    /// [`Failure::ServerProcess`] when it has ended, or no answer of the admin listener.
    pub(super) fn memory_bytes(&self) -> Result<u64, Failure> {
        match self {
            Source::Process(probe) => Ok(probe.sample()?.rss_bytes),
            Source::Metrics(address, token) => {
                let name = "process_resident_memory_bytes";
                exchange::metric(*address, token.as_deref(), name).map(|it| it as u64)
            }
        }
    }

    /// CPU time so far, seconds.
    ///
    /// # Errors
    /// As [`Source::memory_bytes`].
    pub(super) fn cpu_seconds(&self) -> Result<f64, Failure> {
        match self {
            Source::Process(probe) => Ok(probe.sample()?.cpu_ns as f64 / 1e9),
            Source::Metrics(address, token) => {
                let name = "process_cpu_seconds_total";
                exchange::metric(*address, token.as_deref(), name)
            }
        }
    }

    fn interval(&self) -> Duration {
        match self {
            Source::Process(_) => INTERVAL,
            Source::Metrics(..) => METRICS_INTERVAL,
        }
    }
}

/// Reads the memory again and again, in a thread of its own; and the most that there was, which the
/// kernel keeps for a process of ours.
pub(super) struct Watch {
    kept_by: Option<ProcessProbe>,
    peak: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins.
    pub(super) fn begin(source: Source) -> Watch {
        let kept_by = match &source {
            Source::Process(probe) if probe.forget_peak() => Some(probe.clone()),
            _ => None,
        };
        let peak = Arc::new(AtomicU64::new(0));
        let stops = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (peak, stops) = (Arc::clone(&peak), Arc::clone(&stops));
            move || {
                while !stops.load(Ordering::Relaxed) {
                    // A server that cannot be asked now can be asked later, or its end is found.
                    if let Ok(bytes) = source.memory_bytes() {
                        peak.fetch_max(bytes, Ordering::Relaxed);
                    }
                    thread::sleep(source.interval());
                }
            }
        });
        Watch {
            kept_by,
            peak,
            stops,
            thread: Some(thread),
        }
    }

    /// The most so far, bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        let kept = self.kept_by.as_ref().and_then(ProcessProbe::peak_bytes);
        kept.unwrap_or_default()
            .max(self.peak.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _panicked = thread.join();
        }
    }
}
