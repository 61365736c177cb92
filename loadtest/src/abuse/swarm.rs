//! The attacker's connections: one thread, one epoll instance, and per connection what it sends,
//! whether it goes on sending for ever, and how fast it reads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustls::ClientConfig;

use crate::abuse::heard::{Heard, Kind, Logs};
use crate::abuse::rosters::Rosters;
use crate::client::frame::{self, opcode};
use crate::client::target::Target;
use crate::client::transport::{Shape, Transport};
use crate::clock::{MS, SECOND, now_ns, timespec};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Events taken at once.
const EVENTS_PER_WAIT: usize = 512;
/// Bytes read and written at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks of a flood written at once.
const CHUNKS_PER_TURN: usize = 8;
/// Between two looks at connections that read at a rate, ns.
const PACE_NS: u64 = 5 * MS;

/// How a connection reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everything at once.
    All,
    /// Nothing.
    Nothing,
    /// This many bytes per second, steadily.
    Paced(u64),
}

/// How a connection begins.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    /// What it sends first.
    pub first: Vec<u8>,
    /// How it reads.
    pub reading: Reading,
    /// Which of its frames are kept one by one.
    pub logs: Logs,
    /// Whether it keeps the rosters of its channels.
    pub keeps_rosters: bool,
    /// What is unusual about its socket.
    pub shape: Shape,
    /// TLS sessions that it may resume, and adds to.
    pub sessions: Option<Arc<ClientConfig>>,
}

impl Opening {
    /// Sends `first` and reads everything.
    pub(super) fn new(first: Vec<u8>) -> Opening {
        Opening {
            first,
            reading: Reading::All,
            logs: Logs::Nothing,
            keeps_rosters: false,
            shape: Shape::default(),
            sessions: None,
        }
    }

    /// With a log of its frames, which counts from their arrival at the socket.
    pub(super) fn logged(mut self) -> Opening {
        self.logs = Logs::Everything;
        self.shape.is_stamped = true;
        self
    }

    /// The same for publications only.
    pub(super) fn logging_messages(self) -> Opening {
        Opening {
            logs: Logs::Messages,
            ..self.logged()
        }
    }

    /// Keeps the rosters of its channels.
    pub(super) fn keeping_rosters(mut self) -> Opening {
        self.keeps_rosters = true;
        self
    }

    /// Resumes one of these TLS sessions, if there is one.
    pub(super) fn resuming(mut self, sessions: Option<Arc<ClientConfig>>) -> Opening {
        self.sessions = sessions;
        self
    }

    /// Reads in this way, over a socket that buffers as little as one to a distant client.
    pub(super) fn reads(mut self, reading: Reading) -> Opening {
        self.reading = reading;
        self.shape.receive_bytes = Some(4_096);
        self.shape.segment_bytes = Some(1_400);
        self
    }
}

/// One connection.
pub(super) struct Peer {
    transport: Option<Transport>,
    /// What it has heard.
    pub heard: Heard,
    /// When the server ended it, ns.
    pub ended_ns: Option<u64>,
    reading: Reading,
    pending: Vec<u8>,
    sent: usize,
    flood: Option<(Arc<[u8]>, usize)>,
    /// Bytes of it that the socket took.
    pub sent_bytes: u64,
    interest: EventFlags,
    paced_ns: u64,
}

impl Peer {
    /// Whether the connection is there, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.transport.is_some()
    }

    /// Whether its TLS handshake resumed an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_resumed)
    }

    fn wanted(&self) -> EventFlags {
        let mut wanted = EventFlags::empty();
        if self.reading == Reading::All {
            wanted |= EventFlags::IN;
        }
        let is_unflushed = self.transport.as_ref().is_some_and(Transport::is_unflushed);
        if self.sent < self.pending.len() || self.flood.is_some() || is_unflushed {
            wanted |= EventFlags::OUT;
        }
        wanted
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(transport) = &mut self.transport else {
            return Ok(());
        };
        transport.flush()?;
        while self.sent < self.pending.len() {
            let taken = transport.write(&self.pending[self.sent..])?;
            self.sent += taken;
            self.sent_bytes += taken as u64;
        }
        self.pending.clear();
        self.sent = 0;
        // A flood fills the socket, so that there is always more to read than the server takes.
        for _ in 0..CHUNKS_PER_TURN {
            let Some((pattern, offset)) = &mut self.flood else {
                break;
            };
            let rest = &pattern[*offset..];
            let taken = transport.write(&rest[..rest.len().min(CHUNK_BYTES)])?;
            *offset = (*offset + taken) % pattern.len();
            self.sent_bytes += taken as u64;
        }
        Ok(())
    }

    /// Reads at most `bytes`; true when the stream has ended.
    fn read(&mut self, scratch: &mut [u8], bytes: usize) -> bool {
        let Some(transport) = &mut self.transport else {
            return false;
        };
        let bytes = bytes.min(scratch.len());
        match transport.read(&mut scratch[..bytes]) {
            Ok(0) => true,
            Ok(read) => {
                let arrived_ns = transport.arrived_ns();
                self.heard.take(&scratch[..read], arrived_ns);
                false
            }
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

/// All connections of an attacker.
pub(super) struct Swarm {
    target: Arc<Target>,
    interrupt: Interrupt,
    epoll: OwnedFd,
    peers: Vec<Peer>,
    paced: Vec<usize>,
    paced_ns: u64,
    scratch: Vec<u8>,
    /// Connections with news since they were last taken.
    news: Vec<usize>,
    keeps_news: bool,
}

impl Swarm {
    /// Without connections.
    ///
    /// # Errors
    /// [`Failure::Executor`] when the system refuses a poller.
    pub(super) fn new(target: Arc<Target>, interrupt: Interrupt) -> Result<Swarm, Failure> {
        let epoll = epoll::create(CreateFlags::CLOEXEC);
        Ok(Swarm {
            target,
            interrupt,
            epoll: epoll.map_err(|error| Failure::Executor(error.to_string()))?,
            peers: Vec::new(),
            paced: Vec::new(),
            paced_ns: 0,
            scratch: vec![0; CHUNK_BYTES],
            news: Vec::new(),
            keeps_news: false,
        })
    }

    /// Begins a connection and returns its index.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub(super) fn open(&mut self, opening: Opening) -> Result<usize, Failure> {
        let sessions = opening.sessions.as_ref();
        let transport = Transport::connect_shaped(&self.target, &opening.shape, sessions)?;
        let index = self.peers.len();
        let mut heard = Heard::new(opening.logs);
        heard.rosters = opening.keeps_rosters.then(Rosters::default);
        let peer = Peer {
            transport: Some(transport),
            heard,
            ended_ns: None,
            reading: opening.reading,
            pending: opening.first,
            sent: 0,
            flood: None,
            sent_bytes: 0,
            interest: EventFlags::OUT,
            paced_ns: now_ns(),
        };
        let data = EventData::new_u64(index as u64);
        if let Some(transport) = &peer.transport {
            epoll::add(&self.epoll, transport, data, peer.interest)
                .map_err(|error| Failure::Executor(error.to_string()))?;
        }
        if matches!(opening.reading, Reading::Paced(_)) {
            self.paced.push(index);
        }
        self.peers.push(peer);
        Ok(index)
    }

    /// One connection.
    pub(super) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// All of them.
    pub(super) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, index: usize, bytes: &[u8]) {
        self.peers[index].pending.extend_from_slice(bytes);
        self.update(index);
    }

    /// Sends a text frame.
    pub(super) fn send_text(&mut self, index: usize, text: &str) {
        let mut out = Vec::with_capacity(text.len() + 14);
        frame::encode(&mut out, opcode::TEXT, &[text.as_bytes()], [1, 2, 3, 4]);
        self.send(index, &out);
    }

    /// The frames since the last call, of a connection that keeps a log.
    pub(super) fn take_log(&mut self, index: usize) -> Vec<crate::abuse::heard::Event> {
        std::mem::take(&mut self.peers[index].heard.log)
    }

    /// From now on [`take_news`](Self::take_news) says who has news, or no longer.
    pub(super) fn keep_news(&mut self, keeps: bool) {
        self.keeps_news = keeps;
        self.news.clear();
    }

    /// Connections that have heard something or have ended since the last call; some twice.
    pub(super) fn take_news(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.news)
    }

    /// Whether the socket has taken everything.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        self.peers[index].pending.is_empty()
    }

    /// Writes what is pending without waiting for the next turn.
    pub(super) fn write_now(&mut self, index: usize) {
        // An error ends the connection, which the next turn sees.
        let _blocked = self.peers[index].write();
        self.update(index);
    }

    /// Sends `pattern` again and again, as fast as the socket takes it; an empty one ends that.
    pub(super) fn flood(&mut self, index: usize, pattern: Arc<[u8]>) {
        self.peers[index].flood = (!pattern.is_empty()).then_some((pattern, 0));
        self.update(index);
    }

    /// Reads differently from now on.
    pub(super) fn read_at(&mut self, index: usize, reading: Reading) {
        self.paced.retain(|paced| *paced != index);
        if matches!(reading, Reading::Paced(_)) {
            self.paced.push(index);
        }
        let peer = &mut self.peers[index];
        peer.reading = reading;
        peer.paced_ns = now_ns();
        self.update(index);
    }

    /// Writes what is pending and ends the stream behind it: `close_notify` over TLS, in the same
    /// segment, and a FIN where `with_fin`. What is pending must fit into the socket.
    pub(super) fn end_behind(&mut self, index: usize, bytes: &[u8], with_fin: bool) {
        let peer = &mut self.peers[index];
        let Some(transport) = &mut peer.transport else {
            return;
        };
        // A connection that the server ended before is seen at the next read.
        let _ended = transport.write_last(bytes);
        if with_fin {
            let _ended = transport.end_writing();
        }
        self.update(index);
    }

    /// Closes the socket, by a reset where `resets`.
    pub(super) fn leave(&mut self, index: usize, resets: bool) {
        if let Some(transport) = self.peers[index].transport.take()
            && resets
        {
            // Without the option it is an ordinary close, which ends the connection as well.
            let _less_abrupt = transport.reset_on_close();
        }
    }

    /// Closes all of them in `range`.
    pub(super) fn leave_all(&mut self, range: std::ops::Range<usize>, resets: bool) {
        range.for_each(|index| self.leave(index, resets));
    }

    /// Handles what is ready, waiting at most `wait`.
    ///
    /// # Errors
    /// [`Failure::Executor`] when the system refuses to poll, [`Failure::Interrupted`].
    pub(super) fn turn(&mut self, wait: Duration) -> Result<(), Failure> {
        if self.interrupt.is_requested() {
            return Err(Failure::Interrupted("the attack has ended early".into()));
        }
        let mut wait_ns = wait.as_nanos() as u64;
        if !self.paced.is_empty() {
            wait_ns = wait_ns.min(PACE_NS);
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_PER_WAIT);
        let timeout = timespec(wait_ns);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::Executor(error.to_string())),
        }
        for event in events {
            let flags = event.flags;
            let index = { event.data }.u64() as usize;
            self.handle(index, flags);
            if self.keeps_news {
                self.news.push(index);
            }
        }
        self.read_paced();
        Ok(())
    }

    /// Turns until `is_done` or until `wait` has passed; says which.
    ///
    /// # Errors
    /// As [`Swarm::turn`].
    pub(super) fn until(
        &mut self,
        wait: Duration,
        mut is_done: impl FnMut(&mut Swarm) -> bool,
    ) -> Result<bool, Failure> {
        let end_ns = now_ns() + wait.as_nanos() as u64;
        loop {
            if is_done(self) {
                return Ok(true);
            }
            if now_ns() >= end_ns {
                return Ok(false);
            }
            self.turn(Duration::from_millis(5))?;
        }
    }

    /// Turns for so long.
    ///
    /// # Errors
    /// As [`Swarm::turn`].
    pub(super) fn run(&mut self, time: Duration) -> Result<(), Failure> {
        self.until(time, |_| false).map(drop)
    }

    fn handle(&mut self, index: usize, flags: EventFlags) {
        let peer = &mut self.peers[index];
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let mut is_ended = false;
        if flags.contains(EventFlags::OUT) {
            is_ended = peer
                .write()
                .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock);
        }
        if flags.contains(EventFlags::IN) && peer.reading == Reading::All {
            is_ended |= peer.read(&mut self.scratch, CHUNK_BYTES);
        } else if failed {
            // Whoever reads slowly reads to the end; others are told here.
            is_ended |=
                !matches!(peer.reading, Reading::Paced(_)) || flags.contains(EventFlags::ERR);
        }
        if is_ended {
            // What came before a reset is still there to be read; it fits into a few chunks.
            for _ in 0..64 {
                if peer.reading != Reading::All || peer.read(&mut self.scratch, CHUNK_BYTES) {
                    break;
                }
            }
            self.end(index);
            return;
        }
        self.answer_pings(index);
        self.update(index);
    }

    fn read_paced(&mut self) {
        let now = now_ns();
        if self.paced.is_empty() || now < self.paced_ns + PACE_NS {
            return;
        }
        self.paced_ns = now;
        for index in self.paced.clone() {
            let peer = &mut self.peers[index];
            let Reading::Paced(rate) = peer.reading else {
                continue;
            };
            // At most a tenth of a second is caught up.
            let elapsed = (now - peer.paced_ns).min(SECOND / 10);
            let allowed = (u128::from(rate) * u128::from(elapsed) / u128::from(SECOND)) as usize;
            if allowed == 0 || !peer.is_open() {
                continue;
            }
            peer.paced_ns = now;
            if peer.read(&mut self.scratch, allowed) {
                self.end(index);
            } else {
                self.answer_pings(index);
            }
        }
    }

    fn answer_pings(&mut self, index: usize) {
        for payload in std::mem::take(&mut self.peers[index].heard.pings) {
            let mut out = Vec::new();
            frame::encode(&mut out, opcode::PONG, &[&payload], [1, 2, 3, 4]);
            self.peers[index].pending.extend_from_slice(&out);
        }
    }

    fn end(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.transport = None;
        peer.ended_ns = Some(now_ns());
    }

    fn update(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let wanted = peer.wanted();
        if wanted == peer.interest {
            return;
        }
        if let Some(transport) = &peer.transport {
            let data = EventData::new_u64(index as u64);
            if epoll::modify(&self.epoll, transport, data, wanted).is_ok() {
                peer.interest = wanted;
            }
        }
    }
}

/// Counts over many connections.
impl Swarm {
    /// Connections in `range` that are open.
    pub(super) fn open_count(&self, range: std::ops::Range<usize>) -> usize {
        self.peers[range].iter().filter(|it| it.is_open()).count()
    }

    /// Frames of one kind.
    pub(super) fn frames(&self, range: std::ops::Range<usize>, kind: Kind) -> u64 {
        self.peers[range]
            .iter()
            .map(|it| it.heard.count(kind))
            .sum()
    }

    /// Connections that were closed with this code.
    pub(super) fn closed_with(&self, range: std::ops::Range<usize>, code: u16) -> u64 {
        let peers = self.peers[range].iter();
        peers.filter(|it| it.heard.close == Some(code)).count() as u64
    }

    /// HTTP answers with this status.
    pub(super) fn statuses(&self, range: std::ops::Range<usize>, status: u16) -> u64 {
        self.peers[range]
            .iter()
            .map(|it| it.heard.status(status))
            .sum()
    }

    /// Bytes sent and received.
    pub(super) fn traffic(&self, range: std::ops::Range<usize>) -> (u64, u64) {
        let peers = self.peers[range].iter();
        peers.fold((0, 0), |sum, it| {
            (sum.0 + it.sent_bytes, sum.1 + it.heard.bytes)
        })
    }

    /// HTTP answers by status and close codes, in words.
    pub(super) fn endings(&self, range: std::ops::Range<usize>) -> String {
        let mut statuses = std::collections::BTreeMap::<u16, u64>::new();
        let mut codes = std::collections::BTreeMap::<u16, u64>::new();
        for peer in &self.peers[range] {
            for (status, count) in &peer.heard.statuses {
                *statuses.entry(*status).or_default() += count;
            }
            if let Some(code) = peer.heard.close {
                *codes.entry(code).or_default() += 1;
            }
        }
        let statuses = statuses.iter().map(|(it, count)| format!("{count} × {it}"));
        let codes = codes
            .iter()
            .map(|(it, count)| format!("{count} × close {it}"));
        let words: Vec<_> = statuses.chain(codes).collect();
        if words.is_empty() {
            "no answer".into()
        } else {
            words.join(", ")
        }
    }
}
