//! The links to the other shards: which of them are full, and whose input waits for that.
//!
//! A link is blocked when its backlog is over its limit, or when the shard at its other end has
//! asked to be spared. A connection that feeds a blocked link has its input held back until no
//! link is blocked. A shard with a full link also asks all others to hold back what they send to
//! it: what it relays for them fills its links too, and publishers on other shards would not
//! notice.

use crate::ids::{ConnectionId, ShardId};

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    over_limit: bool,
    throttled: bool,
    /// Since when it is over its limit, in nanoseconds on the monotonic clock.
    since_ns: Option<u64>,
}

impl Link {
    pub(in crate::shard) fn blocked(self) -> bool {
        self.over_limit || self.throttled
    }
}

/// The state of the links of one shard.
#[derive(Debug)]
pub(in crate::shard) struct Links {
    links: Vec<Link>,
    /// Connections whose input waits for links.
    held: Vec<ConnectionId>,
    /// A blocked link has been fed since `watch`.
    fed_blocked: bool,
    /// What the other shards were told last.
    told_throttle: bool,
}

impl Links {
    /// Links that are all free.
    pub(in crate::shard) fn new(shard_count: u16) -> Self {
        Self {
            links: vec![Link::default(); usize::from(shard_count)],
            held: Vec::new(),
            fed_blocked: false,
            told_throttle: false,
        }
    }

    /// Begins to watch what is fed: what follows is put down to one connection.
    #[inline]
    pub(in crate::shard) fn watch(&mut self) {
        self.fed_blocked = false;
    }

    /// Notes that a link was fed.
    #[inline]
    pub(in crate::shard) fn feed(&mut self, to: ShardId) {
        self.fed_blocked |= self.links[to.index()].blocked();
    }

    /// Whether a blocked link was fed since [`watch`](Self::watch).
    #[inline]
    pub(in crate::shard) fn has_fed_blocked(&self) -> bool {
        self.fed_blocked
    }

    /// The backlog of a link has passed its limit, or is below it again.
    pub(in crate::shard) fn set_over_limit(&mut self, to: ShardId, over_limit: bool) {
        self.links[to.index()].over_limit = over_limit;
    }

    /// Notes since when a link is over its limit, or that it is no longer. Returns what was noted
    /// before.
    pub(in crate::shard) fn over_limit_since(
        &mut self,
        to: ShardId,
        since_ns: Option<u64>,
    ) -> Option<u64> {
        std::mem::replace(&mut self.links[to.index()].since_ns, since_ns)
    }

    /// Another shard asks to be spared, or no longer.
    pub(in crate::shard) fn set_throttled(&mut self, from: ShardId, throttled: bool) {
        self.links[from.index()].throttled = throttled;
    }

    /// A shard is gone: nothing waits for its link any more.
    pub(in crate::shard) fn lose(&mut self, shard: ShardId) {
        self.links[shard.index()] = Link::default();
    }

    /// What the other shards are to be told, if that has changed: whether to hold back what they
    /// send here.
    pub(in crate::shard) fn throttle_to_tell(&mut self, is_overfed: bool) -> Option<bool> {
        let throttle = is_overfed || self.links.iter().any(|link| link.over_limit);
        (std::mem::replace(&mut self.told_throttle, throttle) != throttle).then_some(throttle)
    }

    /// Notes that the input of a connection waits until no link is blocked.
    pub(in crate::shard) fn hold(&mut self, id: ConnectionId) {
        self.held.push(id);
    }

    /// Whether nothing waits for a link, and nobody holds anything back for one.
    pub(in crate::shard) fn are_free(&self) -> bool {
        self.held.is_empty() && !self.told_throttle && !self.links.iter().any(|it| it.blocked())
    }

    /// Returns the connections whose input goes on: all that waited, if no link is blocked.
    pub(in crate::shard) fn take_released(&mut self) -> Vec<ConnectionId> {
        if self.links.iter().any(|link| link.blocked()) {
            return Vec::new();
        }
        std::mem::take(&mut self.held)
    }
}
