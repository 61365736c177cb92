//! The channels that concern one shard: those with members here, and those that it owns.
//!
//! One look-up by hash finds both sides. Members are connections of this shard, in a plain
//! array that fan-out walks; each session remembers its index, so that leaving needs no
//! search. An entry exists while the channel has members here, or is owned and not empty, or keeps
//! publications.

use std::collections::{BTreeSet, VecDeque};

use ahash::RandomState;
use hashbrown::HashTable;

use crate::domain::app_id::AppTag;
use crate::domain::channel::Channel;
use crate::domain::peer::SharedChannel;
use crate::domain::roster::Interest;
use crate::ids::ConnectionId;
use crate::shard::channel::fan_out_buffer::FanOutBuffer;
use crate::shard::channel::pressure::{BackPressure, Unoffered};
use crate::shard::effect::ChannelSlot;
use crate::shard::history::table::{Listed, Table};

/// The version of no rights: it has not been decided whether a channel has history.
pub(in crate::shard) const NEVER_JUDGED: u64 = u64::MAX;

/// A subscribed connection of this shard.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its slot in the connection table; it leaves here before its slot is used again.
    pub connection_slot: u32,
    /// What it wants.
    pub interest: Interest,
    /// The position in the channel's fan-out buffer up to which it has been sent everything.
    pub sent_to: u32,
    /// Whether it is sent nothing until its snapshot has left.
    pub waits: bool,
}

/// What this shard knows of a channel.
#[derive(Debug)]
pub struct LocalChannel {
    /// Its name, app and hash.
    pub key: SharedChannel,
    /// Subscribed connections of this shard.
    pub members: Vec<Member>,
    /// What members have not been sent.
    pub fan_out: FanOutBuffer,
    /// What they have not been offered.
    pub unoffered: Unoffered,
    /// Roster and order, if this shard is the owner; made by [`Channels::own`].
    pub owned: Option<Box<Channel>>,
    /// Whether it stands on the list of channels whose batch ends with the turn.
    pub batched: bool,
    /// When its batch ends, if that is at a later time.
    pub announce_ms: Option<u64>,
    /// Until when it waits for home shards, if it does.
    pub barrier_ms: Option<u64>,
    /// What it keeps of its publications, if this shard is the owner and it has history.
    pub(in crate::shard) history: Option<Box<Listed>>,
    /// The version of the rights by which it was decided whether it has.
    pub(in crate::shard) judged: u64,
}

/// The channels that concern one shard.
#[derive(Debug)]
pub struct Channels {
    index: HashTable<u32>,
    slots: Vec<Option<LocalChannel>>,
    free: Vec<u32>,
    /// How many of them are owned.
    owned_count: usize,
    /// How many members all of them have on this shard.
    pub(in crate::shard) member_count: u64,
    /// Owned channels with presence changes that are announced at the end of the turn.
    pub(in crate::shard) batched: Vec<ChannelSlot>,
    /// Owned channels whose presence changes are announced later, and when.
    pub(in crate::shard) announcements: BTreeSet<(u64, ChannelSlot)>,
    /// Owned channels that wait for home shards, and until when.
    pub(in crate::shard) barriers: BTreeSet<(u64, ChannelSlot)>,
    /// Connections whose snapshots leave later, and when, in that order.
    pub(in crate::shard) pauses: VecDeque<(u64, ConnectionId)>,
    /// Channels whose fan-out buffers have grown in this turn.
    pub(in crate::shard) grown: Vec<ChannelSlot>,
    pub(in crate::shard) pressure: BackPressure,
    /// What channels keep of their publications.
    pub(in crate::shard) histories: Table,
    /// Connections to which the next portion of a replay can be queued.
    pub(in crate::shard) replaying: VecDeque<ConnectionId>,
}

impl Default for Channels {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            owned_count: 0,
            member_count: 0,
            batched: Vec::new(),
            announcements: BTreeSet::new(),
            barriers: BTreeSet::new(),
            pauses: VecDeque::new(),
            grown: Vec::new(),
            pressure: BackPressure::default(),
            histories: Table::default(),
            replaying: VecDeque::new(),
        }
    }
}

impl Channels {
    /// How much there is of what a quiet shard has none of.
    pub(in crate::shard) fn parts_left(&self) -> [usize; 4] {
        let Self {
            // They are handed over, as far as they are owned or have members.
            index: _,
            slots: _,
            free: _,
            // Counted anew.
            owned_count: _,
            member_count: _,
            batched,
            announcements,
            barriers,
            // Both follow from the joins of connections.
            pauses: _,
            replaying: _,
            grown,
            // See `shard/handover/left.rs`.
            pressure: _,
            // They go with their channels.
            histories: _,
        } = self;
        let ordered = announcements.len() + barriers.len();
        [batched.len(), ordered, grown.len(), self.lent()]
    }

    /// How many channels have members that were not sent everything.
    fn lent(&self) -> usize {
        let slots = self.slots.iter().flatten();
        slots.filter(|it| it.fan_out.behind() > 0).count()
    }

    /// The channel of that name, if it concerns this shard.
    #[must_use]
    pub fn find(&self, hash: u64, app: &AppTag, name: &str) -> Option<ChannelSlot> {
        self.index
            .find(hash, |slot| {
                self.slots[*slot as usize].as_ref().is_some_and(|channel| {
                    channel.key.hash == hash
                        && channel.key.app == *app
                        && channel.key.name.as_str() == name
                })
            })
            .map(|slot| ChannelSlot(*slot))
    }

    /// The channel of that key, if it concerns this shard.
    #[must_use]
    pub fn find_key(&self, key: &SharedChannel) -> Option<ChannelSlot> {
        self.find(key.hash, &key.app, key.name.as_str())
    }

    /// The channel of that key; a new entry if need be.
    pub fn find_or_insert(&mut self, key: &SharedChannel) -> ChannelSlot {
        if let Some(slot) = self.find_key(key) {
            return slot;
        }
        let channel = LocalChannel {
            key: key.clone(),
            members: Vec::new(),
            fan_out: FanOutBuffer::default(),
            unoffered: Unoffered::default(),
            owned: None,
            batched: false,
            announce_ms: None,
            barrier_ms: None,
            history: None,
            judged: NEVER_JUDGED,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(channel);
                slot
            }
            None => {
                self.slots.push(Some(channel));
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(key.hash, slot, |slot| {
            slots[*slot as usize]
                .as_ref()
                .map_or(0, |channel| channel.key.hash)
        });
        ChannelSlot(slot)
    }

    /// The channel in a slot, unless the slot is free.
    #[must_use]
    pub fn get(&self, slot: ChannelSlot) -> Option<&LocalChannel> {
        self.slots.get(slot.0 as usize)?.as_ref()
    }

    /// The channel in a slot, unless the slot is free.
    pub fn get_mut(&mut self, slot: ChannelSlot) -> Option<&mut LocalChannel> {
        self.slots.get_mut(slot.0 as usize)?.as_mut()
    }

    /// A channel and the table of all histories, unless the slot is free.
    pub(in crate::shard) fn with_histories(
        &mut self,
        slot: ChannelSlot,
    ) -> Option<(&mut LocalChannel, &mut Table)> {
        let channel = self.slots.get_mut(slot.0 as usize)?.as_mut()?;
        Some((channel, &mut self.histories))
    }

    /// Adds a member, who gets what is published from now on, and returns its index.
    pub fn push_member(
        &mut self,
        slot: ChannelSlot,
        connection_slot: u32,
        interest: Interest,
    ) -> u32 {
        let Some(channel) = self.get_mut(slot) else {
            return 0;
        };
        channel.members.push(Member {
            connection_slot,
            interest,
            sent_to: channel.fan_out.end(),
            waits: false,
        });
        let index = (channel.members.len() - 1) as u32;
        self.member_count += 1;
        index
    }

    /// Removes the member at an index. Returns the connection that now stands there, whose
    /// session must note its new index.
    pub fn take_member(&mut self, slot: ChannelSlot, index: u32) -> Option<u32> {
        let channel = self.get_mut(slot)?;
        let index = index as usize;
        if index >= channel.members.len() {
            return None;
        }
        channel.members.swap_remove(index);
        channel.debug_check();
        if channel.members.len() * 4 < channel.members.capacity() {
            channel.members.shrink_to(channel.members.len() * 2);
        }
        let moved = channel.members.get(index);
        let moved = moved.map(|member| member.connection_slot);
        self.member_count -= 1;
        moved
    }

    /// Forgets the entry if nothing keeps it.
    pub fn release(&mut self, slot: ChannelSlot) {
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        let is_empty = |owned: &mut Box<Channel>| owned.is_empty();
        let is_given_up = channel.owned.take_if(is_empty).is_some();
        let listed = channel.batched || channel.fan_out.has_grown() || channel.history.is_some();
        let is_kept = channel.owned.is_some() || !channel.members.is_empty() || listed;
        let hash = channel.key.hash;
        self.owned_count -= usize::from(is_given_up);
        if is_kept {
            return;
        }
        self.slots[slot.0 as usize] = None;
        self.free.push(slot.0);
        if let Ok(entry) = self.index.find_entry(hash, |known| *known == slot.0) {
            entry.remove();
        }
    }

    /// How many slots there are, used or not: for walks.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slots.len() as u32
    }

    /// The slots of all channels that concern this shard.
    pub(in crate::shard) fn slots(&self) -> Vec<ChannelSlot> {
        self.iter().map(|(slot, _)| slot).collect()
    }

    /// All channels that concern this shard, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (ChannelSlot, &LocalChannel)> {
        let entries = self.slots.iter().enumerate();
        entries.filter_map(|(at, slot)| Some((ChannelSlot(at as u32), slot.as_ref()?)))
    }

    /// The roster and order of a channel that hashes to this shard; new ones if need be.
    pub fn own(&mut self, slot: ChannelSlot, hasher: &RandomState) -> Option<&mut Channel> {
        let channel = self.slots.get_mut(slot.0 as usize)?.as_mut()?;
        self.owned_count += usize::from(channel.owned.is_none());
        let new = || Box::new(Channel::new(hasher.clone()));
        Some(channel.owned.get_or_insert_with(new))
    }

    /// The rosters and orders of all channels that this shard owns.
    pub fn owned_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        let entries = self.slots.iter_mut().flatten();
        entries.filter_map(|channel| channel.owned.as_deref_mut())
    }

    /// How many channels this shard owns.
    #[must_use]
    pub fn owned_count(&self) -> usize {
        self.owned_count
    }

    /// Panics unless the count is that of the channels.
    pub(in crate::shard) fn check_owned_count(&self) {
        let owned = self.iter().filter(|(_, channel)| channel.owned.is_some());
        assert_eq!(owned.count(), self.owned_count, "owned channels");
        let members = self.iter().map(|(_, channel)| channel.members.len() as u64);
        assert_eq!(members.sum::<u64>(), self.member_count, "members");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::peer::{ChannelKey, JsonName};

    fn key(app: &str, name: &str) -> SharedChannel {
        let hash = u64::from(name.len() as u32 % 3); // collides on purpose
        Arc::new(ChannelKey {
            app: AppTag::of(app),
            hash,
            name: JsonName::new(name),
        })
    }

    #[test]
    fn the_same_name_in_two_apps_is_two_channels() {
        let mut channels = Channels::default();
        let (one, other) = (key("one", "room"), key("other", "room"));
        let slot = channels.find_or_insert(&one);
        assert_eq!(channels.find_or_insert(&one), slot);
        assert_ne!(channels.find_or_insert(&other), slot);
        assert_eq!(
            channels.find(key("one", "door").hash, &AppTag::of("one"), "door"),
            None
        );
    }

    #[test]
    fn an_entry_without_members_and_owner_is_forgotten_and_its_slot_used_again() {
        let mut channels = Channels::default();
        let slot = channels.find_or_insert(&key("one", "a"));
        assert_eq!(channels.push_member(slot, 7, Interest::default()), 0);
        channels.release(slot);
        assert!(channels.get(slot).is_some());
        assert_eq!(channels.take_member(slot, 0), None);
        channels.release(slot);
        assert!(channels.get(slot).is_none());
        assert_eq!(channels.find_or_insert(&key("one", "b")), slot);
    }

    #[test]
    fn owned_channels_are_counted_once_each_until_they_are_given_up() {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let mut channels = Channels::default();
        let slots = ["a", "b", "c"].map(|name| channels.find_or_insert(&key("one", name)));
        assert_eq!(channels.owned_count(), 0);
        for slot in [slots[0], slots[1], slots[0]] {
            assert!(channels.own(slot, &hasher).unwrap().is_empty());
        }
        assert_eq!(channels.owned_count(), 2);
        channels.push_member(slots[1], 7, Interest::default());
        for _ in 0..2 {
            channels.release(slots[1]);
            assert_eq!(channels.owned_count(), 1);
            channels.check_owned_count();
        }
        channels.release(slots[0]);
        assert!(channels.own(slots[0], &hasher).is_none());
        assert_eq!(channels.owned_count(), 0);
        channels.check_owned_count();
    }

    #[test]
    fn removing_a_member_tells_who_moved() {
        let mut channels = Channels::default();
        let slot = channels.find_or_insert(&key("one", "a"));
        for connection_slot in 10..13 {
            channels.push_member(slot, connection_slot, Interest::default());
        }
        assert_eq!(channels.take_member(slot, 0), Some(12));
        assert_eq!(channels.take_member(slot, 1), None);
        assert_eq!(channels.take_member(slot, 0), None);
        assert_eq!(channels.take_member(slot, 0), None);
    }
}
