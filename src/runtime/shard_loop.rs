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
mod links;
mod measure;
mod memory;
mod net;
mod reading;
mod sleep;
mod transported;
mod writing;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::control::ControlHandle;
use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::metrics::{Gauges, ShardSnapshot};
use crate::runtime::clock::Clock;
use crate::runtime::command::{Commands, ShardCommand};
use crate::runtime::descriptors::PublicDescriptors;
use crate::runtime::listener::Listeners;
use crate::runtime::memory::Memory;
use crate::runtime::mesh::{MeshIn, MeshOut};
use crate::runtime::process::thread_cpu_ns;
use crate::runtime::ring::{RingEvent, SocketRing};
use crate::runtime::sockets::Sockets;
use crate::runtime::transport::Transports;
use crate::runtime::wake::Wake;
use crate::shard::effect::Urgency;
use crate::shard::input::Input;
use crate::shard::state::Shard;

use self::accepting::Accepting;
use self::control::ControlSide;
use self::flushing::Flushing;
use self::links::Links;
use self::memory::MemoryWatch;
use self::net::Net;
use self::reading::Reading;
use self::sleep::Sleep;

/// Pause before trying a full mesh link again, if nothing else wakes the shard.
const LINK_RETRY: Duration = Duration::from_millis(1);

/// See the top of this file.
pub struct ShardLoop {
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
        let ring = SocketRing::new(parts.wake.raw())?;
        let sockets = Sockets::new(parts.descriptors);
        let mut net = Net::new(ring, sockets, parts.transports);
        let clock = parts.clock;
        Ok(Self {
            accepting: Accepting::new(parts.listeners, &mut net)?,
            shard: parts.shard,
            net,
            reading: Reading::new(clock),
            flushing: Flushing::new(clock),
            links: Links::new(parts.mesh_out, parts.mesh_in, clock),
            control: ControlSide::new(parts.commands, parts.control),
            memory: MemoryWatch::new(parts.memory),
            sleep: Sleep::new(parts.wake),
            clock,
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
                self.rest()?;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let (now, began_ns) = self.clock.now_and_ns();
        self.sleep.forgive_lateness(&mut self.shard, now);
        measure::begin_turn(&mut self.shard, now, began_ns);
        self.reading.begin_turn(began_ns);
        self.look(now)?;
        let (net, shard) = (&mut self.net, &mut self.shard);
        self.reading.shake_hands(net, shard, now);
        let level = self.memory.level();
        self.accepting.accept(net, shard, level, now)?;
        self.reading.read(net, shard, now);
        self.links.receive(shard, now);
        self.take_commands(now)?;
        self.memory.look(&mut self.shard, now);
        self.meet_deadlines(now);
        self.accepting.resume(now);
        self.shard.handle(Input::EndOfTurn, now);
        measure::end_spans(&mut self.shard, &self.clock);
        // Other shards go on with what they get while this one writes.
        self.links.send(&mut self.shard, now);
        self.flush()?;
        self.links.send(&mut self.shard, now);
        let is_vacant = self.net.sockets.is_empty();
        self.control.report(&mut self.shard, is_vacant);
        measure::end_turn(&mut self.shard, &self.clock, began_ns);
        Ok(())
    }

    /// Takes in what has happened to sockets and listeners.
    fn look(&mut self, now: Now) -> io::Result<()> {
        let reaped = self.net.look()?;
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
                last,
            } => {
                let Some(socket) = self.net.told(connection, last)? else {
                    return Ok(());
                };
                socket.hung_up |= hung_up;
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
                ShardCommand::Settings(settings, proxies, done) => {
                    self.net.transports.switch_proxies(proxies);
                    self.shard.handle(Input::Settings(settings), now);
                    done.done();
                }
                ShardCommand::Drain {
                    window_ms,
                    retry_after_ms,
                } => {
                    self.control.await_drain();
                    self.accepting.stop(&mut self.net)?;
                    let drain = Input::Drain {
                        window_ms,
                        retry_after_ms,
                    };
                    self.shard.handle(drain, now);
                }
                ShardCommand::Stats(answer) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(self.snapshot());
                }
                ShardCommand::Tls(config, done) => {
                    self.net.transports.switch_tls(config);
                    done.done();
                }
                ShardCommand::Stop => {
                    self.shard.handle(Input::Usage, now);
                    self.stopped = true;
                }
            }
        }
        Ok(())
    }

    fn meet_deadlines(&mut self, now: Now) {
        let deadline_ms = self.shard.next_deadline_ms();
        if deadline_ms.is_some_and(|at| at <= now.mono_ms) {
            self.shard.judge_until(self.reading.heard_until_ms());
            self.shard.handle(Input::Time, now);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Pauses count from the writes, which may come long after the turn began.
        let now = self.clock.now();
        self.flushing.flush(&mut self.net, &mut self.shard, now)?;
        for id in std::mem::take(&mut self.shard.effects_mut().readable) {
            let sockets = &mut self.net.sockets;
            self.reading.push(id, sockets, &mut self.shard, now);
        }
        for id in std::mem::take(&mut self.shard.effects_mut().abort) {
            self.close(id, now)?;
        }
        Ok(())
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
        !self.net.events.is_empty()
            || !self.accepting.is_empty()
            || !self.reading.is_empty()
            || !self.flushing.is_empty()
            || !effects.dirty.is_empty()
            || !effects.abort.is_empty()
            || self.shard.has_work()
            || self.stopped
    }

    /// Sleeps until there is something to do.
    fn rest(&mut self) -> io::Result<()> {
        self.sleep.prepare();
        if self.links.is_empty() && self.control.is_empty() {
            let now_ms = self.clock.now().mono_ms;
            let timeout = self.until_next_deadline(now_ms);
            self.sleep.begin(now_ms, timeout);
            let timeout = self.memory.bound_sleep(&self.shard, timeout);
            self.net.ring.wait(timeout)?;
            self.memory.slept(&mut self.shard, &self.clock);
        }
        self.sleep.end();
        Ok(())
    }

    fn until_next_deadline(&self, now_ms: u64) -> Option<Duration> {
        let deadlines = [self.shard.next_deadline_ms(), self.accepting.resumes_ms()];
        let deadline_ms = deadlines.into_iter().flatten().min();
        let timeout = deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        if self.links.has_backlog() {
            return Some(timeout.map_or(LINK_RETRY, |timeout| timeout.min(LINK_RETRY)));
        }
        timeout
    }

    /// A copy of everything that is counted and measured, for whoever asked.
    fn snapshot(&mut self) -> ShardSnapshot {
        let (connections, channels, peers) = self.shard.counts();
        let (mesh_backlog_messages, mesh_queue_batches) = self.links.counts();
        let gauges = Gauges {
            connections,
            connections_unauthenticated: self.shard.unauthenticated_count(),
            channels,
            peers,
            connections_blocked: self.flushing.blocked_count(),
            outbound_queue_bytes: self.flushing.waiting_bytes(&self.shard),
            mesh_backlog_messages,
            mesh_queue_batches,
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
