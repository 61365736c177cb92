//! Commands from other threads to a running shard, and its replies.

use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::rights::Rights;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::histories::Share;
use crate::runtime::wake::Wake;
use crate::shard::query::{Answer, Query};
use crate::shard::settings::Settings;
use crate::tls::TlsConfig;

/// A command from another thread.
#[derive(Debug)]
pub(super) enum ShardCommand {
    /// Rights hold from now on; tell when they do, and how many connections were closed for it.
    Rights(Arc<Rights>, flume::Sender<u64>),
    /// What is kept on disk goes there from now on: sent before the first rights that need it.
    History(Box<Share>),
    /// These settings hold from now on, and new connections from these proxies begin with a
    /// PROXY protocol header; tell when they do.
    Settings(Arc<Settings>, TrustedProxies, Done),
    /// New connections get that certificate from now on; tell when they do.
    Tls(TlsConfig, Done),
    /// Tell load balancers that the server is about to end.
    AnnounceShutdown,
    /// Say goodbye, close all WebSockets over the window; report when there are none.
    Drain {
        /// Length of the window, in milliseconds.
        window_ms: u64,
        /// When clients are told to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// Stop accepting, end the last connections; report when there are none.
    StopAccepting,
    /// Send a copy of the metrics.
    Stats(flume::Sender<ShardSnapshot>),
    /// Say how many connections a peer of that app has, as far as its owner knows.
    Connected(AppTag, Box<str>, flume::Sender<u64>),
    /// Find something out or do something for an operator, and answer.
    Ask(Query, flume::Sender<Answer>),
    /// End the loop.
    Stop,
}

/// Tells a waiting thread that a shard has done its part.
#[derive(Clone, Debug)]
pub(super) struct Done(flume::Sender<()>);

impl Done {
    /// A pair: the shards' side, and where each of them is heard once.
    #[must_use]
    pub(super) fn pair() -> (Self, flume::Receiver<()>) {
        let (sender, receiver) = flume::unbounded();
        (Self(sender), receiver)
    }

    /// Tells that it is done. A listener that has gone is no fault of the shard's.
    pub(super) fn done(self) {
        let _ = self.0.send(());
    }
}

/// A way for commands to one shard.
#[must_use]
pub(super) fn commands(
    shard: ShardId,
    wake: Arc<Wake>,
    ended: flume::Sender<ShardId>,
) -> (CommandSender, Commands) {
    let (sender, from) = flume::unbounded();
    let commands = Commands { shard, from, ended };
    (CommandSender { sender, wake }, commands)
}

/// The side of the other threads.
#[derive(Clone, Debug)]
pub(super) struct CommandSender {
    sender: flume::Sender<ShardCommand>,
    wake: Arc<Wake>,
}

impl CommandSender {
    /// Tells the shard; one that has ended is told nothing.
    pub(super) fn send(&self, command: ShardCommand) {
        if self.sender.send(command).is_ok() {
            self.wake.wake();
        }
    }
}

/// The shard's side.
#[derive(Debug)]
pub(super) struct Commands {
    shard: ShardId,
    from: flume::Receiver<ShardCommand>,
    ended: flume::Sender<ShardId>,
}

impl Commands {
    /// The next command, if there is one.
    #[must_use]
    pub(super) fn next(&self) -> Option<ShardCommand> {
        self.from.try_recv().ok()
    }

    /// Whether there is none.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// Tells that the last connection of this shard is gone.
    pub(super) fn report_end(&self) {
        let _ = self.ended.send(self.shard);
    }
}
