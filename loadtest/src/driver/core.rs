//! The connection table of one load core: opens, writes and closes on behalf of a workload.
//!
//! Reading is the worker's; this half is what a workload may call while it handles a message.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::frame::{self, opcode};
use crate::client::message::RequestId;
use crate::client::recall::Recall;
use crate::client::target::Target;
use crate::client::transport::Transport;
use crate::client::{handshake, http};
use crate::clock::{SECOND, now_ns};
use crate::driver::connection::{Connection, Kind, Stage};
use crate::driver::phase::Phase;
use crate::driver::poller::{Poller, Token};
use crate::failure::Failure;
use crate::measure::recorder::Recorder;

/// A connection that has no `welcome` after this long fails the run, ns.
const CONNECT_NS_MAX: u64 = 20 * SECOND;

struct Opening {
    client: u32,
    kind: Kind,
    intended_ns: u64,
}

/// One load core as a workload sees it.
pub(crate) struct Core {
    /// Time of the event being handled.
    pub now_ns: u64,
    /// Where latencies and counts go.
    pub recorder: Recorder,
    /// What the cores share.
    pub phase: Arc<Phase>,
    /// Which load core this is, from 0.
    pub index: usize,
    pub(super) connections: Vec<Connection>,
    pub(super) poller: Poller,
    pub(super) recall: Recall,
    target: Arc<Target>,
    waiting: VecDeque<Opening>,
    started: VecDeque<(Token, u64)>,
    connecting: usize,
    connecting_max: usize,
    opened: u32,
    out: Vec<u8>,
    random: u64,
}

impl Core {
    /// A core without connections that opens at most `connecting_max` at once.
    ///
    /// # Errors
    /// [`Failure::Executor`] when the system refuses a poller.
    pub(crate) fn new(
        index: usize,
        target: Arc<Target>,
        phase: Arc<Phase>,
        recorder: Recorder,
        connecting_max: usize,
    ) -> Result<Core, Failure> {
        let poller = Poller::new(phase.waker(index))
            .map_err(|error| Failure::Executor(error.to_string()))?;
        let now_ns = now_ns();
        Ok(Core {
            now_ns,
            recorder,
            phase,
            index,
            connections: Vec::new(),
            poller,
            recall: Recall::new(),
            target,
            waiting: VecDeque::new(),
            started: VecDeque::new(),
            connecting: 0,
            connecting_max,
            opened: 0,
            out: Vec::with_capacity(4096),
            random: now_ns | 1,
        })
    }

    /// Queues a connect for `client`, which must have no connection. It starts when fewer than
    /// the allowed number are being opened; an `intended_ns` of 0 stands for that moment.
    pub(crate) fn open(&mut self, client: u32, kind: Kind, intended_ns: u64) {
        let needed = client as usize + 1;
        if self.connections.len() < needed {
            self.connections.resize_with(needed, Connection::vacant);
        }
        self.waiting.push_back(Opening {
            client,
            kind,
            intended_ns,
        });
    }

    /// When the client's connection should have been opened, ns.
    pub(crate) fn intended_ns(&self, client: u32) -> u64 {
        self.connections[client as usize].intended_ns
    }

    /// A number below `bound` (0 for 0), from a small generator that is good enough for load.
    pub(crate) fn random_below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.random_u32()) * u64::from(bound)) >> 32) as u32
    }

    /// A wait with an exponential distribution around `mean_ns`: a Poisson process.
    pub(crate) fn random_wait_ns(&mut self, mean_ns: f64) -> u64 {
        let uniform = (f64::from(self.random_u32()) + 1.0) / (f64::from(u32::MAX) + 1.0);
        (-uniform.ln() * mean_ns) as u64
    }

    /// Sends one text message, the concatenation of `parts`.
    ///
    /// # Errors
    /// [`Failure::Closed`] when the connection has ended.
    pub(crate) fn send_text(&mut self, client: u32, parts: &[&[u8]]) -> Result<(), Failure> {
        self.send_frame(client, opcode::TEXT, parts)
    }

    /// Sends `subscribe` or `unsubscribe` with a request id.
    ///
    /// # Errors
    /// As [`Core::send_text`].
    pub(crate) fn send_command(
        &mut self,
        client: u32,
        command: &str,
        channel: &str,
        id: RequestId,
    ) -> Result<(), Failure> {
        let parts: [&[u8]; 7] = [
            b"{\"type\":\"",
            command.as_bytes(),
            b"\",\"channel\":\"",
            channel.as_bytes(),
            b"\",\"requestId\":\"",
            &id.text(),
            b"\"}",
        ];
        self.send_text(client, &parts)
    }

    /// Sends a REST request on the client's HTTP connection.
    ///
    /// # Errors
    /// As [`Core::send_text`].
    pub(crate) fn send_request(
        &mut self,
        client: u32,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<(), Failure> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        http::write_request(&mut out, &self.target, method, path, body);
        let written = self.write(client, &out);
        self.out = out;
        written
    }

    /// Begins the closing handshake; the workload hears `on_closed`.
    ///
    /// # Errors
    /// As [`Core::send_text`].
    pub(crate) fn close(&mut self, client: u32) -> Result<(), Failure> {
        self.send_frame(client, opcode::CLOSE, &[&1000u16.to_be_bytes()])?;
        self.connections[client as usize].stage = Stage::Closing;
        Ok(())
    }

    /// Drops an open connection without a word, as a network that fails. The workload hears
    /// nothing of it.
    pub(crate) fn abandon(&mut self, client: u32) {
        let connection = &mut self.connections[client as usize];
        if connection.stage == Stage::Open {
            connection.vacate();
            self.phase.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn send_frame(
        &mut self,
        client: u32,
        opcode: u8,
        parts: &[&[u8]],
    ) -> Result<(), Failure> {
        let mask = self.random_u32().to_ne_bytes();
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        frame::encode(&mut out, opcode, parts, mask);
        let written = self.write(client, &out);
        self.out = out;
        written
    }

    fn write(&mut self, client: u32, bytes: &[u8]) -> Result<(), Failure> {
        let connection = &mut self.connections[client as usize];
        let Some(transport) = &mut connection.transport else {
            return Err(gone("a message was due on a connection that has ended"));
        };
        if !connection.pending.is_empty() {
            connection.pending.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = match transport.write(bytes) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(gone(&error.to_string())),
        };
        connection.pending.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Continues what waits for the socket to take more.
    pub(super) fn on_writable(&mut self, client: u32) -> Result<(), Failure> {
        if self.connections[client as usize].stage == Stage::Connecting {
            self.on_connected(client)?;
        }
        let connection = &mut self.connections[client as usize];
        let Some(transport) = &mut connection.transport else {
            return Ok(());
        };
        let mut flushed = transport.flush();
        while flushed.is_ok() && !connection.pending.is_empty() {
            match transport.write(&connection.pending) {
                Ok(taken) => drop(connection.pending.drain(..taken)),
                Err(error) => flushed = Err(error),
            }
        }
        match flushed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                Err(gone(&error.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn on_connected(&mut self, client: u32) -> Result<(), Failure> {
        let connection = &mut self.connections[client as usize];
        let result = connection.transport.as_ref().map(Transport::connect_result);
        if let Some(Err(error)) = result {
            let address = self.target.address.to_string();
            return Err(Failure::Unreachable {
                address,
                cause: error.to_string(),
            });
        }
        let Kind::WebSocket { peer } = connection.kind else {
            connection.stage = Stage::Open;
            self.opened();
            return Ok(());
        };
        let nonce = u128::from(self.random_u32()) << 64 | u128::from(self.random_u32());
        let unix_sec = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let peer_id = format!("load-{peer:08x}");
        let accept = handshake::write_request(&mut out, &self.target, &peer_id, unix_sec, nonce)?;
        self.connections[client as usize].accept = accept;
        self.connections[client as usize].stage = Stage::Upgrading;
        let written = self.write(client, &out);
        self.out = out;
        written
    }

    /// A connection has become usable: another may start.
    pub(super) fn opened(&mut self) {
        self.connecting -= 1;
        self.recorder.counters.connected += 1;
        self.phase.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Starts queued connects, and fails the run when one takes too long.
    pub(super) fn start_connects(&mut self) -> Result<(), Failure> {
        while self.connecting < self.connecting_max {
            let Some(Opening {
                client,
                kind,
                intended_ns,
            }) = self.waiting.pop_front()
            else {
                break;
            };
            let number = self.opened * self.phase.core_count + self.index as u32;
            let transport = Transport::connect(&self.target, number)?;
            let connection = &mut self.connections[client as usize];
            connection.vacate();
            connection.stage = Stage::Connecting;
            connection.kind = kind;
            connection.generation = connection.generation.wrapping_add(1);
            // 0: due whenever the limit of concurrent connects lets it start.
            connection.intended_ns = if intended_ns == 0 {
                now_ns()
            } else {
                intended_ns
            };
            let token = Token {
                client,
                generation: connection.generation,
            };
            self.poller
                .add(&transport, token)
                .map_err(|error| gone(&error.to_string()))?;
            connection.transport = Some(transport);
            self.started.push_back((token, self.now_ns));
            self.connecting += 1;
            self.opened = self.opened.wrapping_add(1);
        }
        while let Some((token, started_ns)) = self.started.front() {
            let connection = &self.connections[token.client as usize];
            let is_decided = connection.generation != token.generation
                || matches!(
                    connection.stage,
                    Stage::Open | Stage::Closing | Stage::Vacant
                );
            if !is_decided && self.now_ns > started_ns + CONNECT_NS_MAX {
                let seconds = CONNECT_NS_MAX / SECOND;
                return Err(Failure::Timeout(format!(
                    "a connect got no answer in {seconds} s"
                )));
            }
            if !is_decided {
                break;
            }
            self.started.pop_front();
        }
        Ok(())
    }

    /// xorshift64*.
    fn random_u32(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// A connection that ended without a close frame.
pub(super) fn gone(reason: &str) -> Failure {
    Failure::Closed {
        code: None,
        reason: reason.to_owned(),
    }
}
