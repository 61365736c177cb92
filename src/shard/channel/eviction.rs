//! What gives way when all histories of a shard take more memory than they may.
//!
//! First the ids of the channel that is used, as far as they are more than its share. Then the
//! publications of the channel that was used least recently, of every channel before any other
//! thing goes. Then numberings of which nothing else is known, the oldest ids of all channels,
//! and at last the numberings of channels on disk. What is said of a channel in the meantime, by
//! its first number or by another epoch, is always true.

use crate::shard::channel::channels::Channels;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::history::evicted::Stage;
use crate::shard::history::history::History;
use crate::shard::history::table::Turn;

/// Histories that may give way for one publication, and what goes of each: far more than one can
/// need. Where the memory that all may take has become much less, it is come to in steps.
const GIVE_WAY_MAX: usize = 300;
const GOES_AT_ONCE_MAX: usize = 100;
/// Ids of a channel that may be known whatever else has to give way, in bytes of memory: as much
/// as its publications may have, or this much if that is less.
const IDS_BYTES_MIN: usize = 64 * 1_024;
/// But no more than this part of the memory that all histories may take.
const IDS_PART: usize = 4;

impl Channels {
    /// Histories give way until all of them take no more memory than they may.
    #[inline]
    pub(in crate::shard) fn keep_to_memory(&mut self, slot: ChannelSlot, context: &mut Context) {
        let bytes_max = context.history_bytes_max();
        if self.histories.memory() > bytes_max {
            self.make_way(slot, bytes_max, context);
        }
    }

    #[cold]
    fn make_way(&mut self, slot: ChannelSlot, bytes_max: usize, context: &mut Context) {
        for _ in 0..GIVE_WAY_MAX {
            if self.histories.memory() <= bytes_max {
                return;
            }
            if self.evict_ids(slot, is_over_share(bytes_max), bytes_max, context) {
                continue;
            }
            let other = self.histories.first_to_go(slot);
            if other.is_some_and(|(_, next)| !self.is_its_turn(next)) {
                continue;
            }
            if !self.next_gives_way(slot, other, bytes_max, context) {
                return;
            }
        }
    }

    /// What is next gives way: of the others that one, or something of this channel. Returns
    /// whether anything did.
    fn next_gives_way(
        &mut self,
        slot: ChannelSlot,
        other: Option<(Turn, ChannelSlot)>,
        bytes_max: usize,
        context: &mut Context,
    ) -> bool {
        if let Some(((Stage::Publications, _), next)) = other {
            return self.evict_publications(next, 0, bytes_max, context);
        }
        // Of its own, the newest is kept to the end.
        if self.evict_publications(slot, 1, bytes_max, context) {
            return true;
        }
        if let Some(((Stage::Numbering, _), next)) = other {
            return self.drop_numbering(next, context);
        }
        let has_older_ids = match other {
            Some(((Stage::Ids, at_ms), _)) => self.oldest_id_ms(slot).is_some_and(|it| it < at_ms),
            _ => true,
        };
        let is_one_of_many = |it: &History| it.ids_size().0 > 1;
        if has_older_ids && self.evict_ids(slot, is_one_of_many, bytes_max, context) {
            return true;
        }
        match other {
            Some(((Stage::Ids, _), next)) => self.evict_ids(next, |_| true, bytes_max, context),
            Some((_, next)) => self.drop_numbering(next, context),
            None => false,
        }
    }

    /// Whether a history has not been used since it was listed.
    fn is_its_turn(&mut self, slot: ChannelSlot) -> bool {
        let found = self.with_histories(slot);
        found.is_some_and(|(channel, table)| {
            let listed = channel.history.as_deref_mut();
            listed.is_some_and(|listed| table.is_its_turn(slot, listed))
        })
    }

    fn oldest_id_ms(&self, slot: ChannelSlot) -> Option<u64> {
        let listed = self.get(slot)?.history.as_deref()?;
        listed.history.oldest_id_ms()
    }

    /// The oldest publications of a history go until all histories have room, or so many are left.
    /// Returns whether any did.
    fn evict_publications(
        &mut self,
        slot: ChannelSlot,
        left: usize,
        bytes_max: usize,
        context: &mut Context,
    ) -> bool {
        let evict = |it: &mut History| it.len() > left && it.evict();
        let count = self.evict(slot, evict, bytes_max);
        context.metrics.counters.history_evicted += count;
        count > 0
    }

    /// The oldest ids of a history are forgotten until all histories have room, or as long as one
    /// may be. Returns whether any was.
    fn evict_ids(
        &mut self,
        slot: ChannelSlot,
        may_go: impl Fn(&History) -> bool,
        bytes_max: usize,
        context: &mut Context,
    ) -> bool {
        let count = self.evict(slot, |it| may_go(it) && it.evict_id(), bytes_max);
        context.metrics.counters.history_ids_evicted += count;
        count > 0
    }

    /// Something of a history goes until all histories have room, or nothing of it does. Returns
    /// how often something went.
    fn evict(
        &mut self,
        slot: ChannelSlot,
        mut evict: impl FnMut(&mut History) -> bool,
        bytes_max: usize,
    ) -> u64 {
        let Some((channel, table)) = self.with_histories(slot) else {
            return 0;
        };
        let Some(listed) = &mut channel.history else {
            return 0;
        };
        let mut count = 0;
        while count < GOES_AT_ONCE_MAX && table.memory() > bytes_max && evict(&mut listed.history) {
            table.recount(listed);
            count += 1;
        }
        table.shrunk(slot, listed);
        count as u64
    }

    /// A numbering is forgotten; what the disk has of it stays there. Returns whether it was.
    fn drop_numbering(&mut self, slot: ChannelSlot, context: &mut Context) -> bool {
        let is_gone = self.take_history(slot).is_some();
        context.metrics.counters.history_numberings_evicted += u64::from(is_gone);
        self.release(slot);
        is_gone
    }
}

/// Whether ids of a history are more than its share of the memory that all may take.
fn is_over_share(bytes_max: usize) -> impl Fn(&History) -> bool {
    move |it| {
        let share = it.bytes_max().max(IDS_BYTES_MIN).min(bytes_max / IDS_PART);
        let (count, bytes) = it.ids_size();
        count > 1 && bytes > share
    }
}
