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

use glommio::GlommioError;
use glommio::channels::channel_mesh::{Receivers, Senders};

use crate::ids::ShardId;
use crate::runtime::wake::Wake;
use crate::shard::mesh_message::MeshMessage;

/// What crosses a link at once.
pub type Batch = Vec<MeshMessage>;

/// Batches that a link holds before its sender keeps them back.
pub const LINK_BATCHES_MAX: usize = 64;
/// Messages kept back for one link before what feeds it is held back too.
const BACKLOG_MESSAGES_MAX: usize = 8_192;

/// Batches that have come, with their senders.
pub type Inbox = Rc<RefCell<VecDeque<(ShardId, Batch)>>>;

/// The outgoing links of one shard.
pub struct MeshOut {
    senders: Option<Senders<Batch>>,
    backlog: Vec<Batch>,
    over_limit: Vec<bool>,
}

impl MeshOut {
    /// Links to the shards of a mesh; none where there is only one shard.
    #[must_use]
    pub fn new(senders: Option<Senders<Batch>>, shard_count: u16) -> Self {
        let links = usize::from(shard_count);
        let backlog = (0..links).map(|_| Batch::new()).collect();
        Self {
            senders,
            backlog,
            over_limit: vec![false; links],
        }
    }

    /// Sends what the turn has produced, behind what is still kept back. Reports each link that
    /// has passed its limit, or is below half of it again.
    pub fn send(&mut self, produced: &mut [Batch], mut changed: impl FnMut(ShardId, bool)) {
        let Some(senders) = &self.senders else { return };
        for (to, batch) in produced.iter_mut().enumerate() {
            let backlog = &mut self.backlog[to];
            if backlog.is_empty() {
                std::mem::swap(backlog, batch);
            } else {
                backlog.append(batch);
            }
            if backlog.is_empty() {
                continue;
            }
            match senders.try_send_to(to, std::mem::take(backlog)) {
                Ok(()) => {}
                Err(GlommioError::WouldBlock(glommio::ResourceType::Channel(batch))) => {
                    *backlog = batch;
                }
                // The other shard is gone: the process is ending.
                Err(_) => {}
            }
            let over = match self.over_limit[to] {
                true => backlog.len() > BACKLOG_MESSAGES_MAX / 2,
                false => backlog.len() > BACKLOG_MESSAGES_MAX,
            };
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

/// Starts a task for each incoming link, which puts batches into the inbox.
pub fn receive(mut receivers: Receivers<Batch>, inbox: &Inbox, wake: &Rc<Wake>) {
    for (from, receiver) in receivers.streams() {
        let (inbox, wake) = (inbox.clone(), wake.clone());
        let from = ShardId(from as u16);
        glommio::spawn_local(async move {
            while let Some(batch) = receiver.recv().await {
                inbox.borrow_mut().push_back((from, batch));
                wake.wake();
            }
        })
        .detach();
    }
}
