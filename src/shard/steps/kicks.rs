//! Kicked connections are closed a portion a turn.

use crate::events::kind::Cause;
use crate::ids::Seat;
use crate::proto::ws::close::CloseCode;
use crate::shard::connection::cost::LOOK;
use crate::shard::connection::ending::Goodbye;
use crate::shard::mesh_message::KickHere;
use crate::shard::portions::{KickWalk, Seats};
use crate::shard::state::Shard;

impl Shard {
    pub(in crate::shard) fn home_kick(&mut self, peer_owner: Seat, kick: KickHere) {
        self.portions.kicks.list.push_back(KickWalk {
            peer_owner,
            kick,
            at: 0,
            closed: 0,
            owners: Seats::new(),
        });
        self.advance_kicks();
    }

    /// Closes kicked connections, as many as this turn may.
    pub(in crate::shard) fn advance_kicks(&mut self) {
        while let Some(mut walk) = self.portions.kicks.list.pop_front() {
            if self.advance_kick(&mut walk) {
                self.connections.finish_kick(walk, &mut self.context);
            } else {
                self.portions.kicks.list.push_front(walk);
                return;
            }
        }
    }

    /// Returns whether all connections of the kick have been closed.
    pub(in crate::shard) fn advance_kick(&mut self, walk: &mut KickWalk) -> bool {
        while let Some(id) = walk.kick.connections.get(walk.at).copied() {
            if self.portions.kicks.left == 0 {
                return false;
            }
            walk.at += 1;
            let cost = self.connections.cost_of_end(id).unwrap_or(LOOK);
            self.portions.kicks.spend(cost);
            if self.channels.collect_channel_owners(
                id,
                &mut walk.owners,
                &self.connections,
                &self.context,
            ) {
                walk.closed += 1;
                let goodbye = Goodbye::of(Cause::Kicked, CloseCode::KICKED);
                self.channels
                    .close(id, &goodbye, &mut self.connections, &mut self.context);
            }
        }
        true
    }
}
