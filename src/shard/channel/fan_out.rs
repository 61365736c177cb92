//! Fan-out on a home shard: what a channel's members are sent is kept once for all of them.
//!
//! A publication, or a presence change that all members want, is appended to its channel's
//! `FanOutBuffer`, whatever the number of members. When the turn ends, every member that has not
//! got all of it borrows the rest: its socket is written from the buffer itself. A member that is
//! sent other things as well, or whose socket took less, gets the rest into its own outbox, where
//! the order and the bounds of all frames hold: small frames as a copy, large ones as a reference
//! to one copy for all.
//!
//! What must not overtake a channel's publications, or be overtaken by them, has them copied out
//! first: presence for some, variants with `fromMetadata`, direct messages, the end of a
//! membership.
//! A bare `ack` may overtake what others published, but not what was ordered before it.
//!
//! Always true, see `LocalChannel::check_fan_out`: the buffer counts the members whose position is
//! not its end. A member that is not behind is not borrowing.

use std::mem;

use crate::ids::ConnectionId;
use crate::planted::{Bug, planted};
use crate::shard::channel::back_pressure::lag::Fed;
use crate::shard::channel::channels::{Channels, LocalChannel, Member};
use crate::shard::connection::connections::{Connection, Connections, Phase};
use crate::shard::context::Context;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::outbound::outbox::BufferPool;

/// Bytes in one channel's buffer at which the members that are behind get copies. Reached when
/// a channel fills faster than its members are flushed; then coalescing is at its best anyway.
const BUFFER_BYTES_MAX: usize = 128 * 1_024;

/// Members of a channel up to which all of them are checked after each change.
const CHECKED_MEMBERS_MAX: usize = 64;

/// Up to how many members of a channel are flushed without holding anybody up: 128 sends take 0.4
/// ms, and rooms of about a hundred are ordinary.
const NARROW_MEMBERS_MAX: usize = 128;

impl LocalChannel {
    /// What the member at a place has not been sent.
    #[inline]
    pub(in crate::shard) fn unsent(&self, place: usize) -> &[u8] {
        let member = self.members.get(place);
        member.map_or(&[], |member| self.fan_out.from(member.sent_to))
    }

    fn is_wide(&self) -> bool {
        self.members.len() > NARROW_MEMBERS_MAX
    }

    /// How soon its publications are to be written.
    #[inline]
    pub(in crate::shard) fn urgency(&self) -> Urgency {
        match self.is_wide() {
            true => Urgency::Wide,
            false => Urgency::Live,
        }
    }

    /// Panics unless what the top of this file says is true.
    pub(in crate::shard) fn check_fan_out(&self) {
        let buffer = &self.fan_out;
        let places = 0..self.members.len();
        let behind = places.filter(|place| !self.unsent(*place).is_empty());
        assert_eq!(behind.count(), buffer.behind() as usize, "members behind");
        buffer.check(self.members.iter().map(|member| member.sent_to));
    }

    /// The same after a change, in debug builds and where it reads only a few members.
    #[inline]
    pub(in crate::shard) fn debug_check(&self) {
        if cfg!(debug_assertions) && self.members.len() <= CHECKED_MEMBERS_MAX {
            self.check_fan_out();
        }
    }

    /// The member at a place has been sent everything, or needs it no longer.
    fn catch_up(&mut self, place: usize, pool: &mut BufferPool) {
        let end = self.fan_out.end();
        if let Some(member) = self.members.get_mut(place)
            && mem::replace(&mut member.sent_to, end) != end
        {
            self.fan_out.caught_up(pool);
        }
        self.debug_check();
    }
}

impl Connection {
    /// Where it stands among the members of a channel.
    pub(in crate::shard) fn place_in(&self, channel: ChannelSlot) -> Option<usize> {
        let mut memberships = self.session()?.memberships.iter();
        let membership = memberships.find(|membership| membership.channel == channel)?;
        Some(membership.index as usize)
    }
}

impl Channels {
    /// Appends a publication for all members of a channel on this shard but one. Returns for how
    /// many.
    pub(in crate::shard) fn share_publication(
        &mut self,
        slot: ChannelSlot,
        frame: &[u8],
        except: Option<ConnectionId>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> usize {
        let members = self.share(slot, frame, except, connections, context);
        if members > 0
            && let Some(channel) = self.get_mut(slot)
        {
            channel.fan_out.note_publication();
        }
        members
    }

    /// Appends a frame for all members of a channel on this shard but one. Returns for how
    /// many.
    pub(in crate::shard) fn share(
        &mut self,
        slot: ChannelSlot,
        frame: &[u8],
        except: Option<ConnectionId>,
        connections: &mut Connections,
        context: &mut Context,
    ) -> usize {
        let except = except
            .and_then(|id| connections.get(id)?.place_in(slot))
            .inspect(|place| self.copy_out_member(slot, *place, connections, context));
        let Some(channel) = self.get(slot) else {
            return 0;
        };
        let members = channel.members.len() - usize::from(except.is_some());
        let buffered = channel.fan_out.len();
        if members == 0 {
            return 0;
        }
        if buffered > 0 && buffered + frame.len() > BUFFER_BYTES_MAX {
            self.copy_out_channel(slot, connections, context);
        }
        let Some(channel) = self.get_mut(slot) else {
            return 0;
        };
        let buffer = &mut channel.fan_out;
        let is_first = buffer.append(frame, members as u32, &mut context.pool);
        let end = buffer.end();
        if let Some(member) = except.and_then(|place| channel.members.get_mut(place)) {
            member.sent_to = end;
        }
        channel.debug_check();
        if is_first {
            self.grown.push(slot);
        }
        members
    }

    /// At the end of the turn: members that are behind are to be flushed.
    pub(in crate::shard) fn lend_buffers(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let mut grown = mem::take(&mut self.grown);
        for slot in grown.drain(..) {
            self.lend_buffer(slot, connections, context);
        }
        self.grown = grown;
    }

    fn lend_buffer(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let mut urgency = Urgency::Reply;
        if let Some(channel) = self.get_mut(slot)
            && (channel.fan_out.end_turn() || channel.is_wide())
        {
            urgency = channel.urgency();
        }
        self.lend(slot, urgency, connections, context);
        self.release(slot);
    }

    pub(in crate::shard) fn lend(
        &mut self,
        slot: ChannelSlot,
        urgency: Urgency,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let late_bytes = context.late_bytes();
        let limit = context.delivery_bytes_max();
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        let end = channel.fan_out.end();
        let (mut copied, mut fed) = (0, Fed::default());
        for member in &mut channel.members {
            if member.sent_to == end {
                continue;
            }
            let connection = connections.member_mut(member.connection_slot);
            if connection.is_unreachable {
                connection.borrows.take_if(|borrowed| *borrowed == slot);
                member.sent_to = end;
                copied += 1;
                continue;
            }
            let unsent = end.wrapping_sub(member.sent_to);
            if !member.waits
                && connection.borrows.is_none_or(|other| other == slot)
                && connection.outbox.is_empty()
                && unsent as usize <= limit
            {
                connection.borrows = Some(slot);
                connection.lent_bytes = unsent;
                connection.mark(urgency, &mut context.effects);
                continue;
            }
            // What it was lent before goes along with the copy.
            connection.borrows.take_if(|borrowed| *borrowed == slot);
            let pieces = channel.fan_out.pieces(member.sent_to);
            let (waits, to) = (member.waits.then_some(slot), (limit, urgency));
            if !connection.deliver_or_hold(
                waits,
                &pieces,
                to,
                &mut context.pool,
                &mut context.effects,
            ) {
                context.slow.push(connection.id);
            }
            fed.note(connection, member.waits, late_bytes);
            member.sent_to = end;
            copied += 1;
        }
        for _ in 0..copied {
            channel.fan_out.caught_up(&mut context.pool);
        }
        channel.debug_check();
        self.note_fed(slot, fed, context);
    }

    /// What the connection is lent, if its own outbox is empty.
    #[inline]
    pub(in crate::shard) fn borrowed(&self, connection: &Connection) -> &[u8] {
        connection
            .borrows
            .and_then(|slot| {
                let place = connection.place_in(slot)?;
                Some(self.get(slot)?.unsent(place))
            })
            .unwrap_or_default()
    }

    /// The first bytes of what a connection is lent have been written. It borrows no longer: what
    /// its socket did not take waits in its own outbox.
    pub(in crate::shard) fn borrowed_written(
        &mut self,
        id: ConnectionId,
        count: usize,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &mut connections[id];
        let Some(slot) = connection.borrows.take() else {
            return;
        };
        let Some(place) = connection.place_in(slot) else {
            return;
        };
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        if count < channel.unsent(place).len() {
            let pieces = channel.fan_out.pieces(channel.members[place].sent_to);
            let outbox = &mut connection.outbox;
            outbox.push_partly_written(&pieces, count, &mut context.pool);
        }
        channel.catch_up(place, &mut context.pool);
    }

    /// Appends a copy of what a connection is lent to its own outbox, so that both leave in
    /// one write.
    pub(in crate::shard) fn copy_out_borrowed(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let connection = &connections[id];
        if let Some(slot) = connection.borrows
            && let Some(place) = connection.place_in(slot)
        {
            self.copy_out_member(slot, place, connections, context);
        }
    }

    /// Puts all publications that a connection has not been sent into its outbox.
    pub(in crate::shard) fn copy_out_connection(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let Some(session) = connections[id].session() else {
            return;
        };
        if self.grown.is_empty() {
            return self.copy_out_borrowed(id, connections, context);
        }
        // Cloned: copying out changes connections, though not their memberships.
        for membership in session.memberships.clone() {
            self.copy_out_member(
                membership.channel,
                membership.index as usize,
                connections,
                context,
            );
        }
    }

    /// Puts what one member has not been sent into its outbox.
    pub(in crate::shard) fn copy_out_member(
        &mut self,
        slot: ChannelSlot,
        place: usize,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let limit = context.delivery_bytes_max();
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        if channel.unsent(place).is_empty() {
            return;
        }
        let urgency = channel.urgency();
        let Member {
            connection_slot,
            sent_to,
            waits,
            ..
        } = channel.members[place];
        let connection = connections.member_mut(connection_slot);
        let is_kept = planted(Bug::LoanOutlivesSession)
            && matches!(connection.phase, Phase::Lingering { .. });
        connection
            .borrows
            .take_if(|borrowed| *borrowed == slot && !is_kept);
        let pieces = channel.fan_out.pieces(sent_to);
        let (waits, to) = (waits.then_some(slot), (limit, urgency));
        if !connection.deliver_or_hold(waits, &pieces, to, &mut context.pool, &mut context.effects)
        {
            context.slow.push(connection.id);
        }
        drop(pieces);
        channel.catch_up(place, &mut context.pool);
    }

    /// Puts what the members of a channel have not been sent into their outboxes.
    pub(in crate::shard) fn copy_out_channel(
        &mut self,
        slot: ChannelSlot,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let places = match self.get(slot) {
            Some(channel) if channel.fan_out.behind() > 0 => channel.members.len(),
            _ => return,
        };
        for place in 0..places {
            self.copy_out_member(slot, place, connections, context);
        }
    }
}

#[cfg(test)]
mod tests;
