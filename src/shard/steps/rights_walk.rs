//! Changed rights: connections follow their key and their app.
//!
//! New rights hold from the moment when the shard gets them: while connections are still being
//! walked through, each is looked at before its next command. The walk is there for those that
//! say nothing: they are closed too. Another walk is there for what channels keep and nobody asks
//! for. The runtime answers for the change when both are over.

use std::sync::Arc;

use crate::domain::rights::Rights;
use crate::events::kind::Cause;
use crate::ids::ConnectionId;
use crate::planted::{Bug, planted};
use crate::proto::ws::close::CloseCode;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::{Connections, Phase};
use crate::shard::connection::cost::LOOK;
use crate::shard::connection::ending::Goodbye;
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::portions::RightsWalk;
use crate::shard::state::Shard;

impl Shard {
    /// Rights hold from now on.
    pub(in crate::shard) fn switch_rights(&mut self, rights: Arc<Rights>) {
        let count = usize::from(self.context.placement.shard_count());
        let is_last = self.context.id().shard().index() + 1 == count;
        let mut is_kept_otherwise = false;
        if !planted(Bug::StaleRightsOnOneShard) || !is_last {
            let before = std::mem::replace(&mut self.context.rights, rights);
            is_kept_otherwise = before.keeps_otherwise(&self.context.rights);
        }
        // Leases were taken under the limits that held until now.
        self.context.usage.report(&mut self.context.effects.usage);
        let list = &mut self.portions.rights.list;
        let from = list.as_ref().map_or(0, |walk| walk.next_slot);
        *list = Some(RightsWalk::from(from));
        self.advance_rights();
        if is_kept_otherwise && self.channels.histories.len() > 0 {
            let list = &mut self.portions.histories.list;
            let from = list.as_ref().map_or(0, |walk| walk.next_slot);
            *list = Some(RightsWalk::from(from));
            self.advance_histories();
        }
    }

    /// Whether something is left that does not follow the rights: connections that are to be
    /// closed for them, or what channels keep and must not any more.
    #[must_use]
    pub fn is_behind_rights(&self) -> bool {
        self.is_switching_rights() || self.portions.histories.list.is_some()
    }

    /// Whether connections are left that have not been looked at since rights changed.
    #[must_use]
    pub fn is_switching_rights(&self) -> bool {
        self.portions.rights.list.is_some()
    }

    /// How many connections were closed for changed rights since it was asked last.
    pub fn take_closed_for_rights(&mut self) -> u64 {
        std::mem::take(&mut self.context.closed_for_rights)
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

    pub(in crate::shard) fn advance_histories(&mut self) {
        while self.portions.histories.left > 0 {
            let slots = self.channels.slot_count();
            let list = &mut self.portions.histories.list;
            let Some(slot) = list.as_mut().and_then(|walk| walk.next(slots)) else {
                *list = None;
                return;
            };
            let slot = ChannelSlot(slot);
            let cost = self.channels.follow_rules(slot, &mut self.context);
            self.portions.histories.spend(cost);
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
        let Some(cost_of_end) = connections.cost_of_end(id) else {
            return LOOK;
        };
        let is_registering = matches!(connections[id].phase, Phase::Registering(_));
        if planted(Bug::RevocationMissesRegistering) && is_registering {
            return LOOK;
        }
        let (Phase::Open(session) | Phase::Registering(session)) = &mut connections[id].phase
        else {
            return LOOK;
        };
        let has_app = context.rights.app(session.key.app.index).is_some();
        let (cause, code) = match context.rights.key(&session.key.id) {
            Some(key) if key.app.index == session.key.app.index => {
                if !key.app.suspended {
                    session.key = key.clone();
                    return LOOK;
                }
                (Cause::AppSuspended, CloseCode::APP_SUSPENDED)
            }
            // An app that was deleted and made again is another one.
            _ if has_app => (Cause::KeyRevoked, CloseCode::INVALID_TOKEN),
            _ => (Cause::AppDeleted, CloseCode::INVALID_TOKEN),
        };
        context.closed_for_rights += 1;
        let goodbye = Goodbye::of(cause, code);
        self.close(id, &goodbye, connections, context);
        cost_of_end
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
