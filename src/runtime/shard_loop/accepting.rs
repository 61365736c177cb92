//! New connections: taken in, held off while descriptors are short, refused at the end.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::net::Net;
use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::metrics::label::AcceptPause;
use crate::runtime::listener::Listeners;
use crate::shard::input::{Input, MemoryLevel};
use crate::shard::state::Shard;

/// Connections that a listener accepts in one turn: each costs 5 to 20 µs, and in a storm of
/// connects those that are established wait for them.
const ACCEPTS_PER_TURN: usize = 4;
/// Connections that a listener accepts at the end: as many as wait by default (`somaxconn` of
/// Linux).
const LAST_ACCEPTS_MAX: usize = 4_096;
/// Pause before accepting again where something has run out.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What the log says about pauses, for all shards.
static OUT_OF_DESCRIPTORS: Throttle = Throttle::new();
static TOO_MANY_STRANGERS: Throttle = Throttle::new();
static REFUSED_BY_KERNEL: Throttle = Throttle::new();

/// See the top of this file.
pub(super) struct Accepting {
    listeners: Listeners,
    /// Listeners on which somebody waits to be accepted.
    due: VecDeque<u32>,
    /// Listeners that stopped, and when to start them again.
    paused: Vec<(u32, u64)>,
    /// Since when listeners have taken nobody, one pause after the other.
    stopped: Vec<(u32, u64)>,
}

impl Accepting {
    /// Watches the listeners.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn new(listeners: Listeners, net: &mut Net) -> io::Result<Self> {
        for (at, listener) in listeners.iter().enumerate() {
            net.ring.watch_listener(at as u32, listener.raw())?;
        }
        Ok(Self {
            listeners,
            due: VecDeque::new(),
            paused: Vec::new(),
            stopped: Vec::new(),
        })
    }

    /// Copies of the listeners' descriptors, each with whether it speaks TLS.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub(super) fn copies(&self) -> io::Result<Vec<(OwnedFd, bool)>> {
        let listeners = self.listeners.iter();
        listeners.map(|it| Ok((it.copy()?, it.tls))).collect()
    }

    /// Somebody connects: to be accepted in this turn.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn connecting(
        &mut self,
        listener: u32,
        last: bool,
        net: &mut Net,
    ) -> io::Result<()> {
        let Some(socket) = self.listeners.get(listener as usize) else {
            return Ok(());
        };
        if last {
            net.ring.watch_listener(listener, socket.raw())?;
        }
        let is_paused = self.paused.iter().any(|(it, _)| *it == listener);
        if !is_paused && !self.due.contains(&listener) {
            self.due.push_back(listener);
        }
        Ok(())
    }

    /// Whether nobody is known to wait.
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// When the first listener that stopped is to be started again, on the monotonic clock.
    pub(super) fn resumes_ms(&self) -> Option<u64> {
        self.paused.iter().map(|(_, at)| *at).min()
    }

    /// Takes in those who connect, a few on each listener; the others wait for the next turn.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn accept(
        &mut self,
        net: &mut Net,
        shard: &mut Shard,
        level: MemoryLevel,
        now: Now,
    ) -> io::Result<()> {
        for _ in 0..self.due.len() {
            let Some(listener) = self.due.pop_front() else {
                break;
            };
            if self.accept_from(listener, net, shard, level, now)? {
                self.due.push_back(listener);
            }
        }
        Ok(())
    }

    /// Returns whether there may be more.
    fn accept_from(
        &mut self,
        number: u32,
        net: &mut Net,
        shard: &mut Shard,
        level: MemoryLevel,
        now: Now,
    ) -> io::Result<bool> {
        for _ in 0..ACCEPTS_PER_TURN {
            if let Some(cause) = reason_to_pause(net, shard, level, now) {
                self.pause(number, cause, shard, now);
                return Ok(false);
            }
            let Some(listener) = self.listeners.get(number as usize) else {
                return Ok(false);
            };
            let tls = listener.tls;
            match listener.accept() {
                Ok((socket, remote)) => {
                    self.note_resumed(number, shard, now);
                    accepted(net, shard, socket, remote, tls, now)?;
                }
                Err(Errno::AGAIN) => {
                    self.note_resumed(number, shard, now);
                    return Ok(false);
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    if let Some(times) = REFUSED_BY_KERNEL.pass(now.mono_ms) {
                        tracing::warn!(
                            shard = shard.number(),
                            cause = %error,
                            times,
                            "cannot accept connections; trying again every {ACCEPT_PAUSE_MS} ms"
                        );
                    }
                    self.pause(number, AcceptPause::Error, shard, now);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn pause(&mut self, listener: u32, cause: AcceptPause, shard: &mut Shard, now: Now) {
        shard.accept_paused(cause);
        let resume_ms = now.mono_ms + ACCEPT_PAUSE_MS;
        self.paused.push((listener, resume_ms));
        if !self.stopped.iter().any(|(it, _)| *it == listener) {
            self.stopped.push((listener, now.mono_ms));
        }
    }

    /// A listener is at work: says for how long it was not.
    fn note_resumed(&mut self, listener: u32, shard: &mut Shard, now: Now) {
        if let Some(at) = self.stopped.iter().position(|(it, _)| *it == listener) {
            let (_, since_ms) = self.stopped.swap_remove(at);
            shard.accept_resumed(now.mono_ms.saturating_sub(since_ms));
        }
    }

    /// Starts listeners again whose pause is over.
    pub(super) fn resume(&mut self, now: Now) {
        let due = &mut self.due;
        self.paused.retain(|(listener, resume_ms)| {
            let is_over = *resume_ms <= now.mono_ms;
            if is_over {
                due.push_back(*listener);
            }
            !is_over
        });
    }

    /// Of retired listeners those are accepted who wait already, and then they are closed.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn retire(
        &mut self,
        net: &mut Net,
        shard: &mut Shard,
        level: MemoryLevel,
        now: Now,
    ) -> io::Result<()> {
        // They are the last ones: the numbers of the others stay.
        while self.listeners.last().is_some_and(|it| it.is_retired) {
            let listener = self.listeners.len() as u32 - 1;
            self.accept_rest(listener, net, shard, level, now)?;
            net.ring.unwatch_listener(listener)?;
            net.look()?;
            self.listeners.pop();
        }
        Ok(())
    }

    fn accept_rest(
        &mut self,
        listener: u32,
        net: &mut Net,
        shard: &mut Shard,
        level: MemoryLevel,
        now: Now,
    ) -> io::Result<()> {
        for _ in 0..LAST_ACCEPTS_MAX / ACCEPTS_PER_TURN {
            if !self.accept_from(listener, net, shard, level, now)? {
                break;
            }
        }
        Ok(())
    }

    /// Nobody is accepted any more but those who wait already.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn stop(
        &mut self,
        net: &mut Net,
        shard: &mut Shard,
        level: MemoryLevel,
        now: Now,
    ) -> io::Result<()> {
        for listener in 0..self.listeners.len() as u32 {
            self.accept_rest(listener, net, shard, level, now)?;
        }
        for listener in 0..self.listeners.len() {
            net.ring.unwatch_listener(listener as u32)?;
        }
        net.look()?;
        self.listeners.clear();
        self.paused.clear();
        Ok(())
    }
}

/// Why nobody is to be accepted now, if there is a reason.
fn reason_to_pause(
    net: &Net,
    shard: &mut Shard,
    level: MemoryLevel,
    now: Now,
) -> Option<AcceptPause> {
    if !net.sockets.has_room() {
        if let Some(times) = OUT_OF_DESCRIPTORS.pass(now.mono_ms) {
            tracing::warn!(
                times,
                "as many connections are open as the limit on open files allows, less a \
                 reserve: nobody is accepted until one ends; raise LimitNOFILE or `ulimit -n`"
            );
        }
        return Some(AcceptPause::Descriptors);
    }
    if level == MemoryLevel::AtCeiling {
        return Some(AcceptPause::Memory);
    }
    if !shard.accepts() {
        shard.handle(Input::MakeRoom, now);
    }
    if !shard.accepts() {
        if let Some(times) = TOO_MANY_STRANGERS.pass(now.mono_ms) {
            tracing::warn!(
                times,
                "as many connections without a credential as \
                 limits.unauthenticated_connections allows wait for the server: nobody is \
                 accepted until it has come to them"
            );
        }
        return Some(AcceptPause::Unauthenticated);
    }
    None
}

fn accepted(
    net: &mut Net,
    shard: &mut Shard,
    fd: OwnedFd,
    remote: IpAddr,
    is_tls: bool,
    now: Now,
) -> io::Result<()> {
    let raw = fd.as_raw_fd();
    let Ok(transport) = net.transports.accept(remote, is_tls) else {
        return Ok(());
    };
    let Some(connection) = net.sockets.insert(fd, transport) else {
        return Ok(());
    };
    net.ring.watch(connection, raw)?;
    shard.handle(Input::Accepted { connection, remote }, now);
    Ok(())
}
