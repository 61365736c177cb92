//! A publisher waits for a channel's flush before the channel's readers are closed as slow.
//!
//! A wide fan-out takes many turns. What is published meanwhile waits in the members' queues,
//! although all of them read. So the input of a publisher is held when its channel has too much
//! that no socket has been offered; the same holds for the sender of a direct message and its
//! receiver. The input goes on when all that was queued by then has been offered to its socket
//! once. What a socket then does not take makes its connection slow. Other shards are told to
//! hold what they send here. A message in pieces and a REST request cannot wait in the input, and
//! are put off instead. A channel holds its publishers longer while most of its members read more
//! slowly than is published: see `lag`.
//!
//! Always true: at the end of a turn no connection has more than the limit queued, see
//! [`check_queued`](crate::shard::state::Shard::check_queued).

mod hold;
pub(in crate::shard) mod lag;

use crate::ids::{ConnectionId, Seat, ShardId};
use crate::proto::wire::command::{Command, Request};
use crate::proto::ws::frame::Header;
use crate::shard::channel::channels::Channels;
use crate::shard::channel::pressure::Waiting;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase};
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::mesh_message::MeshMessage;

/// The divisor of a connection's limit that gives the bytes which a channel may have to offer
/// before its publishers wait. They are more than a turn reads, so that ordinary bursts coalesce.
const UNOFFERED_SHARE: usize = 4;
/// The divisor of the same limit that gives the bytes of all publications of one turn.
const TURN_SHARE: usize = 2;

impl Context {
    pub(in crate::shard) fn unoffered_max(&self) -> usize {
        self.config.limits.outbound_queue_bytes / UNOFFERED_SHARE
    }

    fn turn_bytes_max(&self) -> usize {
        self.config.limits.outbound_queue_bytes / TURN_SHARE
    }
}

impl Channels {
    /// Notes a publication of `count` bytes for a channel's members on this shard.
    #[inline]
    pub(in crate::shard) fn note_publication(
        &mut self,
        slot: ChannelSlot,
        count: usize,
        context: &mut Context,
    ) {
        let unoffered_max = context.unoffered_max();
        self.pressure.turn_bytes += count;
        let (turn, offered) = (self.pressure.turn, self.pressure.offered);
        if let Some(channel) = self.get_mut(slot) {
            let unoffered = channel.unoffered.add(count, turn, offered);
            if unoffered > unoffered_max {
                self.pressure.press(unoffered, unoffered_max);
            }
        }
    }

    /// Notes the most bytes that a member of the channel has queued and has not been offered.
    fn note_longest(&mut self, slot: ChannelSlot, count: usize, context: &mut Context) {
        let unoffered_max = context.unoffered_max();
        let turn = self.pressure.turn;
        if count > unoffered_max
            && let Some(channel) = self.get_mut(slot)
        {
            channel.unoffered.longest = (turn, count as u32);
            self.pressure.press(count, unoffered_max);
        }
    }

    /// Of what another process has handed over, much may wait that no socket has been offered:
    /// publishers wait for that as they did before.
    pub(in crate::shard) fn press_again(
        &mut self,
        connections: &Connections,
        context: &mut Context,
    ) {
        for connection in connections.iter() {
            let count = connection.unoffered_bytes();
            let session = connection.session().filter(|_| count > 0);
            for membership in session.iter().flat_map(|it| &it.memberships) {
                self.note_longest(membership.channel, count, context);
            }
        }
        self.pressure.watch();
    }

    /// Notes that a direct message was queued to a connection.
    pub(in crate::shard) fn note_direct(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let unoffered_max = context.unoffered_max();
        let connection = connections.get(id);
        let unoffered = connection.map_or(0, Connection::unoffered_bytes);
        if unoffered > unoffered_max {
            self.pressure.press(unoffered, unoffered_max);
        }
    }

    /// Whether a message is a publication that has to wait. It stays in the input then.
    #[inline]
    pub(in crate::shard) fn must_wait(
        &mut self,
        id: ConnectionId,
        text: &str,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        (self.is_pressed(context) || self.pressure.holds.any())
            && self.hold_publication(id, text, connections, context)
    }

    /// Whether publications to some channel of this shard have to wait.
    #[inline]
    pub(in crate::shard) fn is_pressed(&self, context: &Context) -> bool {
        let is_tight = self.pressure.is_open(self.pressure.tight);
        is_tight || self.pressure.turn_bytes > context.turn_bytes_max()
    }

    #[cold]
    fn hold_publication(
        &mut self,
        id: ConnectionId,
        text: &str,
        connections: &mut Connections,
        context: &mut Context,
    ) -> bool {
        let Some(session) = connections.session(id) else {
            return false;
        };
        let Ok(Request {
            command: Command::Publish { channel, .. },
            ..
        }) = Request::parse(text)
        else {
            return false;
        };
        let app = session.key.app.id.tag();
        let hash = context.placement.channel_hash(app, &channel);
        if self.is_held(hash, context) {
            self.wait_in_line(hash, id, connections);
            return true;
        }
        if context.placement.owner(hash) != context.id() {
            return false;
        }
        let channel = self.find(hash, &app, &channel);
        let Some(channel) = channel.and_then(|slot| self.get(slot)) else {
            return false;
        };
        let unoffered = channel.unoffered.bytes(self.pressure.offered);
        if unoffered > context.unoffered_max() {
            self.wait_for_offer(id, connections);
            return true;
        }
        let is_turn_full = self.pressure.turn_bytes > context.turn_bytes_max();
        if is_turn_full && let Some(connection) = connections.get_mut(id) {
            connection.held.add(Held::FAN_OUT);
            self.pressure.next_turn.push(id);
        }
        is_turn_full
    }

    /// Holds a connection's input until all that is queued now has been offered.
    fn wait_for_offer(&mut self, id: ConnectionId, connections: &mut Connections) {
        if let Some(connection) = connections.get_mut(id)
            && let Phase::Http(_) | Phase::Registering(_) | Phase::Open(_) = connection.phase
            && !connection.held.has(Held::FAN_OUT)
        {
            connection.held.add(Held::FAN_OUT);
            let turn = self.pressure.turn;
            let input = Waiting::Input(id);
            self.pressure.waiting.push_back((turn, input));
        }
    }

    /// Whether a publication to a channel that this shard owns has to be put off.
    #[inline]
    pub(in crate::shard) fn is_to_be_put_off(&self, slot: ChannelSlot, context: &Context) -> bool {
        self.is_pressed(context) && self.has_much_to_offer(slot, context.unoffered_max(), context)
    }

    #[cold]
    pub(in crate::shard) fn has_much_to_offer(
        &self,
        slot: ChannelSlot,
        unoffered_max: usize,
        context: &Context,
    ) -> bool {
        let channel = self.get(slot);
        let offered = self.pressure.offered;
        channel.is_some_and(|it| it.unoffered.bytes(offered) > unoffered_max)
            || self.pressure.turn_bytes > context.turn_bytes_max()
    }

    /// Puts off a message that a connection of this shard has sent, and holds its input.
    #[cold]
    pub(in crate::shard) fn put_off(
        &mut self,
        message: MeshMessage,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        if let Some(id) = sender_of(&message, context.id())
            && let Some(connection) = connections.get_mut(id)
            && let Phase::Open(_) = connection.phase
        {
            connection.held.add(Held::FAN_OUT);
        }
        let turn = self.pressure.turn;
        match &message {
            MeshMessage::Publish(publish) if self.is_held(publish.channel.hash, context) => {
                self.put_in_line(publish.channel.hash, Waiting::Message(message));
            }
            _ => {
                let message = Waiting::Message(message);
                self.pressure.waiting.push_back((turn, message));
            }
        }
    }

    /// Holds a connection's input if its messages since `watch_links` have queued more than may
    /// wait.
    #[inline]
    pub(in crate::shard) fn hold_if_pressed(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
    ) {
        if self.pressure.fed {
            self.pressure.fed = false;
            self.wait_for_offer(id, connections);
        }
    }

    /// Tells all shards to hold what they send here, if messages of one of them have queued more
    /// than may wait.
    #[inline]
    pub(in crate::shard) fn throttle_if_pressed(&mut self, context: &mut Context) {
        if self.pressure.fed {
            self.pressure.fed = false;
            self.pressure.overfed = Some(self.pressure.turn);
            self.tell_throttle(context);
        }
    }

    /// Ends the turn, when its inputs have been handled.
    pub(in crate::shard) fn end_pressure_turn(
        &mut self,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.pressure.turn = self.pressure.turn.wrapping_add(1);
        self.pressure.turn_bytes = 0;
        for id in std::mem::take(&mut self.pressure.next_turn) {
            connections.release_input(id, Held::FAN_OUT);
        }
        self.look_at_suspects(connections, context);
    }

    /// From here on, what is sent and queued counts for one connection.
    pub(in crate::shard) fn watch_links(&mut self, context: &mut Context) {
        context.links.watch();
        self.pressure.watch();
    }

    /// Holds a connection's input if a blocked link was fed since
    /// [`watch_links`](Self::watch_links). What other shards send through this one is held there,
    /// by `Throttle`.
    pub(in crate::shard) fn hold_if_link_blocked(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        self.hold_if_pressed(id, connections);
        if context.links.has_fed_blocked()
            && let Some(connection) = connections.get_mut(id)
            && let Phase::Http(_) | Phase::Registering(_) | Phase::Open(_) = connection.phase
        {
            connection.held.add(Held::LINK);
            context.links.hold(id);
        }
    }

    pub(in crate::shard) fn link(
        &mut self,
        to: ShardId,
        over_limit: bool,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        context.links.set_over_limit(to, over_limit);
        self.tell_throttle(context);
        connections.resume_after_links(context);
    }

    /// Tells the other shards whether to hold what they send here, if that has changed.
    pub(in crate::shard) fn tell_throttle(&mut self, context: &mut Context) {
        let is_overfed = self.pressure.is_overfed();
        if let Some(throttle) = context.links.throttle_to_tell(is_overfed) {
            context.send_to_others(|| MeshMessage::Throttle {
                throttled: throttle,
            });
        }
    }
}

/// The connection of this shard that sent a message over its WebSocket.
pub(in crate::shard) fn sender_of(message: &MeshMessage, here: Seat) -> Option<ConnectionId> {
    let sender = match message {
        MeshMessage::Publish(publish) => publish.from.connection,
        MeshMessage::Send(send) => Some(send.sender),
        _ => None,
    };
    let sender = sender.filter(|sender| sender.home == here)?;
    Some(sender.connection)
}

/// Makes a frame readable again after its payload has been unmasked in place.
pub(in crate::shard) fn unread(frame: &mut [u8]) {
    if let Ok(Some((header, header_bytes))) = Header::decode(frame)
        && header.mask.is_some()
    {
        // The key is the end of the header (RFC 6455, section 5.2); with zeroes it changes
        // nothing.
        frame[header_bytes - 4..header_bytes].fill(0);
    }
}

#[cfg(test)]
mod net;
#[cfg(test)]
mod slow_members;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod two_shards;
