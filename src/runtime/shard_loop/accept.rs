//! New connections: taken in, held off while descriptors are short, refused at the end.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::ShardLoop;
use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::metrics::label::AcceptPause;
use crate::shard::input::{Input, MemoryLevel};

/// Connections that a listener accepts in one turn: each costs 10 to 20 µs, and in a storm of
/// connects those that are established wait for them.
const ACCEPTS_PER_TURN: usize = 8;
/// Pause before accepting again where something has run out.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What the log says about pauses, for all shards.
static OUT_OF_DESCRIPTORS: Throttle = Throttle::new();
static TOO_MANY_STRANGERS: Throttle = Throttle::new();
static REFUSED_BY_KERNEL: Throttle = Throttle::new();

impl ShardLoop {
    /// Somebody connects: to be accepted in this turn.
    pub(super) fn connecting(&mut self, listener: u32, last: bool) -> io::Result<()> {
        let Some(socket) = self.listeners.get(listener as usize) else {
            return Ok(());
        };
        if last {
            self.ring.watch_listener(listener, socket.raw())?;
        }
        let is_paused = self.paused_listeners.iter().any(|(it, _)| *it == listener);
        if !is_paused && !self.to_accept.contains(&listener) {
            self.to_accept.push_back(listener);
        }
        Ok(())
    }

    /// Takes in those who connect, a few on each listener; the others wait for the next turn.
    pub(super) fn accept(&mut self, now: Now) -> io::Result<()> {
        for _ in 0..self.to_accept.len() {
            let Some(listener) = self.to_accept.pop_front() else {
                break;
            };
            if self.accept_from(listener, now)? {
                self.to_accept.push_back(listener);
            }
        }
        Ok(())
    }

    /// Returns whether there may be more.
    fn accept_from(&mut self, number: u32, now: Now) -> io::Result<bool> {
        for _ in 0..ACCEPTS_PER_TURN {
            if let Some(cause) = self.reason_to_pause(now) {
                self.pause(number, cause, now);
                return Ok(false);
            }
            let Some(listener) = self.listeners.get(number as usize) else {
                return Ok(false);
            };
            let is_tls = listener.tls;
            match listener.accept() {
                Ok((socket, remote)) => self.accepted(socket, remote, is_tls, now)?,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    if let Some(times) = REFUSED_BY_KERNEL.pass(now.mono_ms) {
                        tracing::warn!(
                            shard = self.shard.number(),
                            cause = %error,
                            times,
                            "cannot accept connections; trying again every {ACCEPT_PAUSE_MS} ms"
                        );
                    }
                    self.pause(number, AcceptPause::Error, now);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Why nobody is to be accepted now, if there is a reason.
    fn reason_to_pause(&mut self, now: Now) -> Option<AcceptPause> {
        if !self.sockets.has_room() {
            if let Some(times) = OUT_OF_DESCRIPTORS.pass(now.mono_ms) {
                tracing::warn!(
                    times,
                    "as many connections are open as the limit on open files allows, less a \
                     reserve: nobody is accepted until one ends; raise LimitNOFILE or `ulimit -n`"
                );
            }
            return Some(AcceptPause::Descriptors);
        }
        if self.memory_level == MemoryLevel::AtCeiling {
            return Some(AcceptPause::Memory);
        }
        if !self.shard.accepts() {
            self.handle(Input::MakeRoom, now);
        }
        if !self.shard.accepts() {
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

    fn pause(&mut self, listener: u32, cause: AcceptPause, now: Now) {
        self.shard.metrics().counters.accept_pauses.add(cause);
        let resume_ms = now.mono_ms + ACCEPT_PAUSE_MS;
        self.paused_listeners.push((listener, resume_ms));
    }

    fn accepted(&mut self, fd: OwnedFd, remote: IpAddr, is_tls: bool, now: Now) -> io::Result<()> {
        let raw = fd.as_raw_fd();
        let Ok(transport) = self.transports.accept(remote, is_tls) else {
            return Ok(());
        };
        let Some(connection) = self.sockets.insert(fd, transport) else {
            return Ok(());
        };
        self.ring.watch(connection, raw)?;
        self.handle(Input::Accepted { connection, remote }, now);
        Ok(())
    }

    pub(super) fn resume_listeners(&mut self, now: Now) {
        let to_accept = &mut self.to_accept;
        self.paused_listeners.retain(|(listener, resume_ms)| {
            let is_over = *resume_ms <= now.mono_ms;
            if is_over {
                to_accept.push_back(*listener);
            }
            !is_over
        });
    }

    pub(super) fn stop_accepting(&mut self) -> io::Result<()> {
        for listener in 0..self.listeners.len() {
            self.ring.unwatch_listener(listener as u32)?;
        }
        self.ring.reap(&mut self.events)?;
        self.listeners.clear();
        self.paused_listeners.clear();
        Ok(())
    }
}
