//! `rest`: requests over kept-alive connections, pipelined where the rate asks for it.
//!
//! Published messages can be received by subscribers, who check them like any other.

use std::collections::VecDeque;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::client::message::{Message, RequestId};
use crate::client::target::percent_encode;
use crate::clock::now_ns;
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::stamp::{PAYLOAD_BYTES_MIN, Stamp};
use crate::workload::ledger::{Faults, Ledger};
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, unexpected};

/// Which request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// POST /v1/channels/:id/publish
    Publish,
    /// GET /v1/channels/:id/peers
    Peers,
    /// POST /v1/tokens
    Tokens,
    /// GET /v1/usage
    Usage,
}

/// Options of `rest`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestOptions {
    /// Request to make
    #[arg(long, value_enum, default_value_t = Operation::Publish)]
    operation: Operation,
    /// HTTP connections
    #[arg(long, default_value_t = 16)]
    clients: u32,
    /// Channels, used by the HTTP connections in turn
    #[arg(long, default_value_t = 4)]
    channels: u32,
    /// WebSocket subscribers of each channel
    #[arg(long, default_value_t = 0)]
    subscribers: u32,
    /// Requests per second, over all connections
    #[arg(long, default_value_t = 80.0)]
    rate: f64,
    /// Every connection makes its next request when the last is answered, instead of --rate
    #[arg(long)]
    saturate: bool,
    /// Bytes of a publication's data
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Plan for RestOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        if self.channels == 0 || self.clients < self.channels {
            return usage("--clients must be at least --channels, and both above 0");
        }
        if self.rate <= 0.0 || !self.rate.is_finite() {
            return usage("--rate must be above 0");
        }
        if self.payload < PAYLOAD_BYTES_MIN {
            return usage(&format!("--payload must be at least {PAYLOAD_BYTES_MIN}"));
        }
        Ok(())
    }

    fn connection_count(&self) -> u64 {
        let subscribers = u64::from(self.channels).saturating_mul(u64::from(self.subscribers));
        subscribers.saturating_add(u64::from(self.clients))
    }

    fn series(&self) -> Vec<&'static str> {
        vec!["request", "delivery"]
    }

    fn unit(&self) -> &'static str {
        "request"
    }

    fn uses(&self) -> (bool, bool) {
        (self.subscribers > 0, true)
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        // A channel, the connections that publish to it and its subscribers share a core.
        let share = |core: u32| {
            let is_own = |channel: u32| channel % run.core_count == core;
            let of_core = |n: &u32| is_own(n % self.channels);
            let own: Vec<u32> = (0..self.clients).filter(of_core).collect();
            let mut clients: Vec<Role> = own.iter().map(|n| Role::requester(*n)).collect();
            for channel in (0..self.channels).filter(|channel| is_own(*channel)) {
                let streams: Vec<u32> = (channel..self.clients)
                    .step_by(self.channels as usize)
                    .collect();
                for _ in 0..self.subscribers {
                    clients.push(Role::subscriber(channel, &streams));
                }
            }
            let places: Vec<usize> = own.iter().map(|n| *n as usize).collect();
            let rest = Rest {
                options: self.clone(),
                names: (0..self.channels)
                    .map(|c| format!("load/{}/{c}", run.tag))
                    .collect(),
                pace: Pace::new(self.rate, self.clients as usize, &places),
                waiting: clients.len(),
                requesters: own.len() as u32,
                clients,
                is_begun: false,
                answered: 0,
                delivered: 0,
                faults: Faults::default(),
                payload: Vec::new(),
                first_peer: core,
                core_count: run.core_count,
            };
            Box::new(rest) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

enum Role {
    /// Stream number, messages sent, and when each unanswered request was due.
    Requester {
        stream: u32,
        sent: u32,
        due: VecDeque<u64>,
    },
    Subscriber {
        channel: u32,
        ledger: Ledger,
    },
}

impl Role {
    fn requester(stream: u32) -> Role {
        Role::Requester {
            stream,
            sent: 0,
            due: VecDeque::new(),
        }
    }

    fn subscriber(channel: u32, streams: &[u32]) -> Role {
        let mut ledger = Ledger::default();
        streams.iter().for_each(|stream| ledger.expect(*stream, 0));
        Role::Subscriber { channel, ledger }
    }
}

struct Rest {
    options: RestOptions,
    names: Vec<String>,
    pace: Pace,
    /// The requesters come first.
    clients: Vec<Role>,
    requesters: u32,
    waiting: usize,
    is_begun: bool,
    answered: u64,
    delivered: u64,
    faults: Faults,
    payload: Vec<u8>,
    first_peer: u32,
    core_count: u32,
}

impl Rest {
    fn request(&mut self, core: &mut Core, client: u32, due_ns: u64) -> Result<(), Failure> {
        let Role::Requester { stream, sent, due } = &mut self.clients[client as usize] else {
            return Ok(());
        };
        let stamp = Stamp {
            stream: *stream,
            sequence: *sent,
            intended_ns: due_ns,
        };
        *sent += 1;
        due.push_back(due_ns);
        core.recorder.sent_at(due_ns, now_ns());
        let channel = percent_encode(&self.names[(*stream % self.options.channels) as usize]);
        match self.options.operation {
            Operation::Publish => {
                stamp.write(&mut self.payload, self.options.payload);
                let body = [b"{\"data\":", &self.payload[..], b"}"].concat();
                let path = format!("/v1/channels/{channel}/publish");
                core.send_request(client, "POST", &path, Some(&body))
            }
            Operation::Peers => core.send_request(
                client,
                "GET",
                &format!("/v1/channels/{channel}/peers"),
                None,
            ),
            Operation::Tokens => {
                let body = format!("{{\"peerId\":\"load-{client}\"}}");
                core.send_request(client, "POST", "/v1/tokens", Some(body.as_bytes()))
            }
            Operation::Usage => core.send_request(client, "GET", "/v1/usage", None),
        }
    }

    fn check_publish(&mut self, body: &[u8]) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Published {
            delivered: u32,
        }
        let published: Published = serde_json::from_slice(body)
            .map_err(|error| Failure::Protocol(format!("a broken publish answer ({error})")))?;
        let (told, expected) = (published.delivered, self.options.subscribers);
        if told != expected {
            let text = || format!("a publish says {told} deliveries instead of {expected}");
            self.faults.misdirected(text);
        }
        Ok(())
    }
}

impl Workload for Rest {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        for client in 0..self.clients.len() as u32 {
            let peer = client * self.core_count + self.first_peer;
            let kind = if client < self.requesters {
                Kind::Rest
            } else {
                Kind::WebSocket { peer }
            };
            core.open(client, kind, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, _: &[u8]) -> Result<(), Failure> {
        match &self.clients[client as usize] {
            Role::Requester { .. } => {
                self.waiting -= 1;
                Ok(())
            }
            Role::Subscriber { channel, .. } => {
                let id = RequestId {
                    kind: b's',
                    a: client,
                    b: 0,
                };
                core.send_command(client, "subscribe", &self.names[*channel as usize], id)
            }
        }
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match (message, &mut self.clients[client as usize]) {
            (Message::Publication { stamp, .. }, Role::Subscriber { ledger, .. }) => {
                if ledger.arrived(&mut self.faults, client, stamp) {
                    core.recorder.latency(1, stamp.intended_ns, core.now_ns);
                    self.delivered += 1;
                }
            }
            (Message::Ack(_), _) => self.waiting -= 1,
            (Message::Presence(_), _) => {}
            (other, _) => return unexpected(&other),
        }
        Ok(())
    }

    fn on_response(
        &mut self,
        core: &mut Core,
        client: u32,
        status: u16,
        body: &[u8],
    ) -> Result<(), Failure> {
        if status != 200 {
            let body = String::from_utf8_lossy(body).chars().take(200).collect();
            return Err(Failure::Rejected { status, body });
        }
        let Role::Requester { due, .. } = &mut self.clients[client as usize] else {
            return Ok(());
        };
        let Some(due_ns) = due.pop_front() else {
            self.faults
                .doubled(|| format!("connection {client} got an answer it did not ask for"));
            return Ok(());
        };
        core.recorder.latency(0, due_ns, core.now_ns);
        core.recorder.counters.received += 1;
        self.answered += 1;
        if self.options.operation == Operation::Publish {
            self.check_publish(body)?;
        }
        if self.options.saturate && core.now_ns < core.phase.to_ns() {
            return self.request(core, client, now_ns());
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        if self.options.saturate {
            if !std::mem::replace(&mut self.is_begun, true) {
                (0..self.requesters).try_for_each(|client| self.request(core, client, now_ns()))?;
            }
            return Ok(None);
        }
        self.pace.start(core.recorder.window().go_ns);
        while let Some((due_ns, client)) = self.pace.take_due(now_ns(), core.phase.to_ns()) {
            self.request(core, client as u32, due_ns)?;
        }
        Ok(self.pace.next().map(|(due_ns, _)| due_ns))
    }

    fn is_drained(&self) -> bool {
        let is_answered = |role: &Role| match role {
            Role::Requester { due, .. } => due.is_empty(),
            Role::Subscriber { .. } => true,
        };
        let is_publish = self.options.operation == Operation::Publish;
        let expected = self.answered * u64::from(self.options.subscribers) * u64::from(is_publish);
        self.clients.iter().all(is_answered) && self.delivered >= expected
    }

    fn fault_count(&self) -> u64 {
        self.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        let is_publish = self.options.operation == Operation::Publish;
        let mut ends = vec![0; self.options.clients as usize];
        for role in &self.clients {
            if let Role::Requester { stream, sent, due } = role {
                ends[*stream as usize] = if is_publish { *sent } else { 0 };
                let count = due.len() as u64;
                self.faults
                    .lost(count, || format!("{count} requests got no answer"));
            }
        }
        for (client, role) in self.clients.iter_mut().enumerate() {
            if let Role::Subscriber { channel, ledger } = role {
                let step = self.options.channels as usize;
                for stream in (*channel..self.options.clients).step_by(step) {
                    let end = ends[stream as usize];
                    ledger.finish(&mut self.faults, client as u32, stream, end);
                }
            }
        }
        self.faults.verdict()?;
        Ok(Verified {
            messages: self.answered + self.delivered,
            notes: Vec::new(),
        })
    }
}
