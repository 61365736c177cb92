//! The mesh on this shard's side: batches out, batches in.
//!
//! One batch per destination and turn. A link takes a bounded number of batches; what does not
//! fit waits here, in order, and is part of the next batch, so that a slow link gets larger
//! batches, not more of them. Receiving never waits for sending: two shards that both wait for
//! room would do so for ever. The backlog is bounded by holding back whatever feeds it, see
//! [`Input::Link`](crate::shard::input::Input::Link).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use futures_lite::future::zip;
use glommio::GlommioError;
use glommio::channels::shared_channel::{
    ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender, new_bounded,
};

use crate::ids::ShardId;
use crate::runtime::wake::Wake;
use crate::shard::mesh_message::MeshMessage;

/// What crosses a link at once.
pub type Batch = Vec<MeshMessage>;

/// Batches that a link holds before its sender keeps them back.
pub const LINK_BATCHES_MAX: usize = 64;
/// Bytes kept back for one link before what feeds it is held back too.
const BACKLOG_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// The ends of all links that belong to one shard, by the number of the other shard; none to
/// itself. Made on one thread, used on another.
pub struct LinkEnds {
    senders: Vec<Option<SharedSender<Batch>>>,
    receivers: Vec<Option<SharedReceiver<Batch>>>,
}

/// Links between all pairs of shards, in both directions.
#[must_use]
pub fn link_all(shard_count: u16) -> Vec<LinkEnds> {
    let count = usize::from(shard_count);
    let mut ends: Vec<LinkEnds> = (0..count)
        .map(|_| LinkEnds {
            senders: (0..count).map(|_| None).collect(),
            receivers: (0..count).map(|_| None).collect(),
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (sender, receiver) = new_bounded(LINK_BATCHES_MAX);
            ends[from].senders[to] = Some(sender);
            ends[to].receivers[from] = Some(receiver);
        }
    }
    ends
}

/// Batches that have come, with their senders.
pub type Inbox = Rc<RefCell<VecDeque<(ShardId, Batch)>>>;

/// The outgoing links of one shard.
pub struct MeshOut {
    senders: Vec<Option<ConnectedSender<Batch>>>,
    backlog: Vec<Batch>,
    over_limit: Vec<bool>,
}

impl MeshOut {
    /// Sends what the turn has produced, behind what is still kept back. Reports each link that
    /// has passed its limit, or is below half of it again.
    pub fn send(&mut self, produced: &mut [Batch], mut changed: impl FnMut(ShardId, bool)) {
        for (to, batch) in produced.iter_mut().enumerate() {
            let backlog = &mut self.backlog[to];
            if backlog.is_empty() {
                std::mem::swap(backlog, batch);
            } else {
                backlog.append(batch);
            }
            let Some(sender) = &self.senders[to] else {
                continue;
            };
            if backlog.is_empty() {
                continue;
            }
            match sender.try_send(std::mem::take(backlog)) {
                Ok(()) => {}
                Err(GlommioError::WouldBlock(glommio::ResourceType::Channel(batch))) => {
                    *backlog = batch;
                }
                // The other shard is gone: the process is ending.
                Err(_) => {}
            }
            let bytes_max = match self.over_limit[to] {
                true => BACKLOG_BYTES_MAX / 2,
                false => BACKLOG_BYTES_MAX,
            };
            let over = backlog.iter().map(MeshMessage::weight).sum::<usize>() > bytes_max;
            if over != self.over_limit[to] {
                self.over_limit[to] = over;
                changed(ShardId(to as u16), over);
            }
        }
    }

    /// Whether something is kept back, so that the links must be tried again soon.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.backlog.iter().any(|batch| !batch.is_empty())
    }
}

/// Connects all links of this shard, which waits until every other shard does the same. Starts
/// a task for each incoming link, which puts batches into the inbox.
pub async fn connect(ends: LinkEnds, inbox: &Inbox, wake: &Rc<Wake>) -> MeshOut {
    // All at once: one after the other, two shards would wait for each other's turn.
    let connecting: Vec<_> = (ends.senders.into_iter().zip(ends.receivers))
        .map(|ends| {
            let (Some(sender), Some(receiver)) = ends else {
                return None;
            };
            Some(glommio::spawn_local(zip(
                sender.connect(),
                receiver.connect(),
            )))
        })
        .collect();
    let links = connecting.len();
    let mut senders = Vec::with_capacity(links);
    for (from, connecting) in connecting.into_iter().enumerate() {
        let Some(connecting) = connecting else {
            senders.push(None);
            continue;
        };
        let (sender, receiver) = connecting.await;
        senders.push(Some(sender));
        let (inbox, wake) = (inbox.clone(), wake.clone());
        glommio::spawn_local(receive(ShardId(from as u16), receiver, inbox, wake)).detach();
    }
    let backlog = (0..links).map(|_| Batch::new()).collect();
    MeshOut {
        senders,
        backlog,
        over_limit: vec![false; links],
    }
}

async fn receive(from: ShardId, receiver: ConnectedReceiver<Batch>, inbox: Inbox, wake: Rc<Wake>) {
    while let Some(batch) = receiver.recv().await {
        inbox.borrow_mut().push_back((from, batch));
        wake.wake();
    }
}
