//! A channel that lags, where its members are: most of them read more slowly than is published.
//!
//! A member is *late* while its socket has no room and more than a quarter of its limit is queued
//! for it. A member *moves* if its socket took something within [`MOVES_MS`]. A channel *lags*
//! while more than half of its moving members are late. Then its publishers wait on all shards,
//! see [`hold`](super::hold). A publication that was on its way meanwhile is *kept*, once for all
//! members of the shard, and *follows* when there is room. Members that read are not closed for
//! it. Presence, joins and leaves that come behind it in the channel's order are kept as well.
//!
//! A channel also lags while much waits for the end of one member's pause before its snapshot: the
//! pause is the server's, and a member that reads is not closed for it.
//!
//! A minority of slow members therefore slows nobody. Members that do not move are not waited for.
//! Both are closed when their queue is full. A channel that has lagged for [`LAG_MS_MAX`] is given
//! up for [`REST_MS`]: its publishers go on, and its slow members are closed when their queues are
//! full. A channel with fewer members on this shard than
//! [`Tuning::lag_members_min`](crate::shard::tuning::Tuning) does not lag.

use std::collections::VecDeque;

use crate::domain::peer::SharedChannel;
use crate::ids::ConnectionId;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::{Course, Kept, Lagging, Progress};
use crate::shard::connection::connections::{Connection, Connections};
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::frame::Frame;
use crate::shard::mesh_message::{Lag, MeshMessage, PublishedAt};

/// How long a member counts as moving after its socket took something, in milliseconds. A kernel
/// with large buffers makes room in steps of some hundred kilobytes.
const MOVES_MS: u64 = 3_000;
/// How long a channel may lag, in milliseconds.
const LAG_MS_MAX: u64 = 10_000;
/// How long a channel is given up after it has lagged for [`LAG_MS_MAX`], in milliseconds.
const REST_MS: u64 = 10_000;
/// How long a home keeps publications while the owner holds no publisher, in milliseconds. The
/// members of other homes may be a little less late.
const ALONE_MS_MAX: u64 = 1_000;

/// How many channels one look covers.
const LOOKS_MAX: usize = 32;
/// How many members are counted at most; they stand for all members of the channel.
const SAMPLE_MAX: usize = 512;
/// How much is kept for one channel at most, as a multiple of a connection's limit.
const KEPT_LIMITS: usize = 4;
/// How much is kept for all channels of the shard at most, as a multiple of the same limit.
const KEPT_LIMITS_IN_ALL: usize = 16;
/// The divisor of the same limit that gives how much follows at one look.
const FOLLOWS_SHARE: usize = 8;

/// What the members of a channel looked like when they got their parts of something.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Fed {
    /// The most bytes that one of them has queued and has not been offered.
    pub(super) longest: usize,
    /// How many of them are late. They need not move.
    pub(super) late: usize,
    /// Much is held for one that waits for its snapshot.
    pub(super) full_join: bool,
}

impl Fed {
    /// Counts a member that got its part. It is late if more than `late_bytes` are queued for it.
    #[inline]
    pub(in crate::shard) fn note(
        &mut self,
        connection: &Connection,
        waits: bool,
        late_bytes: usize,
    ) {
        self.longest = self.longest.max(connection.unoffered_bytes());
        self.late += usize::from(connection.is_late(late_bytes));
        if waits && connection.is_full_join(late_bytes) {
            self.longest = self.longest.max(connection.paused_bytes());
            self.full_join = true;
        }
    }
}

impl Connection {
    /// Whether its socket has no room and more than `late_bytes` are queued for it.
    #[inline]
    fn is_late(&self, late_bytes: usize) -> bool {
        self.blocked.is_blocked() && self.outbox.delivery_bytes() > late_bytes
    }

    /// Whether more than `late_bytes` wait for the end of a pause before a snapshot, and it reads.
    fn is_full_join(&self, late_bytes: usize) -> bool {
        !self.blocked.is_blocked() && self.paused_bytes() > late_bytes
    }
}

impl Context {
    /// The queue of a late member is longer than this, in bytes.
    pub(in crate::shard) fn late_bytes(&self) -> usize {
        self.config.limits.outbound_queue_bytes / self.tuning.late_share
    }
}

impl Channels {
    /// Notes what the members of a channel looked like after a delivery.
    pub(in crate::shard) fn note_fed(
        &mut self,
        slot: ChannelSlot,
        fed: Fed,
        context: &mut Context,
    ) {
        self.note_longest(slot, fed.longest, context);
        if (fed.late > 0 || fed.full_join)
            && let Some(channel) = self.get(slot)
            && (fed.full_join || 2 * fed.late > channel.members.len())
        {
            self.pressure.lags.suspects.push(slot);
        }
    }

    /// Looks at the channels that had a majority of late members in this turn.
    pub(super) fn look_at_suspects(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        for slot in std::mem::take(&mut self.pressure.lags.suspects) {
            if self.lagging(slot).is_none() {
                self.begin_lag(slot, connections, context);
            }
        }
    }

    /// Returns what is known of a channel that lags here, unless its slot has another channel by
    /// now.
    fn lagging(&mut self, slot: ChannelSlot) -> Option<&mut Lagging> {
        let key = self.get(slot).map(|it| it.key.clone())?;
        let lagging = self.pressure.lags.here.get_mut(&slot)?;
        SharedChannel::ptr_eq(&key, &lagging.channel).then_some(lagging)
    }

    /// Notes that a channel lags from now on, if it does.
    fn begin_lag(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let progress = self.progress(slot, connections, context);
        let Some(channel) = self.get(slot) else {
            return;
        };
        if !progress.is_lag(context.tuning.lag_members_min)
            || self.pressure.lags.here.contains_key(&slot)
        {
            return;
        }
        let channel = channel.key.clone();
        let now_ms = context.now.mono_ms;
        let lagging = Lagging {
            channel: channel.clone(),
            course: Course::Lags { since_ms: now_ms },
            told: progress,
            alone_since_ms: None,
            kept: VecDeque::new(),
        };
        self.pressure.lags.here.insert(slot, lagging);
        self.pressure.lags.order.push_back(slot);
        self.pressure.lags.look_soon(now_ms);
        self.tell_lag(&channel, progress, connections, context);
    }

    /// Counts the late and the stuck members of a channel; in a large one, of a sample.
    fn progress(
        &self,
        slot: ChannelSlot,
        connections: &Connections,
        context: &Context,
    ) -> Progress {
        let Some(channel) = self.get(slot) else {
            return Progress::default();
        };
        let late_bytes = context.late_bytes();
        let now_ms = connections.peer_ms(context);
        let step = channel.members.len().div_ceil(SAMPLE_MAX).max(1);
        let mut progress = Progress::default();
        for member in channel.members.iter().filter(|it| it.waits) {
            let connection = connections.at_slot(member.connection_slot);
            progress.lateness.full_join |= connection.is_some_and(|it| it.is_full_join(late_bytes));
        }
        for member in channel.members.iter().step_by(step) {
            progress.members += step as u32;
            let connection = connections.at_slot(member.connection_slot);
            match connection.filter(|it| it.is_late(late_bytes)) {
                Some(it) if it.blocked.ends_ms(MOVES_MS) > now_ms => {
                    progress.lateness.late += step as u32;
                }
                Some(_) => progress.lateness.stuck += step as u32,
                None => {}
            }
        }
        progress
    }

    fn tell_lag(
        &mut self,
        channel: &SharedChannel,
        progress: Progress,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let owner = context.placement.owner(channel.hash);
        let lag = Lag {
            channel: channel.clone(),
            lateness: progress.lateness,
        };
        if owner == context.id() {
            self.owner_lag(owner, lag, connections, context);
        } else {
            let lag = MeshMessage::Lag(Box::new(lag));
            context.effects.send(owner.shard(), lag);
        }
    }

    /// Whether a publication is to be kept for the members of a channel here.
    #[inline]
    pub(in crate::shard) fn is_to_be_kept(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        !self.pressure.lags.here.is_empty()
            && !context.is_frozen
            && self.lags(slot, connections, context)
    }

    #[cold]
    pub(in crate::shard) fn lags(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        if self.lagging(slot).is_none() {
            // A member that is late in one channel is late in its other channels too.
            let turn = self.pressure.turn;
            match self.get_mut(slot) {
                Some(channel) if channel.unoffered.looked != Some(turn) => {
                    channel.unoffered.looked = Some(turn);
                }
                _ => return false,
            }
            self.begin_lag(slot, connections, context);
        }
        // With no member here there is nobody to keep it for, and the next one must not get it.
        let has_members = self.get(slot).is_some_and(|it| !it.members.is_empty());
        let lagging = self.lagging(slot);
        has_members && lagging.is_some_and(|it| matches!(it.course, Course::Lags { .. }))
    }

    /// Keeps a publication for the members of a channel that lags here.
    #[cold]
    pub(in crate::shard) fn keep_publication(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], Option<&[u8]>),
        except: Option<ConnectionId>,
        times: PublishedAt,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let publication = Kept::Publication {
            plain: plain.into(),
            with_metadata: with_metadata.map(Frame::from),
            except,
            times,
        };
        self.keep(slot, publication, connections, context);
    }

    /// The slot of the channel, if what comes next in its order has to wait behind what is kept.
    #[inline]
    pub(in crate::shard) fn must_follow(&mut self, channel: &SharedChannel) -> Option<ChannelSlot> {
        if self.pressure.lags.kept_bytes == 0 {
            return None;
        }
        let slot = self.find_key(channel)?;
        let lagging = self.lagging(slot)?;
        (!lagging.kept.is_empty()).then_some(slot)
    }

    /// Keeps what comes next in the order of a channel that lags here.
    #[cold]
    pub(in crate::shard) fn keep(
        &mut self,
        slot: ChannelSlot,
        kept: Kept,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let limit = context.config.limits.outbound_queue_bytes;
        let bytes = kept.bytes();
        let Some(lagging) = self.lagging(slot) else {
            return;
        };
        lagging.kept.push_back(kept);
        let of_channel: usize = lagging.kept.iter().map(Kept::bytes).sum();
        self.pressure.lags.kept_bytes += bytes;
        if of_channel > KEPT_LIMITS * limit
            || self.pressure.lags.kept_bytes > KEPT_LIMITS_IN_ALL * limit
        {
            self.give_up(slot, connections, context);
        }
    }

    /// Delivers what is kept for a channel's members, up to `bytes_max`. Returns whether nothing is
    /// kept any more.
    pub(in crate::shard) fn follow(
        &mut self,
        slot: ChannelSlot,
        bytes_max: usize,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(kept) = self.lagging(slot).and_then(|it| it.kept.pop_front()) else {
                return true;
            };
            bytes += kept.bytes();
            self.pressure.lags.kept_bytes -= kept.bytes();
            self.handle_kept(slot, kept, connections, context);
        }
        self.lagging(slot).is_none_or(|it| it.kept.is_empty())
    }

    /// Delivers all that is kept, whether or not its receivers have room.
    pub(in crate::shard) fn follow_all(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let lagging = self.pressure.lags.here.keys();
        for slot in lagging.copied().collect::<Vec<_>>() {
            self.follow(slot, usize::MAX, connections, context);
        }
    }

    fn handle_kept(
        &mut self,
        slot: ChannelSlot,
        kept: Kept,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        match kept {
            Kept::Publication {
                plain,
                with_metadata,
                except,
                times,
            } => {
                let frames = (&plain[..], with_metadata.as_deref());
                self.deliver_now(slot, frames, except, times, connections, context);
            }
            Kept::Announce { owner, announce } => {
                self.announce_now(owner, &announce, connections, context);
            }
            Kept::Joined(joined) => self.joined_now(joined, connections, context),
            Kept::Left(left) => self.left_now(&left, connections, context),
        }
    }

    /// Handles all that is kept for a channel whose last member has left this shard: the next one
    /// to join must not get it.
    #[inline]
    pub(in crate::shard) fn follow_if_empty(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if self.pressure.lags.kept_bytes > 0
            && self.get(slot).is_some_and(|it| it.members.is_empty())
        {
            self.follow(slot, usize::MAX, connections, context);
        }
    }

    /// Notes whether the owner of a channel holds its publishers.
    pub(super) fn note_hold(
        &mut self,
        channel: &SharedChannel,
        is_held: bool,
        context: &mut Context,
    ) {
        let now_ms = context.now.mono_ms;
        let slot = self.find_key(channel);
        if let Some(lagging) = slot.and_then(|slot| self.lagging(slot)) {
            lagging.alone_since_ms = match is_held {
                true => None,
                false => Some(lagging.alone_since_ms.unwrap_or(now_ms)),
            };
        }
    }

    /// When the next look at the channels that lag is due.
    pub(in crate::shard) fn next_look_ms(&self) -> Option<u64> {
        self.pressure.lags.look_ms
    }

    /// Looks at the channels that lag, if it is time to.
    pub(in crate::shard) fn look_at_lags(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let now_ms = context.now.mono_ms;
        if self
            .pressure
            .lags
            .look_ms
            .take_if(|at| *at <= now_ms)
            .is_none()
        {
            return;
        }
        for _ in 0..LOOKS_MAX.min(self.pressure.lags.order.len()) {
            if let Some(slot) = self.pressure.lags.order.pop_front()
                && self.look(slot, connections, context)
            {
                self.pressure.lags.order.push_back(slot);
            }
        }
        self.advance_lines(connections, context);
        if !self.pressure.lags.here.is_empty() {
            self.pressure.lags.look_soon(now_ms);
        }
    }

    /// Looks at a channel that lags. Returns whether it is to be looked at again.
    pub(in crate::shard) fn look(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let limit = context.config.limits.outbound_queue_bytes;
        let now_ms = context.now.mono_ms;
        let Some(lagging) = self.lagging(slot) else {
            self.end_lag(slot, connections, context);
            return false;
        };
        let (course, told) = (lagging.course, lagging.told);
        let mut kept = lagging.kept.iter();
        let is_join_kept = kept.any(|it| !matches!(it, Kept::Publication { .. }));
        let is_alone = lagging
            .alone_since_ms
            .is_some_and(|since_ms| now_ms >= since_ms + ALONE_MS_MAX);
        match course {
            Course::GivenUp { until_ms } if now_ms < until_ms => return true,
            Course::GivenUp { .. } => {
                self.end_lag(slot, connections, context);
                return false;
            }
            Course::Lags { since_ms } if is_alone || now_ms >= since_ms + LAG_MS_MAX => {
                self.give_up(slot, connections, context);
                return true;
            }
            Course::Lags { .. } => {}
        }
        let mut progress = self.progress(slot, connections, context);
        // The snapshot that is waited for may stand in the line, or come after what does.
        progress.lateness.full_join &= !is_join_kept;
        if progress.is_lag(context.tuning.lag_members_min) {
            if progress != told
                && let Some(lagging) = self.lagging(slot)
            {
                lagging.told = progress;
                let channel = lagging.channel.clone();
                self.tell_lag(&channel, progress, connections, context);
            }
            return true;
        }
        let is_all = self.follow(slot, limit / FOLLOWS_SHARE, connections, context);
        if is_all {
            self.end_lag(slot, connections, context);
        }
        !is_all
    }

    /// Forgets a channel that lags no longer, or does not exist any more.
    fn end_lag(&mut self, slot: ChannelSlot, connections: &mut Connections, context: &mut Context) {
        let Some(lagging) = self.pressure.lags.here.remove(&slot) else {
            return;
        };
        debug_assert!(lagging.kept.is_empty(), "members do not get what was kept");
        if let Course::Lags { .. } = lagging.course {
            self.tell_lag(&lagging.channel, Progress::default(), connections, context);
        }
    }

    /// Gives a channel up: its publishers go on, and what is kept is delivered.
    fn give_up(&mut self, slot: ChannelSlot, connections: &mut Connections, context: &mut Context) {
        let until_ms = context.now.mono_ms + REST_MS;
        if let Some(lagging) = self.lagging(slot) {
            lagging.course = Course::GivenUp { until_ms };
            let channel = lagging.channel.clone();
            self.tell_lag(&channel, Progress::default(), connections, context);
        }
        self.follow(slot, usize::MAX, connections, context);
    }

    /// Panics unless the sums, the order and the channels of what is kept agree.
    pub(in crate::shard) fn check_lags(&self, context: &Context) {
        let lags = &self.pressure.lags;
        let kept = lags.here.values().flat_map(|it| &it.kept);
        let kept: usize = kept.map(Kept::bytes).sum();
        assert_eq!(kept, lags.kept_bytes, "what is kept");
        let limit = context.config.limits.outbound_queue_bytes;
        assert!(kept <= KEPT_LIMITS_IN_ALL * limit, "too much is kept");
        let mut order: Vec<ChannelSlot> = lags.order.iter().copied().collect();
        order.sort_unstable();
        assert!(order.iter().eq(lags.here.keys()), "who is looked at");
        assert!(lags.here.is_empty() || lags.look_ms.is_some());
        for (slot, lagging) in &lags.here {
            let channel = self.get(*slot);
            let has_members = channel.is_some_and(|it| {
                !it.members.is_empty() && SharedChannel::ptr_eq(&it.key, &lagging.channel)
            });
            assert!(
                lagging.kept.is_empty() || has_members,
                "kept for a channel that nobody is a member of"
            );
        }
    }

    /// Whether a channel lags here or is given up.
    #[cfg(test)]
    pub(super) fn has_lags(&self) -> bool {
        !self.pressure.lags.here.is_empty()
    }
}
