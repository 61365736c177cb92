//! One channel as its owner shard keeps it: the roster, which home shards have members, and
//! the presence changes on their way.
//!
//! Joins and leaves are collected into a batch. [`Channel::announce`] turns the batch into one
//! announcement, which the owner sends to every home shard with members that want presence;
//! only when all of those have put it into their outboxes do the joiners of the batch, and of
//! the batches before it, become ready. So nobody is acked before it was announced.
//!
//! A change costs a frame to each member, so that changes of a large channel are announced at
//! intervals: the first after a quiet time at once, others together. A snapshot shows what has
//! been announced, not what waits, and is rendered once for all who get the same. While nobody
//! sees presence there is nothing to announce.
//!
//! Always true: announcements become ready in the order in which they were made; a member counts in
//! `homes` exactly while its tab has an interest; a joiner is in the roster, whose tab has its
//! number. Debug builds check that after each change. This file does not know how anything is sent.

pub mod adopt;

use std::collections::VecDeque;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::domain::channel_rate::ChannelRate;
use crate::domain::peer::{ChannelKey, SharedPeer};
use crate::domain::presence::{Changes, Told};
use crate::domain::roster::{Before, Interest, Removed, Roster};
use crate::ids::{ConnectionRef, Seat, Ticket};
use crate::planted::{Bug, planted};
use crate::proto::wire::position::Since;
use crate::proto::wire::presence::PresenceEntry;
use crate::proto::wire::snapshot::{Remembered, Rendering};
use crate::proto::wire::string::JsonStr;

/// How often changes are announced.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Up to this many peers, changes are announced at once.
    pub at_once_max: usize,
    /// How many peers lengthen the interval between two announcements by a millisecond.
    pub peers_per_ms: usize,
    /// The longest interval, in milliseconds.
    pub interval_ms_max: u64,
}

impl Default for Pace {
    /// A peer that joins and leaves all the time causes one frame to each member per interval:
    /// 64,000 frames a second, which is a tenth of what a core writes.
    fn default() -> Self {
        Self {
            at_once_max: 256,
            peers_per_ms: 64,
            interval_ms_max: 100,
        }
    }
}

/// A connection on its way into the channel (or asking for its snapshot again).
#[derive(Debug)]
pub struct Joiner {
    /// The connection that joins.
    pub connection: ConnectionRef,
    /// The peer that it speaks for.
    pub peer: SharedPeer,
    /// What the connection wants to be sent from now on.
    pub interest: Interest,
    /// Names the join on the connection's home shard.
    pub ticket: Ticket,
    /// What it wants of the publications before.
    pub since: Option<Since>,
    /// What the connection asked of this channel meanwhile, in order.
    pub deferred: Vec<Deferred>,
}

/// A request that waits for its connection's join.
#[derive(Debug)]
pub enum Deferred {
    /// Another `subscribe`: a new interest, a new snapshot, and what it wants of the publications
    /// before.
    Join(Interest, Option<Since>, Ticket),
    /// An `unsubscribe`.
    Leave(Ticket),
}

/// A batch of presence changes to be told to some home shards.
#[derive(Debug)]
pub struct Announcement {
    /// What each home gives back to [`Channel::announced`], once.
    pub token: u64,
    /// The changes.
    pub told: Told,
    /// The home shards that have somebody to tell.
    pub homes: SmallVec<[Seat; 4]>,
}

/// Members of the channel at one seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Who holds them.
    pub seat: Seat,
    /// Connections there that are subscribed.
    pub member_count: u32,
    /// Connections of these that want presence.
    pub presence_count: u32,
    /// Connections of these that want `fromMetadata`.
    pub metadata_count: u32,
}

/// How a request to leave ended.
#[derive(Debug, PartialEq, Eq)]
pub enum LeaveOutcome {
    /// The connection is out: the request can be acked.
    Done,
    /// The connection's join is under way: the request waits for that.
    Deferred,
}

/// Whether others are told when a peer's last connection is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// They are told that it left.
    Announced,
    /// They are not: the server has closed the connection because it ends itself, and the peer
    /// will be back.
    Silent,
}

/// An announcement whose joiners wait until it has been put into outboxes.
#[derive(Debug)]
struct Barrier {
    token: u64,
    /// The home shards that have not said yet that they have put it into their outboxes.
    missing: SmallVec<[Seat; 4]>,
    /// When they are no longer waited for.
    until_ms: u64,
    /// The number behind that of its last joiner.
    joiners_end: u32,
}

/// A channel on its owner shard.
#[derive(Debug)]
pub struct Channel {
    roster: Roster,
    homes: SmallVec<[Home; 1]>,
    /// What has not been announced.
    changes: Option<Box<Changes>>,
    /// Joins under way, in order, without those whose connections have ended meanwhile.
    joiners: VecDeque<Option<Joiner>>,
    /// The number of the first of them. Numbers begin anew whenever there is none.
    first_joiner: u32,
    barriers: VecDeque<Barrier>,
    next_token: u64,
    /// When something was announced last, on the monotonic clock.
    announced_ms: u64,
    /// The roster as it was announced last, while somebody is being sent it.
    rendering: Option<Remembered>,
    /// How often is published to it.
    pub rate: ChannelRate,
    /// How many events the app's backend has been told of it since it had its first member.
    pub fed: u64,
}

/// How long an announcement may take to a home shard before its joiners no longer wait for that:
/// less than joins may take, in milliseconds.
const ANNOUNCE_MS_MAX: u64 = 20_000;

/// Tabs in a channel up to which all of them are checked after each change.
const CHECKED_MEMBERS_MAX: usize = 64;

/// The number of the first joiner: 0 stands for none.
const FIRST_JOINER: u32 = 1;

impl Channel {
    /// A channel without members.
    #[must_use]
    pub fn new(hasher: RandomState) -> Self {
        Self {
            roster: Roster::new(hasher),
            homes: SmallVec::new(),
            changes: None,
            joiners: VecDeque::new(),
            first_joiner: FIRST_JOINER,
            barriers: VecDeque::new(),
            next_token: 0,
            announced_ms: 0,
            rendering: None,
            rate: ChannelRate::default(),
            fed: 0,
        }
    }

    /// How many connections are on their way into the channel.
    #[must_use]
    pub fn joining_count(&self) -> usize {
        self.joiners.iter().flatten().count()
    }

    /// Whether the channel can be forgotten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roster.is_empty() && !self.has_changes() && self.barriers.is_empty()
    }

    /// Returns the peers and their connections.
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
        self.has_changes() || self.batch_start() != self.joiners_end()
    }

    /// When the batch is due, on the monotonic clock; it may have been.
    #[must_use]
    pub fn due_ms(&self, pace: Pace) -> u64 {
        let peers = self.roster.peer_count();
        if !self.has_changes() || peers <= pace.at_once_max {
            return 0;
        }
        let interval_ms = (peers / pace.peers_per_ms) as u64;
        self.announced_ms + interval_ms.min(pace.interval_ms_max)
    }

    /// Whether a change of that peer waits to be announced.
    #[must_use]
    pub fn withholds(&self, peer_id: &str) -> bool {
        let changes = self.changes.as_ref();
        changes.is_some_and(|changes| changes.concern(peer_id))
    }

    fn has_changes(&self) -> bool {
        let changes = self.changes.as_ref();
        changes.is_some_and(|changes| !changes.is_empty())
    }

    /// The number of the first joiner of the batch.
    fn batch_start(&self) -> u32 {
        let before = self.barriers.back();
        before.map_or(self.first_joiner, |barrier| barrier.joiners_end)
    }

    fn joiners_end(&self) -> u32 {
        self.first_joiner + self.joiners.len() as u32
    }

    /// Whether somebody is to be told of changes. While nobody sees presence, only those are noted
    /// that belong to some that were: who comes to see it is shown the roster as it is.
    fn are_changes_told(&self) -> bool {
        let mut homes = self.homes.iter();
        homes.any(|home| home.presence_count > 0) || self.has_changes()
    }

    /// A peer that was not there has joined.
    fn note_join(&mut self, peer: &SharedPeer) {
        let is_told = self.are_changes_told();
        let changes = is_told.then(|| self.changes.get_or_insert_default());
        if changes.is_none_or(|changes| changes.join(peer, self.roster.hasher())) {
            // Those who look at the rendering would not see the peer: the change is not told, or
            // its place went with its leave.
            self.rendering = None;
        }
    }

    /// A peer is gone.
    fn note_leave(&mut self, peer: &SharedPeer) {
        match self.are_changes_told() {
            true => {
                let changes = self.changes.get_or_insert_default();
                changes.leave(peer, self.roster.hasher());
            }
            false => self.rendering = None,
        }
    }

    /// Takes a join, or a repeated one, into the batch.
    pub fn join(&mut self, joiner: Joiner) {
        if self.joiners.is_empty() && self.barriers.is_empty() {
            self.first_joiner = FIRST_JOINER;
        }
        let number = self.joiners_end();
        match self.roster.join(&joiner.peer, joiner.connection, number) {
            Before::NoPeer => self.note_join(&joiner.peer),
            Before::NoTab | Before::There => {}
            Before::Joining(number) => {
                if let Some(pending) = self.joiner_mut(number).and_then(Option::as_mut) {
                    let deferred = Deferred::Join(joiner.interest, joiner.since, joiner.ticket);
                    pending.deferred.push(deferred);
                }
                return;
            }
        }
        self.joiners.push_back(Some(joiner));
        self.debug_check();
    }

    /// Takes a connection out at its own request.
    pub fn leave(
        &mut self,
        peer: &SharedPeer,
        connection: ConnectionRef,
        ticket: Ticket,
    ) -> LeaveOutcome {
        if let Some(pending) = self.pending_mut(peer.id.as_str(), connection) {
            pending.deferred.push(Deferred::Leave(ticket));
            return LeaveOutcome::Deferred;
        }
        self.disconnect(peer, connection, Departure::Announced);
        LeaveOutcome::Done
    }

    /// Takes a connection out that has ended. Returns what it asked of this channel and has not
    /// been answered.
    pub fn disconnect(
        &mut self,
        peer: &SharedPeer,
        connection: ConnectionRef,
        departure: Departure,
    ) -> Vec<Deferred> {
        let Some(Removed { tab, peer_left }) = self.roster.remove(peer.id.as_str(), connection)
        else {
            return Vec::new();
        };
        let joiner = self.joiner_mut(tab.joining).and_then(Option::take);
        self.count(connection.home, tab.interest, None);
        if peer_left && departure == Departure::Silent {
            if let Some(changes) = &mut self.changes {
                changes.forget(peer.id.as_str());
            }
            self.rendering = None;
        } else if peer_left || planted(Bug::LeaveToldTwice) {
            self.note_leave(peer);
        } else {
            // Another connection may decide from now on what others see.
            self.rendering = None;
        }
        self.debug_check();
        joiner.map_or(Vec::new(), |joiner| joiner.deferred)
    }

    /// Ends the batch. Returns what must be told to whom; the batch's joiners wait for it.
    pub fn announce(&mut self, now_ms: u64) -> Option<Announcement> {
        if !self.has_batch() {
            return None;
        }
        let changes = self.changes.take().filter(|changes| !changes.is_empty());
        if changes.is_some() {
            self.announced_ms = now_ms;
            self.rendering
                .take_if(|_| !planted(Bug::SnapshotMissesChange));
        }
        let homes = self.homes.iter();
        let homes: SmallVec<[Seat; 4]> = homes
            .filter(|home| home.presence_count > 0 && changes.is_some())
            .map(|home| home.seat)
            .collect();
        let token = self.next_token;
        self.next_token += 1;
        let joiners_end = self.joiners_end();
        if !homes.is_empty() || joiners_end != self.batch_start() {
            self.barriers.push_back(Barrier {
                token,
                missing: homes.clone(),
                until_ms: now_ms + ANNOUNCE_MS_MAX,
                joiners_end,
            });
        }
        self.debug_check();
        let changes = changes.filter(|_| !homes.is_empty())?;
        Some(Announcement {
            token,
            told: changes.into_told(),
            homes,
        })
    }

    /// A home shard has put the announcement into its outboxes.
    pub fn announced(&mut self, token: u64, home: Seat) {
        if let Some(barrier) = self
            .barriers
            .iter_mut()
            .find(|barrier| barrier.token == token)
        {
            barrier.missing.retain(|missing| *missing != home);
        }
    }

    /// When the oldest announcement that a home shard has not confirmed is no longer waited for.
    #[must_use]
    pub fn next_end_ms(&self) -> Option<u64> {
        let mut barriers = self.barriers.iter();
        let barrier = barriers.find(|barrier| !barrier.missing.is_empty())?;
        Some(barrier.until_ms)
    }

    /// Home shards that have been silent for too long are no longer waited for.
    pub fn end_overdue(&mut self, now_ms: u64) {
        for barrier in self
            .barriers
            .iter_mut()
            .take_while(|it| it.until_ms <= now_ms)
        {
            barrier.missing.clear();
        }
    }

    /// A home shard is gone: it confirms nothing any more.
    pub fn lose(&mut self, home: Seat) {
        for barrier in &mut self.barriers {
            barrier.missing.retain(|missing| *missing != home);
        }
    }

    /// The next joiner whose join is complete: it counts as a member from now on, and must be
    /// acked, and given its snapshot, before anything else is put into the channel's order.
    pub fn next_ready(&mut self) -> Option<Joiner> {
        loop {
            let front = self.barriers.front()?;
            if !front.missing.is_empty() && !planted(Bug::AckBeforeAnnouncement) {
                return None;
            }
            if front.joiners_end == self.first_joiner {
                self.barriers.pop_front();
                continue;
            }
            self.first_joiner += 1;
            let Some(joiner) = self.joiners.pop_front().flatten() else {
                continue;
            };
            if self.joiners.is_empty() {
                self.joiners = VecDeque::new();
            }
            let id = joiner.peer.id.as_str();
            let tab = self.roster.get_mut(id, joiner.connection);
            let before = tab.and_then(|tab| {
                tab.joining = 0;
                tab.interest.replace(joiner.interest)
            });
            self.count(joiner.connection.home, before, Some(joiner.interest));
            self.debug_check();
            return Some(joiner);
        }
    }

    /// Returns the roster as it was announced last, and the place of the peer in it whose snapshot
    /// this is: its own entry is left out.
    pub fn snapshot(&mut self, channel: &ChannelKey, own_id: &str) -> (Rendering, Option<u32>) {
        let remembered = self.rendering.as_ref();
        let rendering = match remembered.and_then(Remembered::recall) {
            Some(rendering) => rendering,
            None => self.render(channel),
        };
        (rendering, self.roster.place(own_id))
    }

    /// Gives back what is kept for later use. A rendering that nobody is being sent takes as much
    /// memory as one that somebody is.
    pub fn give_back(&mut self) {
        self.rendering.take_if(|rendering| !rendering.is_kept());
        self.barriers.shrink_to_fit();
    }

    fn render(&mut self, channel: &ChannelKey) -> Rendering {
        let changes = self.changes.as_ref();
        let is_news = |id: &str| changes.is_some_and(|changes| changes.has_joined(id));
        let mut peers = self.roster.list(is_news);
        peers.extend(changes.into_iter().flat_map(|changes| changes.left()));
        let entries = peers.iter().map(|peer| PresenceEntry {
            peer_id: JsonStr::from_escaped(peer.id.json()),
            metadata: peer.metadata.as_deref().map(str::as_bytes),
        });
        let channel = JsonStr::from_escaped(channel.name.json());
        let rendering = Rendering::new(channel, entries);
        self.rendering = Some(rendering.remembered());
        rendering
    }

    fn pending_mut(&mut self, peer_id: &str, connection: ConnectionRef) -> Option<&mut Joiner> {
        let number = self.roster.get_mut(peer_id, connection)?.joining;
        self.joiner_mut(number)?.as_mut()
    }

    fn joiner_mut(&mut self, number: u32) -> Option<&mut Option<Joiner>> {
        let at = number.checked_sub(self.first_joiner)?;
        self.joiners.get_mut(at as usize)
    }

    fn count(&mut self, seat: Seat, before: Option<Interest>, after: Option<Interest>) {
        if before == after {
            return;
        }
        let at = match self.homes.iter().position(|home| home.seat == seat) {
            Some(at) => at,
            None => {
                self.homes.push(Home {
                    seat,
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

    /// Checks what always holds after a change, in debug builds and where that reads only a few
    /// tabs.
    #[inline]
    fn debug_check(&self) {
        let members = || self.homes.iter().map(|home| home.member_count as usize);
        if cfg!(debug_assertions)
            && self.joiners.len() + members().sum::<usize>() <= CHECKED_MEMBERS_MAX
        {
            self.check_invariants();
        }
    }

    /// Panics where the counts in `homes`, the joiners, the announcements and the roster disagree.
    pub fn check_invariants(&self) {
        let ends = self.barriers.iter().map(|barrier| barrier.joiners_end);
        let ends = [self.first_joiner].into_iter().chain(ends);
        assert!(
            ends.chain([self.joiners_end()]).is_sorted(),
            "announcements become ready in order"
        );
        assert!(self.barriers.iter().is_sorted_by_key(|it| it.token));
        let joining = self.roster.connections().filter(|(connection, it)| {
            let at = it.joining.wrapping_sub(self.first_joiner) as usize;
            let joiner = self.joiners.get(at).and_then(Option::as_ref);
            assert!(it.joining == 0 || joiner.is_some_and(|it| it.connection == *connection));
            it.joining != 0
        });
        let joiners = self.joiners.iter().flatten();
        assert_eq!(joining.count(), joiners.count(), "joiners in the roster");
        let mut counted: Vec<Home> = Vec::new();
        for (connection, tab) in self.roster.connections() {
            let Some(interest) = tab.interest else {
                continue;
            };
            let seat = connection.home;
            let at = counted
                .iter()
                .position(|home| home.seat == seat)
                .unwrap_or_else(|| {
                    counted.push(Home {
                        seat,
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
        counted.sort_by_key(|home| home.seat);
        let mut homes = self.homes.to_vec();
        homes.sort_by_key(|home| home.seat);
        assert_eq!(homes, counted, "member counts by seat");
    }
}
