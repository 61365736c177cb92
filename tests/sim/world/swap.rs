//! All shards hand over to new ones.

use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::rights::Rights;
use ringmesh::ids::{ConnectionId, ConnectionRef, ShardId};
use ringmesh::shard::handover::Handed;

use super::{Link, World, has_dropped};

/// A generation that no connection in here has.
const NO_GENERATION: u32 = u32::MAX;

impl World {
    /// What all shards hand over, read again.
    pub(crate) fn export(&mut self) -> Handed {
        let shards = self.nodes.iter_mut();
        let exported: Vec<_> = shards.map(|node| node.shard.export()).collect();
        let states: Vec<_> = exported.iter().map(|it| &it.state).collect();
        let handed = Handed::read(&states).expect("what was written is read");
        let ids = exported.iter().flat_map(|it| &it.connections);
        assert!(handed.connections().map(|(_, id)| id).eq(ids.copied()));
        handed
    }

    /// New shards, so many, go on for those that are frozen and quiet.
    pub(crate) fn swap(&mut self, shard_count: u16, rights: &Arc<Rights>, since_ms: u64) {
        self.report_usage();
        self.note_deadlines();
        self.seen.dropped |= self.shards().into_iter().any(has_dropped);
        let handed = self.export();
        // Another process counts anew.
        for app in rights.apps() {
            while app.gauges.connections() > 0 {
                app.gauges.disconnect();
            }
        }
        self.make.generation += 1;
        self.make.hasher = RandomState::with_seeds(self.make.generation, 7, 8, 9);
        let hasher = self.make.hasher.clone();
        self.begin_to_count_rates(&hasher);
        let now = self.now();
        let (mut nodes, events) = self.make.nodes(shard_count, &self.settings, rights, now);
        let places = self.places(&handed, shard_count);
        let olds = handed.connections();
        let olds = olds.map(|(shard, id)| self.socket_at(shard.index(), id).expect("a socket"));
        let sockets: Vec<usize> = olds.collect();
        for socket in self.sockets.iter_mut().filter(|it| it.closed) {
            (socket.shard, socket.id.generation) = (0, NO_GENERATION);
        }
        for (socket, place) in sockets.into_iter().zip(&places) {
            let at = place.home.shard().index();
            let it = &mut self.sockets[socket];
            (it.shard, it.id) = (at, place.connection);
            // What a socket has to say is said anew.
            (it.to_read, it.write_blocked) = (true, false);
            let slot = place.connection.slot as usize;
            let slots = &mut nodes[at].slots;
            slots.resize(slots.len().max(slot + 1), (None, 0));
            slots[slot] = (Some(socket), place.connection.generation);
        }
        for node in &mut nodes {
            let imported = node.shard.import(&handed, &places, now);
            imported.expect("what was handed over is taken over");
            node.shard.forgive(now.mono_ms - since_ms, now);
        }
        self.links = (0..nodes.len() * nodes.len())
            .map(|_| Link::default())
            .collect();
        self.nodes = nodes;
        self.events = events;
        self.check_agreed();
    }

    /// Where each connection is from now on: where it was, or dealt out.
    fn places(&self, handed: &Handed, shard_count: u16) -> Vec<ConnectionRef> {
        let is_as_before = usize::from(shard_count) == self.nodes.len();
        let count = u32::from(shard_count);
        let connections = (0..).zip(handed.connections());
        let place = |(number, (shard, connection)): (u32, (ShardId, ConnectionId))| {
            if is_as_before {
                let home = shard.into();
                return ConnectionRef { home, connection };
            }
            ConnectionRef {
                home: ShardId((number % count) as u16).into(),
                connection: ConnectionId {
                    slot: number / count,
                    generation: 1,
                },
            }
        };
        connections.map(place).collect()
    }
}
