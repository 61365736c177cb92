//! Channels most of whose members read more slowly than is published: at home.
//!
//! A member is *late* while its socket has no room and more than a quarter of what may wait for
//! it does. It *moves* as long as its socket took something within [`MOVES_MS`]. A channel *lags*
//! while more than half of its members move and are late, where those who do not move are not
//! counted. Then its publishers wait, wherever they are, see [`hold`](super::hold). What was on
//! its way meanwhile is kept once for all members of a shard, so that nobody who reads is closed
//! for it, and follows when there is room.
//!
//! So a few slow members slow nobody, and nobody waits for who does not read: they are closed at
//! the limit. Nobody waits for ever either: after [`LAG_MS_MAX`] a channel is given up for
//! [`REST_MS`], and its members are closed at the limit like others. Channels with fewer members
//! on this shard than [`Tuning::lag_members_min`](crate::shard::tuning::Tuning) do not lag.

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

/// How long a member moves that takes nothing, in milliseconds. A peer's kernel makes room in
/// steps of some hundred kilobytes where it has large buffers.
const MOVES_MS: u64 = 3_000;
/// How long a channel may lag, in milliseconds.
const LAG_MS_MAX: u64 = 10_000;
/// How long a channel is given up that has lagged for so long.
const REST_MS: u64 = 10_000;
/// How long a home keeps publications that nobody is held back for: members of other homes may
/// be a little less late.
const ALONE_MS_MAX: u64 = 1_000;

/// How many channels are looked at together.
const LOOKS_MAX: usize = 32;
/// How many members stand for all of a channel's.
const SAMPLE_MAX: usize = 512;
/// What is kept for a channel's members at most, in limits for one connection.
const KEPT_LIMITS: usize = 4;
/// The same for all channels of the shard.
const KEPT_LIMITS_IN_ALL: usize = 16;
/// The share of that limit that follows between two looks.
const FOLLOWS_SHARE: usize = 8;

/// How members took what they got together.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Fed {
    /// What the one with the longest queue has not been offered, in bytes.
    pub(super) longest: usize,
    /// How many are late, whether they move or not.
    pub(super) late: usize,
}

impl Fed {
    /// Notes a member that got its part; it is late if more than so many bytes wait for it.
    #[inline]
    pub(in crate::shard) fn note(&mut self, connection: &Connection, late_bytes: usize) {
        self.longest = self.longest.max(connection.unoffered_bytes());
        self.late += usize::from(connection.is_late(late_bytes));
    }
}

impl Connection {
    /// Whether its socket has no room and more than so many bytes wait for it.
    #[inline]
    fn is_late(&self, late_bytes: usize) -> bool {
        self.blocked.is_blocked() && self.outbox.delivery_bytes() > late_bytes
    }
}

impl Context {
    /// From how many bytes on that wait for it a member is late.
    pub(in crate::shard) fn late_bytes(&self) -> usize {
        self.config.limits.outbound_queue_bytes / self.tuning.late_share
    }
}

impl Channels {
    /// Members of a channel got their parts of something.
    pub(in crate::shard) fn note_fed(
        &mut self,
        slot: ChannelSlot,
        fed: Fed,
        context: &mut Context,
    ) {
        self.note_longest(slot, fed.longest, context);
        if fed.late > 0
            && let Some(channel) = self.get(slot)
            && 2 * fed.late > channel.members.len()
        {
            self.pressure.lags.suspects.push(slot);
        }
    }

    /// Looks at the channels most of whose members were found late in this turn.
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

    /// What is known of a channel that lags here. The slot may have another channel by now.
    fn lagging(&mut self, slot: ChannelSlot) -> Option<&mut Lagging> {
        let key = self.get(slot).map(|it| it.key.clone())?;
        let lagging = self.pressure.lags.here.get_mut(&slot)?;
        SharedChannel::ptr_eq(&key, &lagging.channel).then_some(lagging)
    }

    /// A channel lags from now on, if it does.
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

    /// How the members of a channel come along, by some of them.
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
        for member in channel.members.iter().step_by(step) {
            progress.members += step as u32;
            let connection = connections.at_slot(member.connection_slot);
            match connection.filter(|it| it.is_late(late_bytes)) {
                Some(it) if it.blocked.ends_ms(MOVES_MS) > now_ms => progress.late += step as u32,
                Some(_) => progress.stuck += step as u32,
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
            late: progress.late,
            stuck: progress.stuck,
        };
        if owner == context.id() {
            self.owner_lag(owner, lag, connections, context);
        } else {
            let lag = MeshMessage::Lag(Box::new(lag));
            context.effects.send(owner, lag);
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
        !self.pressure.lags.here.is_empty() && self.lags(slot, connections, context)
    }

    #[cold]
    pub(in crate::shard) fn lags(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        if self.lagging(slot).is_none() {
            // Those who are late in one channel are in others too.
            let turn = self.pressure.turn;
            match self.get_mut(slot) {
                Some(channel) if channel.unoffered.looked != Some(turn) => {
                    channel.unoffered.looked = Some(turn);
                }
                _ => return false,
            }
            self.begin_lag(slot, connections, context);
        }
        let lagging = self.lagging(slot);
        lagging.is_some_and(|it| matches!(it.course, Course::Lags { .. }))
    }

    /// Keeps a publication for the members of a channel that lags here.
    #[cold]
    pub(in crate::shard) fn keep(
        &mut self,
        slot: ChannelSlot,
        (plain, with_metadata): (&[u8], Option<&[u8]>),
        except: Option<ConnectionId>,
        times: PublishedAt,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let kept = Kept {
            plain: plain.into(),
            with_metadata: with_metadata.map(Frame::from),
            except,
            times,
        };
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

    /// What comes next in a channel's order must not overtake what is kept for its members.
    #[inline]
    pub(in crate::shard) fn release_kept(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if self.pressure.lags.kept_bytes > 0 {
            self.follow(slot, usize::MAX, connections, context);
        }
    }

    /// As [`release_kept`](Self::release_kept), by the channel's name.
    #[inline]
    pub(in crate::shard) fn release_kept_of(
        &mut self,
        channel: &SharedChannel,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if self.pressure.lags.kept_bytes > 0
            && let Some(slot) = self.find_key(channel)
        {
            self.release_kept(slot, connections, context);
        }
    }

    /// Delivers what is kept for a channel's members, until it is that many bytes. Returns
    /// whether that was all.
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
            let frames = (&kept.plain[..], kept.with_metadata.as_deref());
            self.deliver_now(slot, frames, kept.except, kept.times, connections, context);
        }
        self.lagging(slot).is_none_or(|it| it.kept.is_empty())
    }

    /// The owner of a channel holds its publishers back, or does not.
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

    /// When channels that lag are looked at next.
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
        let progress = self.progress(slot, connections, context);
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

    /// A channel lags no longer, or is no more.
    fn end_lag(&mut self, slot: ChannelSlot, connections: &mut Connections, context: &mut Context) {
        let Some(lagging) = self.pressure.lags.here.remove(&slot) else {
            return;
        };
        let kept: usize = lagging.kept.iter().map(Kept::bytes).sum();
        self.pressure.lags.kept_bytes -= kept;
        if let Course::Lags { .. } = lagging.course {
            self.tell_lag(&lagging.channel, Progress::default(), connections, context);
        }
    }

    /// Nobody waits for the members of a channel any longer.
    fn give_up(&mut self, slot: ChannelSlot, connections: &mut Connections, context: &mut Context) {
        let until_ms = context.now.mono_ms + REST_MS;
        if let Some(lagging) = self.lagging(slot) {
            lagging.course = Course::GivenUp { until_ms };
            let channel = lagging.channel.clone();
            self.tell_lag(&channel, Progress::default(), connections, context);
        }
        self.follow(slot, usize::MAX, connections, context);
    }

    /// Panics unless what is known of channels that lag agrees.
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
    }

    /// Whether a channel lags here, or rests after that.
    #[cfg(test)]
    pub(super) fn has_lags(&self) -> bool {
        !self.pressure.lags.here.is_empty()
    }
}
