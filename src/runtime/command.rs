//! What the rest of the process tells a running shard, and hears from it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;

use crate::domain::rights::Rights;
use crate::ids::ShardId;
use crate::runtime::wake::Wake;
use crate::tls::TlsConfig;

/// What a shard is told by other threads.
#[derive(Debug)]
pub enum Command {
    /// Rights hold from now on; tell when they do.
    Rights(Arc<Rights>, Done),
    /// New connections get that certificate from now on; tell when they do.
    Tls(TlsConfig, Done),
    /// Stop accepting, say goodbye, close all connections over the window.
    Drain {
        /// Milliseconds.
        window_ms: u64,
        /// What clients are told, in milliseconds.
        retry_after_ms: u64,
    },
    /// Say what there is.
    Stats(flume::Sender<ShardStats>),
    /// End.
    Stop,
}

/// What there is on one shard at a moment.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardStats {
    /// Which shard.
    pub shard: u16,
    /// Connections in whatever stage.
    pub connections: usize,
    /// Channels that it owns.
    pub channels: usize,
    /// Peers that it owns.
    pub peers: usize,
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

    /// Says so. Nobody listening any more is no fault of the shard's.
    pub fn done(self) {
        let _ = self.0.send(());
    }
}

/// The shard's side.
#[derive(Debug)]
pub struct Commands {
    shard: ShardId,
    queue: Rc<RefCell<VecDeque<Command>>>,
    from: flume::Receiver<Command>,
    drained: flume::Sender<ShardId>,
}

impl Commands {
    /// Starts the task that takes commands in and wakes the loop for them.
    #[must_use]
    pub fn receive(
        shard: ShardId,
        from: flume::Receiver<Command>,
        drained: flume::Sender<ShardId>,
        wake: Rc<Wake>,
    ) -> Self {
        let queue = Rc::new(RefCell::new(VecDeque::new()));
        let (into, direct) = (queue.clone(), from.clone());
        glommio::spawn_local(async move {
            while let Ok(command) = from.recv_async().await {
                into.borrow_mut().push_back(command);
                wake.wake();
            }
        })
        .detach();
        Self {
            shard,
            queue,
            from: direct,
            drained,
        }
    }

    /// The next command, if there is one. A busy loop finds it here without waiting for the task
    /// that wakes a sleeping one; what that task has taken in came earlier.
    #[must_use]
    pub fn next(&self) -> Option<Command> {
        let taken_in = self.queue.borrow_mut().pop_front();
        taken_in.or_else(|| self.from.try_recv().ok())
    }

    /// Tells that the last connection of this shard is gone.
    pub fn report_drained(&self) {
        let _ = self.drained.send(self.shard);
    }
}
