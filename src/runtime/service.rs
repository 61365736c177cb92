//! What the service manager that started the process is told: sd_notify(3), as systemd has it.
//!
//! Ready, reloading and stopping are told as they happen. A thread of its own asks every shard
//! for its metrics, again and again. The answers make the status line, and only when all of them
//! have come is the watchdog told that the process lives. So a shard that no longer turns ends
//! in a restart, however well the other threads do.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

use crate::metrics::ShardSnapshot;
use crate::runtime::boot::ShardsHandle;

/// Time between two status lines when no watchdog asks for more of them.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// Rounds in the time that the watchdog gives: one of them may come late, or be lost.
const ROUNDS_PER_WATCHDOG: u32 = 3;
/// How long the service manager may take to know which process serves.
const BARRIER_TIME_MAX: Duration = Duration::from_secs(5);
/// Shortest time between two rounds, whatever the watchdog asks for.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// The link to the service manager. Where there is none, nothing is told.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Ends the thread of the rounds when it is dropped; `None` without a service manager.
    rounds: Option<flume::Sender<()>>,
}

impl Service {
    /// Begins to watch the shards.
    ///
    /// # Errors
    /// The thread cannot be had.
    pub(super) fn new(shards: ShardsHandle, shard_count: u16) -> io::Result<Self> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(Self { rounds: None });
        }
        let every = every(sd_notify::watchdog_enabled());
        let (rounds, end) = flume::bounded::<()>(0);
        thread::Builder::new()
            .name("service".into())
            .spawn(move || {
                let mut before = None;
                while end.recv_timeout(every) == Err(flume::RecvTimeoutError::Timeout) {
                    let round = Round::hear(&shards.stats(), shard_count, every);
                    let status = round.status(before.as_ref());
                    tell(&round.states(&status));
                    before = Some(round);
                }
            })?;
        Ok(Self {
            rounds: Some(rounds),
        })
    }

    /// Tells that the server is ready.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Tells that an upgrade has failed, and that the server goes on.
    pub(super) fn upgrade_failed(&self, cause: &str) {
        let status = format!("upgrade failed: {cause}");
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// Tells which process serves from now on, and waits until the service manager knows: this one
    /// may end then.
    pub(super) fn handed_over(&self, pid: u32) {
        if self.rounds.is_none() {
            return;
        }
        tell(&[NotifyState::MainPid(pid)]);
        if let Err(error) = barrier() {
            tracing::warn!("the service manager may not know of the new process yet: {error}");
        }
    }

    /// Tells that the configuration is read again, or that an upgrade begins.
    pub(super) fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        self.tell(&states);
    }

    /// Tells that the reload is over, whatever came of it.
    pub(super) fn reloaded(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Tells that the drain begins.
    pub(super) fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if self.rounds.is_some() {
            tell(states);
        }
    }
}

/// Time between two rounds, for the time that the watchdog gives.
fn every(watchdog: Option<Duration>) -> Duration {
    let every = watchdog.map_or(STATUS_EVERY, |limit| limit / ROUNDS_PER_WATCHDOG);
    every.clamp(EVERY_MIN, STATUS_EVERY)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager could not be told of the server's state: {error}");
    }
}

/// Waits until the service manager has read what it was told before: it closes a descriptor then,
/// as sd_notify_barrier(3) does it.
fn barrier() -> io::Result<()> {
    let (ours, theirs) = io::pipe()?;
    let socket = UnixDatagram::unbound()?;
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(&path)?,
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [theirs.as_fd()];
    beside.push(SendAncillaryMessage::ScmRights(&descriptors));
    let words = [IoSlice::new(b"BARRIER=1")];
    sendmsg(&socket, &words, &mut beside, SendFlags::NOSIGNAL)?;
    drop(theirs);
    let deadline = Instant::now() + BARRIER_TIME_MAX;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut watched = [PollFd::new(&ours, PollFlags::empty())];
        match poll(&mut watched, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the shards answered to one question.
#[derive(Debug)]
struct Round {
    began: Instant,
    connections: usize,
    messages_received: u64,
    messages_sent: u64,
    /// The shards that have not answered, in ascending order.
    silent: Vec<u16>,
}

impl Round {
    /// Waits for the answer of every shard, for so long at most.
    fn hear(
        answers: &flume::Receiver<ShardSnapshot>,
        shard_count: u16,
        patience: Duration,
    ) -> Self {
        let began = Instant::now();
        let mut round = Self {
            began,
            connections: 0,
            messages_received: 0,
            messages_sent: 0,
            silent: (0..shard_count).collect(),
        };
        while !round.silent.is_empty()
            && let Ok(answer) = answers.recv_deadline(began + patience)
        {
            let counters = &answer.metrics.counters;
            round.connections += answer.gauges.connections;
            round.messages_received += counters.messages_received;
            round.messages_sent += counters.messages_sent();
            round.silent.retain(|shard| *shard != answer.shard);
        }
        round
    }

    /// The line for those who look at the service.
    fn status(&self, before: Option<&Self>) -> String {
        if !self.silent.is_empty() {
            let silent: Vec<_> = self.silent.iter().map(u16::to_string).collect();
            return format!("shards that do not turn: {}", silent.join(", "));
        }
        let connections = self.connections;
        let Some(before) = before.filter(|before| before.silent.is_empty()) else {
            return format!("connections: {connections}");
        };
        let seconds = (self.began - before.began)
            .as_secs_f64()
            .max(f64::MIN_POSITIVE);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        format!(
            "connections: {connections}; messages/s: {:.0} in, {:.0} out",
            rate(self.messages_received, before.messages_received),
            rate(self.messages_sent, before.messages_sent),
        )
    }

    /// What is told: the line, and that the process lives only if all shards do.
    fn states<'s>(&self, status: &'s str) -> Vec<NotifyState<'s>> {
        let lives = self.silent.is_empty().then_some(NotifyState::Watchdog);
        lives
            .into_iter()
            .chain([NotifyState::Status(status)])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Gauges, ShardMetrics};

    fn answer(shard: u16, connections: usize, sent: u64) -> ShardSnapshot {
        let mut metrics = Box::<ShardMetrics>::default();
        metrics.counters.deliveries = sent;
        metrics.counters.messages_received = sent / 10;
        ShardSnapshot {
            shard,
            cpu_ns: 0,
            gauges: Gauges {
                connections,
                ..Gauges::default()
            },
            metrics,
        }
    }

    /// The round of two shards that these answers make, and what is told after it.
    fn round(answers: Vec<ShardSnapshot>) -> (Round, String) {
        let (sender, receiver) = flume::unbounded();
        for answer in answers {
            sender.send(answer).unwrap();
        }
        // The sender stays: a shard that does not turn drops nothing.
        let round = Round::hear(&receiver, 2, Duration::ZERO);
        let status = round.status(None);
        let states = round.states(&status);
        let told: Vec<_> = states.iter().map(ToString::to_string).collect();
        (round, told.join(" "))
    }

    #[test]
    fn the_watchdog_hears_of_life_only_when_every_shard_turns() {
        let (_, told) = round(vec![answer(1, 2, 0), answer(0, 3, 0)]);
        assert_eq!(told, "WATCHDOG=1 STATUS=connections: 5");
        let (_, told) = round(vec![answer(0, 3, 0)]);
        assert_eq!(told, "STATUS=shards that do not turn: 1");
        // One that answers twice does not stand for the other.
        let (_, told) = round(vec![answer(1, 3, 0), answer(1, 3, 0)]);
        assert_eq!(told, "STATUS=shards that do not turn: 0");
        let (_, told) = round(vec![]);
        assert_eq!(told, "STATUS=shards that do not turn: 0, 1");
    }

    #[test]
    fn the_status_has_the_rates_since_the_round_before() {
        let (before, _) = round(vec![answer(0, 1, 1_000), answer(1, 1, 0)]);
        let (mut now, _) = round(vec![answer(0, 1, 3_000), answer(1, 0, 1_000)]);
        now.began = before.began + Duration::from_secs(2);
        assert_eq!(
            now.status(Some(&before)),
            "connections: 1; messages/s: 150 in, 1500 out"
        );
        let (silent, _) = round(vec![answer(0, 1, 1_000)]);
        assert_eq!(now.status(Some(&silent)), "connections: 1");
    }

    #[test]
    fn rounds_come_thrice_in_the_time_of_the_watchdog() {
        assert_eq!(every(None), STATUS_EVERY);
        assert_eq!(every(Some(Duration::from_secs(15))), Duration::from_secs(5));
        assert_eq!(every(Some(Duration::from_secs(600))), STATUS_EVERY);
        assert_eq!(every(Some(Duration::ZERO)), EVERY_MIN);
    }
}
