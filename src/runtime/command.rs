//! Commands from other threads to a running shard, and its replies.

use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::wake::Wake;
use crate::shard::settings::Settings;
use crate::tls::TlsConfig;

/// A command from another thread.
#[derive(Debug)]
pub enum ShardCommand {
    /// Rights hold from now on; tell when they do.
    Rights(Arc<Rights>, Done),
    /// These settings hold from now on, and new connections from these proxies begin with a
    /// PROXY protocol header; tell when they do.
    Settings(Arc<Settings>, TrustedProxies, Done),
    /// New connections get that certificate from now on; tell when they do.
    Tls(TlsConfig, Done),
    /// Stop accepting, say goodbye, close all connections over the window.
    Drain {
        /// Length of the window, in milliseconds.
        window_ms: u64,
        /// When clients are told to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// Send a copy of the metrics.
    Stats(flume::Sender<ShardSnapshot>),
    /// End the loop.
    Stop,
}

/// Tells a waiting thread that a shard has done its part.
#[derive(Clone, Debug)]
pub struct Done(flume::Sender<()>);

impl Done {
    /// A pair: the shards' side, and where each of them is heard once.
    #[must_use]
    pub fn pair() -> (Self, flume::Receiver<()>) {
        let (sender, receiver) = flume::unbounded();
        (Self(sender), receiver)
    }

    /// Tells that it is done. A listener that has gone is no fault of the shard's.
    pub fn done(self) {
        let _ = self.0.send(());
    }
}

/// A way for commands to one shard.
#[must_use]
pub fn commands(
    shard: ShardId,
    wake: Arc<Wake>,
    drained: flume::Sender<ShardId>,
) -> (CommandSender, Commands) {
    let (sender, from) = flume::unbounded();
    let commands = Commands {
        shard,
        from,
        drained,
    };
    (CommandSender { sender, wake }, commands)
}

/// The side of the other threads.
#[derive(Clone, Debug)]
pub struct CommandSender {
    sender: flume::Sender<ShardCommand>,
    wake: Arc<Wake>,
}

impl CommandSender {
    /// Tells the shard; one that has ended is told nothing.
    pub fn send(&self, command: ShardCommand) {
        if self.sender.send(command).is_ok() {
            self.wake.wake();
        }
    }
}

/// The shard's side.
#[derive(Debug)]
pub struct Commands {
    shard: ShardId,
    from: flume::Receiver<ShardCommand>,
    drained: flume::Sender<ShardId>,
}

impl Commands {
    /// The next command, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<ShardCommand> {
        self.from.try_recv().ok()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Tells that the last connection of this shard is gone.
    pub fn report_drained(&self) {
        let _ = self.drained.send(self.shard);
    }
}
