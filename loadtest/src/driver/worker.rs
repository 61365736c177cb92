//! The readiness loop of one load core: reads sockets, recognises messages, drives the workload
//! through the phases.
//!
//! It runs as the only task of a glommio executor and waits in epoll itself instead of awaiting
//! each socket: one wait serves up to 64 sockets, which keeps a received message below the cost of
//! the server's send. The executor places and names the thread, and gets its turn once per
//! interval.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::client::frame::{self, opcode};
use crate::client::message::Message;
use crate::client::{handshake, http, tls};
use crate::clock::{MS, SECOND, now_ns};
use crate::driver::connection::{Kind, Stage};
use crate::driver::core::{Core, gone};
use crate::driver::phase::Phase;
use crate::driver::poller::Ready;
use crate::failure::Failure;
use crate::workload::{Verified, Workload, unexpected};

/// Bytes taken from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Longest wait of the loop, ns: bounds how late an abort is noticed.
const WAIT_NS_MAX: u64 = 50 * MS;
/// How often a draining core looks whether others have stopped, ns.
const DRAIN_WAIT_NS: u64 = 2 * MS;
/// Messages still missing this long after the last one was sent are lost, ns.
const DRAIN_NS_MAX: u64 = 10 * SECOND;
/// The same where something was found missing before: the verdict is clear, late ones are awaited.
const FAULTY_DRAIN_NS_MAX: u64 = SECOND;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Connections are made and subscribed.
    SettingUp,
    /// Ready; other cores are not, or the server settles.
    Waiting,
    /// Load is sent.
    Loading,
    /// Nothing more is sent here; arrivals are awaited since this time.
    Draining(u64),
}

/// One load core's loop.
pub(crate) struct Worker {
    core: Core,
    workload: Box<dyn Workload>,
    step: Step,
    scratch: Vec<u8>,
    has_finished: bool,
    spins: bool,
}

impl Worker {
    /// Joins a core with its share of the workload; `spins`: it never sleeps under load.
    pub(crate) fn new(core: Core, workload: Box<dyn Workload>, spins: bool) -> Worker {
        let scratch = vec![0; SCRATCH_BYTES];
        Worker {
            core,
            workload,
            step: Step::SettingUp,
            scratch,
            has_finished: false,
            spins,
        }
    }

    /// Runs to the end of the drain. A failure here ends the whole run.
    pub(crate) async fn run(mut self) -> Option<Verified> {
        let phase = Arc::clone(&self.core.phase);
        let outcome = self.run_to_end(&phase).await;
        self.core.recorder.hand_over(self.workload.fault_count());
        match outcome {
            Ok(verified) => Some(verified),
            Err(failure) => {
                phase.fail(failure);
                None
            }
        }
    }

    async fn run_to_end(&mut self, phase: &Phase) -> Result<Verified, Failure> {
        self.workload.start(&mut self.core)?;
        let mut ready = Vec::new();
        let mut due_ns = 0;
        loop {
            let may_sleep = !(self.spins && self.step == Step::Loading);
            let due_ns_max = if may_sleep {
                self.core.now_ns + WAIT_NS_MAX
            } else {
                0
            };
            let wait_ns = due_ns.min(due_ns_max);
            let wait_ns = wait_ns.saturating_sub(self.core.now_ns);
            self.core
                .poller
                .wait(wait_ns, &mut ready)
                .map_err(|error| Failure::Executor(error.to_string()))?;
            for event in &ready {
                self.on_ready(event)?;
            }
            if phase.is_aborted() {
                return Err(phase.failure().unwrap_or_else(|| gone("aborted")));
            }
            self.core.now_ns = now_ns();
            let faults = || self.workload.fault_count();
            if self.core.recorder.roll(self.core.now_ns, faults) {
                glommio::executor().yield_task_queue_now().await;
            }
            due_ns = match self.advance(phase)? {
                Some(due_ns) => due_ns,
                None => return self.workload.verify(&mut self.core),
            };
            self.core.start_connects()?;
        }
    }

    /// Moves through the phases and sends what is due. Returns when to be called again, or `None`
    /// when the run is over.
    fn advance(&mut self, phase: &Phase) -> Result<Option<u64>, Failure> {
        let now_ns = self.core.now_ns;
        match self.step {
            Step::SettingUp => {
                if self.workload.is_ready() {
                    self.step = Step::Waiting;
                    phase.ready.fetch_add(1, Ordering::AcqRel);
                }
                Ok(Some(now_ns + WAIT_NS_MAX))
            }
            Step::Waiting => match phase.started() {
                Some(window) if window.go_ns <= now_ns => {
                    self.step = Step::Loading;
                    self.core.recorder.begin(window, now_ns);
                    Ok(Some(now_ns))
                }
                Some(window) => Ok(Some(window.go_ns)),
                None => Ok(Some(now_ns + WAIT_NS_MAX)),
            },
            Step::Loading => self.load(phase),
            Step::Draining(since_ns) => {
                if phase.all(&phase.stopped) && self.workload.is_drained() {
                    return Ok(None);
                }
                let wait_ns = if self.workload.fault_count() > 0 {
                    FAULTY_DRAIN_NS_MAX
                } else {
                    DRAIN_NS_MAX
                };
                if now_ns > since_ns + wait_ns {
                    // What is missing now is lost; the verdict names it.
                    return Ok(None);
                }
                Ok(Some(now_ns + DRAIN_WAIT_NS))
            }
        }
    }

    fn load(&mut self, phase: &Phase) -> Result<Option<u64>, Failure> {
        let now_ns = self.core.now_ns;
        let due_ns = self.workload.pump(&mut self.core)?;
        if !self.has_finished && self.workload.is_finished() {
            self.has_finished = true;
            phase.finished.fetch_add(1, Ordering::AcqRel);
        }
        let to_ns = phase.to_ns();
        self.core.recorder.end(to_ns);
        if now_ns >= to_ns && due_ns.is_none_or(|due_ns| due_ns >= to_ns) {
            self.step = Step::Draining(now_ns);
            phase.stopped.fetch_add(1, Ordering::AcqRel);
            return Ok(Some(now_ns));
        }
        Ok(Some(due_ns.unwrap_or(u64::MAX).min(to_ns)))
    }

    fn on_ready(&mut self, event: &Ready) -> Result<(), Failure> {
        let client = event.token.client;
        let connection = &self.core.connections[client as usize];
        if connection.generation != event.token.generation || connection.stage == Stage::Vacant {
            return Ok(());
        }
        if event.is_writable {
            let was_connecting = connection.stage == Stage::Connecting;
            self.core.on_writable(client)?;
            let connection = &self.core.connections[client as usize];
            if was_connecting && connection.kind == Kind::Rest {
                self.core.now_ns = now_ns();
                self.workload.on_welcome(&mut self.core, client, b"")?;
            }
        }
        if event.is_readable {
            self.read(client, event.is_ending)?;
        }
        Ok(())
    }

    fn read(&mut self, client: u32, is_ending: bool) -> Result<(), Failure> {
        loop {
            let connection = &mut self.core.connections[client as usize];
            let Some(transport) = &mut connection.transport else {
                return Ok(());
            };
            let bytes = match transport.read(&mut self.scratch) {
                Ok(0) => return self.ended(client, io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return self.ended(client, error),
            };
            let is_drained = !is_ending && transport.is_drained_by(bytes, self.scratch.len());
            self.core.now_ns = now_ns();
            self.core.recorder.counters.bytes += bytes as u64;
            feed(
                &mut self.core,
                &mut *self.workload,
                client,
                &self.scratch[..bytes],
            )?;
            if is_drained {
                return Ok(());
            }
        }
    }

    fn ended(&mut self, client: u32, error: io::Error) -> Result<(), Failure> {
        let connection = &mut self.core.connections[client as usize];
        match connection.stage {
            Stage::Closing => {
                connection.vacate();
                self.core.phase.open.fetch_sub(1, Ordering::Relaxed);
                self.workload.on_closed(&mut self.core, client)
            }
            Stage::Upgrading if let Some(cause) = tls_error(&error) => Err(tls::failure_of(cause)),
            Stage::Connecting | Stage::Upgrading => Err(Failure::Protocol(format!(
                "it ended the connection during the handshake ({error})"
            ))),
            _ => Err(gone(&error.to_string())),
        }
    }
}

/// What TLS objects to, if it is that which ended a connection.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Adds what was read to what was incomplete, and handles every whole frame.
fn feed(
    core: &mut Core,
    workload: &mut dyn Workload,
    client: u32,
    bytes: &[u8],
) -> Result<(), Failure> {
    if core.connections[client as usize].partial.is_empty() {
        let used = consume(core, workload, client, bytes)?;
        core.connections[client as usize]
            .partial
            .extend_from_slice(&bytes[used..]);
        return Ok(());
    }
    let mut partial = std::mem::take(&mut core.connections[client as usize].partial);
    partial.extend_from_slice(bytes);
    let used = consume(core, workload, client, &partial)?;
    partial.drain(..used);
    core.connections[client as usize].partial = partial;
    Ok(())
}

/// Handles what is complete at the start of `bytes`; returns how many bytes that was.
fn consume(
    core: &mut Core,
    workload: &mut dyn Workload,
    client: u32,
    bytes: &[u8],
) -> Result<usize, Failure> {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        let connection = &mut core.connections[client as usize];
        let step = match (connection.stage, connection.kind) {
            (Stage::Vacant | Stage::Connecting, _) => return Ok(bytes.len()),
            (Stage::Upgrading, _) => {
                let head_bytes = handshake::read_response(rest, &connection.accept)?;
                if head_bytes.is_some() {
                    connection.stage = Stage::Greeting;
                }
                head_bytes
            }
            (_, Kind::Rest) => match http::read_response(rest)? {
                Some(response) => {
                    let (status, body) = (response.status, response.body);
                    workload.on_response(core, client, status, body)?;
                    Some(response.wire_bytes)
                }
                None => None,
            },
            (_, Kind::WebSocket { .. }) => {
                match frame::decode(rest).map_err(|what| Failure::Protocol(what.into()))? {
                    Some(frame) => {
                        on_frame(core, workload, client, &frame)?;
                        Some(frame.wire_bytes)
                    }
                    None => None,
                }
            }
        };
        match step {
            Some(step_bytes) => used += step_bytes,
            None => return Ok(used),
        }
    }
}

fn on_frame(
    core: &mut Core,
    workload: &mut dyn Workload,
    client: u32,
    frame: &frame::Frame<'_>,
) -> Result<(), Failure> {
    match (frame.opcode, frame.is_final) {
        (opcode::TEXT, true) => on_text(core, workload, client, frame.payload),
        (opcode::TEXT | opcode::CONTINUATION, is_final) => {
            let fragments = &mut core.connections[client as usize].fragments;
            fragments.extend_from_slice(frame.payload);
            if !is_final {
                return Ok(());
            }
            let text = std::mem::take(fragments);
            on_text(core, workload, client, &text)
        }
        (opcode::PING, _) if core.connections[client as usize].stage == Stage::Closing => Ok(()),
        (opcode::PING, _) => core.send_frame(client, opcode::PONG, &[frame.payload]),
        (opcode::PONG, _) => Ok(()),
        (opcode::CLOSE, _) if core.connections[client as usize].stage == Stage::Closing => Ok(()),
        (opcode::CLOSE, _) => {
            let (code, reason) = frame::close_code(frame.payload).unwrap_or((1005, String::new()));
            Err(Failure::Closed {
                code: Some(code),
                reason,
            })
        }
        (other, _) => Err(Failure::Protocol(format!("a frame with opcode {other}"))),
    }
}

fn on_text(
    core: &mut Core,
    workload: &mut dyn Workload,
    client: u32,
    text: &[u8],
) -> Result<(), Failure> {
    core.recorder.counters.frames += 1;
    let Some(message) = core.recall.recognise(text) else {
        let shown: String = String::from_utf8_lossy(text).chars().take(120).collect();
        let is_delivery = [&b"{\"type\":\"message\""[..], b"{\"type\":\"direct\""];
        if is_delivery.iter().any(|start| text.starts_with(start)) {
            return Err(Failure::Incorrect(format!(
                "a foreign or damaged message {shown:?}"
            )));
        }
        return Err(Failure::Protocol(format!("an unknown message {shown:?}")));
    };
    match core.connections[client as usize].stage {
        Stage::Greeting => match message {
            Message::Welcome(welcome) => {
                core.connections[client as usize].stage = Stage::Open;
                core.opened();
                workload.on_welcome(core, client, welcome)
            }
            other => unexpected(&other),
        },
        Stage::Closing => Ok(()),
        _ => workload.on_message(core, client, message),
    }
}
