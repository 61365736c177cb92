//! A pause in which nobody is served, so that all that is on its way comes to its end.
//!
//! A frozen shard reads nothing, lets nobody in, looks at no deadline and uses no held input. It
//! goes on with what other shards send and with what waits to be written. Nothing that is left
//! waits for a client: presence changes of large channels are announced at once, and what a
//! channel has kept for members that are late is delivered to them, whether or not they have room.
//! Nobody is closed for that, then or later: see `shard/connection/pardon.rs`.
//! So a shard becomes quiet as soon as all others have handled what it has sent them, and the
//! disk what it has handed over. What waits for clients stays as it is: outboxes, snapshots in
//! their pauses, replays, messages in pieces, requests without their ends.

use crate::ids::ConnectionId;
use crate::shard::state::Shard;

/// How many messages a shard has exchanged with others since it was made. Once no shard says or
/// asks anything of its own accord, nothing is on its way when all have sent as many as all have
/// received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshCounts {
    /// Messages for other shards, whether they have left or not.
    pub sent: u64,
    /// Messages of other shards that it has handled.
    pub received: u64,
}

impl Shard {
    /// Whether nobody is served, since
    /// [`Input::Freeze`](crate::shard::input::Input::Freeze).
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.context.is_frozen
    }

    /// How many messages it has exchanged with other shards.
    #[must_use]
    pub fn mesh_counts(&self) -> MeshCounts {
        MeshCounts {
            sent: self.context.effects.mesh_sent,
            received: self.context.mesh_received,
        }
    }

    /// Whether it waits neither for other shards nor for the disk, and has nothing to tell them.
    /// Messages may be on their way all the same: see [`MeshCounts`].
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let Self {
            context,
            channels,
            peers,
            portions,
            ..
        } = self;
        let pressure = &channels.pressure;
        let nothing_asked = context.questions.is_empty() && peers.scopes.is_empty();
        let nothing_stored = context.stores.are_settled() && context.effects.history.is_empty();
        let nothing_said = context.loopback.is_empty() && context.slow.is_empty();
        let nothing_announced = channels.batched.is_empty()
            && channels.announcements.is_empty()
            && channels.barriers.is_empty();
        let nothing_put_off = pressure.waiting.is_empty()
            && pressure.next_turn.is_empty()
            && pressure.lags.kept_bytes == 0
            && !channels.has_messages_in_lines();
        nothing_asked
            && nothing_stored
            && nothing_said
            && nothing_announced
            && nothing_put_off
            && channels.grown.is_empty()
            && context.links.are_free()
            && !portions.any_of_others()
    }

    /// How many bytes of deliveries may wait for a connection: its limit, and what a pause has
    /// queued to it. Nothing is too much while the shard is frozen, and nothing is queued where
    /// there is no session.
    #[must_use]
    pub fn delivery_bytes_max(&self, connection: ConnectionId) -> usize {
        let connection = self.connections.get(connection);
        let connection = connection.filter(|it| it.session().is_some());
        let pardoned = connection.map_or(usize::MAX, |it| it.pardoned_bytes());
        self.context.delivery_bytes_max().saturating_add(pardoned)
    }

    pub(in crate::shard) fn freeze(&mut self) {
        let Self {
            context,
            connections,
            channels,
            ..
        } = self;
        connections.note_queues();
        context.is_frozen = true;
        channels.hurry_announcements();
        channels.follow_all(connections, context);
        channels.send_from_lines(connections, context);
    }

    pub(in crate::shard) fn thaw(&mut self) {
        self.context.is_frozen = false;
        self.connections.pardon_all();
        self.advance_all_joins();
        let wanting = (0..self.connections.slot_count()).filter_map(|slot| {
            let id = self.connections.id_at(slot)?;
            self.wants_input(id).then_some(id)
        });
        let wanting: Vec<ConnectionId> = wanting.collect();
        self.context.effects.readable.extend(wanting);
    }

    /// What could not be asked for while nobody was served is asked for now.
    pub(in crate::shard) fn advance_all_joins(&mut self) {
        for slot in 0..self.connections.slot_count() {
            let id = self.connections.id_at(slot);
            let session = id.and_then(|id| self.connections.session(id));
            if let Some(id) = id
                && session.is_some_and(|session| session.joining.is_some())
            {
                self.channels
                    .advance_joins(id, &mut self.connections, &mut self.context);
            }
        }
    }
}
