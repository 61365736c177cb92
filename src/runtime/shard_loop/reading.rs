//! Sockets with news: which are read, and until when everything has been.

use std::mem;

use super::length::Length;
use super::measure;
use super::net::Net;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::READ_BYTES_MAX;
use crate::runtime::clock::Clock;
use crate::runtime::departures::{Departure, Departures};
use crate::runtime::handshakes::Handshakes;
use crate::runtime::heard::{Heard, Look};
use crate::runtime::read_queue::ReadQueue;
use crate::runtime::ring::Reaped;
use crate::runtime::sockets::{Socket, Sockets, Transfer};
use crate::runtime::transport::Gate;
use crate::shard::input::{HandshakeStep, Input};
use crate::shard::state::Shard;

/// How long a turn reads those who can wait, in nanoseconds: whoever has sent something meanwhile
/// waits for its end, and what they asked for is still to be done.
const OTHERS_NS: u64 = 60_000;
/// The same in channels whose joins and leaves wait for the end of the turn: each takes 10 to 20 µs
/// then.
pub(super) const CHANNELS_DUE_MAX: usize = 8;

/// See the top of this file.
pub(super) struct Reading {
    /// What is read lies here until the shard has used it.
    pub(super) scratch: Box<[u8]>,
    pub(super) queue: ReadQueue,
    pub(super) handshakes: Handshakes,
    pub(super) departures: Departures,
    heard: Heard,
    /// When the present turn began, in nanoseconds on the monotonic clock.
    turn_began_ns: u64,
    /// When the last read began.
    pub(super) read_ns: u64,
    pub(super) clock: Clock,
}

impl Reading {
    /// Nobody has sent anything.
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            queue: ReadQueue::default(),
            handshakes: Handshakes::default(),
            departures: Departures::default(),
            heard: Heard::new(clock.now().mono_ms),
            turn_began_ns: 0,
            read_ns: 0,
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

    /// Whether somebody waits who has come lately.
    pub(super) fn new_ones_wait(&self) -> bool {
        self.queue.new_ones_wait() || !self.handshakes.is_empty()
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
            _ => self.queue.push(id, socket.news(now)),
        }
    }

    /// A connection wants input again.
    pub(super) fn wanted(
        &mut self,
        id: ConnectionId,
        sockets: &mut Sockets,
        shard: &mut Shard,
        now: Now,
    ) {
        if sockets.get_mut(id).is_some_and(Socket::note_wanted) {
            self.push(id, sockets, shard, now);
        }
    }

    /// Everybody who has news stands in line; `others_wait` who would be accepted now. Returns how
    /// much the turn does.
    pub(super) fn choose(&mut self, others_wait: bool) -> Length {
        let others_wait = others_wait || !self.handshakes.is_empty() || self.departures.is_told();
        self.queue.begin_turn(others_wait);
        let others_wait = others_wait || self.queue.others_wait();
        match (self.queue.is_first_only(), others_wait) {
            (true, _) => Length::Short,
            (false, true) => Length::Busy,
            (false, false) => Length::Whole,
        }
    }

    /// Reads as much as a turn may.
    pub(super) fn read(&mut self, net: &mut Net, shard: &mut Shard, now: Now) {
        let mut others_began_ns = None;
        while let Some(id) = self.queue.pop() {
            let bytes = self.read_socket(id, net, shard, now);
            self.queue.spend(bytes);
            if self.queue.is_past_first() {
                let began_ns = *others_began_ns.get_or_insert(self.read_ns);
                let took_ns = self.read_ns.saturating_sub(began_ns);
                if took_ns > OTHERS_NS || shard.channels_due() >= CHANNELS_DUE_MAX {
                    self.queue.hurry();
                }
            }
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
        if socket.closing || socket.broken || socket.departing || !shard.wants_input(id) {
            // Read when the shard says so.
            socket.skipped = true;
            return 0;
        }
        self.read_ns = measure::begin_read(shard, &self.clock, socket.ready_ns);
        match socket.receive(&mut self.scratch) {
            Transfer::Bytes(count) => {
                if socket.has_more(count, self.scratch.len()) {
                    socket.queued_to_read = true;
                    self.queue.push(id, socket.news(now));
                }
                socket.note_used(now);
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
                self.ended(id, &mut net.sockets, shard, now);
                0
            }
            Transfer::Broken(errno) => {
                self.broken(id, errno, &mut net.sockets, shard, now);
                0
            }
        }
    }

    /// A peer has ended its side of the stream, and all of it has been read.
    pub(super) fn ended(
        &mut self,
        id: ConnectionId,
        sockets: &mut Sockets,
        shard: &mut Shard,
        now: Now,
    ) {
        if !self.departs(id, Departure::Ended, sockets, shard, now) {
            shard.handle(Input::Ended { connection: id }, now);
        }
    }

    /// A read has failed with that error.
    pub(super) fn broken(
        &mut self,
        id: ConnectionId,
        errno: u8,
        sockets: &mut Sockets,
        shard: &mut Shard,
        now: Now,
    ) {
        shard.socket_failed(id, true, errno);
        if !self.departs(id, Departure::Reset, sockets, shard, now) {
            shard.effects_mut().abort.push(id);
        }
    }

    /// Puts the end of a session off, if it is one of a storm. Returns whether it is.
    pub(super) fn departs(
        &mut self,
        id: ConnectionId,
        departure: Departure,
        sockets: &mut Sockets,
        shard: &Shard,
        now: Now,
    ) -> bool {
        let is_storm = self.departures.is_storm(self.queue.hang_ups());
        let Some(socket) = sockets.get_mut(id).filter(|_| is_storm) else {
            return false;
        };
        if !shard.is_in_session(id) {
            return false;
        }
        socket.departing = true;
        self.departures.push(id, departure, now.mono_ms);
        true
    }
}
