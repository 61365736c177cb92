//! Publications of channels with history, at their owner: each is numbered and kept when it gets
//! its place in the channel's order, and what is kept stays within its bounds.
//!
//! Whether a channel has history is decided when somebody needs to know it and the rights are
//! other ones than when it was decided last. A channel with a history outlives its members.

use crate::domain::app_id::AppTag;
use crate::domain::history::HistoryStore;
use crate::domain::history_page::{Forgotten, Page};
use crate::domain::peer::SharedChannel;
use crate::proto::wire::position::{EPOCH_ENTROPY_BYTES, Epoch, Position, Since};
use crate::shard::channel::channels::{Channels, NEVER_JUDGED};
use crate::shard::connection::cost::{LOOK, WRITE};
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::history::history::{History, New};
use crate::shard::history::page::{self, Lost};
use crate::shard::history::replay::Resumed;
use crate::shard::history::restored::Found;
use crate::shard::history::table::Listed;
use crate::shard::mesh_message::{MeshMessage, RestValue};
use crate::shard::stores::{Awaited, Waiting};

/// What goes from histories in one turn because its time is over: publications, ids, histories.
const SWEPT_PER_TURN_MAX: usize = 2_000;
/// The time between two looks at the same history, in milliseconds, at least.
const LOOK_MS_MIN: u64 = 1_000;

/// Bytes of a history that are given back for the cost of a look.
const FREED_BYTES: usize = 4_096;

/// The number of a publication.
pub(in crate::shard) enum Numbered {
    /// It has this one, and stands with it in `Context::numbered`; whether its ack waits until it
    /// is stored.
    New(Position, bool),
    /// It was published before, there; whether that ack waits.
    Again(Position, bool),
}

impl Context {
    /// Bytes that all histories of this shard may take.
    pub(in crate::shard) fn history_bytes_max(&self) -> usize {
        let shards = usize::from(self.config.shard_count.max(1));
        self.config.limits.history.memory_bytes / shards
    }

    /// How long ids of publications are remembered, in milliseconds.
    pub(in crate::shard) fn ids_ms(&self) -> u64 {
        u64::from(self.config.limits.history.dedupe_sec) * 1_000
    }

    fn new_epoch(&mut self) -> Epoch {
        let mut entropy = [0; EPOCH_ENTROPY_BYTES];
        self.entropy.fill(&mut entropy);
        Epoch::of(entropy)
    }
}

impl Channels {
    /// Whether a publication to a channel of this shard's may get a number.
    #[inline]
    pub(in crate::shard) fn may_number(&self, slot: ChannelSlot, context: &Context) -> bool {
        let channel = self.get(slot);
        channel.is_some_and(|it| it.history.is_some() || it.judged != context.rights.version)
    }

    /// An entry for a channel that nobody is in, if it has history.
    #[cold]
    pub(in crate::shard) fn slot_for_history(
        &mut self,
        channel: &SharedChannel,
        context: &Context,
    ) -> Option<ChannelSlot> {
        let rules = context.rights.history(channel.app)?;
        rules.for_channel(channel.name.as_str())?;
        Some(self.find_or_insert(channel))
    }

    /// Decides whether a channel has history, if the rights have changed since that was decided.
    fn judge(&mut self, slot: ChannelSlot, context: &mut Context) {
        let (now_ms, version) = (context.now.mono_ms, context.rights.version);
        if self.get(slot).is_none_or(|it| it.judged == version) {
            return;
        }
        self.end_history(slot, context);
        let Some((channel, table)) = self.with_histories(slot) else {
            return;
        };
        channel.judged = version;
        let app = context.rights.app_with_history(channel.key.app).cloned();
        let name = channel.key.name.as_str();
        let found = app
            .as_ref()
            .and_then(|app| Some((app, app.history.for_channel(name)?)));
        let Some((app, rule)) = found else {
            return;
        };
        let on_disk = (rule.store == HistoryStore::Disk).then_some(&*app.id);
        if let Some(listed) = &mut channel.history {
            listed.history.set_rule(rule);
            if listed.history.set_on_disk(on_disk) && on_disk.is_none() {
                context.record_forgotten(&channel.key, &app.id);
            }
            table.shrunk(slot, listed);
            return table.hurry(slot, listed, now_ms);
        }
        let epoch = context.new_epoch();
        let mut new = History::new(epoch, rule, context.placement.hasher());
        new.set_on_disk(on_disk);
        let until_ms = now_ms + new.ttl_ms();
        channel.history = Some(table.insert(slot, (app.index, new), until_ms));
    }

    /// What a channel keeps is forgotten if its app is gone, another app has its id, or no rule
    /// holds for the channel any more.
    fn end_history(&mut self, slot: ChannelSlot, context: &mut Context) {
        let Some((channel, table)) = self.with_histories(slot) else {
            return;
        };
        let (key, app) = (
            &channel.key,
            context.rights.app_with_history(channel.key.app),
        );
        let is_kept = |listed: &Listed| {
            let own = app.filter(|app| app.index == listed.app);
            own.is_some_and(|app| app.history.for_channel(key.name.as_str()).is_some())
        };
        if let Some(listed) = channel.history.take_if(|listed| !is_kept(listed)) {
            table.remove(slot, &listed);
            if let Some(app) = listed.history.on_disk() {
                context.record_forgotten(key, app);
            }
        }
    }

    /// The same, with the entry if nothing else keeps it. Returns the cost.
    pub(in crate::shard) fn follow_rules(
        &mut self,
        slot: ChannelSlot,
        context: &mut Context,
    ) -> usize {
        let history = self.get(slot).and_then(|it| it.history.as_deref());
        let Some(bytes) = history.map(|listed| listed.history.memory()) else {
            return LOOK;
        };
        self.end_history(slot, context);
        if self.has_history(slot) {
            return LOOK;
        }
        self.release(slot);
        WRITE + bytes / FREED_BYTES
    }

    /// Numbers a publication and keeps it, if its channel has history. It gets its place in the
    /// order now: nothing may come between.
    #[inline(never)]
    pub(in crate::shard) fn number(
        &mut self,
        slot: ChannelSlot,
        new: New<'_>,
        context: &mut Context,
    ) -> Option<Numbered> {
        self.judge(slot, context);
        let (now, ids_ms) = (context.now, context.ids_ms());
        let (channel, table) = self.with_histories(slot)?;
        let listed = channel.history.as_deref_mut()?;
        if let Some(id) = new.id {
            let since_ms = now.mono_ms.saturating_sub(ids_ms);
            let before = listed.history.find_id(new.from.id.as_str(), id, since_ms);
            if let Some(position) = before {
                context.metrics.counters.history_duplicates += 1;
                let awaits_store = context.record_numbering(&channel.key, &listed.history);
                return Some(Numbered::Again(position, awaits_store));
            }
        }
        let is_id_lost = new.id.is_some() && listed.history.is_full_of_ids();
        context.metrics.counters.history_ids_evicted += u64::from(is_id_lost);
        context.numbered.clear();
        let position = listed.history.append(new, now, &mut context.numbered);
        let awaits_store = context.record_publication(&channel.key, new, &listed.history);
        listed.until_ms = now.mono_ms + listed.history.ttl_ms();
        table.used(slot, listed);
        let due_ms = listed.history.due_ms(ids_ms);
        table.hurry(slot, listed, due_ms.unwrap_or(u64::MAX));
        self.keep_to_memory(slot, context);
        Some(Numbered::New(position, awaits_store))
    }

    /// How a subscriber of a channel of this shard's goes on from what it has. Its place in the
    /// order is the position that is returned.
    pub(in crate::shard) fn resume(
        &mut self,
        slot: ChannelSlot,
        since: Since,
        with_metadata: bool,
        context: &mut Context,
    ) -> Resumed {
        self.judge(slot, context);
        let limits = context.config.limits.history;
        let now_ms = context.now.mono_ms;
        let found = self.with_histories(slot);
        let listed = found.and_then(|(channel, table)| Some((channel.history.as_mut()?, table)));
        let Some((listed, table)) = listed else {
            return match since {
                Since::Now => Resumed::at(None),
                Since::After(..) | Since::Last(_) => Resumed::lost(None),
            };
        };
        let resumed = listed.history.resume(since, with_metadata, &limits);
        listed.until_ms = now_ms + listed.history.ttl_ms();
        table.used(slot, listed);
        match resumed.recovered {
            Some(true) => context.metrics.counters.history_recovered += 1,
            Some(false) => context.metrics.counters.history_not_recovered += 1,
            None => {}
        }
        self.keep_to_memory(slot, context);
        resumed
    }

    /// A page of the publications that a channel of this shard's keeps, as the body of an answer.
    ///
    /// # Errors
    /// What was asked for is not kept any more.
    pub(in crate::shard) fn history_page(
        &mut self,
        channel: &SharedChannel,
        page: &Page,
        context: &mut Context,
    ) -> Result<Frame, Lost> {
        let slot = self.find_key(channel);
        if let Some(slot) = slot.filter(|slot| self.has_history(*slot)) {
            self.judge(slot, context);
        }
        let found = slot.and_then(|slot| Some((slot, self.with_histories(slot)?)));
        let listed = found.and_then(|(slot, (local, table))| {
            let listed = local.history.as_deref_mut()?;
            table.used(slot, listed);
            Some(&*listed)
        });
        let history = listed.map(|listed| &listed.history);
        let body = page::render(history, channel.name.json(), page)?;
        if let Some(slot) = slot {
            self.release(slot);
        }
        Ok(body.into())
    }

    /// Forgets what a channel of this shard's keeps, and begins a new numbering. Returns how many
    /// publications are forgotten, and whether the answer waits until that is stored.
    pub(in crate::shard) fn forget_history(
        &mut self,
        channel: &SharedChannel,
        context: &mut Context,
    ) -> (u64, bool) {
        let slot = self.find_key(channel);
        let slot = slot.filter(|slot| self.has_history(*slot));
        if let Some(slot) = slot {
            self.judge(slot, context);
        }
        let epoch = context.new_epoch();
        let found = slot.and_then(|slot| Some((slot, self.with_histories(slot)?)));
        let listed = found.and_then(|(slot, (local, table))| {
            let listed = local.history.as_deref_mut()?;
            Some((slot, listed, table))
        });
        let Some((slot, listed, table)) = listed else {
            return (0, context.record_forgotten_again(channel));
        };
        let is_recorded = match listed.history.on_disk() {
            Some(app) => context.record_forgotten(channel, app),
            None => false,
        };
        let count = listed.history.forget(epoch);
        table.shrunk(slot, listed);
        (count as u64, is_recorded)
    }

    fn has_history(&self, slot: ChannelSlot) -> bool {
        self.get(slot).is_some_and(|it| it.history.is_some())
    }

    /// What is over its time goes, as much as one turn may do.
    pub(in crate::shard) fn sweep_histories(&mut self, context: &mut Context) {
        let now_ms = context.now.mono_ms;
        let mut left = SWEPT_PER_TURN_MAX;
        while left > 0
            && let Some(slot) = self.histories.due(now_ms)
        {
            left -= 1;
            left -= self.sweep(slot, left, context);
        }
    }

    /// Looks at one history, of which at most so much may go. Returns how much did.
    fn sweep(&mut self, slot: ChannelSlot, most: usize, context: &mut Context) -> usize {
        self.judge(slot, context);
        let (now_ms, ids_ms) = (context.now.mono_ms, context.ids_ms());
        let Some((channel, table)) = self.with_histories(slot) else {
            return 0;
        };
        let is_there = channel.owned.is_some();
        let Some(listed) = &mut channel.history else {
            self.release(slot);
            return 0;
        };
        let count = listed
            .history
            .expire(now_ms, now_ms.saturating_sub(ids_ms), most);
        table.shrunk(slot, listed);
        match listed.history.due_ms(ids_ms) {
            Some(due_ms) if due_ms <= now_ms && count >= most => {}
            Some(due_ms) => table.look_at(slot, listed, due_ms.max(now_ms + LOOK_MS_MIN)),
            None if listed.until_ms > now_ms => table.look_at(slot, listed, listed.until_ms),
            None if is_there => {
                let again_ms = now_ms + LOOK_MS_MIN.max(listed.history.ttl_ms());
                table.look_at(slot, listed, again_ms);
            }
            None => self.end_numbering(slot, context),
        }
        count
    }

    /// Nothing is kept of a channel any more, and its numbering has ended.
    fn end_numbering(&mut self, slot: ChannelSlot, context: &mut Context) {
        if let Some((key, listed)) = self.take_history(slot)
            && let Some(app) = listed.history.on_disk()
        {
            context.record_forgotten(&key, app);
        }
        self.release(slot);
    }

    /// Takes the history of a channel out; the next publication begins another numbering.
    pub(in crate::shard) fn take_history(
        &mut self,
        slot: ChannelSlot,
    ) -> Option<(SharedChannel, Box<Listed>)> {
        let (channel, table) = self.with_histories(slot)?;
        let listed = channel.history.take()?;
        table.remove(slot, &listed);
        channel.judged = NEVER_JUDGED;
        Some((channel.key.clone(), listed))
    }

    /// Takes a history over that was found on disk, if its channel keeps nothing here yet and is
    /// kept on disk.
    pub(in crate::shard) fn restore(&mut self, found: &Found, context: &mut Context) {
        let tag = AppTag::of(&found.app);
        let Some(app) = context.rights.app_with_history(tag).cloned() else {
            return;
        };
        let rule = app.history.for_channel(&found.channel);
        let Some(rule) = rule.filter(|rule| rule.store == HistoryStore::Disk) else {
            return;
        };
        let hasher = context.placement.hasher();
        let ids_ms = context.ids_ms();
        let Some(history) = found.history(rule, hasher, ids_ms, context.now) else {
            return;
        };
        let hash = context.placement.channel_hash(tag, &found.channel);
        let slot = self.find_or_insert(&self.channel_key(tag, hash, &found.channel));
        let Some((channel, table)) = self.with_histories(slot) else {
            return;
        };
        if channel.history.is_some() {
            return;
        }
        channel.judged = context.rights.version;
        let now_ms = context.now.mono_ms;
        let mut listed = table.insert(slot, (app.index, history), now_ms);
        listed.until_ms = now_ms + listed.history.ttl_ms();
        table.used(slot, &mut listed);
        channel.history = Some(listed);
        self.keep_to_memory(slot, context);
    }

    /// Tells those who wait for a batch what has become of it.
    pub(in crate::shard) fn batch_settled(
        &mut self,
        batch: u64,
        is_stored: bool,
        context: &mut Context,
    ) {
        for waiting in context.stores.take(batch) {
            let Waiting {
                channel,
                home,
                waiter,
                awaited,
            } = waiting;
            let (sequenced, wants_position) = match awaited {
                Awaited::Publication {
                    sequenced,
                    wants_position,
                } => (sequenced, wants_position),
                Awaited::Forgetting { count } => {
                    let is_refused = !is_stored;
                    let forgotten = Forgotten { count, is_refused };
                    context.rest_result(home, waiter, RestValue::Forgotten(forgotten));
                    continue;
                }
            };
            let slot = self.find_key(&channel);
            let local = slot.and_then(|slot| self.get_mut(slot));
            let listed = local.and_then(|local| local.history.as_deref_mut());
            let place = listed.zip(sequenced.position);
            let was_unstored = place.is_some_and(|(listed, position)| {
                if !is_stored && !sequenced.is_duplicate {
                    listed.history.set_unstored(position);
                }
                listed.history.is_unstored(position)
            });
            match is_stored && !was_unstored {
                true => context.tell_sequenced(home, waiter, sequenced, wants_position),
                false => context.send(home, MeshMessage::Unstored { waiter }),
            }
        }
    }

    /// Panics unless what is always true of the histories is.
    pub(in crate::shard) fn check_histories(&self) {
        let all = self.iter().filter_map(|(slot, channel)| {
            let listed = channel.history.as_deref()?;
            Some((slot, listed))
        });
        self.histories.check(all);
    }
}
