//! A shard at work: sockets, ring, mesh and clock around the shard value.
//!
//! One turn: take what the ring, the mesh and the control plane bring, let the shard handle it,
//! then write, once for each connection. A turn reads and flushes a bounded number of sockets, so
//! that a wide fan-out or a busy connection delays the others by one turn. With nothing to do the
//! loop sleeps in the ring until a socket, another thread or a deadline wakes it.

//!
//! The parts of the loop know the sockets and the shard, and nothing of each other: what is to
//! happen between two of them happens here.

mod accepting;
mod control;
mod flushing;
mod frozen;
mod length;
mod links;
mod measure;
mod memory;
mod net;
mod parts;
mod reading;
mod sleep;
mod storing;
mod transported;
mod writing;

use std::io;
use std::time::Duration;

use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::metrics::{Gauges, ShardSnapshot};
use crate::runtime::clock::{Clock, ms};
use crate::runtime::command::{HandCommand, ShardCommand};
use crate::runtime::departures::Departure;
use crate::runtime::process::thread_cpu_ns;
use crate::runtime::ring::{RingEvent, SocketRing};
use crate::runtime::sockets::Sockets;
use crate::shard::effect::Urgency;
use crate::shard::input::Input;
use crate::shard::state::Shard;

use self::accepting::Accepting;
use self::control::{Await, ControlSide};
use self::flushing::Flushing;
use self::length::Length;
use self::links::Links;
use self::memory::MemoryWatch;
use self::net::Net;
use self::reading::{CHANNELS_DUE_MAX, Reading};
use self::sleep::{Sleep, until};
use self::storing::Storing;

pub(super) use self::frozen::Adoption;
pub(super) use self::parts::LoopParts;

/// What the log says of rings that the kernel had no memory for, for all shards.
static NO_MEMORY: Throttle = Throttle::new();

/// Pause before trying a full mesh link again, if nothing else wakes the shard.
const LINK_RETRY: Duration = Duration::from_millis(1);

/// Turns until what those have sent who were accepted last is known: one to watch their sockets,
/// one to hear that they can be read.
const TURNS_TO_READ: u8 = 2;

/// See the top of this file.
pub(super) struct ShardLoop {
    shard: Shard,
    clock: Clock,
    net: Net,
    accepting: Accepting,
    reading: Reading,
    flushing: Flushing,
    links: Links,
    control: ControlSide,
    memory: MemoryWatch,
    sleep: Sleep,
    storing: Storing,
    /// Turns until idle connections end, once nobody is accepted any more.
    ending: Option<u8>,
    /// Since when nobody is served, in milliseconds on the monotonic clock.
    frozen_ms: Option<u64>,
    stopped: bool,
}

impl ShardLoop {
    /// Sets the shard's ring up and starts accepting.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn new(parts: LoopParts) -> io::Result<Self> {
        let ring = SocketRing::new(parts.wake.raw())?;
        let sockets = Sockets::new(parts.descriptors);
        let mut net = Net::new(ring, sockets, parts.transports);
        let clock = parts.clock;
        let (mut shard, mut storing) = (parts.shard, Storing::default());
        if let Some(share) = parts.history {
            storing.begin(share, &mut shard, clock.now());
        }
        Ok(Self {
            accepting: Accepting::new(parts.listeners, &mut net)?,
            shard,
            net,
            reading: Reading::new(clock),
            flushing: Flushing::new(clock),
            links: Links::new(parts.mesh_out, parts.mesh_in, clock),
            control: ControlSide::new(parts.commands, parts.control),
            memory: MemoryWatch::new(parts.memory),
            sleep: Sleep::new(parts.wake),
            storing,
            clock,
            ending: None,
            frozen_ms: None,
            stopped: false,
        })
    }

    /// Waits for what another process hands over, and goes on with it once it may. Returns whether
    /// it may: otherwise this process is about to end.
    ///
    /// # Errors
    /// Those of the ring.
    pub(super) fn adopt(&mut self, adoptions: &flume::Receiver<Adoption>) -> io::Result<bool> {
        let Ok(adoption) = adoptions.recv() else {
            return Ok(false);
        };
        let now = self.clock.now();
        let Adoption {
            handed,
            places,
            sockets,
            answer,
            begin,
        } = adoption;
        let parts = (&*handed, &places[..], sockets);
        let adopted = frozen::adopt(&mut self.shard, &mut self.net, parts, now);
        // Nobody hears it who has given up, and then nobody says to begin.
        let _ = answer.send(adopted);
        drop((handed, places, answer));
        let Ok(frozen_ms) = begin.recv() else {
            return Ok(false);
        };
        let now = self.clock.now();
        self.shard
            .forgive(now.mono_ms.saturating_sub(frozen_ms), now);
        let (net, shard, level) = (&mut self.net, &mut self.shard, self.memory.level());
        self.accepting.retire(net, shard, level, now)?;
        Ok(true)
    }

    /// Runs until the shard is told to stop.
    ///
    /// # Errors
    /// When the ring can no longer be used.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.stopped {
            let ended_ns = self.turn()?;
            if !self.has_work() {
                self.rest(ended_ns)?;
            }
        }
        self.storing.finish(&mut self.shard, &self.clock);
        Ok(())
    }

    /// Reads, handles and writes once. Returns when that ended, in nanoseconds on the monotonic
    /// clock.
    fn turn(&mut self) -> io::Result<u64> {
        let (now, began_ns) = self.clock.now_and_ns();
        if self.frozen_ms.is_some() {
            return self.turn_frozen(now, began_ns);
        }
        self.sleep.forgive_lateness(&mut self.shard, now);
        measure::begin_turn(&mut self.shard, now, began_ns);
        self.reading.begin_turn(began_ns);
        self.storing.settle(&mut self.shard, now);
        self.look(now)?;
        let (net, shard) = (&mut self.net, &mut self.shard);
        let length = self.reading.choose(!self.accepting.is_empty());
        if length != Length::Short {
            self.reading.shake_hands(net, shard, now);
            let level = self.memory.level();
            self.accepting.accept(net, shard, level, now)?;
        }
        self.reading.read(net, shard, now);
        self.part(length, now)?;
        self.links.receive(&mut self.shard, now);
        self.take_commands(now)?;
        self.memory.look(&mut self.shard, now);
        if length != Length::Short {
            self.meet_deadlines(now);
        }
        self.accepting.resume(now);
        self.shard.handle(Input::EndOfTurn, now);
        self.storing.hand_over(&mut self.shard, now);
        measure::end_spans(&mut self.shard, &self.clock);
        // Other shards go on with what they get while this one writes.
        self.links.send(&mut self.shard, now);
        self.flush((length, began_ns), now)?;
        self.links.send(&mut self.shard, now);
        self.end_idle(now);
        let is_vacant = self.net.sockets.is_empty() && self.reading.departures.is_empty();
        self.control.report(&mut self.shard, is_vacant);
        Ok(measure::end_turn(&mut self.shard, &self.clock, began_ns))
    }

    /// A turn in which nobody is served: what is on its way between shards, and to the disk, comes
    /// to its end. Nothing is written to sockets, which could say that somebody is gone.
    fn turn_frozen(&mut self, now: Now, began_ns: u64) -> io::Result<u64> {
        self.storing.settle(&mut self.shard, now);
        self.look(now)?;
        self.links.receive(&mut self.shard, now);
        self.take_commands(now)?;
        self.shard.handle(Input::EndOfTurn, now);
        self.storing.hand_over(&mut self.shard, now);
        self.close_aborted(now)?;
        self.links.send(&mut self.shard, now);
        self.control.report(&mut self.shard, false);
        Ok(measure::end_turn(&mut self.shard, &self.clock, began_ns))
    }

    /// Nobody is served from now on.
    fn freeze(&mut self, now: Now) -> io::Result<()> {
        self.close_reset()?;
        for (connection, departure) in self.reading.departures.take_all() {
            self.depart(connection, departure, now);
        }
        self.shard.handle(Input::Usage, now);
        self.shard.handle(Input::Freeze, now);
        self.frozen_ms.get_or_insert(now.mono_ms);
        Ok(())
    }

    /// All are served again, and nobody is to blame for the pause.
    fn thaw(&mut self) {
        let now = self.clock.now();
        let Some(frozen_ms) = self.frozen_ms.take() else {
            return;
        };
        self.shard
            .forgive(now.mono_ms.saturating_sub(frozen_ms), now);
        self.shard.handle(Input::Thaw, now);
        self.sleep.begin_anew(now);
    }

    /// Takes in what has happened to sockets and listeners.
    fn look(&mut self, now: Now) -> io::Result<()> {
        let reaped = self.net.look()?;
        if let Some(error) = self.net.ring.take_shortage()
            && let Some(times) = NO_MEMORY.pass(now.mono_ms)
        {
            let shard = self.shard.number();
            tracing::warn!(
                shard,
                cause = %error,
                times,
                "the kernel has no memory for the shard's ring: it is asked again each millisecond"
            );
        }
        let mut events = std::mem::take(&mut self.net.events);
        let count = events.len();
        for event in events.drain(..) {
            self.ring_event(event, now)?;
        }
        self.net.events = events;
        let parts = (&self.net, &mut self.shard);
        self.reading.looked(reaped, count, parts, now);
        Ok(())
    }

    fn ring_event(&mut self, event: RingEvent, now: Now) -> io::Result<()> {
        match event {
            RingEvent::Connecting { listener, last } => {
                self.accepting.connecting(listener, last, &mut self.net)
            }
            RingEvent::Ready {
                connection,
                readable,
                writable,
                hung_up,
                unreachable,
                last,
            } => {
                let Some(socket) = self.net.told(connection, last)? else {
                    return Ok(());
                };
                socket.hung_up |= hung_up;
                if unreachable && !std::mem::replace(&mut socket.unreachable, true) {
                    self.shard.handle(Input::Unreachable { connection }, now);
                }
                if writable && std::mem::take(&mut socket.write_blocked) {
                    self.flushing.unblocked(connection);
                    let dirty = &mut self.shard.effects_mut().dirty;
                    dirty.push(connection, Urgency::Reply);
                }
                if readable {
                    let sockets = &mut self.net.sockets;
                    self.reading.push(connection, sockets, &mut self.shard, now);
                }
                Ok(())
            }
            // Dealt with where the batch was sent.
            RingEvent::SentShort { .. } => Ok(()),
        }
    }

    fn take_commands(&mut self, now: Now) -> io::Result<()> {
        while let Some(command) = self.control.next() {
            match command {
                ShardCommand::Rights(rights, done) => {
                    self.shard.handle(Input::Rights(rights), now);
                    self.control.await_rights(done);
                }
                ShardCommand::History(share) => {
                    self.storing.begin(*share, &mut self.shard, now);
                }
                ShardCommand::Settings(settings, proxies, done) => {
                    self.net.transports.switch_proxies(proxies);
                    self.shard.handle(Input::Settings(settings), now);
                    done.done();
                }
                ShardCommand::Drain {
                    window_ms,
                    retry_after_ms,
                } => {
                    self.control.await_end(Await::Drained);
                    let drain = Input::Drain {
                        window_ms,
                        retry_after_ms,
                    };
                    self.shard.handle(drain, now);
                }
                ShardCommand::AnnounceShutdown => self.shard.handle(Input::ShutdownAnnounced, now),
                ShardCommand::StopAccepting => {
                    let (net, shard) = (&mut self.net, &mut self.shard);
                    self.accepting.stop(net, shard, self.memory.level(), now)?;
                    self.control.await_end(Await::Vacant);
                    self.ending = Some(TURNS_TO_READ);
                }
                ShardCommand::Stats(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.snapshot());
                }
                ShardCommand::Connected(app, peer, answer) => {
                    let _ = answer.send(self.shard.connected(app, &peer));
                }
                ShardCommand::Ask(query, answer) => {
                    let number = self.control.await_answer(answer);
                    self.shard.handle(Input::Ask { query, number }, now);
                }
                ShardCommand::Tls(config, done) => {
                    self.net.transports.switch_tls(config);
                    done.done();
                }
                ShardCommand::Hand(command) => self.hand(command, now)?,
                ShardCommand::Stop => {
                    self.shard.handle(Input::Usage, now);
                    self.shard.end_events(now);
                    self.stopped = true;
                }
            }
        }
        Ok(())
    }

    /// A step of a hand-over to another process. Whoever asked may have given up.
    fn hand(&mut self, command: HandCommand, now: Now) -> io::Result<()> {
        match command {
            HandCommand::Listeners(answer) => drop(answer.send(self.accepting.copies())),
            HandCommand::Freeze(done) => {
                self.freeze(now)?;
                done.done();
            }
            HandCommand::AskQuiet(answer) => {
                let is_quiet = self.shard.is_quiet() && self.shard.effects().abort.is_empty();
                let _ = answer.send((is_quiet, self.shard.mesh_counts()));
            }
            HandCommand::Export(answer) => {
                let _ = answer.send(frozen::export(&mut self.shard, &self.net, now));
                self.control.wait_for_thaw();
            }
            HandCommand::Thaw(done) => {
                self.thaw();
                done.done();
            }
        }
        Ok(())
    }

    /// Closes the sockets of those whose resets were read in this turn, and tells the shard of
    /// those who have been gone for long enough.
    ///
    /// # Errors
    /// Those of the ring.
    fn part(&mut self, length: Length, now: Now) -> io::Result<()> {
        self.close_reset()?;
        if length == Length::Short || self.reading.departures.is_empty() {
            return Ok(());
        }
        let others_wait = self.others_wait();
        let is_room = self.net.sockets.has_room();
        let departures = &mut self.reading.departures;
        departures.begin_turn(others_wait, is_room, now.mono_ms);
        while let Some((connection, departure)) = self.reading.departures.pop() {
            self.depart(connection, departure, now);
        }
        Ok(())
    }

    fn close_reset(&mut self) -> io::Result<()> {
        for id in self.reading.departures.take_resets() {
            self.net.sockets.keep_number(id);
            self.net.shut_down(id)?;
            self.flushing.unblocked(id);
        }
        Ok(())
    }

    fn depart(&mut self, connection: ConnectionId, departure: Departure, now: Now) {
        let input = match departure {
            Departure::Ended => {
                if let Some(socket) = self.net.sockets.get_mut(connection) {
                    socket.departing = false;
                }
                Input::Ended { connection }
            }
            Departure::Reset => {
                self.net.sockets.release_number(connection);
                Input::Closed { connection }
            }
        };
        self.shard.handle(input, now);
    }

    /// Once nobody is accepted any more and what the last ones asked has been read, idle
    /// connections end.
    fn end_idle(&mut self, now: Now) {
        let Some(turns) = &mut self.ending else {
            return;
        };
        if *turns > 0 {
            *turns -= 1;
        } else if self.reading.is_empty() {
            self.ending = None;
            self.shard.handle(Input::EndIdle, now);
        }
    }

    fn meet_deadlines(&mut self, now: Now) {
        let deadline_ms = self.shard.next_deadline_ms();
        if deadline_ms.is_some_and(|at| at <= now.mono_ms) {
            self.shard.judge_until(self.reading.heard_until_ms());
            self.shard.handle(Input::Time, now);
        }
    }

    fn flush(&mut self, turn: (Length, u64), began: Now) -> io::Result<()> {
        // Pauses count from the writes, which may come long after the turn began.
        let now = self.clock.after(began);
        let parts = (&mut self.net, &mut self.shard);
        self.flushing.flush(turn, parts, now)?;
        for id in std::mem::take(&mut self.shard.effects_mut().readable) {
            let sockets = &mut self.net.sockets;
            self.reading.wanted(id, sockets, &mut self.shard, now);
        }
        self.close_aborted(now)?;
        self.end_broken(now)
    }

    fn close_aborted(&mut self, now: Now) -> io::Result<()> {
        for id in std::mem::take(&mut self.shard.effects_mut().abort) {
            self.close(id, now)?;
        }
        Ok(())
    }

    /// Tells the shard of peers whose sockets were found broken by a write: one at least, and more
    /// until enough channels have leaves due. Each of these is written to all members of its
    /// channel, which finds out who else is gone: in a storm that would be everybody at once.
    ///
    /// # Errors
    /// Those of the ring.
    fn end_broken(&mut self, now: Now) -> io::Result<()> {
        while let Some(id) = self.flushing.next_broken() {
            let sockets = &mut self.net.sockets;
            if !self
                .reading
                .departs(id, Departure::Reset, sockets, &self.shard, now)
            {
                self.close(id, now)?;
            }
            if self.shard.channels_due() >= CHANNELS_DUE_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Whether somebody waits to be let in.
    fn others_wait(&self) -> bool {
        !self.accepting.is_empty() || self.reading.new_ones_wait()
    }

    fn close(&mut self, id: ConnectionId, now: Now) -> io::Result<()> {
        if let Some(was_shaking_hands) = self.net.shut_down(id)? {
            if was_shaking_hands {
                self.reading.handshake_ended();
            }
            self.flushing.unblocked(id);
            self.shard.handle(Input::Closed { connection: id }, now);
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        let effects = self.shard.effects();
        if self.frozen_ms.is_some() {
            return self.shard.has_work() || !effects.abort.is_empty() || self.stopped;
        }
        !self.net.events.is_empty()
            || !self.accepting.is_empty()
            || !self.reading.is_empty()
            || self.reading.departures.is_told()
            || !self.flushing.is_empty()
            || !effects.dirty.is_empty()
            || !effects.abort.is_empty()
            || self.shard.has_work()
            || self.ending.is_some()
            || self.stopped
    }

    /// Sleeps until there is something to do. The turn has just ended, at `ended_ns`.
    fn rest(&mut self, ended_ns: u64) -> io::Result<()> {
        self.sleep.prepare();
        if self.links.is_empty() && self.control.is_empty() && !self.storing.has_settled() {
            let now_ms = ms(ended_ns);
            let timeout = self.until_next_deadline(ended_ns);
            self.sleep.begin(now_ms, timeout);
            let timeout = self.memory.bound_sleep(&self.shard, timeout);
            self.net.ring.wait(timeout)?;
            self.memory.slept(now_ms, &mut self.shard, &self.clock);
        }
        self.sleep.end();
        Ok(())
    }

    fn until_next_deadline(&self, now_ns: u64) -> Option<Duration> {
        let deadlines = [
            self.shard.next_deadline_ms(),
            self.accepting.resumes_ms(),
            self.reading.departures.due_ms(),
        ];
        let deadlines = deadlines.into_iter().filter(|_| self.frozen_ms.is_none());
        let deadline_ms = deadlines.flatten().min();
        let timeout = deadline_ms.map(|at| until(at, now_ns));
        if self.links.has_backlog() || self.storing.has_backlog() {
            return Some(timeout.map_or(LINK_RETRY, |timeout| timeout.min(LINK_RETRY)));
        }
        match self.storing.asks_again() {
            Some(pause) => Some(timeout.map_or(pause, |timeout| timeout.min(pause))),
            None => timeout,
        }
    }

    /// A copy of everything that is counted and measured, for whoever asked.
    fn snapshot(&mut self) -> ShardSnapshot {
        let (connections, channels, peers) = self.shard.counts();
        let (mesh_backlog_messages, mesh_queue_batches) = self.links.counts();
        let (history_bytes, history_channels) = self.shard.histories();
        let gauges = Gauges {
            connections,
            connections_unauthenticated: self.shard.unauthenticated_count(),
            channels,
            peers,
            subscriptions: self.shard.subscriptions(),
            connections_blocked: self.flushing.blocked_count(),
            outbound_queue_bytes: self.flushing.waiting_bytes(&self.shard),
            mesh_backlog_messages,
            mesh_queue_batches,
            history_channels,
            history_bytes,
            history_bytes_max: self.shard.history_bytes_max(),
            history_disk: self.storing.counts(),
            rights_version: self.shard.rights_version(),
        };
        ShardSnapshot {
            shard: self.shard.number(),
            cpu_ns: thread_cpu_ns(),
            gauges,
            metrics: Box::new(self.shard.metrics().clone()),
        }
    }
}
