//! Direct messages, and the registry of peers that finds their receivers.
//!
//! A `send` goes from the sender's home to the owner of the receiving peer, from there to every
//! home where that peer has connections, and from each of those a result goes back to the
//! sender's home, which acks when the first part was delivered and answers `peer_not_found`
//! when none was. Where the app asks for a common channel, `shard/channel/scope.rs` comes first.

use smallvec::SmallVec;

use crate::domain::channel::ReplyTo;
use crate::ids::{ConnectionId, ConnectionRef, ShardId};
use crate::proto::wire::error::ErrorCode;
use crate::shard::bounds::Asked;
use crate::shard::mesh_message::{Direct, DirectResult, MeshMessage, Register, Send};
use crate::shard::state::Shard;

/// A `send` whose results are awaited, on the sender's home shard.
#[derive(Debug)]
pub(in crate::shard) struct PendingSend {
    sender: ConnectionId,
    reply_to: ReplyTo,
    results: u16,
    delivered: bool,
}

type ByHome = SmallVec<[(ShardId, SmallVec<[ConnectionId; 1]>); 1]>;

impl Shard {
    pub(in crate::shard) fn peer_register(&mut self, register: &Register) {
        self.peers
            .register(register.app, &register.peer, register.connection);
        let ConnectionRef { shard, connection } = register.connection;
        let registered = MeshMessage::Registered(connection, register.began_ns);
        self.context.send(shard, registered);
    }

    /// Begins a `send` on the sender's home shard and answers its number.
    pub(in crate::shard) fn begin_send(&mut self, sender: ConnectionId, reply_to: ReplyTo) -> u64 {
        let number = self.context.operation();
        let pending = PendingSend {
            sender,
            reply_to,
            results: 0,
            delivered: false,
        };
        self.sends.insert(number, pending);
        number
    }

    /// Hands a `send` to the receiving peer's owner.
    pub(in crate::shard) fn send_to_peer(&mut self, send: Send) {
        let owner = self.context.placement.peer_owner(send.app, &send.to);
        self.context.send(owner, MeshMessage::Send(Box::new(send)));
    }

    /// A `send` at the receiving peer's owner.
    pub(in crate::shard) fn peer_send(&mut self, send: Send) {
        if self.is_send_to_be_put_off(&send) {
            return self.put_off(MeshMessage::Send(Box::new(send)));
        }
        let homes = self.homes_of(&send);
        if homes.is_empty() {
            return self.send_failed(&send);
        }
        self.direct(&send, homes);
    }

    fn direct(&mut self, send: &Send, homes: ByHome) {
        let parts = homes.len() as u16;
        for (home, connections) in homes {
            let direct = Direct {
                connections,
                frame: send.frame.clone(),
                sender: send.sender,
                send: send.send,
                parts,
                read_ns: send.read_ns,
            };
            self.context
                .send(home, MeshMessage::Direct(Box::new(direct)));
        }
    }

    pub(in crate::shard) fn send_failed(&mut self, send: &Send) {
        let result = DirectResult {
            send: send.send,
            parts: 1,
            delivered: false,
        };
        self.context
            .send(send.sender.shard, MeshMessage::DirectResult(result));
    }

    /// The receiver's connections by home shard, without the sending one.
    fn homes_of(&self, send: &Send) -> ByHome {
        let mut homes = ByHome::new();
        for to in self.peers.connections(send.app, &send.to) {
            if *to == send.sender {
                continue;
            }
            match homes.iter_mut().find(|(home, _)| *home == to.shard) {
                Some((_, connections)) => connections.push(to.connection),
                None => homes.push((to.shard, SmallVec::from_buf([to.connection]))),
            }
        }
        homes
    }

    pub(in crate::shard) fn home_direct(&mut self, direct: &Direct) {
        let mut delivered = false;
        for id in &direct.connections {
            delivered |= self.deliver_direct(*id, &direct.frame, direct.read_ns);
        }
        let result = DirectResult {
            send: direct.send,
            parts: direct.parts,
            delivered,
        };
        self.context
            .send(direct.sender.shard, MeshMessage::DirectResult(result));
    }

    pub(in crate::shard) fn direct_result(&mut self, result: DirectResult) {
        let Some(pending) = self.sends.get_mut(&result.send) else {
            return;
        };
        pending.results += 1;
        let first_delivery = result.delivered && !pending.delivered;
        pending.delivered |= result.delivered;
        let failed = pending.results == result.parts && !pending.delivered;
        let sender = pending.sender;
        let reply_to = match first_delivery || failed {
            true => std::mem::take(&mut pending.reply_to),
            false => ReplyTo::default(),
        };
        if pending.results == result.parts {
            self.sends.remove(&result.send);
        }
        if first_delivery || failed {
            self.awaited_reply(sender, Asked::Message, reply_to.id());
        }
        if failed {
            self.error(
                sender,
                (reply_to.id(), reply_to.read_ns),
                ErrorCode::PeerNotFound,
                None,
            );
        } else if first_delivery {
            self.ack(sender, &reply_to);
        }
    }
}
