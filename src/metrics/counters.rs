//! What a shard counts, from its start on.

use super::label::{AcceptPause, Dropped, EndedBy, HandshakeRefused, RestOutcome, Tally};

/// Counts of one shard. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections_opened: u64,
    /// Pauses of listeners, by cause.
    pub accept_pauses: Tally<AcceptPause>,
    /// Idle connections without a good credential that were closed to make room.
    pub unauthenticated_closed: u64,
    /// Connections whose sockets are gone, by how they ended.
    pub connections_closed: Tally<EndedBy>,
    /// WebSockets whose `welcome` was queued.
    pub handshakes: u64,
    /// WebSocket handshakes refused, by cause.
    pub handshakes_refused: Tally<HandshakeRefused>,
    /// Requests that name another client and are not believed.
    pub forwarded_untrusted: u64,
    /// Text messages from clients, whatever became of them.
    pub messages_received: u64,
    /// Copies of publications and direct messages, queued to their receivers.
    pub deliveries: u64,
    /// `presence` frames queued to members.
    pub presence_sent: u64,
    /// Frames in reply to a client's own message.
    pub replies: u64,
    /// Subscribers that got, or had, everything that was published since they were there last.
    pub history_recovered: u64,
    /// Subscribers that were told that this cannot be had.
    pub history_not_recovered: u64,
    /// Publications that were replayed to subscribers.
    pub history_replayed: u64,
    /// Publications that gave way because all histories took too much memory.
    pub history_evicted: u64,
    /// Ids of publications that were forgotten before their time.
    pub history_ids_evicted: u64,
    /// Numberings that were forgotten because all histories took too much memory.
    pub history_numberings_evicted: u64,
    /// Publications that were not published again, because their `id` was known.
    pub history_duplicates: u64,
    /// Messages dropped, by cause.
    pub dropped: Tally<Dropped>,
    /// Bytes read from sockets, those of TLS included.
    pub bytes_received: u64,
    /// Bytes that sockets took, those of TLS included.
    pub bytes_sent: u64,
    /// Messages sent to other shards.
    pub mesh_sent: u64,
    /// REST requests answered, by route and status.
    pub rest_requests: Tally<RestOutcome>,
    /// Turns of the shard's loop.
    pub turns: u64,
    /// Turns in which more had happened to sockets than the loop took in.
    pub turns_cut_off: u64,
}

impl Counters {
    /// Returns the messages queued to clients: every WebSocket frame but control frames.
    #[must_use]
    pub fn messages_sent(&self) -> u64 {
        self.deliveries + self.history_replayed + self.presence_sent + self.replies
    }
}
