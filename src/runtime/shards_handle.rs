//! Running shards, as other threads ask and tell them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::app_id::AppTag;
use crate::domain::rights::Rights;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::command::{CommandSender, Done, ShardCommand};
use crate::runtime::histories::{Histories, Share};
use crate::shard::query::{Answer, Query};
use crate::shard::settings::Settings;
use crate::tls::TlsConfig;

/// A handle to running shards, which may be cloned and sent to other threads.
#[derive(Clone, Debug)]
pub struct ShardsHandle {
    pub(super) commands: Vec<CommandSender>,
    pub(super) histories: Arc<Histories>,
}

impl ShardsHandle {
    /// Hands a rights snapshot to every shard. The receiver hears once from each that switched: how
    /// many connections it has closed for that.
    #[must_use]
    pub fn switch_rights(&self, rights: &Arc<Rights>) -> flume::Receiver<u64> {
        let (done, heard) = flume::unbounded();
        self.open_histories(rights);
        for commands in &self.commands {
            commands.send(ShardCommand::Rights(rights.clone(), done.clone()));
        }
        heard
    }

    /// How many shards there are.
    pub(super) fn count(&self) -> u16 {
        // Shards are counted with 16 bits.
        self.commands.len() as u16
    }

    /// Tells one of them something; nobody, if there is no such shard.
    pub(super) fn tell(&self, shard: u16, command: ShardCommand) {
        if let Some(commands) = self.commands.get(usize::from(shard)) {
            commands.send(command);
        }
    }

    /// Whether channels are kept on disk.
    pub(super) fn keeps_on_disk(&self) -> bool {
        self.histories.is_open()
    }

    /// Opens what is kept on disk, if these rights are the first that need it. Without a disk
    /// channels go on in memory.
    fn open_histories(&self, rights: &Rights) {
        let shares: Vec<Share> = match self.histories.open(rights) {
            Ok(None) => return,
            Ok(Some(shares)) => shares,
            Err(error) => {
                tracing::error!("history is kept in memory only: {error}");
                self.histories.without_disk().collect()
            }
        };
        for (commands, share) in self.commands.iter().zip(shares) {
            commands.send(ShardCommand::History(Box::new(share)));
        }
    }

    /// Has every shard follow other settings; connections of `proxies` begin with a PROXY
    /// protocol header. The receiver hears once from each that switched.
    #[must_use]
    pub fn switch_settings(
        &self,
        settings: &Arc<Settings>,
        proxies: &TrustedProxies,
    ) -> flume::Receiver<()> {
        let (done, heard) = Done::pair();
        for commands in &self.commands {
            let (settings, proxies) = (settings.clone(), proxies.clone());
            commands.send(ShardCommand::Settings(settings, proxies, done.clone()));
        }
        heard
    }

    /// Gives every shard's new connections that certificate. The receiver hears once from each
    /// that switched.
    #[must_use]
    pub fn switch_tls(&self, config: &TlsConfig) -> flume::Receiver<()> {
        let (done, heard) = Done::pair();
        for commands in &self.commands {
            commands.send(ShardCommand::Tls(config.clone(), done.clone()));
        }
        heard
    }

    /// Asks every shard how many connections a peer of that app has. The receiver hears once from
    /// each; all but its owner know of none.
    #[must_use]
    pub fn connected(&self, app: AppTag, peer: &str) -> flume::Receiver<u64> {
        let (sender, receiver) = flume::unbounded();
        for commands in &self.commands {
            commands.send(ShardCommand::Connected(app, peer.into(), sender.clone()));
        }
        receiver
    }

    /// Asks a shard something. The receiver hears once; not if there is no such shard.
    #[must_use]
    pub fn ask(&self, shard: ShardId, query: Query) -> flume::Receiver<Answer> {
        let (sender, receiver) = flume::bounded(1);
        if let Some(commands) = self.commands.get(shard.index()) {
            commands.send(ShardCommand::Ask(query, sender));
        }
        receiver
    }

    /// Asks every shard, and returns where each of them answers once.
    #[must_use]
    pub fn ask_all(&self, query: &Query) -> Vec<flume::Receiver<Answer>> {
        let ask = |commands: &CommandSender| {
            let (sender, receiver) = flume::bounded(1);
            commands.send(ShardCommand::Ask(query.clone(), sender));
            receiver
        };
        self.commands.iter().map(ask).collect()
    }

    /// How many connections there are on all shards; `None` when one has not said so in time.
    #[must_use]
    pub fn connections(&self, timeout: Duration) -> Option<u64> {
        let counts = self.stats();
        let deadline = Instant::now() + timeout;
        let counts = self.commands.iter().map(|_| {
            let snapshot = counts.recv_deadline(deadline).ok()?;
            Some(snapshot.gauges.connections as u64)
        });
        counts.sum()
    }

    /// Asks every shard for a copy of its metrics. The receiver hears once from each.
    #[must_use]
    pub fn stats(&self) -> flume::Receiver<ShardSnapshot> {
        let (sender, receiver) = flume::unbounded();
        for commands in &self.commands {
            commands.send(ShardCommand::Stats(sender.clone()));
        }
        receiver
    }
}
