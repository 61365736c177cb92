//! Changed rights: connections follow their key and their app.
//!
//! New rights hold from the moment when the shard gets them: while connections are still being
//! walked through, each is looked at before its next command. The walk is there for those that
//! say nothing: they are closed too, and the runtime answers for the change when it is over.

use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::cost::LOOK;
use crate::shard::context::Context;
use crate::shard::portions::RightsWalk;
use crate::shard::state::Shard;

impl Shard {
    /// Rights hold from now on.
    pub(in crate::shard) fn switch_rights(&mut self, rights: Arc<Rights>) {
        self.context.rights = rights;
        // Leases were taken under the limits that held until now.
        self.context.usage.report(&mut self.context.effects.usage);
        let list = &mut self.portions.rights.list;
        let from = list.as_ref().map_or(0, |walk| walk.next_slot);
        *list = Some(RightsWalk::from(from));
        self.advance_rights();
    }

    /// Whether connections are left that have not been looked at since rights changed.
    #[must_use]
    pub fn is_switching_rights(&self) -> bool {
        self.portions.rights.list.is_some()
    }

    pub(in crate::shard) fn advance_rights(&mut self) {
        while self.portions.rights.left > 0 {
            let slots = self.connections.slot_count();
            let list = &mut self.portions.rights.list;
            let Some(slot) = list.as_mut().and_then(|walk| walk.next(slots)) else {
                *list = None;
                return;
            };
            let cost = match self.connections.id_at(slot) {
                Some(id) => {
                    self.channels
                        .follow_rights(id, &mut self.connections, &mut self.context)
                }
                None => LOOK,
            };
            self.portions.rights.spend(cost);
        }
    }
}

impl Channels {
    /// Lets a connection follow its key and app as they are now, or closes it. Returns the cost.
    pub(in crate::shard) fn follow_rights(
        &mut self,
        id: ConnectionId,
        connections: &mut Connections,
        context: &mut Context,
    ) -> usize {
        let cost_of_end = connections.cost_of_end(id);
        let Some(connection) = connections.get_mut(id) else {
            return LOOK;
        };
        let (Phase::Open(session) | Phase::Registering(session)) = &mut connection.phase else {
            return LOOK;
        };
        let code = match context.rights.key(&session.key.id) {
            Some(key) if key.app.index != session.key.app.index => CloseCode::INVALID_TOKEN,
            Some(key) if key.app.suspended => CloseCode::APP_SUSPENDED,
            Some(key) => {
                session.key = key.clone();
                return LOOK;
            }
            None => CloseCode::INVALID_TOKEN,
        };
        self.close(id, code, code.reason(), connections, context);
        cost_of_end.unwrap_or(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slots that are looked at, with as many as there are at each step.
    fn walk(walk: &mut RightsWalk, slots: impl IntoIterator<Item = u32>) -> Vec<u32> {
        slots
            .into_iter()
            .map_while(|count| walk.next(count))
            .collect()
    }

    #[test]
    fn a_walk_goes_round_once() {
        let always = |count| std::iter::repeat_n(count, 100);
        assert_eq!(walk(&mut RightsWalk::from(0), always(3)), [0, 1, 2]);
        assert_eq!(walk(&mut RightsWalk::from(2), always(4)), [2, 3, 0, 1]);
        assert_eq!(walk(&mut RightsWalk::from(9), always(4)), [0, 1, 2, 3]);
        assert_eq!(walk(&mut RightsWalk::from(0), always(0)), [0; 0]);
        // Slots that are added meanwhile are looked at, and none is left out for them.
        let grown = [4, 4, 6, 6, 6, 6, 6, 6, 6];
        assert_eq!(walk(&mut RightsWalk::from(2), grown), [2, 3, 4, 5, 0, 1]);
    }
}
