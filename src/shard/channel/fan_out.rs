//! Fan-out on a home shard: what a channel's members are sent is kept once for all of them.
//!
//! A publication, or a presence change that all members want, is appended to its channel's
//! `FanOutBuffer`, whatever the number of members.
//! When the turn ends, every member that has not got all of it borrows the rest: its socket is
//! written from the buffer itself. Only who has other things to be sent as well, or whose socket
//! took less, gets it into its own outbox, where order and bounds are those of all frames: a copy
//! of small frames, and a reference to one copy for all of large ones.
//!
//! What must not overtake a channel's publications, or must not be overtaken by them, settles
//! them first: presence for some, variants with `fromMetadata`, direct messages, the end of a
//! membership.
//! A bare `ack` may overtake what others published, but not what was ordered before it.
//!
//! Always true: `behind` counts the members whose position is not the buffer's end, and with
//! none the buffer is empty and owns no memory; a member that is not behind is not borrowing.

use std::mem;

use crate::ids::ConnectionId;
use crate::shard::channel::back_pressure::lag::Fed;
use crate::shard::channel::channels::{Channels, LocalChannel, Member};
use crate::shard::connection::connections::{Connection, Connections, Phase};
use crate::shard::context::Context;
use crate::shard::effect::{ChannelSlot, Urgency};
use crate::shard::outbound::outbox::BufferPool;

/// Bytes in one channel's buffer at which the members that are behind get copies. Reached when
/// a channel fills faster than its members are flushed; then coalescing is at its best anyway.
const BUFFER_BYTES_MAX: usize = 128 * 1_024;

/// Members of a channel whose flush holds up nobody: 128 sends take 0.4 ms, and rooms of about a
/// hundred are ordinary.
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
        assert_eq!(behind.count(), buffer.behind as usize, "members behind");
        assert_eq!(buffer.behind == 0, buffer.bytes.is_empty());
        assert!(buffer.behind > 0 || buffer.bytes.capacity() == 0);
        for member in &self.members {
            let at = member.sent_to.wrapping_sub(buffer.start) as usize;
            assert!(at <= buffer.bytes.len(), "a position outside the buffer");
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
    }
}

impl Connection {
    /// Where it stands among the members of a channel.
    pub(in crate::shard) fn place_in(&self, channel: ChannelSlot) -> Option<usize> {
        let Phase::Open(session) = &self.phase else {
            return None;
        };
        let mut memberships = session.memberships.iter();
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
            channel.fan_out.is_live = true;
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
        let buffered = channel.fan_out.bytes.len();
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
        if buffer.bytes.capacity() == 0 {
            buffer.bytes = context.pool.take(frame.len());
        }
        buffer.bytes.extend_from_slice(frame);
        buffer.behind = members as u32;
        let was_grown = mem::replace(&mut buffer.grown, true);
        let end = buffer.end();
        if let Some(member) = except.and_then(|place| channel.members.get_mut(place)) {
            member.sent_to = end;
        }
        if !was_grown {
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
        if let Some(channel) = self.get_mut(slot) {
            channel.fan_out.grown = false;
            if mem::take(&mut channel.fan_out.is_live) || channel.is_wide() {
                urgency = channel.urgency();
            }
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
        let limit = context.config.limits.outbound_queue_bytes;
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        let end = channel.fan_out.end();
        let (mut copied, mut fed) = (0, Fed::default());
        for member in &mut channel.members {
            if member.sent_to == end {
                continue;
            }
            let Some(connection) = connections.at_slot_mut(member.connection_slot) else {
                continue;
            };
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
            fed.note(connection, late_bytes);
            member.sent_to = end;
            copied += 1;
        }
        for _ in 0..copied {
            channel.fan_out.caught_up(&mut context.pool);
        }
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
        let Some((slot, place)) = connections.get_mut(id).and_then(|connection| {
            let slot = connection.borrows.take()?;
            Some((slot, connection.place_in(slot)?))
        }) else {
            return;
        };
        let Some(channel) = self.get_mut(slot) else {
            return;
        };
        if count < channel.unsent(place).len()
            && let Some(connection) = connections.get_mut(id)
        {
            let pieces = channel.fan_out.pieces(channel.members[place].sent_to);
            let outbox = &mut connection.outbox;
            outbox.push_partly_written(&pieces, count, &mut context.pool);
        }
        channel.catch_up(place, &mut context.pool);
    }

    /// Copies what a connection is lent behind what is in its own outbox, so that both leave in
    /// one write.
    pub(in crate::shard) fn copy_out_borrowed(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(connection) = connections.get(id)
            && let Some(slot) = connection.borrows
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
        let Some(session) = connections.session(id) else {
            return;
        };
        if self.grown.is_empty() {
            return self.copy_out_borrowed(id, connections, context);
        }
        // Copied: settling changes connections, though not their memberships.
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
        let limit = context.config.limits.outbound_queue_bytes;
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
        if let Some(connection) = connections.at_slot_mut(connection_slot) {
            connection.borrows.take_if(|borrowed| *borrowed == slot);
            let pieces = channel.fan_out.pieces(sent_to);
            let (waits, to) = (waits.then_some(slot), (limit, urgency));
            if !connection.deliver_or_hold(
                waits,
                &pieces,
                to,
                &mut context.pool,
                &mut context.effects,
            ) {
                context.slow.push(connection.id);
            }
        }
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
            Some(channel) if channel.fan_out.behind > 0 => channel.members.len(),
            _ => return,
        };
        for place in 0..places {
            self.copy_out_member(slot, place, connections, context);
        }
    }
}

#[cfg(test)]
mod tests;
