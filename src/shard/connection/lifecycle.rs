//! From accept to the end of the socket.

use std::net::IpAddr;

use crate::domain::peer::{SharedChannel, SharedPeer};
use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connections, Held, Phase};
use crate::shard::connection::input_buffer::InputBuffer;
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::context::Context;
use crate::shard::mesh_message::{Leave, LeaveCause, MeshMessage};
use crate::shard::outbound::outbox::Finish;

impl Connections {
    /// The peer is a proxy: another address is its client's.
    pub(in crate::shard) fn proxied(&mut self, id: ConnectionId, client: IpAddr) {
        if let Some(connection) = self.get_mut(id) {
            connection.remote = client;
        }
    }

    /// Ends the writing side after what is queued, and waits for the peer to end the stream too.
    pub(in crate::shard) fn linger(&mut self, id: ConnectionId, context: &mut Context) {
        let now_ms = self.peer_ms(context);
        let connection = &mut self[id];
        connection.input = InputBuffer::default();
        connection.phase = Phase::Lingering { until_ms: NEVER_MS };
        connection.begin_to_end(now_ms);
        connection.outbox.finish(Finish::ShutdownWrite);
        connection.mark_dirty(&mut context.effects);
        self.release_input(id, Held::ALL);
        self.arm(id, context);
    }
}

impl Context {
    /// Tells the owner of a channel that a connection is not in it any more; nobody waits for
    /// that.
    pub(in crate::shard) fn leave_silently(
        &mut self,
        id: ConnectionId,
        peer: SharedPeer,
        channel: SharedChannel,
        cause: LeaveCause,
    ) {
        let owner = self.placement.owner(channel.hash);
        let leave = Leave {
            channel,
            connection: self.here(id),
            peer,
            cause,
        };
        self.send(owner, MeshMessage::Leave(Box::new(leave)));
    }
}
