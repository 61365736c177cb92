//! What always holds of a shard, and of all shards together once nothing is on its way.
//!
//! For simulations: the checks read everything and panic with what they found; no running
//! server calls them.

use std::collections::BTreeSet;

use crate::ids::{ConnectionId, ConnectionRef};
use crate::shard::channel::channels::LocalChannel;
use crate::shard::connection::bounds::BytesHeld;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase, Session};
use crate::shard::connection::timers::Deadline;
use crate::shard::context::Context;
use crate::shard::state::Shard;

impl Shard {
    /// Panics unless members and memberships name each other, between any two inputs.
    pub fn check_invariants(&self) {
        for (slot, channel) in self.channels.iter() {
            for (index, member) in channel.members.iter().enumerate() {
                let found = self.connections.sessions().any(|(connection, session)| {
                    connection.id.slot == member.connection_slot
                        && session.memberships.iter().any(|membership| {
                            membership.channel == slot && membership.index as usize == index
                        })
                });
                assert!(
                    found,
                    "a member of {:?} has no membership",
                    channel.key.name.as_str()
                );
            }
            channel.check_fan_out();
            if let Some(owned) = &channel.owned {
                owned.check_invariants();
            }
        }
        self.channels.check_owned_count();
        self.channels.check_histories();
        for connection in self.connections.iter() {
            connection.outbox.check();
        }
        self.check_queued();
        self.connections.timers.check();
        self.channels.check_lags(&self.context);
        self.channels.check_lines();
        for (connection, session) in self.connections.sessions() {
            connection.check_joins(self.context.tuning.snapshot_bytes_max);
            for membership in &session.memberships {
                let channel = self.channels.get(membership.channel);
                let member = channel.and_then(|it| it.members.get(membership.index as usize));
                let waits = member.is_some_and(|member| member.waits);
                assert_eq!(
                    waits,
                    connection.awaits(membership.channel),
                    "who waits for a snapshot"
                );
                assert_eq!(
                    member.map(|member| member.connection_slot),
                    Some(connection.id.slot),
                    "a membership's place is not its own"
                );
            }
        }
        for connection in self.connections.iter() {
            let needs_it =
                connection.borrows.is_none() || !self.channels.borrowed(connection).is_empty();
            assert!(needs_it, "lent a buffer of which it needs nothing");
        }
        self.context.questions.check();
        self.check_all_bounds();
    }

    /// Panics unless all shards agree, once every input has been handled and every mesh message
    /// delivered, and nobody waits for anything.
    pub fn check_quiet(shards: &[&Shard]) {
        for shard in shards {
            assert_eq!(
                shard.context.questions.iter().count(),
                0,
                "a question was not answered"
            );
            assert!(
                shard.peers.scopes.is_empty(),
                "a `send` waits for its scope"
            );
            assert!(
                shard.channels.batched.is_empty(),
                "a batch waits for its turn"
            );
            assert!(!shard.portions.any(), "a portion waits for its turn");
            assert!(
                shard.channels.pauses.is_empty(),
                "a snapshot waits for its time"
            );
            assert!(
                shard.channels.replaying.is_empty(),
                "a replay waits for its turn"
            );
            assert!(
                shard.channels.announcements.is_empty(),
                "a batch waits for its time"
            );
            assert!(
                shard.channels.barriers.is_empty(),
                "a channel waits for a home"
            );
            shard.channels.check_nobody_waits_in_line();
            for (connection, session) in shard.connections.sessions() {
                assert!(session.joining.is_none(), "a join is not complete");
                assert!(!connection.held.any(), "input is held back");
                assert_eq!(connection.awaited_bytes, 0, "an answer is missing");
            }
        }
        Self::check_agreed(shards);
    }

    /// Panics unless all shards agree, once every mesh message has been delivered and nobody waits
    /// for another shard: the rosters with the members, the peer registries with the sessions.
    pub fn check_agreed(shards: &[&Shard]) {
        let mut sessions = BTreeSet::new();
        let mut registered = BTreeSet::new();
        let mut members = BTreeSet::new();
        let mut rostered = BTreeSet::new();
        for shard in shards {
            for (connection, session) in shard.connections.sessions() {
                sessions.insert((session.peer.id.as_str(), shard.context.here(connection.id)));
            }
            registered.extend(shard.peers.registry.iter());
            for (_, channel) in shard.channels.iter() {
                let name = (channel.key.app, channel.key.name.as_str());
                members.extend(
                    shard
                        .connections
                        .members(channel, &shard.context)
                        .map(|member| (name, member)),
                );
                let owned = channel.owned.as_ref();
                rostered.extend(owned.into_iter().flat_map(|owned| {
                    let memberships = owned.roster().connections();
                    memberships.map(move |(connection, it)| {
                        assert!(it.interest.is_some(), "a joiner was forgotten in {name:?}");
                        (name, *connection)
                    })
                }));
            }
        }
        assert_eq!(registered, sessions, "registered peers, and sessions");
        assert_eq!(rostered, members, "rosters, and members on home shards");
    }

    /// Panics unless the shard is as it was before its first connection.
    pub fn check_vacant(&self) {
        assert!(self.connections.is_empty(), "connections are left");
        assert_eq!(self.channels.iter().count(), 0, "channels are left");
        assert!(self.peers.registry.is_empty(), "peers are left");
        assert_eq!(
            self.context.questions.iter().count(),
            0,
            "a question is left"
        );
        assert!(self.peers.scopes.is_empty());
    }

    /// How often there was something to do for each reason to wake, by its name.
    pub fn deadlines_met(&self) -> impl Iterator<Item = (String, u64)> {
        let all = Deadline::OF_SHARD
            .into_iter()
            .chain(Deadline::OF_CONNECTION);
        all.map(|it| (format!("{it:?}"), self.connections.met[it as usize]))
    }

    /// What a connection makes the server keep.
    #[must_use]
    pub fn bytes_held(&self, id: ConnectionId) -> Option<BytesHeld> {
        self.connections.get(id).map(Connection::bytes_held)
    }

    /// Panics if a connection holds more than it may.
    pub fn check_bounds(&self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            self.context.check_connection_bounds(connection);
        }
    }

    /// Panics if any connection holds more than it may.
    pub fn check_all_bounds(&self) {
        for connection in self.connections.iter() {
            self.context.check_connection_bounds(connection);
            let listed = self.connections.resumable.contains(&connection.id);
            assert_eq!(listed, connection.held.has(Held::RESUMING), "resumable");
        }
    }
}

impl Connections {
    fn sessions(&self) -> impl Iterator<Item = (&Connection, &Session)> {
        self.iter().filter_map(|connection| {
            let (Phase::Open(session) | Phase::Registering(session)) = &connection.phase else {
                return None;
            };
            Some((connection, &**session))
        })
    }

    pub(in crate::shard) fn members(
        &self,
        channel: &LocalChannel,
        context: &Context,
    ) -> impl Iterator<Item = ConnectionRef> {
        let slots: BTreeSet<u32> = channel
            .members
            .iter()
            .map(|it| it.connection_slot)
            .collect();
        let members = self.iter();
        members
            .filter(move |it| slots.contains(&it.id.slot))
            .map(|it| context.here(it.id))
    }
}
