//! Sockets with news: which are read, and until when everything has been.

use super::ShardLoop;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::runtime::heard::Look;
use crate::runtime::ring::Reaped;
use crate::runtime::sockets::Transfer;
use crate::runtime::transport::Gate;
use crate::shard::input::{HandshakeStep, Input};

impl ShardLoop {
    /// The ring has brought so many events, and those who are to be read stand in line.
    pub(super) fn looked(&mut self, reaped: Reaped, events: usize, now: Now) {
        let is_whole = reaped == Reaped::All;
        if !is_whole {
            self.shard.metrics().counters.turns_cut_off += 1;
        }
        let look = Look {
            is_whole,
            events,
            watched: self.sockets.len(),
            mark: self.to_read.mark(),
        };
        self.heard.looked(now.mono_ms, look);
    }

    pub(super) fn queue_read(&mut self, id: ConnectionId, now: Now) {
        let Some(socket) = self.sockets.get_mut(id) else {
            return;
        };
        if !std::mem::replace(&mut socket.queued_to_read, true) {
            socket.ready_ns = self.measuring.turn_began_ns();
            match &socket.transport {
                Some(transport) if transport.gate() == Gate::Opening => {
                    self.to_handshake.push(id, transport.has_begun());
                    let step = HandshakeStep::Due;
                    let due = Input::Handshake {
                        connection: id,
                        step,
                    };
                    self.handle(due, now);
                }
                _ => self.to_read.push(id, socket.hung_up),
            }
        }
    }

    pub(super) fn read_sockets(&mut self, now: Now) {
        self.to_read.begin_turn();
        while let Some(id) = self.to_read.pop() {
            let bytes = self.read_socket(id, now);
            self.to_read.spend(bytes);
        }
    }

    /// Reads one socket once. Returns how many bytes there were.
    fn read_socket(&mut self, id: ConnectionId, now: Now) -> usize {
        let Some(socket) = self.sockets.get_mut(id) else {
            return 0;
        };
        if socket.transport.is_some() {
            return self.read_transported(id, now);
        }
        if socket.closing || !self.shard.wants_input(id) {
            // Read again when the shard says so.
            socket.queued_to_read = false;
            return 0;
        }
        let ready_ns = socket.ready_ns;
        self.begin_read(ready_ns);
        let Some(socket) = self.sockets.get_mut(id) else {
            return 0;
        };
        match socket.receive(&mut self.scratch) {
            Transfer::Bytes(count) => {
                let more = socket.has_more(count, self.scratch.len());
                socket.queued_to_read = more;
                if more {
                    self.to_read.push(id, socket.hung_up);
                }
                let bytes = &mut self.scratch[..count];
                let input = Input::Received {
                    connection: id,
                    bytes,
                };
                self.shard.handle(input, now);
                self.end_spans();
                self.count_received(count);
                count
            }
            Transfer::WouldBlock => {
                socket.queued_to_read = false;
                0
            }
            Transfer::Ended => {
                socket.queued_to_read = false;
                self.handle(Input::Ended { connection: id }, now);
                0
            }
            Transfer::Broken => {
                socket.queued_to_read = false;
                self.shard.effects_mut().abort.push(id);
                0
            }
        }
    }
}
