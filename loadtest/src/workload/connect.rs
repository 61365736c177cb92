//! `connect`: a storm of connects, each measured from the time it should have begun to `welcome`.

use clap::Args;

use crate::client::message::Message;
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, peer_id_of, unexpected};

/// Options of `connect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConnectOptions {
    /// Connects
    #[arg(short = 'n', long, default_value_t = 5_000)]
    connections: u32,
    /// Connects per second; without it, as many at once as --concurrency allows
    #[arg(long)]
    rate: Option<f64>,
    /// Close each connection after its welcome, instead of keeping them all to the end
    #[arg(long)]
    close: bool,
}

impl Plan for ConnectOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        match self {
            ConnectOptions { connections: 0, .. } => usage("--connections must be above 0"),
            ConnectOptions {
                rate: Some(rate), ..
            } if *rate <= 0.0 || !rate.is_finite() => usage("--rate must be above 0"),
            _ => Ok(()),
        }
    }

    fn connection_count(&self) -> u64 {
        u64::from(self.connections)
    }

    fn series(&self) -> Vec<&'static str> {
        vec!["connect to welcome"]
    }

    fn unit(&self) -> &'static str {
        "handshake"
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let share = |core: u32| {
            let own = (0..self.connections).filter(|n| n % run.core_count == core);
            let peers: Vec<u32> = own.collect();
            let pace = self
                .rate
                .map(|rate| Pace::new(rate, run.core_count as usize, &[core as usize]));
            let storm = Storm {
                peers,
                pace,
                closes: self.close,
                opened: 0,
                welcomed: 0,
                closed: 0,
            };
            Box::new(storm) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

struct Storm {
    peers: Vec<u32>,
    pace: Option<Pace>,
    closes: bool,
    opened: usize,
    welcomed: usize,
    closed: usize,
}

impl Storm {
    fn open(&mut self, core: &mut Core, intended_ns: u64) {
        let kind = Kind::WebSocket {
            peer: self.peers[self.opened],
        };
        core.open(self.opened as u32, kind, intended_ns);
        self.opened += 1;
    }
}

impl Workload for Storm {
    fn start(&mut self, _: &mut Core) -> Result<(), Failure> {
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, welcome: &[u8]) -> Result<(), Failure> {
        peer_id_of(welcome)?;
        core.recorder
            .latency(0, core.intended_ns(client), core.now_ns);
        core.recorder.counters.received += 1;
        self.welcomed += 1;
        if self.closes {
            core.close(client)
        } else {
            Ok(())
        }
    }

    fn on_message(&mut self, _: &mut Core, _: u32, message: Message<'_>) -> Result<(), Failure> {
        unexpected(&message)
    }

    fn on_closed(&mut self, _: &mut Core, _: u32) -> Result<(), Failure> {
        self.closed += 1;
        Ok(())
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        let Some(mut pace) = self.pace.take() else {
            // Due as soon as the limit of concurrent connects lets it start.
            while self.opened < self.peers.len() {
                core.recorder.counters.sent += 1;
                self.open(core, 0);
            }
            return Ok(None);
        };
        pace.start(core.recorder.window().go_ns);
        while self.opened < self.peers.len() {
            let Some((due_ns, _)) = pace.take_due(core.now_ns, u64::MAX) else {
                break;
            };
            core.recorder.sent_at(due_ns, core.now_ns);
            self.open(core, due_ns);
        }
        let is_over = self.opened == self.peers.len();
        let next = pace.next().map(|(due_ns, _)| due_ns).filter(|_| !is_over);
        self.pace = Some(pace);
        Ok(next)
    }

    fn is_finished(&self) -> bool {
        let done = if self.closes {
            self.closed
        } else {
            self.welcomed
        };
        done == self.peers.len()
    }

    fn is_drained(&self) -> bool {
        true
    }

    /// A connect without a welcome has failed the run before.
    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        Ok(Verified {
            messages: self.welcomed as u64,
            notes: Vec::new(),
        })
    }
}
