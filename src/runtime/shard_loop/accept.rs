//! New connections: taken in, held off while descriptors are short, refused at the end.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::ShardLoop;
use crate::domain::time::Now;
use crate::shard::input::Input;

/// Connections that a listener accepts in one turn: each costs 10 to 20 µs, and in a storm of
/// connects those that are established wait for them.
const ACCEPTS_PER_TURN: usize = 8;
/// Pause before accepting again when descriptors or memory have run out.
const ACCEPT_PAUSE_MS: u64 = 100;

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

    /// Answers whether there may be more.
    fn accept_from(&mut self, number: u32, now: Now) -> io::Result<bool> {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(number as usize) else {
                return Ok(false);
            };
            let is_tls = listener.tls;
            match listener.accept() {
                Ok((socket, remote)) => self.accepted(socket, remote, is_tls, now)?,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(cause) => {
                    tracing::warn!(
                        shard = self.shard.number(),
                        %cause,
                        "cannot accept connections; trying again in {ACCEPT_PAUSE_MS} ms"
                    );
                    let resume_ms = now.mono_ms + ACCEPT_PAUSE_MS;
                    self.paused_listeners.push((number, resume_ms));
                    return Ok(false);
                }
            }
        }
        Ok(true)
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
