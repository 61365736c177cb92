//! Sockets with news: which are read, and until when everything has been.

use std::mem;

use super::measure;
use super::net::Net;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::READ_BYTES_MAX;
use crate::runtime::clock::Clock;
use crate::runtime::handshakes::Handshakes;
use crate::runtime::heard::{Heard, Look};
use crate::runtime::read_queue::ReadQueue;
use crate::runtime::ring::Reaped;
use crate::runtime::sockets::{Sockets, Transfer};
use crate::runtime::transport::Gate;
use crate::shard::input::{HandshakeStep, Input};
use crate::shard::state::Shard;

/// See the top of this file.
pub(super) struct Reading {
    /// What is read lies here until the shard has used it.
    pub(super) scratch: Box<[u8]>,
    pub(super) queue: ReadQueue,
    pub(super) handshakes: Handshakes,
    heard: Heard,
    /// When the present turn began, in nanoseconds on the monotonic clock.
    turn_began_ns: u64,
    pub(super) clock: Clock,
}

impl Reading {
    /// Nobody has sent anything.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            queue: ReadQueue::default(),
            handshakes: Handshakes::default(),
            heard: Heard::new(clock.now().mono_ms),
            turn_began_ns: 0,
            clock,
        }
    }

    /// A turn has begun.
    pub(super) fn begin_turn(&mut self, began_ns: u64) {
        self.turn_began_ns = began_ns;
    }

    /// The ring has brought so many events, and those who are to be read stand in line.
    pub(super) fn looked(
        &mut self,
        reaped: Reaped,
        events: usize,
        (net, shard): (&Net, &mut Shard),
        now: Now,
    ) {
        let is_whole = reaped == Reaped::All;
        if !is_whole {
            shard.metrics().counters.turns_cut_off += 1;
        }
        let look = Look {
            is_whole,
            events,
            watched: net.sockets.len(),
            mark: self.queue.mark(),
        };
        self.heard.looked(now.mono_ms, look);
    }

    /// Whatever peers had sent by that time has been read, in milliseconds on the monotonic clock.
    pub(super) fn heard_until_ms(&self) -> u64 {
        self.heard.until_ms()
    }

    /// Whether nobody is to be read.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.handshakes.is_empty()
    }

    /// A TLS handshake that was begun will never be complete.
    pub(super) fn handshake_ended(&mut self) {
        self.handshakes.end();
    }

    /// A socket has news: it is to be read.
    pub(super) fn push(
        &mut self,
        id: ConnectionId,
        sockets: &mut Sockets,
        shard: &mut Shard,
        now: Now,
    ) {
        let Some(socket) = sockets.get_mut(id) else {
            return;
        };
        if mem::replace(&mut socket.queued_to_read, true) {
            return;
        }
        socket.ready_ns = self.turn_began_ns;
        match &socket.transport {
            Some(transport) if transport.gate() == Gate::Opening => {
                self.handshakes.push(id, transport.has_begun());
                let step = HandshakeStep::Due;
                let due = Input::Handshake {
                    connection: id,
                    step,
                };
                shard.handle(due, now);
            }
            _ => self.queue.push(id, socket.hung_up),
        }
    }

    /// Reads as much as a turn may.
    pub(super) fn read(&mut self, net: &mut Net, shard: &mut Shard, now: Now) {
        self.queue.begin_turn();
        while let Some(id) = self.queue.pop() {
            let bytes = self.read_socket(id, net, shard, now);
            self.queue.spend(bytes);
        }
        self.heard.read(|mark| self.queue.is_past(mark));
    }

    /// Reads one socket once. Returns how many bytes there were.
    fn read_socket(
        &mut self,
        id: ConnectionId,
        net: &mut Net,
        shard: &mut Shard,
        now: Now,
    ) -> usize {
        let Some(socket) = net.sockets.get_mut(id) else {
            return 0;
        };
        if socket.transport.is_some() {
            return self.read_transported(id, net, shard, now);
        }
        socket.queued_to_read = false;
        if socket.closing || !shard.wants_input(id) {
            // Read again when the shard says so.
            return 0;
        }
        measure::begin_read(shard, &self.clock, socket.ready_ns);
        match socket.receive(&mut self.scratch) {
            Transfer::Bytes(count) => {
                if socket.has_more(count, self.scratch.len()) {
                    socket.queued_to_read = true;
                    self.queue.push(id, socket.hung_up);
                }
                let input = Input::Received {
                    connection: id,
                    bytes: &mut self.scratch[..count],
                };
                shard.handle(input, now);
                measure::end_spans(shard, &self.clock);
                shard.metrics().counters.bytes_received += count as u64;
                count
            }
            Transfer::WouldBlock => 0,
            Transfer::Ended => {
                shard.handle(Input::Ended { connection: id }, now);
                0
            }
            Transfer::Broken => {
                shard.effects_mut().abort.push(id);
                0
            }
        }
    }
}
