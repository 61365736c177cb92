//! Reading and writing of connections that have a transport.

use std::io;

use super::{HANDSHAKES_PER_TURN_MAX, READS_PER_TURN_MAX, ShardLoop};
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::sockets::{Socket, Transfer};
use crate::runtime::transport::{Next, Received, Stage};
use crate::shard::input::Input;
use crate::shard::outbox::Finish;

impl ShardLoop {
    /// Handshakes cost a hundred times what a message does, so they have a queue of their own
    /// and go on a few in each turn: established connections wait for that long at most.
    pub(super) fn read_handshakes(&mut self, now: Now) {
        let mut steps = 0;
        for _ in 0..READS_PER_TURN_MAX.min(self.to_handshake.len()) {
            let Some(id) = self.to_handshake.pop_front() else {
                return;
            };
            steps += usize::from(self.read_transported(id, now) > 0);
            if steps >= HANDSHAKES_PER_TURN_MAX {
                return;
            }
        }
    }

    /// Reads one socket once. Answers how many bytes there were.
    pub(super) fn read_transported(&mut self, id: ConnectionId, now: Now) -> usize {
        let Some(socket) = self.sockets.get_mut(id) else {
            return 0;
        };
        socket.queued_to_read = false;
        let Some(transport) = &socket.transport else {
            return 0;
        };
        let is_open = transport.stage() == Stage::Open;
        if socket.closing || is_open && !self.shard.wants_input(id) {
            return 0;
        }
        let held = transport.held().len();
        self.scratch[..held].copy_from_slice(transport.held());
        let room = self.scratch.len() - held;
        match socket.receive(&mut self.scratch[held..]) {
            Transfer::Bytes(count) => {
                if socket.has_more(count, room) {
                    self.queue_read(id);
                }
                self.received_transported(id, held + count, now);
                count
            }
            Transfer::WouldBlock => 0,
            Transfer::Ended => {
                self.handle(Input::Ended { connection: id }, now);
                0
            }
        }
    }

    /// The scratch begins with that many bytes for the connection's transport.
    fn received_transported(&mut self, id: ConnectionId, count: usize, now: Now) {
        let Some(socket) = self.sockets.get_mut(id) else {
            return;
        };
        let Some(transport) = &mut socket.transport else {
            return;
        };
        let was_open = transport.stage() == Stage::Open;
        let mut plaintext = std::mem::take(&mut self.transports.plaintext);
        let Received { client, next } =
            transport.receive(&mut self.scratch[..count], &mut plaintext);
        if !transport.unsent.is_empty() || matches!(next, Next::Refused(_)) {
            self.to_flush.push_back(id);
        }
        if matches!(next, Next::Plain) {
            socket.transport = None;
        }
        if let Some(client) = client {
            let client = Input::Proxied {
                connection: id,
                client,
            };
            self.handle(client, now);
        }
        if !plaintext.is_empty() {
            let bytes = Input::Received {
                connection: id,
                bytes: &mut plaintext,
            };
            self.handle(bytes, now);
            plaintext.clear();
        }
        self.transports.plaintext = plaintext;
        match next {
            Next::Same | Next::Plain => {}
            Next::Ended => self.handle(Input::Ended { connection: id }, now),
            Next::Refused(cause) => {
                tracing::debug!(shard = self.shard.number(), %cause, "connection refused");
                if was_open {
                    self.handle(Input::Ended { connection: id }, now);
                }
            }
        }
    }

    /// Writes as much as there is room for: what is encrypted already, then the outbox.
    pub(super) fn flush_transported(&mut self, id: ConnectionId, now: Now) -> io::Result<()> {
        self.shard.begin_flush(id, &mut self.effects);
        loop {
            let Some(socket) = self.sockets.get_mut(id) else {
                return Ok(());
            };
            match send_unsent(socket) {
                Transfer::Bytes(_) => {}
                Transfer::WouldBlock => {
                    self.write_blocked(id, now);
                    return Ok(());
                }
                Transfer::Ended => return self.broken(id, now),
            }
            let Some(transport) = &mut socket.transport else {
                return Ok(());
            };
            let pending = self.shard.pending(id);
            let finish = self.shard.finish(id);
            let stage = transport.stage();
            if stage != Stage::Open {
                if !pending.is_empty() || finish != Finish::Open {
                    // The shard has lost patience, and its words cannot be carried.
                    return self.close(id, now);
                }
                if stage == Stage::Refused {
                    // Closed when the peer ends too, or in the time that a request may take:
                    // bytes that are not read would make the kernel discard the answer.
                    socket.shutdown(libc::SHUT_WR);
                }
                return Ok(());
            }
            if pending.is_empty() {
                if finish != Finish::Open && self.transports.close(transport) {
                    continue;
                }
                return self.finish(id, finish, now);
            }
            let Ok((taken, sealed)) = self.transports.seal(transport, pending) else {
                return self.broken(id, now);
            };
            let sent = match socket.send(sealed) {
                Transfer::Bytes(count) => count,
                Transfer::WouldBlock => 0,
                Transfer::Ended => return self.broken(id, now),
            };
            if sent < sealed.len()
                && let Some(transport) = &mut socket.transport
            {
                transport.unsent.extend_from_slice(&sealed[sent..]);
            }
            let written = Input::Written {
                connection: id,
                count: taken,
            };
            self.handle(written, now);
        }
    }
}

/// [`Transfer::Bytes`] when nothing is left.
fn send_unsent(socket: &mut Socket) -> Transfer {
    let Some(mut transport) = socket.transport.take() else {
        return Transfer::Bytes(0);
    };
    let mut sent = 0;
    let mut outcome = Transfer::Bytes(0);
    while sent < transport.unsent.len() {
        outcome = socket.send(&transport.unsent[sent..]);
        match outcome {
            Transfer::Bytes(count) => sent += count,
            Transfer::WouldBlock | Transfer::Ended => break,
        }
    }
    if sent == transport.unsent.len() {
        transport.unsent = Vec::new();
    } else {
        transport.unsent.drain(..sent);
    }
    socket.transport = Some(transport);
    outcome
}
