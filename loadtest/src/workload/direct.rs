//! `direct`: pairs of peers that play ping-pong with direct messages.

use clap::Args;

use crate::client::message::Message;
use crate::clock::now_ns;
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::stamp::{PAYLOAD_BYTES_MIN, Stamp};
use crate::workload::ledger::{Faults, Ledger};
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, peer_id_of, unexpected};

/// Options of `direct`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DirectOptions {
    /// Pairs of peers
    #[arg(long, default_value_t = 100)]
    pairs: u32,
    /// Round trips per second, over all pairs
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Every pair plays as fast as it can, instead of at --rate
    #[arg(long)]
    saturate: bool,
    /// Bytes of each message's data
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

impl Plan for DirectOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        if self.pairs == 0 || self.rate <= 0.0 || !self.rate.is_finite() {
            return usage("--pairs and --rate must be above 0");
        }
        if self.payload < PAYLOAD_BYTES_MIN {
            return usage(&format!("--payload must be at least {PAYLOAD_BYTES_MIN}"));
        }
        Ok(())
    }

    fn connection_count(&self) -> u64 {
        2 * u64::from(self.pairs)
    }

    fn series(&self) -> Vec<&'static str> {
        vec!["round trip", "one way"]
    }

    fn unit(&self) -> &'static str {
        "round trip"
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let share = |core: u32| {
            let own: Vec<u32> = (0..self.pairs)
                .filter(|n| n % run.core_count == core)
                .collect();
            let places: Vec<usize> = own.iter().map(|pair| *pair as usize).collect();
            let workload = Direct {
                options: self.clone(),
                pace: Pace::new(self.rate, self.pairs as usize, &places),
                players: own.iter().flat_map(|pair| players(*pair)).collect(),
                waiting: 2 * own.len(),
                is_begun: false,
                completed: 0,
                faults: Faults::default(),
                payload: Vec::new(),
            };
            Box::new(workload) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

/// The stream a player receives is its own number; so is its peer number.
fn players(pair: u32) -> [Player; 2] {
    [2 * pair, 2 * pair + 1].map(|number| {
        let mut ledger = Ledger::default();
        ledger.expect(number, 0);
        Player {
            number,
            id: String::new(),
            ledger,
            sent: 0,
        }
    })
}

struct Player {
    number: u32,
    id: String,
    ledger: Ledger,
    sent: u32,
}

struct Direct {
    options: DirectOptions,
    pace: Pace,
    /// Client 2k begins, client 2k + 1 answers.
    players: Vec<Player>,
    waiting: usize,
    is_begun: bool,
    completed: u64,
    faults: Faults,
    payload: Vec<u8>,
}

impl Direct {
    fn send(&mut self, core: &mut Core, client: u32, intended_ns: u64) -> Result<(), Failure> {
        let [sender, receiver] = [client, client ^ 1].map(|c| c as usize);
        let stream = self.players[receiver].number;
        let stamp = Stamp {
            stream,
            sequence: self.players[sender].sent,
            intended_ns,
        };
        self.players[sender].sent += 1;
        stamp.write(&mut self.payload, self.options.payload);
        let to = self.players[receiver].id.as_bytes();
        core.send_text(
            client,
            &[
                b"{\"type\":\"send\",\"to\":\"",
                to,
                b"\",\"data\":",
                &self.payload,
                b"}",
            ],
        )
    }

    fn arrived(
        &mut self,
        core: &mut Core,
        client: u32,
        from: &[u8],
        stamp: Stamp,
    ) -> Result<(), Failure> {
        if from != self.players[(client ^ 1) as usize].id.as_bytes() {
            self.faults
                .misdirected(|| format!("player {client} got another pair's message"));
            return Ok(());
        }
        if !self.players[client as usize]
            .ledger
            .arrived(&mut self.faults, client, stamp)
        {
            return Ok(());
        }
        if client % 2 == 1 {
            core.recorder.latency(1, stamp.intended_ns, core.now_ns);
            return self.send(core, client, stamp.intended_ns);
        }
        core.recorder.latency(0, stamp.intended_ns, core.now_ns);
        core.recorder.counters.received += 1;
        self.completed += 1;
        if self.options.saturate && core.now_ns < core.phase.to_ns() {
            let intended_ns = now_ns();
            core.recorder.sent_at(intended_ns, intended_ns);
            return self.send(core, client, intended_ns);
        }
        Ok(())
    }
}

impl Workload for Direct {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        for (client, player) in self.players.iter().enumerate() {
            core.open(
                client as u32,
                Kind::WebSocket {
                    peer: player.number,
                },
                core.now_ns,
            );
        }
        Ok(())
    }

    fn on_welcome(&mut self, _: &mut Core, client: u32, welcome: &[u8]) -> Result<(), Failure> {
        self.players[client as usize].id = peer_id_of(welcome)?;
        self.waiting -= 1;
        Ok(())
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match message {
            Message::Direct { from, stamp } => self.arrived(core, client, from, stamp),
            other => unexpected(&other),
        }
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        if self.options.saturate {
            if !std::mem::replace(&mut self.is_begun, true) {
                for client in (0..self.players.len() as u32).step_by(2) {
                    let intended_ns = now_ns();
                    core.recorder.sent_at(intended_ns, intended_ns);
                    self.send(core, client, intended_ns)?;
                }
            }
            return Ok(None);
        }
        self.pace.start(core.recorder.window().go_ns);
        while let Some((due_ns, pair)) = self.pace.take_due(now_ns(), core.phase.to_ns()) {
            core.recorder.sent_at(due_ns, now_ns());
            self.send(core, 2 * pair as u32, due_ns)?;
        }
        Ok(self.pace.next().map(|(due_ns, _)| due_ns))
    }

    fn is_drained(&self) -> bool {
        let begun: u64 = self
            .players
            .iter()
            .step_by(2)
            .map(|p| u64::from(p.sent))
            .sum();
        self.completed >= begun
    }

    fn fault_count(&self) -> u64 {
        self.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        for client in 0..self.players.len() {
            let end = self.players[client ^ 1].sent;
            let player = &mut self.players[client];
            player
                .ledger
                .finish(&mut self.faults, client as u32, player.number, end);
        }
        self.faults.verdict()?;
        Ok(Verified {
            messages: 2 * self.completed,
            notes: Vec::new(),
        })
    }
}
