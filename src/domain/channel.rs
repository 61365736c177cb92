//! One channel as its owner shard keeps it: the roster, which home shards have members, and
//! the presence changes on their way.
//!
//! Joins and leaves are collected into a batch. [`Channel::announce`] turns the batch into one
//! announcement, which the owner sends to every home shard with members that want presence;
//! only when all of those have put it into their outboxes do the joiners of the batch, and of
//! the batches before it, become ready. So nobody is acked before it was announced.
//!
//! Always true: announcements become ready in the order in which they were made; a member
//! counts in `homes` exactly while its membership has an interest; a joiner is in the roster.
//! This file does not know how anything is sent.

use std::collections::VecDeque;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::domain::peer::SharedPeer;
use crate::domain::roster::{Interest, Removed, Roster};
use crate::ids::{ConnectionRef, ShardId};

/// The raw JSON string of a `requestId`, to be echoed.
pub type RequestId = Option<Box<str>>;

/// A connection on its way into the channel (or asking for its snapshot again).
#[derive(Debug)]
pub struct Joiner {
    /// The connection.
    pub connection: ConnectionRef,
    /// Its peer.
    pub peer: SharedPeer,
    /// What it wants from now on.
    pub interest: Interest,
    /// To be echoed in the ack.
    pub request_id: RequestId,
    /// What the connection asked of this channel meanwhile, in order.
    pub deferred: Vec<Deferred>,
}

/// A request that waits for its connection's join.
#[derive(Debug)]
pub enum Deferred {
    /// Subscribe again.
    Join(Interest, RequestId),
    /// Unsubscribe.
    Leave(RequestId),
}

/// A batch of presence changes to be told to some home shards.
#[derive(Debug)]
pub struct Announcement {
    /// To be given back to [`Channel::announced`] once by each home.
    pub token: u64,
    /// Peers that are there now.
    pub joined: Vec<SharedPeer>,
    /// Peers that are gone.
    pub left: Vec<SharedPeer>,
    /// The home shards that have somebody to tell.
    pub homes: SmallVec<[ShardId; 4]>,
}

/// Members of the channel on one home shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The shard.
    pub shard: ShardId,
    /// Subscribed connections there.
    pub member_count: u32,
    /// Those that want presence.
    pub presence_count: u32,
    /// Those that want `fromMetadata`.
    pub metadata_count: u32,
}

/// How a request to leave ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Leave {
    /// Done: answer it.
    Done(RequestId),
    /// It waits for the connection's join and is answered after that.
    Deferred,
}

#[derive(Debug)]
struct Waiting {
    token: u64,
    homes_missing: usize,
    joiners: VecDeque<Joiner>,
}

/// A channel on its owner shard.
#[derive(Debug)]
pub struct Channel {
    roster: Roster,
    homes: SmallVec<[Home; 1]>,
    joined: Vec<SharedPeer>,
    left: Vec<SharedPeer>,
    joiners: VecDeque<Joiner>,
    waiting: VecDeque<Waiting>,
    next_token: u64,
}

impl Channel {
    /// A channel without members.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            roster: Roster::new(hasher),
            homes: SmallVec::new(),
            joined: Vec::new(),
            left: Vec::new(),
            joiners: VecDeque::new(),
            waiting: VecDeque::new(),
            next_token: 0,
        }
    }

    /// Whether the channel can be forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roster.is_empty() && self.left.is_empty() && self.waiting.is_empty()
    }

    /// Who is there.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Which home shards have members, and how many.
    #[must_use]
    pub fn homes(&self) -> &[Home] {
        &self.homes
    }

    /// Whether there is something to announce or somebody to complete.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        !self.joined.is_empty() || !self.left.is_empty() || !self.joiners.is_empty()
    }

    /// Whether this join must be announced in a batch of its own, because the batch already
    /// says that the peer left.
    #[must_use]
    pub fn must_announce_before(&self, peer_id: &str) -> bool {
        self.left.iter().any(|peer| peer.id.as_str() == peer_id)
    }

    /// Takes a join, or a repeated one, into the batch.
    pub fn join(&mut self, joiner: Joiner) {
        if let Some(pending) = self.pending_mut(joiner.connection) {
            pending
                .deferred
                .push(Deferred::Join(joiner.interest, joiner.request_id));
            return;
        }
        if self.roster.insert(&joiner.peer, joiner.connection) == Some(true) {
            self.joined.push(joiner.peer.clone());
        }
        self.joiners.push_back(joiner);
    }

    /// Takes a connection out at its own request.
    pub fn leave(
        &mut self,
        peer: &SharedPeer,
        connection: ConnectionRef,
        request_id: RequestId,
    ) -> Leave {
        if let Some(pending) = self.pending_mut(connection) {
            pending.deferred.push(Deferred::Leave(request_id));
            return Leave::Deferred;
        }
        self.disconnect(peer, connection);
        Leave::Done(request_id)
    }

    /// Takes a connection out that has ended; nobody waits for an answer.
    pub fn disconnect(&mut self, peer: &SharedPeer, connection: ConnectionRef) {
        self.joiners
            .retain(|joiner| joiner.connection != connection);
        for waiting in &mut self.waiting {
            waiting
                .joiners
                .retain(|joiner| joiner.connection != connection);
        }
        let peer_id = peer.id.as_str();
        let removed = self.roster.remove(peer_id, connection);
        if let Removed::PeerStays(interest) | Removed::PeerLeft(interest) = &removed {
            self.count(connection.shard, *interest, None);
        }
        if let Removed::PeerLeft(_) = removed {
            let unannounced = self
                .joined
                .iter()
                .position(|peer| peer.id.as_str() == peer_id);
            match unannounced {
                // Joined and left within one batch: never mentioned.
                Some(at) => drop(self.joined.remove(at)),
                None => self.left.push(peer.clone()),
            }
        }
    }

    /// Ends the batch. Answers what must be told to whom; the batch's joiners wait for it.
    pub fn announce(&mut self) -> Option<Announcement> {
        if !self.has_batch() {
            return None;
        }
        let (joined, left) = (
            std::mem::take(&mut self.joined),
            std::mem::take(&mut self.left),
        );
        let nothing_to_tell = joined.is_empty() && left.is_empty();
        let homes: SmallVec<[ShardId; 4]> = self
            .homes
            .iter()
            .filter(|home| home.presence_count > 0 && !nothing_to_tell)
            .map(|home| home.shard)
            .collect();
        let token = self.next_token;
        self.next_token += 1;
        let joiners = std::mem::take(&mut self.joiners);
        if !homes.is_empty() || !joiners.is_empty() {
            self.waiting.push_back(Waiting {
                token,
                homes_missing: homes.len(),
                joiners,
            });
        }
        (!homes.is_empty()).then_some(Announcement {
            token,
            joined,
            left,
            homes,
        })
    }

    /// A home shard has put the announcement into its outboxes.
    pub fn announced(&mut self, token: u64) {
        if let Some(waiting) = self
            .waiting
            .iter_mut()
            .find(|waiting| waiting.token == token)
        {
            waiting.homes_missing = waiting.homes_missing.saturating_sub(1);
        }
    }

    /// Whether joins may be complete: what they wait for has been put into all outboxes.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.waiting
            .front()
            .is_some_and(|waiting| waiting.homes_missing == 0)
    }

    /// The next joiner whose join is complete: it counts as a member from now on, and must be
    /// acked, and given its snapshot, before anything else is put into the channel's order.
    pub fn next_ready(&mut self) -> Option<Joiner> {
        loop {
            let front = self.waiting.front_mut()?;
            if front.homes_missing > 0 {
                return None;
            }
            let Some(joiner) = front.joiners.pop_front() else {
                self.waiting.pop_front();
                continue;
            };
            let id = joiner.peer.id.as_str();
            let before = self
                .roster
                .get_mut(id, joiner.connection)
                .and_then(|membership| membership.interest.replace(joiner.interest));
            self.count(joiner.connection.shard, before, Some(joiner.interest));
            return Some(joiner);
        }
    }

    fn pending_mut(&mut self, connection: ConnectionRef) -> Option<&mut Joiner> {
        self.waiting
            .iter_mut()
            .flat_map(|waiting| waiting.joiners.iter_mut())
            .chain(self.joiners.iter_mut())
            .find(|joiner| joiner.connection == connection)
    }

    fn count(&mut self, shard: ShardId, before: Option<Interest>, after: Option<Interest>) {
        if before == after {
            return;
        }
        let at = match self.homes.iter().position(|home| home.shard == shard) {
            Some(at) => at,
            None => {
                self.homes.push(Home {
                    shard,
                    member_count: 0,
                    presence_count: 0,
                    metadata_count: 0,
                });
                self.homes.len() - 1
            }
        };
        let home = &mut self.homes[at];
        if let Some(interest) = before {
            home.member_count -= 1;
            home.presence_count -= u32::from(interest.presence);
            home.metadata_count -= u32::from(interest.sender_metadata);
        }
        if let Some(interest) = after {
            home.member_count += 1;
            home.presence_count += u32::from(interest.presence);
            home.metadata_count += u32::from(interest.sender_metadata);
        }
        if home.member_count == 0 {
            self.homes.swap_remove(at);
        }
    }

    /// Panics where the counts in `homes` and the roster disagree: for simulations.
    pub fn check_invariants(&self) {
        let mut counted: Vec<Home> = Vec::new();
        for membership in self.roster.connections() {
            let Some(interest) = membership.interest else {
                continue;
            };
            let shard = membership.connection.shard;
            let at = counted
                .iter()
                .position(|home| home.shard == shard)
                .unwrap_or_else(|| {
                    counted.push(Home {
                        shard,
                        member_count: 0,
                        presence_count: 0,
                        metadata_count: 0,
                    });
                    counted.len() - 1
                });
            counted[at].member_count += 1;
            counted[at].presence_count += u32::from(interest.presence);
            counted[at].metadata_count += u32::from(interest.sender_metadata);
        }
        counted.sort_by_key(|home| home.shard);
        let mut homes = self.homes.to_vec();
        homes.sort_by_key(|home| home.shard);
        assert_eq!(homes, counted, "member counts per home shard");
    }
}
