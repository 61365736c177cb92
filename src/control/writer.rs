//! The store's own thread: commits one after another, in the order in which they were asked
//! for, so that a slow disk holds up nobody but those who wait for a write.
//!
//! After a failed commit the next one opens the file again, and first brings it to what the
//! registry says: whether the failed edits are in it was open, and they were not acknowledged.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::ControlError;
use super::registry::Registry;
use super::store::{Edit, Snapshot, Store, StoreError, StoreSource};

/// A commit that takes longer is slow, and is logged.
const SLOW: Duration = Duration::from_secs(1);
/// A failing store is logged this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Hands edits to the store's thread. Dropping it ends the thread after what was asked for.
pub(super) struct StoreWriter {
    /// `None` after [`close`](Self::close).
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    closed: Mutex<Option<oneshot::Receiver<()>>>,
    state: Arc<WriterState>,
}

/// What is known of the store while its thread is at work.
#[derive(Debug)]
pub(super) struct WriterState {
    origin: Instant,
    commits: AtomicU64,
    failures: AtomicU64,
    failed: AtomicBool,
    /// Time of all finished commits, in nanoseconds.
    spent_ns: AtomicU64,
    last_ns: AtomicU64,
    /// When the commit under way began, in nanoseconds since `origin`; 0: there is none.
    since_ns: AtomicU64,
    /// Why the last commit failed.
    failure: Mutex<Option<String>>,
}

enum Job {
    Write(Write),
    Snapshot(oneshot::Sender<Result<Snapshot, StoreError>>),
    Copy(oneshot::Sender<Result<Vec<u8>, StoreError>>),
}

struct Write {
    edits: Vec<Edit>,
    /// What has been acknowledged so far.
    registry: Arc<Registry>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl StoreWriter {
    /// Starts the thread. It inherits the core of the calling one.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(source: StoreSource) -> io::Result<Self> {
        let (jobs, asked) = mpsc::channel();
        let (closing, closed) = oneshot::channel();
        let state = Arc::new(WriterState::new());
        let mut worker = Worker {
            source,
            failed: false,
            complained: None,
            state: Arc::clone(&state),
        };
        thread::Builder::new().name("store".into()).spawn(move || {
            worker.open_when_released();
            for job in asked {
                // Whoever asked may have gone; the edits hold all the same.
                match job {
                    Job::Write(job) => {
                        let outcome = worker.write(&job);
                        let _ = job.done.send(outcome);
                    }
                    Job::Snapshot(done) => {
                        drop(done.send(worker.store().and_then(|store| store.snapshot())));
                    }
                    Job::Copy(done) => {
                        drop(done.send(worker.store().and_then(|store| store.copy())));
                    }
                }
            }
            drop(worker);
            let _ = closing.send(());
        })?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            closed: Mutex::new(Some(closed)),
            state,
        })
    }

    /// Makes edits durable, or none. `registry` is what was acknowledged before them.
    ///
    /// # Errors
    /// `Unavailable`: the disk fails, or the store is closed.
    pub(super) async fn write(
        &self,
        edits: Vec<Edit>,
        registry: Arc<Registry>,
    ) -> Result<(), ControlError> {
        let (done, outcome) = oneshot::channel();
        let job = Job::Write(Write {
            edits,
            registry,
            done,
        });
        self.ask(job, outcome).await
    }

    /// Returns the store as it is after the writes that were asked for.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be read, or is closed.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, ControlError> {
        let (done, outcome) = oneshot::channel();
        self.ask(Job::Snapshot(done), outcome).await
    }

    /// Returns the bytes of the store's file after the writes that were asked for.
    ///
    /// # Errors
    /// `Unavailable`: it cannot be read, or the last write has failed.
    pub(super) async fn copy(&self) -> Result<Vec<u8>, ControlError> {
        if let Some(failure) = self.state.failure() {
            return Err(ControlError::Unavailable(failure));
        }
        let (done, outcome) = oneshot::channel();
        self.ask(Job::Copy(done), outcome).await
    }

    async fn ask<T>(
        &self,
        job: Job,
        outcome: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, ControlError> {
        let asked = {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
        };
        if !asked {
            return Err(ControlError::Unavailable(
                "the server is shutting down".into(),
            ));
        }
        match outcome.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(ControlError::Unavailable(
                "the store's thread has ended; see the log".into(),
            )),
        }
    }

    /// Finishes what was asked for and closes the store.
    pub(super) async fn close(&self) {
        drop(
            self.jobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let closed = self
            .closed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(closed) = closed {
            // The sender goes with the thread, and the store with it.
            let _ = closed.await;
        }
    }

    /// What is known of the store.
    #[must_use]
    pub(super) fn state(&self) -> &WriterState {
        &self.state
    }
}

impl WriterState {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            commits: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            spent_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// Commits since the start.
    #[must_use]
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Failed commits since the start.
    #[must_use]
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether the last commit failed.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Why the last commit failed, if it did.
    #[must_use]
    pub(super) fn failure(&self) -> Option<String> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Time that all finished commits took.
    #[must_use]
    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }

    /// Time that the last finished commit took.
    #[must_use]
    pub(super) fn last(&self) -> Duration {
        Duration::from_nanos(self.last_ns.load(Ordering::Relaxed))
    }

    /// Since when the commit under way has been at work.
    #[must_use]
    pub(super) fn writing_for(&self) -> Option<Duration> {
        let since = self.since_ns.load(Ordering::Relaxed);
        (since > 0).then(|| {
            self.origin
                .elapsed()
                .saturating_sub(Duration::from_nanos(since))
        })
    }

    fn begin(&self) {
        self.since_ns
            .store(nanoseconds(self.origin.elapsed()).max(1), Ordering::Relaxed);
    }

    fn end(&self, outcome: &Result<(), StoreError>) -> Duration {
        let since = Duration::from_nanos(self.since_ns.swap(0, Ordering::Relaxed));
        let took = self.origin.elapsed().saturating_sub(since);
        self.last_ns.store(nanoseconds(took), Ordering::Relaxed);
        self.spent_ns
            .fetch_add(nanoseconds(took), Ordering::Relaxed);
        let counter = if outcome.is_ok() {
            &self.commits
        } else {
            &self.failures
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let failure = outcome.as_ref().err().map(ToString::to_string);
        self.failed.store(failure.is_some(), Ordering::Relaxed);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        took
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

struct Worker {
    source: StoreSource,
    /// The last commit failed: the store must be opened again.
    failed: bool,
    /// When a failure was logged last.
    complained: Option<Instant>,
    state: Arc<WriterState>,
}

impl Worker {
    /// Waits until another process has let go of the store, and opens it.
    fn open_when_released(&mut self) {
        let StoreSource::Later(later) = &self.source else {
            return;
        };
        later.wait();
        if let Err(error) = self.store() {
            self.complain(&error);
            self.state.begin();
            self.state.end(&Err(error));
        }
    }

    /// The store, which is opened if it is not.
    fn store(&mut self) -> Result<&mut Store, StoreError> {
        if let StoreSource::Later(later) = &self.source {
            let store = later.open()?;
            tracing::info!("the store is open");
            self.source = StoreSource::Open(store);
        }
        self.source.open_store()
    }

    fn write(&mut self, job: &Write) -> Result<(), StoreError> {
        self.state.begin();
        let was_failed = self.failed;
        let outcome = if was_failed {
            self.write_again(job)
        } else {
            self.store().and_then(|store| store.commit(&job.edits))
        };
        self.failed = outcome.is_err();
        let took = self.state.end(&outcome);
        match &outcome {
            Ok(()) if was_failed => {
                self.complained = None;
                tracing::info!("the store can be written again");
            }
            Ok(()) => {}
            Err(error) => self.complain(error),
        }
        if took > SLOW {
            tracing::warn!(
                seconds = took.as_secs_f32(),
                "a write of the store took long: the disk is slow"
            );
        }
        outcome
    }

    fn write_again(&mut self, job: &Write) -> Result<(), StoreError> {
        let store = self.store()?;
        let found = store.reopen()?;
        let mut edits = job.registry.corrections(&found);
        edits.extend_from_slice(&job.edits);
        store.commit(&edits)
    }

    fn complain(&mut self, error: &StoreError) {
        let long_ago = |at: Instant| at.elapsed() >= COMPLAIN_EVERY;
        if self.complained.is_none_or(long_ago) {
            self.complained = Some(Instant::now());
            tracing::error!("{error}");
        }
    }
}
