//! Leads one run through its phases: starts the load cores, waits until they are ready, opens and
//! closes the measured window, reads the server's CPU and memory at its edges, gathers the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use hdrhistogram::Histogram;

use crate::client::target::Target;
use crate::clock::{MS, SECOND, now_ns};
use crate::driver::core::Core;
use crate::driver::gathered::{Gathered, Interval};
use crate::driver::phase::Phase;
use crate::driver::worker::Worker;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::live::Live;
use crate::measure::process::{ProcessProbe, ProcessSample};
use crate::measure::recorder::{Counters, Part, Recorder, Window};
use crate::workload::{Plan, RunContext, Verified, Workload};

/// How often it looks whether somebody interrupts the run, ns.
const LOOK_NS: u64 = 50 * MS;
/// Shortest interval of the time series, ns.
const INTERVAL_NS_MIN: u64 = 250 * MS;
/// Most intervals of a run.
const INTERVAL_COUNT_MAX: u64 = 400;
/// A set-up in which no further connection opens for this long has failed, ns.
const SETUP_STALL_NS_MAX: u64 = 60 * SECOND;
/// After the window, a run that does not end within this time has failed, ns.
const END_NS_MAX: u64 = 30 * SECOND;

/// Everything one run needs.
pub(crate) struct Job<'a> {
    /// The workload.
    pub plan: &'a dyn Plan,
    /// The server.
    pub target: Arc<Target>,
    /// Reads the server process, if its pid is known.
    pub probe: Option<ProcessProbe>,
    /// Cores of the load.
    pub cpus: Vec<usize>,
    /// Connects under way at once, per core.
    pub concurrency: usize,
    /// Whether the load cores never sleep under load.
    pub spins: bool,
    /// Between set-up and load, ns.
    pub settle_ns: u64,
    /// Load before the window, ns.
    pub warmup_ns: u64,
    /// Length of the window, ns.
    pub duration_ns: u64,
    /// Part of channel names.
    pub tag: String,
    /// Ends the run early.
    pub interrupt: Interrupt,
}

/// What a run yields, before anything is computed from it.
pub(crate) struct Outcome {
    /// The window as it was.
    pub window: Window,
    /// Whether the window ended before its time.
    pub was_interrupted: bool,
    /// In order of time.
    pub intervals: Vec<Interval>,
    /// Per series, over the window, ns.
    pub series: Vec<Histogram<u64>>,
    /// How late this harness sent, ns.
    pub lag: Histogram<u64>,
    /// Counted in the window.
    pub counters: Counters,
    /// The server before the first connection.
    pub before: Option<ProcessSample>,
    /// The server after set-up and settling.
    pub ready: Option<ProcessSample>,
    /// The server at the beginning of the window.
    pub from: Option<ProcessSample>,
    /// The server at its end.
    pub to: Option<ProcessSample>,
    /// The server once per interval of the window.
    pub samples: Vec<ProcessSample>,
    /// Connections open after set-up.
    pub open_after_setup: u32,
    /// Verdicts of the load cores.
    pub verified: Verified,
}

/// Runs `job` once.
///
/// # Errors
/// The first [`Failure`] of any load core or of the server process.
pub(crate) fn run(job: &Job<'_>, live: &mut Live) -> Result<Outcome, Failure> {
    let phase = Arc::new(Phase::new(job.cpus.len() as u32)?);
    let before = sample(job)?;
    let (sender, parts) = channel();
    let context = RunContext {
        tag: job.tag.clone(),
        core_count: phase.core_count,
    };
    let mut handles = Vec::new();
    for (index, workload) in job.plan.workloads(&context).into_iter().enumerate() {
        let recorder = Recorder::new(job.plan.series().len(), sender.clone());
        handles.push(spawn(job, index, workload, Arc::clone(&phase), recorder)?);
    }
    drop(sender);
    let mut gathered = Gathered::new(job.plan.series().len(), phase.core_count as usize);
    let conducted = conduct(job, &phase, &parts, &mut gathered, live);
    if let Err(failure) = conducted.as_ref() {
        phase.fail(failure.clone());
    }
    let mut verified = Verified::default();
    for handle in handles {
        match handle.join() {
            Ok(Some(share)) => {
                verified.messages += share.messages;
                verified.notes.extend(share.notes);
            }
            Ok(None) => {}
            Err(error) => phase.fail(Failure::Executor(error.to_string())),
        }
    }
    if let Some(failure) = phase.failure() {
        return Err(failure);
    }
    let edges = conducted?;
    gathered.finish(&edges.window);
    Ok(Outcome {
        window: edges.window,
        was_interrupted: edges.was_interrupted,
        intervals: gathered.intervals,
        series: gathered.series,
        lag: gathered.lag,
        counters: gathered.counters,
        before,
        ready: edges.ready,
        from: edges.from,
        to: edges.to,
        samples: edges.samples,
        open_after_setup: edges.open_after_setup,
        verified,
    })
}

fn sample(job: &Job<'_>) -> Result<Option<ProcessSample>, Failure> {
    job.probe.as_ref().map(ProcessProbe::sample).transpose()
}

fn spawn(
    job: &Job<'_>,
    index: usize,
    workload: Box<dyn Workload + Send>,
    phase: Arc<Phase>,
    recorder: Recorder,
) -> Result<ExecutorJoinHandle<Option<Verified>>, Failure> {
    let target = Arc::clone(&job.target);
    let (concurrency, spins) = (job.concurrency, job.spins);
    LocalExecutorBuilder::new(Placement::Fixed(job.cpus[index]))
        .name("load")
        .io_memory(0)
        .spawn(move || async move {
            // Without it the kernel may sleep 50 µs longer than asked.
            let _unsupported =
                rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
            match Core::new(index, target, Arc::clone(&phase), recorder, concurrency) {
                Ok(core) => Worker::new(core, workload, spins).run().await,
                Err(failure) => {
                    phase.fail(failure);
                    None
                }
            }
        })
        .map_err(|error| Failure::Executor(error.to_string()))
}

/// What is known of the server at the edges of the phases.
struct Edges {
    window: Window,
    was_interrupted: bool,
    ready: Option<ProcessSample>,
    from: Option<ProcessSample>,
    to: Option<ProcessSample>,
    samples: Vec<ProcessSample>,
    open_after_setup: u32,
}

fn conduct(
    job: &Job<'_>,
    phase: &Phase,
    parts: &Receiver<Part>,
    gathered: &mut Gathered,
    live: &mut Live,
) -> Result<Edges, Failure> {
    wait_for_setup(job, phase, parts, live)?;
    let settled_ns = now_ns() + job.settle_ns;
    wait_until(settled_ns, job, |deadline_ns| {
        gathered.until(parts, deadline_ns, phase, |_, _| {})
    })?;
    let ready = sample(job)?;
    let mut window = window_of(job);
    let open_after_setup = phase.open.load(Ordering::Relaxed);
    phase.start(window);
    live.begin(&window);
    wait_until(window.from_ns, job, |deadline_ns| {
        gathered.until(parts, deadline_ns, phase, |interval, latencies| {
            live.interval(interval, latencies, None);
        })
    })?;
    let from = sample(job)?;
    let mut samples = Vec::from_iter(from);
    let mut boundary_ns = window.from_ns + window.interval_ns;
    let mut was_interrupted = false;
    loop {
        let deadline_ns = if job.plan.is_counted() {
            now_ns() + MS
        } else {
            boundary_ns.min(window.to_ns).min(now_ns() + LOOK_NS)
        };
        gathered.until(parts, deadline_ns, phase, |interval, latencies| {
            live.interval(interval, latencies, samples.last());
        })?;
        let now_ns = now_ns();
        if job.plan.is_counted() && phase.all(&phase.finished) {
            window.to_ns = now_ns;
            phase.end(now_ns);
        } else if job.interrupt.is_requested() && now_ns < window.to_ns {
            window.to_ns = now_ns;
            was_interrupted = true;
            phase.end(now_ns);
        }
        if now_ns >= boundary_ns.min(window.to_ns) {
            samples.extend(sample(job)?);
            boundary_ns += window.interval_ns;
        }
        if now_ns >= window.to_ns {
            break;
        }
    }
    let to = samples.last().copied();
    let end_ns = now_ns() + END_NS_MAX;
    gathered.until(parts, end_ns, phase, |interval, latencies| {
        live.interval(interval, latencies, to.as_ref());
    })?;
    if !gathered.is_over {
        return Err(Failure::Timeout(
            "the load cores did not come to an end".into(),
        ));
    }
    Ok(Edges {
        window,
        was_interrupted,
        ready,
        from,
        to,
        samples,
        open_after_setup,
    })
}

/// Lets `until` work up to `to_ns`, before anything is measured.
fn wait_until(
    to_ns: u64,
    job: &Job<'_>,
    mut until: impl FnMut(u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while now_ns() < to_ns {
        give_up_if_interrupted(job)?;
        until(to_ns.min(now_ns() + LOOK_NS))?;
    }
    Ok(())
}

fn give_up_if_interrupted(job: &Job<'_>) -> Result<(), Failure> {
    if job.interrupt.is_requested() {
        return Err(Failure::Interrupted("nothing had been measured yet".into()));
    }
    Ok(())
}

fn window_of(job: &Job<'_>) -> Window {
    let go_ns = now_ns() + 20 * MS;
    if job.plan.is_counted() {
        return Window {
            go_ns,
            from_ns: go_ns,
            to_ns: u64::MAX,
            interval_ns: INTERVAL_NS_MIN,
        };
    }
    let interval_ns = INTERVAL_NS_MIN.max(job.duration_ns / INTERVAL_COUNT_MAX);
    let interval_count = (job.duration_ns + interval_ns / 2) / interval_ns;
    let from_ns = go_ns + job.warmup_ns;
    let to_ns = from_ns + interval_count.max(1) * interval_ns;
    Window {
        go_ns,
        from_ns,
        to_ns,
        interval_ns,
    }
}

fn wait_for_setup(
    job: &Job<'_>,
    phase: &Phase,
    parts: &Receiver<Part>,
    live: &mut Live,
) -> Result<(), Failure> {
    let (mut seen, mut since_ns) = (0, now_ns());
    while !phase.all(&phase.ready) {
        give_up_if_interrupted(job)?;
        if phase.is_aborted() {
            return Err(phase
                .failure()
                .unwrap_or(Failure::Timeout("aborted".into())));
        }
        match parts.recv_timeout(Duration::from_millis(20)) {
            // A part before the start is a core's last.
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let cause = "a load thread ended at its start".into();
                return Err(phase.failure().unwrap_or(Failure::Executor(cause)));
            }
        }
        let open = phase.open.load(Ordering::Relaxed);
        if open != seen {
            (seen, since_ns) = (open, now_ns());
        }
        live.setup(open, job.plan.connection_count());
        if now_ns() > since_ns + SETUP_STALL_NS_MAX {
            let what = format!("the set-up stands still at {open} connections");
            return Err(Failure::Timeout(what));
        }
    }
    Ok(())
}
