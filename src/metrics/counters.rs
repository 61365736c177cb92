//! What a shard counts, from its start on.

use super::label::{AcceptPause, Dropped, EndedBy, Refusal, RestOutcome, Tally};

/// Counts of one shard. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted.
    pub connections_opened: u64,
    /// Pauses in accepting.
    pub accept_pauses: Tally<AcceptPause>,
    /// Idle connections without a good credential that were closed to make room.
    pub unauthenticated_closed: u64,
    /// Connections whose sockets are gone, by how they ended.
    pub connections_closed: Tally<EndedBy>,
    /// WebSockets whose `welcome` was queued.
    pub handshakes: u64,
    /// Those who wanted one and did not get it.
    pub handshakes_refused: Tally<Refusal>,
    /// Text messages from clients, whatever became of them.
    pub messages_received: u64,
    /// Copies of publications and direct messages, queued to those who are to get them.
    pub deliveries: u64,
    /// Frames about who came and went, queued to those who are to know.
    pub presence_sent: u64,
    /// Frames that answer a client's own message.
    pub replies: u64,
    /// Messages dropped.
    pub dropped: Tally<Dropped>,
    /// Bytes read from sockets, those of TLS included.
    pub bytes_received: u64,
    /// Bytes that sockets took, those of TLS included.
    pub bytes_sent: u64,
    /// Messages for other shards.
    pub mesh_sent: u64,
    /// REST requests answered.
    pub rest_requests: Tally<RestOutcome>,
    /// Turns of the shard's loop.
    pub turns: u64,
    /// Turns in which more had happened to sockets than the loop took in.
    pub turns_cut_off: u64,
}

impl Counters {
    /// Messages queued to clients: every WebSocket frame but control frames.
    #[must_use]
    pub fn messages_sent(&self) -> u64 {
        self.deliveries + self.presence_sent + self.replies
    }
}
