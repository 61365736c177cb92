//! `idle`: connections that subscribe once and then do nothing. What does each of them cost?

use clap::Args;

use crate::client::message::{Message, RequestId};
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::workload::{Plan, RunContext, Verified, Workload, unexpected};

/// Options of `idle`.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdleOptions {
    /// Connections
    #[arg(short = 'n', long, default_value_t = 18_000)]
    connections: u32,
    /// Channels they are spread over; 0: they subscribe to nothing
    #[arg(long, default_value_t = 100)]
    channels: u32,
}

impl Plan for IdleOptions {
    fn check(&self) -> Result<(), Failure> {
        match self.connections {
            0 => Err(Failure::Usage("--connections must be above 0".into())),
            _ => Ok(()),
        }
    }

    fn connection_count(&self) -> u64 {
        u64::from(self.connections)
    }

    fn series(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn unit(&self) -> &'static str {
        "message"
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let share = |core| {
            let own = (0..self.connections).filter(|n| n % run.core_count == core);
            let channel_of = |number: u32| {
                let channel = number.checked_rem(self.channels)?;
                Some(format!("load/{}/{channel}", run.tag))
            };
            let clients: Vec<_> = own.map(|number| (number, channel_of(number))).collect();
            Box::new(Idle {
                waiting: clients.len(),
                clients,
            }) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

struct Idle {
    /// Peer number and channel of each client.
    clients: Vec<(u32, Option<String>)>,
    waiting: usize,
}

impl Workload for Idle {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        for (client, (peer, _)) in self.clients.iter().enumerate() {
            core.open(client as u32, Kind::WebSocket { peer: *peer }, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, _: &[u8]) -> Result<(), Failure> {
        let Some(channel) = &self.clients[client as usize].1 else {
            self.waiting -= 1;
            return Ok(());
        };
        core.send_command(
            client,
            "subscribe",
            channel,
            RequestId {
                kind: b's',
                a: client,
                b: 0,
            },
        )
    }

    fn on_message(
        &mut self,
        _: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match message {
            Message::Ack(id) if id.a == client && self.waiting > 0 => self.waiting -= 1,
            Message::Presence(_) => {}
            other => return unexpected(&other),
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, _: &mut Core) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    fn is_drained(&self) -> bool {
        true
    }

    /// Whoever got here had all connections to the end: a closed one fails the run at once.
    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        Ok(Verified {
            messages: self.clients.len() as u64,
            notes: Vec::new(),
        })
    }
}
