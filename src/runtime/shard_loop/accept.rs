//! New connections: taken in, held off while descriptors are short, refused at the end.

use std::io;
use std::os::fd::RawFd;

use super::ShardLoop;
use crate::domain::time::Now;
use crate::runtime::sockets::adopt;
use crate::shard::input::Input;

/// Connections that a listener accepts in one turn: each costs 10 to 20 µs, and in a storm of
/// connects those that are established wait for them. So many accepts are in the ring at a time.
pub(super) const ACCEPTS_PER_TURN: usize = 8;

impl ShardLoop {
    /// Takes over a socket that the ring has accepted on that listener.
    pub(super) fn accepted(&mut self, number: u32, raw: RawFd, now: Now) -> io::Result<()> {
        let (fd, remote) = adopt(raw);
        if !self.accepting {
            return Ok(());
        }
        let Some(listener) = self.listeners.get(number as usize) else {
            return Ok(());
        };
        self.ring.accept(number, listener.raw())?;
        let Ok(transport) = self.transports.accept(remote, listener.tls) else {
            return Ok(());
        };
        let Some(connection) = self.sockets.insert(fd, transport) else {
            return Ok(());
        };
        self.ring.watch(connection, raw)?;
        self.handle(Input::Accepted { connection, remote }, now);
        Ok(())
    }

    pub(super) fn resume_listeners(&mut self, now: Now) -> io::Result<()> {
        let mut at = 0;
        while let Some((listener, resume_ms)) = self.paused_listeners.get(at).copied() {
            if resume_ms > now.mono_ms {
                at += 1;
                continue;
            }
            self.paused_listeners.swap_remove(at);
            if self.accepting {
                let fd = self.listeners[listener as usize].raw();
                self.ring.accept(listener, fd)?;
            }
        }
        Ok(())
    }

    pub(super) fn stop_accepting(&mut self) -> io::Result<()> {
        if self.accepting {
            self.accepting = false;
            for listener in 0..self.listeners.len() {
                self.ring.stop_accepting(listener as u32)?;
            }
            self.events.clear();
            let mut events = Vec::new();
            self.ring.reap(&mut events)?;
            self.events = events;
            self.listeners.clear();
        }
        Ok(())
    }
}
