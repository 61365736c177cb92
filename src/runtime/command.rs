//! Commands from other threads to a running shard, and its replies.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use crate::domain::app_id::AppTag;
use crate::domain::rights::Rights;
use crate::domain::usage::UsageDelta;
use crate::ids::ShardId;
use crate::metrics::ShardSnapshot;
use crate::proto::forwarded::TrustedProxies;
use crate::runtime::handover::Counts;
use crate::runtime::histories::Share;
use crate::runtime::wake::Wake;
use crate::shard::handover::MeshCounts;
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
    /// A step of a hand-over to another process.
    Hand(HandCommand),
    /// End the loop.
    Stop,
}

/// A step of a hand-over to another process.
#[derive(Debug)]
pub(super) enum HandCommand {
    /// Send copies of the listeners' descriptors, each with whether it speaks TLS.
    Listeners(flume::Sender<io::Result<Vec<(OwnedFd, bool)>>>),
    /// Serve nobody from now on; tell when that is so.
    Freeze(Done),
    /// Say whether nothing is on its way here: a frozen shard.
    AskQuiet(flume::Sender<(bool, MeshCounts)>),
    /// Hand over what there is, and do nothing at all after that until [`Thaw`](Self::Thaw).
    Export(flume::Sender<Result<Exported, String>>),
    /// Serve everybody again; tell when that is so.
    Thaw(Done),
}

/// What a quiet shard hands over to another process.
#[derive(Debug)]
pub(super) struct Exported {
    /// Which shard it is.
    pub shard: u16,
    /// Its records.
    pub state: Vec<u8>,
    /// What stands before the shard, for each connection in the order of the records: encoded.
    pub before: Vec<u8>,
    /// Their sockets, which the shard keeps as they are as long as it does nothing.
    pub sockets: Vec<RawFd>,
    /// What there is of everything.
    pub counts: Counts,
    /// What apps have used since it was told last.
    pub usage: Vec<UsageDelta>,
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
    let later = VecDeque::new();
    let commands = Commands {
        shard,
        from,
        later,
        ended,
    };
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
    /// Commands that came while the shard did nothing.
    later: VecDeque<ShardCommand>,
    ended: flume::Sender<ShardId>,
}

impl Commands {
    /// The next command, if there is one.
    #[must_use]
    pub(super) fn next(&mut self) -> Option<ShardCommand> {
        self.later.pop_front().or_else(|| self.from.try_recv().ok())
    }

    /// Waits until the shard is to go on: then that is the next command, and what has come
    /// meanwhile follows it. Never returns where nobody can say so any more.
    pub(super) fn wait_for_thaw(&mut self) {
        while let Ok(command) = self.from.recv() {
            if let ShardCommand::Hand(HandCommand::Thaw(_)) = command {
                self.later.push_front(command);
                return;
            }
            self.later.push_back(command);
        }
        loop {
            std::thread::park();
        }
    }

    /// Whether there is none.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.later.is_empty() && self.from.is_empty()
    }

    /// Tells that the last connection of this shard is gone.
    pub(super) fn report_end(&self) {
        let _ = self.ended.send(self.shard);
    }
}
