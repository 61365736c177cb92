//! `DELETE /v1/peers/:id`, as a request.

use crate::proto::http::target::percent_decode;
use crate::proto::wire::name::validate_peer_id;
use crate::shard::connection::connections::Connections;
use crate::shard::connection::refusal::Refusal;
use crate::shard::context::Context;
use crate::shard::mesh_message::{Kick, MeshMessage};
use crate::shard::questions::{Caller, PendingAnswer};
use crate::shard::rest::Served;

impl Connections {
    pub(in crate::shard) fn kick_peer(
        &mut self,
        caller: &Caller,
        raw_id: &str,
        context: &mut Context,
    ) -> Result<Served, Refusal> {
        let peer = percent_decode(raw_id)?;
        if validate_peer_id(&peer).is_err() {
            return Err(Refusal::invalid(
                "the peer id in the path must be 1 to 128 printable ASCII characters",
            ));
        }
        let app = caller.key.app.id.tag();
        let owner = context.placement.peer_owner(app, &peer);
        let peer: Box<str> = peer.into();
        let answer = PendingAnswer::Kicked {
            peer_id: peer.clone(),
        };
        let request = self.wait(caller, answer, owner, context);
        let kick = Kick { app, peer, request };
        context.send(owner, MeshMessage::Kick(Box::new(kick)));
        Ok(Served::Later)
    }
}
