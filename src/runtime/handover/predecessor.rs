//! The old process: it conducts, one function a stage, and serves on if anything fails.
//!
//! What was begun is undone in one place ([`Attempt::abandon`]): the new process is told and
//! ended, shards and admin listener go on, and changes that have waited are made.

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::{Resource, getrlimit};

use super::channel::{Channel, ChannelError, DESCRIPTORS_MAX, Frame, Patience};
use super::fault::{Fault, Side, strike};
use super::lineage::Lineage;
use super::memory_file::sealed;
use super::messages::{
    Abort, Counts, Failed, Got, Hello, Listeners, Nothing, Sockets, State, Welcome, kind,
};
use super::origin::Origin;
use super::outcome::{Committed, Outcome, Trouble, soon};
use super::stage::Stage;
use crate::config::HandoverConfig;
use crate::control::{ControlHandle, HeldStore};
use crate::runtime::boot::ShardsHandle;
use crate::runtime::clock::Clock;
use crate::runtime::command::Exported;
use crate::runtime::listener::Endpoint;
use crate::shard::handover::{FORMAT, Waves};

/// Descriptors that the new process needs beside one for each connection.
const DESCRIPTORS_BESIDE: u64 = 512;
/// Listeners in one message: their addresses have room in it.
const LISTENERS_MAX: usize = 200;
/// Messages with sockets that may be under way: the kernel bounds the descriptors that are.
const SOCKETS_AHEAD: usize = 2;
/// Of the pause, the part in which shards become quiet.
const QUIET_PART: u32 = 2;
/// Between two questions whether they are.
const QUIET_PAUSE: Duration = Duration::from_micros(200);
/// How long shards may take to go on after all.
const THAW_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a process takes to end that has closed its end of the channel.
const EXIT_TIME_MAX: Duration = Duration::from_secs(2);
const EXIT_PAUSE: Duration = Duration::from_millis(5);

/// What is handed over, and how.
#[derive(Clone, Copy)]
pub(in crate::runtime) struct Parts<'p> {
    pub shards: &'p ShardsHandle,
    pub connections: u64,
    /// The public addresses as they are configured, and as they are.
    pub configured: &'p [Endpoint],
    pub endpoints: &'p [Endpoint],
    pub admin: Option<&'p TcpListener>,
    pub control: &'p ControlHandle,
    pub clock: Clock,
    pub settings: &'p HandoverConfig,
    pub origin: &'p Origin,
    pub lineage: &'p Lineage,
    /// Whether the server was told to end.
    pub is_stopping: &'p dyn Fn() -> bool,
}

/// Hands everything over to a new process, or to nobody.
pub(in crate::runtime) fn hand_over(parts: Parts<'_>) -> Outcome {
    let (channel, end) = match Channel::pair() {
        Ok(pair) => pair,
        Err(error) => {
            return Outcome::Abandoned {
                stage: Stage::Check,
                cause: error.to_string(),
            };
        }
    };
    let prepare = Duration::from_millis(parts.settings.prepare_ms);
    let attempt = Attempt {
        parts,
        channel,
        stage: Stage::Check,
        child: None,
        held: None,
        is_frozen: false,
        deadline: Instant::now() + prepare,
        ended: None,
    };
    attempt.conduct(end)
}

struct Attempt<'p> {
    parts: Parts<'p>,
    channel: Channel,
    stage: Stage,
    child: Option<Child>,
    held: Option<HeldStore>,
    is_frozen: bool,
    deadline: Instant,
    /// How the new process had ended by itself, where that was looked at before.
    ended: Option<ExitStatus>,
}

/// What the new process has said of itself.
struct Met {
    pid: u32,
    version: String,
}

impl Attempt<'_> {
    fn conduct(mut self, end: OwnedFd) -> Outcome {
        match self.prepare(end).and_then(|met| self.pause(met)) {
            Ok((met, pause, connections)) => match self.held.take() {
                Some(held) => Outcome::Committed(Committed {
                    pid: met.pid,
                    version: met.version,
                    pause,
                    connections,
                    channel: self.channel,
                    held,
                }),
                None => Outcome::Lost,
            },
            Err(trouble) => self.abandon(trouble),
        }
    }

    /// All are served as ever.
    fn prepare(&mut self, end: OwnedFd) -> Result<Met, Trouble> {
        self.check()?;
        let pid = self.spawn(end)?;
        let hello = self.hear_hello()?;
        self.welcome(&hello)?;
        self.enter(Stage::Ready)?;
        self.hear(kind::READY)?;
        Ok(Met {
            pid,
            version: hello.version,
        })
    }

    /// Nobody is served. Returns for how long that was, and how many connections there are.
    fn pause(&mut self, met: Met) -> Result<(Met, Duration, u64), Trouble> {
        let began = Instant::now();
        let longest = Duration::from_millis(self.parts.settings.pause_max_ms);
        self.deadline = began + longest;
        let frozen_ms = self.freeze()?;
        self.wait_for_quiet(began + longest / QUIET_PART)?;
        let exported = self.export()?;
        let counts = self.send(frozen_ms, &exported)?;
        self.hear_imported(counts)?;
        self.commit(longest)?;
        Ok((met, began.elapsed(), counts.connections))
    }

    /// Comes to a stage.
    fn enter(&mut self, stage: Stage) -> Result<(), Trouble> {
        self.stage = stage;
        if let Some(Fault::Garble) = strike(Side::Old, stage) {
            self.channel.send_bytes(b"garbled", &[], soon())?;
        }
        match (self.parts.is_stopping)() {
            true => Err(STOPPING.into()),
            false => Ok(()),
        }
    }

    fn with_patience<T>(&self, wait: impl FnOnce(Patience<'_>) -> T) -> T {
        let is_stopping = self.parts.is_stopping;
        let is_over = move || is_stopping().then_some(STOPPING);
        wait(Patience {
            deadline: self.deadline,
            is_over: &is_over,
        })
    }

    fn say(
        &self,
        kind: u16,
        message: &impl minicbor::Encode<()>,
        beside: &[BorrowedFd<'_>],
    ) -> Result<(), Trouble> {
        let send = |patience: Patience<'_>| self.channel.send(kind, message, beside, patience);
        Ok(self.with_patience(send)?)
    }

    /// The next message, which must be of that kind.
    fn hear(&self, kind: u16) -> Result<Frame, Trouble> {
        let frame = self.with_patience(|patience| self.channel.receive(patience))?;
        expected(frame, kind)
    }

    /// A1: whether it can be done at all.
    fn check(&mut self) -> Result<(), Trouble> {
        self.enter(Stage::Check)?;
        let parts = &self.parts;
        if parts.endpoints.iter().any(|endpoint| endpoint.tls) {
            return Err(
                "the server speaks TLS, and connections with TLS cannot be handed over: \
                        end TLS in front of it, or restart it"
                    .into(),
            );
        }
        if parts.shards.keeps_on_disk() {
            return Err(ON_DISK.into());
        }
        let needed = parts.connections + DESCRIPTORS_BESIDE;
        match getrlimit(Resource::Nofile).current {
            Some(limit) if needed > limit => Err(format!(
                "{} connections need a limit on open files of {needed}, and it is {limit}; raise \
                 LimitNOFILE or `ulimit -n`",
                parts.connections
            )
            .into()),
            _ => Ok(()),
        }
    }

    /// A2: the new process is started.
    fn spawn(&mut self, end: OwnedFd) -> Result<u32, Trouble> {
        self.enter(Stage::Spawn)?;
        let origin = self.parts.origin;
        let program = origin.program(self.parts.settings.binary.as_deref());
        let failed = |program: &Path, error| format!("{}: {error}", program.display());
        let child = origin.start(program, end);
        let child = child.map_err(|error| failed(program, error))?;
        tracing::info!(pid = child.id(), program = %program.display(), "upgrade: started");
        let pid = child.id();
        self.child = Some(child);
        Ok(pid)
    }

    /// A3: it has read its configuration.
    fn hear_hello(&mut self) -> Result<Hello, Trouble> {
        self.enter(Stage::Hello)?;
        let hello: Hello = self.hear(kind::HELLO)?.read()?;
        let (first, last) = hello.reads;
        if !(first..=last).contains(&FORMAT) {
            return Err(format!(
                "version {} reads the formats {first} to {last}, and not {FORMAT}, which this one \
                 writes; restart the server",
                hello.version
            )
            .into());
        }
        Ok(hello)
    }

    /// A4: it gets listeners and a copy of the store, which nobody changes from now on.
    fn welcome(&mut self, hello: &Hello) -> Result<(), Trouble> {
        self.enter(Stage::Welcome)?;
        tracing::debug!(
            version = hello.version,
            shards = hello.shard_count,
            "upgrade: hello"
        );
        let parts = self.parts;
        let held = parts.control.hold(self.deadline);
        let held = self.held.insert(held.map_err(|error| error.to_string())?);
        let no_file = |error: std::io::Error| format!("the copy of the store: {error}");
        let copy = sealed("store", &held.take_copy()).map_err(no_file)?;
        let mut listeners = parts.shards.listeners(self.deadline)?;
        // Shards may share one: it is handed over once.
        let mut seen = HashSet::new();
        listeners.retain(|(fd, _)| fstat(fd).is_ok_and(|it| seen.insert(it.st_ino)));
        let mut beside = vec![copy.as_fd()];
        beside.extend(parts.admin.map(AsFd::as_fd));
        let welcome = Welcome {
            format: FORMAT,
            features_used: 0,
            shard_count: parts.shards.count(),
            clock_origin_ns: parts.clock.origin_ns(),
            generation: parts.lineage.generation + 1,
            listeners: listeners.len() as u32,
            has_admin: parts.admin.is_some(),
            done: parts.lineage.done.load(Relaxed),
            failed: parts.lineage.failed.load(Relaxed),
            pause_max_ms: parts.settings.pause_max_ms,
            state_bytes_max: parts.settings.state_max_bytes,
        };
        self.say(kind::WELCOME, &welcome, &beside)?;
        for some in listeners.chunks(LISTENERS_MAX) {
            let configured = some.iter().map(|(fd, _)| self.configured(fd));
            let message = Listeners {
                configured: configured.collect::<Result<_, _>>()?,
            };
            let beside: Vec<_> = some.iter().map(|(fd, _)| fd.as_fd()).collect();
            self.say(kind::LISTENERS, &message, &beside)?;
        }
        Ok(())
    }

    /// The address of a listener, as it is configured.
    fn configured(&self, listener: &OwnedFd) -> Result<String, Trouble> {
        let copy = listener.try_clone().map_err(|error| error.to_string())?;
        let address = TcpListener::from(copy).local_addr();
        let address = address.map_err(|error| error.to_string())?;
        let mut all = self.parts.endpoints.iter().zip(self.parts.configured);
        let found = all.find(|(endpoint, _)| endpoint.address == address);
        let configured = found.map_or(address, |(_, configured)| configured.address);
        Ok(configured.to_string())
    }

    /// B1: nobody is served any more. Returns since when, on the server's clock.
    fn freeze(&mut self) -> Result<u64, Trouble> {
        self.enter(Stage::Freeze)?;
        if self.parts.shards.keeps_on_disk() {
            return Err(ON_DISK.into());
        }
        self.is_frozen = true;
        self.parts.control.set_serving(false);
        let frozen_ms = self.parts.clock.now().mono_ms;
        self.parts.shards.freeze(self.deadline)?;
        Ok(frozen_ms)
    }

    /// B2: what is on its way between shards comes to its end.
    fn wait_for_quiet(&mut self, deadline: Instant) -> Result<(), Trouble> {
        self.enter(Stage::Quiet)?;
        let mut waves = Waves::default();
        while !self.parts.shards.ask_quiet(&mut waves, deadline)? {
            if Instant::now() >= deadline {
                return Err("the shards did not become quiet in time".into());
            }
            thread::sleep(QUIET_PAUSE);
        }
        Ok(())
    }

    /// B3: shards write what they hand over, and do nothing from then on.
    fn export(&mut self) -> Result<Vec<Exported>, Trouble> {
        self.enter(Stage::Export)?;
        let exported = self.parts.shards.export(self.deadline)?;
        let bytes: usize = exported.iter().map(|it| it.state.len()).sum();
        let bytes_max = self.parts.settings.state_max_bytes;
        match bytes as u64 > bytes_max {
            true => Err(format!(
                "the state has {bytes} bytes, more than handover.state_max_bytes, {bytes_max}"
            )
            .into()),
            false => Ok(exported),
        }
    }

    /// B4: the state, and the sockets.
    fn send(&mut self, frozen_ms: u64, exported: &[Exported]) -> Result<Counts, Trouble> {
        self.enter(Stage::Send)?;
        let no_file = |error: std::io::Error| format!("a file in memory: {error}");
        let mut counts = Counts::default();
        for shard in exported {
            counts.add(shard.counts);
            self.report_usage(shard)?;
            let state = sealed("state", &shard.state).map_err(no_file)?;
            let before = sealed("sockets", &shard.before).map_err(no_file)?;
            let message = State {
                shard: shard.shard,
                connections: shard.sockets.len() as u32,
                frozen_ms,
                of: exported.len() as u16,
            };
            self.say(kind::STATE, &message, &[state.as_fd(), before.as_fd()])?;
        }
        let usage = self.parts.control.usage(self.deadline);
        let usage = usage.map_err(|error| error.to_string())?;
        let usage = sealed("usage", &usage).map_err(no_file)?;
        self.say(kind::USAGE, &Nothing {}, &[usage.as_fd()])?;
        let (mut ahead, mut total) = (0, 0);
        for shard in exported {
            let mut first = 0;
            for some in shard.sockets.chunks(DESCRIPTORS_MAX) {
                // SAFETY: the shard that owns these sockets closes none as long as it does
                // nothing, and that lasts until it is told to go on, which is after this.
                let borrow = |raw: &i32| unsafe { BorrowedFd::borrow_raw(*raw) };
                let beside: Vec<_> = some.iter().map(borrow).collect();
                let message = Sockets {
                    shard: shard.shard,
                    first,
                    count: some.len() as u32,
                };
                self.say(kind::SOCKETS, &message, &beside)?;
                first += message.count;
                total += u64::from(message.count);
                ahead += 1;
                if ahead > SOCKETS_AHEAD {
                    let _: Got = self.hear(kind::GOT)?.read()?;
                    ahead -= 1;
                }
            }
        }
        let mut got = 0;
        for _ in 0..ahead {
            got = self.hear(kind::GOT)?.read::<Got>()?.sockets;
        }
        match ahead == 0 || got == total {
            true => Ok(counts),
            false => Err(format!("the new process got {got} of {total} sockets").into()),
        }
    }

    fn report_usage(&self, shard: &Exported) -> Result<(), Trouble> {
        let mut left = shard.usage.clone();
        while let Err(deltas) = self.parts.control.report_usage(left) {
            if Instant::now() >= self.deadline {
                return Err("what apps have used could not be counted in time".into());
            }
            left = deltas;
            thread::sleep(QUIET_PAUSE);
        }
        Ok(())
    }

    /// B5: the new shards go on with it.
    fn hear_imported(&mut self, counts: Counts) -> Result<(), Trouble> {
        self.enter(Stage::Import)?;
        let imported: Counts = self.hear(kind::IMPORTED)?.read()?;
        match imported == counts {
            true => Ok(()),
            false => Err(format!("{counts:?} was handed over, and {imported:?} arrived").into()),
        }
    }

    /// B6: from the new process's word on all of it is its own.
    fn commit(&mut self, longest: Duration) -> Result<(), Trouble> {
        self.enter(Stage::Commit)?;
        self.say(kind::COMMIT, &Nothing {}, &[])?;
        let patience = Patience {
            deadline: Instant::now() + longest,
            is_over: &|| None,
        };
        let trouble = loop {
            match self.channel.receive(patience) {
                Ok(frame) if frame.kind == kind::TAKEN => return Ok(()),
                Ok(frame) if frame.kind == kind::FAILED => break failure(&frame),
                // Only that word decides, whatever else is said.
                Ok(_) | Err(ChannelError::Garbled(_)) => {}
                Err(error) => break error.into(),
            }
        };
        // Whether it had taken over before it was ended decides.
        self.wait_for_exit_of(&trouble);
        self.ended = self.end_child();
        match self.left_over(kind::TAKEN) {
            Some(_) => Err(Trouble::Lost),
            None => Err(trouble),
        }
    }

    /// A message of that kind among those that the new process has sent before it ended.
    fn left_over(&self, kind: u16) -> Option<Frame> {
        loop {
            match self.channel.take() {
                Ok(frame) if frame.kind == kind => return Some(frame),
                Ok(_) | Err(ChannelError::Garbled(_)) => {}
                Err(_) => return None,
            }
        }
    }

    /// Ends the new process, and returns how it had ended by itself, if it had.
    fn end_child(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        // These fail only if it has been waited for.
        let before = child.try_wait().ok().flatten();
        let _ = child.kill();
        let _ = child.wait();
        before
    }

    /// Waits a moment for the end of a process that has closed the channel.
    fn wait_for_exit_of(&mut self, trouble: &Trouble) {
        if !matches!(trouble, Trouble::Ended) {
            return;
        }
        let deadline = Instant::now() + EXIT_TIME_MAX;
        let Some(child) = &mut self.child else { return };
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(EXIT_PAUSE);
        }
    }

    /// Everything is as it was before.
    fn abandon(mut self, trouble: Trouble) -> Outcome {
        if let Trouble::Lost = trouble {
            return Outcome::Lost;
        }
        let text = match &trouble {
            Trouble::Cause(cause) => cause.as_str(),
            _ => "the new process has ended",
        };
        let abort = Abort {
            cause: text.to_owned(),
        };
        let now = Patience {
            deadline: Instant::now(),
            is_over: &|| None,
        };
        // It is ended whether or not it hears.
        let _ = self.channel.send(kind::ABORT, &abort, &[], now);
        if self.is_frozen {
            if !self.parts.shards.thaw(Instant::now() + THAW_TIME_MAX) {
                tracing::error!("upgrade: a shard does not go on");
            }
            self.parts.control.set_serving(true);
        }
        drop(self.held.take());
        self.wait_for_exit_of(&trouble);
        let status = self.end_child().or(self.ended);
        let trouble = match trouble {
            // Its last words say more than its end.
            Trouble::Ended => self
                .left_over(kind::FAILED)
                .map_or(Trouble::Ended, |frame| failure(&frame)),
            other => other,
        };
        let cause = match (trouble, status) {
            (Trouble::Cause(cause), _) => cause,
            (_, Some(status)) => format!(
                "the new process ended with {status}; what it wrote to the log before says why"
            ),
            (_, None) => "the new process closed its end of the channel".to_owned(),
        };
        Outcome::Abandoned {
            stage: self.stage,
            cause,
        }
    }
}

/// Why a server is not upgraded that keeps history on disk.
const ON_DISK: &str = "history is kept on disk, which cannot be handed over: restart the server";
/// Why an attempt is given up that could go on.
const STOPPING: &str = "the server was told to end";

/// Why the new process gives up.
fn failure(frame: &Frame) -> Trouble {
    match frame.read() {
        Ok(Failed { cause }) => format!("the new process: {cause}").into(),
        Err(error) => error.into(),
    }
}

/// A message of that kind; the new process may have given up instead.
fn expected(frame: Frame, kind: u16) -> Result<Frame, Trouble> {
    match frame.kind {
        it if it == kind => Ok(frame),
        kind::FAILED => Err(failure(&frame)),
        other => Err(format!("the new process sent message {other} in place of {kind}").into()),
    }
}
