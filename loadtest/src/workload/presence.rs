//! `presence`: storms of joins and leaves in one large channel, seen by its residents.
//!
//! A few residents, the observers, read every presence frame: they must see each mover join and
//! leave in turn, and must agree with the truth in the end. The others only receive.

use std::collections::{HashMap, HashSet};

use clap::Args;
use serde::Deserialize;

use crate::client::message::{Message, RequestId};
use crate::clock::now_ns;
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::workload::ledger::Faults;
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, peer_id_of, unexpected};

/// Options of `presence`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PresenceOptions {
    /// Peers that stay in the channel
    #[arg(long, default_value_t = 1000)]
    residents: u32,
    /// Peers that join and leave in turn
    #[arg(long, default_value_t = 100)]
    movers: u32,
    /// Residents that read every announcement
    #[arg(long, default_value_t = 8)]
    observers: u32,
    /// Joins and leaves per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// How many of them happen at once
    #[arg(long, default_value_t = 1)]
    storm: u32,
}

impl Plan for PresenceOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        if self.observers == 0 || self.residents < self.observers {
            return usage("--observers must be 1 or more, and no more than --residents");
        }
        if self.rate <= 0.0 || !self.rate.is_finite() || self.storm == 0 {
            return usage("--rate and --storm must be above 0");
        }
        if self.movers < self.storm {
            return usage("--storm must be at most --movers");
        }
        Ok(())
    }

    fn connection_count(&self) -> u64 {
        u64::from(self.residents) + u64::from(self.movers)
    }

    fn series(&self) -> Vec<&'static str> {
        vec!["join seen", "leave seen", "join to ack"]
    }

    fn unit(&self) -> &'static str {
        "presence frame"
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let silent = self.residents - self.observers;
        let share = |core: u32| {
            // Movers and observers share the first core, which knows the truth.
            let is_first = core == 0;
            let residents = (0..silent).filter(|n| n % run.core_count == core).count() as u32;
            let presence = Presence {
                channel: format!("load/{}/presence", run.tag),
                silent: residents,
                movers: if is_first {
                    vec![Mover::default(); self.movers as usize]
                } else {
                    vec![]
                },
                observers: match is_first {
                    true => vec![HashSet::new(); self.observers as usize],
                    false => Vec::new(),
                },
                roster_count: (self.residents - 1) as usize,
                numbers: HashMap::new(),
                pace: Pace::new(self.rate / f64::from(self.storm), 1, &[0]),
                storm: self.storm as usize,
                next_mover: 0,
                waiting: 0,
                is_started: false,
                skipped: 0,
                seen: 0,
                faults: Faults::default(),
                first_peer: core,
                core_count: run.core_count,
            };
            Box::new(presence) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

#[derive(Debug, Clone, Default)]
struct Mover {
    is_in: bool,
    awaits_ack: bool,
    joined_ns: u64,
    left_ns: u64,
}

#[derive(Deserialize)]
struct PresenceFrame {
    joined: Vec<Entry>,
    left: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "peerId")]
    peer_id: String,
}

struct Presence {
    channel: String,
    silent: u32,
    /// Clients 0 to movers - 1.
    movers: Vec<Mover>,
    /// The next clients, each with the peers it knows to be present; the silent ones follow.
    observers: Vec<HashSet<String>>,
    /// What an observer must know before the load begins.
    roster_count: usize,
    /// Mover of each peer id.
    numbers: HashMap<String, usize>,
    pace: Pace,
    storm: usize,
    next_mover: usize,
    waiting: u32,
    is_started: bool,
    skipped: u64,
    seen: u64,
    faults: Faults,
    first_peer: u32,
    core_count: u32,
}

impl Presence {
    fn observer_of(&self, client: u32) -> Option<usize> {
        let at = (client as usize).checked_sub(self.movers.len())?;
        (at < self.observers.len()).then_some(at)
    }

    fn announced(&mut self, core: &mut Core, observer: usize, text: &[u8]) -> Result<(), Failure> {
        let frame: PresenceFrame = serde_json::from_slice(text)
            .map_err(|error| Failure::Protocol(format!("a broken presence frame ({error})")))?;
        for Entry { peer_id } in frame.joined {
            let mover = self.numbers.get(&peer_id).map(|at| &self.movers[*at]);
            if let Some(mover) = mover.filter(|_| self.is_started) {
                core.recorder.latency(0, mover.joined_ns, core.now_ns);
                self.seen += 1;
            }
            if let Some(peer_id) = self.observers[observer].replace(peer_id)
                && self.is_started
            {
                self.faults
                    .doubled(|| format!("{peer_id} joined twice for observer {observer}"));
            }
        }
        for Entry { peer_id } in frame.left {
            let mover = self.numbers.get(&peer_id).map(|at| &self.movers[*at]);
            if let Some(mover) = mover.filter(|_| self.is_started) {
                core.recorder.latency(1, mover.left_ns, core.now_ns);
                self.seen += 1;
            }
            if !self.observers[observer].remove(&peer_id) && self.is_started {
                self.faults
                    .doubled(|| format!("{peer_id} left twice for observer {observer}"));
            }
        }
        Ok(())
    }

    /// Lets the next mover join or leave. One whose last move is not answered yet is passed over.
    fn step(&mut self, core: &mut Core, due_ns: u64) -> Result<(), Failure> {
        let at = self.next_mover;
        self.next_mover = (at + 1) % self.movers.len();
        let mover = &mut self.movers[at];
        if mover.awaits_ack {
            self.skipped += 1;
            return Ok(());
        }
        mover.is_in = !mover.is_in;
        mover.awaits_ack = true;
        core.recorder.sent_at(due_ns, now_ns());
        let (command, kind) = if mover.is_in {
            mover.joined_ns = due_ns;
            ("subscribe", b'j')
        } else {
            mover.left_ns = due_ns;
            ("unsubscribe", b'l')
        };
        let id = RequestId {
            kind,
            a: at as u32,
            b: 0,
        };
        core.send_command(at as u32, command, &self.channel, id)
    }

    fn acked(&mut self, core: &mut Core, client: u32, id: RequestId) {
        match id.kind {
            b's' => self.waiting -= 1,
            _ => {
                let mover = &mut self.movers[client as usize];
                if !std::mem::take(&mut mover.awaits_ack) || id.a != client {
                    self.faults
                        .doubled(|| format!("an answer nobody awaits: {id:?}"));
                } else if id.kind == b'j' {
                    core.recorder.latency(2, mover.joined_ns, core.now_ns);
                }
            }
        }
    }

    /// Whether an observer knows exactly the residents beside itself and the movers inside.
    fn is_right(&self, known: &HashSet<String>) -> bool {
        let inside = self
            .numbers
            .iter()
            .filter(|(_, at)| self.movers[**at].is_in);
        let count = inside.clone().count();
        known.len() == self.roster_count + count
            && inside
                .into_iter()
                .all(|(peer_id, _)| known.contains(peer_id))
    }
}

impl Workload for Presence {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        let clients = self.movers.len() as u32 + self.observers.len() as u32 + self.silent;
        self.waiting = clients;
        for client in 0..clients {
            let peer = client * self.core_count + self.first_peer;
            core.open(client, Kind::WebSocket { peer }, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, welcome: &[u8]) -> Result<(), Failure> {
        if (client as usize) < self.movers.len() {
            self.numbers.insert(peer_id_of(welcome)?, client as usize);
            self.waiting -= 1;
            return Ok(());
        }
        let id = RequestId {
            kind: b's',
            a: client,
            b: 0,
        };
        core.send_command(client, "subscribe", &self.channel, id)
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match message {
            Message::Ack(id) => self.acked(core, client, id),
            Message::Presence(text) => {
                core.recorder.counters.received += 1;
                if let Some(observer) = self.observer_of(client) {
                    return self.announced(core, observer, text);
                }
            }
            other => return unexpected(&other),
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let is_complete = |known: &HashSet<String>| known.len() == self.roster_count;
        self.waiting == 0 && self.observers.iter().all(is_complete)
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        self.is_started = true;
        if self.movers.is_empty() {
            return Ok(None);
        }
        self.pace.start(core.recorder.window().go_ns);
        while let Some((due_ns, _)) = self.pace.take_due(now_ns(), core.phase.to_ns()) {
            for _ in 0..self.storm {
                self.step(core, due_ns)?;
            }
        }
        Ok(self.pace.next().map(|(due_ns, _)| due_ns))
    }

    fn is_drained(&self) -> bool {
        self.movers.iter().all(|mover| !mover.awaits_ack)
            && self.observers.iter().all(|known| self.is_right(known))
    }

    fn fault_count(&self) -> u64 {
        self.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        let wrong = self
            .observers
            .iter()
            .filter(|known| !self.is_right(known))
            .count() as u64;
        self.faults.lost(wrong, || {
            format!("{wrong} observers have a wrong roster in the end")
        });
        let unanswered = self.movers.iter().filter(|mover| mover.awaits_ack).count() as u64;
        self.faults.lost(unanswered, || {
            format!("{unanswered} moves were never answered")
        });
        self.faults.verdict()?;
        let skipped = match self.skipped {
            0 => Vec::new(),
            n => vec![format!(
                "{n} moves were left out: their mover still awaited an answer"
            )],
        };
        Ok(Verified {
            messages: self.seen,
            notes: skipped,
        })
    }
}
