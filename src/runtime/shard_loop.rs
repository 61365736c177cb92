//! A shard at work: sockets, ring, mesh and clock around the shard value.
//!
//! One turn: take what the ring, the mesh and the control plane bring, let the shard handle it,
//! then write, once for each connection. A turn reads and flushes a bounded number of sockets, so
//! that a wide fan-out or a busy connection delays the others by one turn. With nothing to do the
//! loop sleeps in the ring until a socket, another thread or a deadline wakes it.

mod accept;
mod measure;
mod memory;
mod read;
mod sleep;
mod transported;
mod writing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::control::ControlHandle;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::limits::READ_BYTES_MAX;
use crate::runtime::clock::Clock;
use crate::runtime::command::{Commands, Done, ShardCommand};
use crate::runtime::descriptors::PublicDescriptors;
use crate::runtime::handshakes::Handshakes;
use crate::runtime::heard::Heard;
use crate::runtime::listener::Listeners;
use crate::runtime::memory::Memory;
use crate::runtime::mesh::{MeshIn, MeshOut};
use crate::runtime::read_queue::ReadQueue;
use crate::runtime::ring::{RingEvent, SocketRing};
use crate::runtime::sinks::{PlainSink, RingBatch, TransportSink};
use crate::runtime::sockets::Sockets;
use crate::runtime::transport::Transports;
use crate::runtime::wake::Wake;
use crate::shard::effect::Urgency;
use crate::shard::flush::{FlushQueue, Flushed};
use crate::shard::input::{Input, MemoryLevel};
use crate::shard::state::Shard;

use measure::Measuring;
use sleep::Quiet;

/// Messages of other shards handled in one turn: about 0.5 ms.
const MESH_MESSAGES_PER_TURN_MAX: usize = 512;
/// Bytes of these, about.
const MESH_BYTES_PER_TURN_MAX: usize = 256 * 1_024;

/// Fewer connections than this are flushed one by one: a submission costs more than it saves.
const BATCH_MIN: usize = 16;

/// See the top of this file.
pub struct ShardLoop {
    shard: Shard,
    clock: Clock,
    ring: SocketRing,
    listeners: Listeners,
    sockets: Sockets,
    transports: Transports,
    mesh_out: MeshOut,
    mesh_in: MeshIn,
    commands: Commands,
    control: Option<ControlHandle>,
    wake: Arc<Wake>,
    scratch: Box<[u8]>,
    events: Vec<RingEvent>,
    to_read: ReadQueue,
    heard: Heard,
    /// When the next turn should begin, in milliseconds on the monotonic clock.
    due_ms: u64,
    to_handshake: Handshakes,
    to_flush: FlushQueue,
    /// Connections that are being flushed together; empty between turns.
    batch: Vec<ConnectionId>,
    /// Listeners on which somebody waits to be accepted.
    to_accept: VecDeque<u32>,
    /// Listeners that stopped, and when to start them again.
    paused_listeners: Vec<(u32, u64)>,
    measuring: Measuring,
    /// Who waits until every connection follows the present rights.
    rights_told: Vec<Done>,
    quiet: Quiet,
    memory: Arc<Memory>,
    /// What this shard knows about it, and from which reading.
    memory_level: MemoryLevel,
    memory_reading: u64,
    draining: bool,
    reported_drained: bool,
    stopped: bool,
}

/// What a shard's loop is made of.
pub struct Parts {
    /// The shard value.
    pub shard: Shard,
    /// The process's clocks.
    pub clock: Clock,
    /// This shard's listeners.
    pub listeners: Listeners,
    /// What connections speak.
    pub transports: Transports,
    /// Outgoing links.
    pub mesh_out: MeshOut,
    /// Incoming links.
    pub mesh_in: MeshIn,
    /// Where commands come from.
    pub commands: Commands,
    /// Where usage is reported.
    pub control: Option<ControlHandle>,
    /// Ends the loop's sleep.
    pub wake: Arc<Wake>,
    /// What all shards take for connections.
    pub descriptors: Arc<PublicDescriptors>,
    /// The memory of all shards.
    pub memory: Arc<Memory>,
}

impl ShardLoop {
    /// Sets the shard's ring up and starts accepting.
    ///
    /// # Errors
    /// Those of the ring.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let mut ring = SocketRing::new(parts.wake.raw())?;
        for (at, listener) in parts.listeners.iter().enumerate() {
            ring.watch_listener(at as u32, listener.raw())?;
        }
        Ok(Self {
            shard: parts.shard,
            clock: parts.clock,
            ring,
            listeners: parts.listeners,
            sockets: Sockets::new(parts.descriptors),
            transports: parts.transports,
            mesh_out: parts.mesh_out,
            mesh_in: parts.mesh_in,
            commands: parts.commands,
            control: parts.control,
            wake: parts.wake,
            scratch: vec![0; READ_BYTES_MAX].into_boxed_slice(),
            events: Vec::new(),
            to_read: ReadQueue::default(),
            heard: Heard::new(parts.clock.now().mono_ms),
            due_ms: u64::MAX,
            to_handshake: Handshakes::default(),
            to_flush: FlushQueue::default(),
            batch: Vec::new(),
            to_accept: VecDeque::new(),
            paused_listeners: Vec::new(),
            measuring: Measuring::default(),
            rights_told: Vec::new(),
            quiet: Quiet::default(),
            memory: parts.memory,
            memory_level: MemoryLevel::default(),
            memory_reading: 0,
            draining: false,
            reported_drained: false,
            stopped: false,
        })
    }

    /// Runs until the shard is told to stop.
    ///
    /// # Errors
    /// When the ring can no longer be used.
    pub fn run(mut self) -> io::Result<()> {
        while !self.stopped {
            self.turn()?;
            if !self.has_work() {
                self.sleep()?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let (now, began_ns) = self.begin_turn();
        let mut events = std::mem::take(&mut self.events);
        let reaped = self.ring.reap(&mut events)?;
        let count = events.len();
        for event in events.drain(..) {
            self.ring_event(event, now)?;
        }
        self.events = events;
        self.looked(reaped, count, now);
        self.shake_hands(now)?;
        self.accept(now)?;
        self.read_sockets(now);
        self.heard.read(|mark| self.to_read.is_past(mark));
        self.take_mesh(now);
        self.take_commands(now)?;
        self.look_at_memory(now);
        if self
            .shard
            .next_deadline_ms()
            .is_some_and(|at| at <= now.mono_ms)
        {
            self.shard.judge_until(self.heard.until_ms());
            self.handle(Input::Time, now);
        }
        self.resume_listeners(now);
        self.handle(Input::EndOfTurn, now);
        self.end_spans();
        // Other shards go on with what they get while this one writes.
        self.send_mesh(now);
        self.flush()?;
        self.send_mesh(now);
        self.report_usage();
        self.report_rights();
        self.report_drained();
        self.end_turn(began_ns);
        Ok(())
    }

    fn handle(&mut self, input: Input<'_>, now: Now) {
        self.shard.handle(input, now);
    }

    fn has_work(&self) -> bool {
        !self.events.is_empty()
            || !self.to_accept.is_empty()
            || !self.to_read.is_empty()
            || !self.to_handshake.is_empty()
            || !self.to_flush.is_empty()
            || !self.shard.effects().dirty.is_empty()
            || !self.shard.effects().abort.is_empty()
            || self.shard.has_work()
            || self.stopped
    }

    fn ring_event(&mut self, event: RingEvent, now: Now) -> io::Result<()> {
        match event {
            RingEvent::Connecting { listener, last } => self.connecting(listener, last),
            RingEvent::Ready {
                connection,
                readable,
                writable,
                hung_up,
                last,
            } => {
                if let Some(socket) = self.sockets.get_mut(connection) {
                    socket.hung_up |= hung_up;
                }
                self.ready(connection, (readable, writable, last), now)
            }
            // Dealt with where the batch was sent.
            RingEvent::SentShort { .. } => Ok(()),
        }
    }

    fn ready(
        &mut self,
        id: ConnectionId,
        (readable, writable, last): (bool, bool, bool),
        now: Now,
    ) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(id) else {
            return Ok(());
        };
        if socket.closing {
            if last {
                self.sockets.close(id);
                return Ok(());
            }
            // The shutdown woke the poll while it was to be removed, which then fails.
            return self.ring.unwatch(id);
        }
        if writable && socket.write_blocked {
            socket.write_blocked = false;
            self.measuring.unblocked(id);
            self.to_flush.push(id, Urgency::Reply);
        }
        if last {
            let raw = socket.raw();
            self.ring.watch(id, raw)?;
        }
        if readable {
            self.queue_read(id, now);
        }
        Ok(())
    }

    fn take_mesh(&mut self, now: Now) {
        let mut bytes = 0;
        for _ in 0..MESH_MESSAGES_PER_TURN_MAX {
            if bytes > MESH_BYTES_PER_TURN_MAX || !self.shard.takes_mesh() {
                break;
            }
            let Some(incoming) = self.mesh_in.next() else {
                break;
            };
            bytes += incoming.message.weight();
            if let Some(sent_ns) = incoming.sent_ns {
                self.begin_batch(sent_ns);
            }
            let (from, message) = (incoming.from, incoming.message);
            self.handle(Input::Mesh { from, message }, now);
        }
        self.end_spans();
    }

    fn take_commands(&mut self, now: Now) -> io::Result<()> {
        while let Some(command) = self.commands.next() {
            match command {
                ShardCommand::Rights(rights, done) => {
                    self.handle(Input::Rights(rights), now);
                    self.rights_told.push(done);
                }
                ShardCommand::Settings(settings, proxies, done) => {
                    self.transports.switch_proxies(proxies);
                    self.handle(Input::Settings(settings), now);
                    done.done();
                }
                ShardCommand::Drain {
                    window_ms,
                    retry_after_ms,
                } => {
                    self.draining = true;
                    self.stop_accepting()?;
                    self.handle(
                        Input::Drain {
                            window_ms,
                            retry_after_ms,
                        },
                        now,
                    );
                }
                ShardCommand::Stats(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.snapshot());
                }
                ShardCommand::Tls(config, done) => {
                    self.transports.switch_tls(config);
                    done.done();
                }
                ShardCommand::Stop => {
                    self.handle(Input::Usage, now);
                    self.stopped = true;
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        // Pauses count from the writes, which may come long after the turn began.
        let now = self.clock.now();
        let turn = self.shard.turn();
        let dirty = &mut self.shard.effects_mut().dirty;
        self.to_flush.begin_turn(dirty, turn);
        self.begin_writes();
        if self.to_flush.len() >= BATCH_MIN {
            self.flush_batch(now)?;
        } else {
            while let Some(id) = self.to_flush.pop() {
                self.flush_one(id, now)?;
            }
        }
        self.end_writes();
        if let Some(turn) = self.to_flush.offered() {
            self.shard.offered(turn, now);
        }
        for id in std::mem::take(&mut self.shard.effects_mut().readable) {
            self.queue_read(id, now);
        }
        for id in std::mem::take(&mut self.shard.effects_mut().abort) {
            self.close(id, now)?;
        }
        Ok(())
    }

    /// Flushes a turn's worth of the queue, as much of it at once as can be.
    fn flush_batch(&mut self, now: Now) -> io::Result<()> {
        let mut ids = std::mem::take(&mut self.batch);
        while let Some(id) = self.to_flush.pop() {
            match self.sockets.get(id) {
                // What is encrypted goes through one buffer, so it is sent at once.
                Some(socket) if socket.transport.is_some() => self.flush_one(id, now)?,
                // Who has become more urgent, or writable, meanwhile may be there twice.
                Some(socket) if socket.takes_bytes() && !ids.contains(&id) => {
                    self.to_flush.charge(self.shard.flush_bytes(id));
                    ids.push(id);
                }
                _ => {}
            }
        }
        let (ring, events) = (&mut self.ring, &mut self.events);
        let mut batch = RingBatch::new(ring, &self.sockets, events, self.clock);
        self.shard.flush_batch(&ids, now, &mut batch)?;
        let RingBatch { sent, outcomes, .. } = batch;
        self.count_sent(sent);
        for (id, flushed) in outcomes {
            self.flushed(id, flushed, now)?;
        }
        ids.clear();
        self.batch = ids;
        Ok(())
    }

    fn flush_one(&mut self, id: ConnectionId, now: Now) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(id).filter(|it| it.takes_bytes()) else {
            return Ok(());
        };
        self.to_flush.charge(self.shard.flush_bytes(id));
        let (flushed, sent) = if socket.transport.is_some() {
            let mut sink = TransportSink::new(socket, &mut self.transports);
            (self.shard.flush(id, now, &mut sink), sink.sent)
        } else {
            let mut sink = PlainSink::new(socket);
            (self.shard.flush(id, now, &mut sink), sink.sent)
        };
        self.count_sent(sent);
        self.flushed(id, flushed, now)
    }

    /// A flush has come to its end.
    fn flushed(&mut self, id: ConnectionId, flushed: Flushed, now: Now) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(id) else {
            return Ok(());
        };
        match flushed {
            Flushed::Open => {}
            Flushed::ShutdownWrite => socket.shutdown(libc::SHUT_WR),
            Flushed::Close => return self.close(id, now),
            // The ring tells when there is room.
            Flushed::Blocked => {
                socket.write_blocked = true;
                self.measuring.blocked(id);
            }
        }
        Ok(())
    }

    fn close(&mut self, id: ConnectionId, now: Now) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(id) else {
            return Ok(());
        };
        if socket.closing {
            return Ok(());
        }
        socket.closing = true;
        socket.shutdown(libc::SHUT_RDWR);
        if socket.is_shaking_hands() {
            self.to_handshake.end();
        }
        self.measuring.unblocked(id);
        self.ring.unwatch(id)?;
        self.handle(Input::Closed { connection: id }, now);
        Ok(())
    }

    fn send_mesh(&mut self, now: Now) {
        let is_idle = self.shard.effects_mut().mesh.iter().all(Vec::is_empty);
        if is_idle && !self.mesh_out.has_backlog() {
            return;
        }
        let mut changed = Vec::new();
        let now_ns = self.clock.mono_ns();
        let sent = self.mesh_out.send(
            &mut self.shard.effects_mut().mesh,
            now_ns,
            |to, over_limit| {
                changed.push((to, over_limit));
            },
        );
        self.shard.metrics().counters.mesh_sent += sent as u64;
        for (to, over_limit) in changed {
            self.handle(Input::Link { to, over_limit }, now);
        }
    }

    /// What the control plane cannot take now goes with the next turn's.
    fn report_usage(&mut self) {
        if !self.shard.effects_mut().usage.is_empty() {
            let deltas = std::mem::take(&mut self.shard.effects_mut().usage);
            let Some(control) = &self.control else { return };
            if let Err(deltas) = control.report_usage(deltas) {
                self.shard.effects_mut().usage = deltas;
            }
        }
    }

    /// A change of rights is done when nobody is left whom it closes.
    fn report_rights(&mut self) {
        if !self.shard.is_switching_rights() {
            self.rights_told.drain(..).for_each(Done::done);
        }
    }

    fn report_drained(&mut self) {
        if self.draining && !self.reported_drained && self.sockets.is_empty() {
            self.reported_drained = true;
            self.commands.report_drained();
        }
    }
}
