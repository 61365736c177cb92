//! What one connection makes the server keep, by class, and the bound of each.
//!
//! A connection may hold one message or request and one read beyond it, the answers that it has
//! not read, and its deliveries. Nothing else grows with what it sends, or with how slowly it
//! reads. Debug builds look at the connection that each input was about; the simulation looks at
//! all of them.

use crate::ids::ConnectionId;
use crate::limits::{CONTROL_FRAME_BYTES_MAX, ENVELOPE_BYTES_MAX, READ_BYTES_MAX};
use crate::proto::ws::frame::HEADER_BYTES_MAX;
use crate::shard::connection::connections::{Connection, Connections, Held, Phase};
use crate::shard::connection::joining::{REPLAY_BYTES_MAX, RESUMES_MAX};
use crate::shard::context::Context;
use crate::shard::questions::Asked;
use crate::shard::tuning::REPLY_BACKLOG_BYTES_MAX;

/// Pongs that wait for a peer which pings but does not read, in bytes.
const CONTROL_BACKLOG_BYTES_MAX: usize = 4 * 1_024;
/// What the answer to a request has beside its `requestId`, in bytes: the longest is an error.
const ANSWER_BYTES: usize = 192;

/// Bytes that a connection holds, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BytesHeld {
    /// What came and could not be used yet, in whatever buffer it waits.
    pub input: usize,
    /// Ping and pong frames to be written.
    pub control: usize,
    /// Answers to be written.
    pub replies: usize,
    /// Answers that other shards have been asked for, by what they will weigh.
    pub awaited: usize,
    /// Deliveries that were queued to it.
    pub deliveries: usize,
    /// Deliveries that wait for its joins and snapshots.
    pub directs: usize,
    /// Replays that have not been queued; others may share them.
    pub replays: usize,
}

impl Connection {
    /// See [`BytesHeld`]. Deliveries in buffers that it shares with others are not its own.
    #[must_use]
    pub(in crate::shard) fn bytes_held(&self) -> BytesHeld {
        let mut held = BytesHeld {
            input: self.input.len(),
            control: self.outbox.control_bytes(),
            replies: self.outbox.reply_bytes(),
            awaited: self.awaited_bytes as usize,
            deliveries: self.outbox.delivery_bytes(),
            directs: 0,
            replays: 0,
        };
        match &self.phase {
            Phase::Http(http) => {
                held.input += http.body.as_ref().map_or(0, |body| body.bytes.len());
            }
            Phase::Open(session) | Phase::Registering(session) => {
                held.input += session.decoder.bytes_held();
                held.directs = session.joining.as_ref().map_or(0, |it| it.held_bytes());
                held.replays = session.joining.as_ref().map_or(0, |it| it.replay_bytes());
            }
            Phase::Closing { decoder, .. } => held.input += decoder.bytes_held(),
            Phase::Lingering { .. } => {}
        }
        held
    }

    /// Whether so much waits for the peer to read it that its input waits, too.
    pub(in crate::shard) fn is_behind(&self) -> bool {
        let replies = self.outbox.reply_bytes() + self.awaited_bytes as usize;
        replies > REPLY_BACKLOG_BYTES_MAX || self.outbox.control_bytes() > CONTROL_BACKLOG_BYTES_MAX
    }
}

impl Connections {
    /// Holds input back while the peer does not read its answers.
    pub(in crate::shard) fn hold_if_unread(&mut self, id: ConnectionId) {
        let connection = &mut self[id];
        if let Phase::Http(_) | Phase::Open(_) = connection.phase
            && connection.is_behind()
        {
            connection.held.add(Held::REPLIES);
        }
    }

    /// A request of an open connection goes to other shards, or to this one as it does to them,
    /// and will be answered once.
    pub(in crate::shard) fn await_reply(
        &mut self,
        id: ConnectionId,
        asked: Asked,
        request_id: Option<&str>,
    ) {
        let connection = &mut self[id];
        connection.awaited_bytes += weight(request_id);
        connection.awaited_messages += u32::from(asked == Asked::Message);
    }

    /// The answer to such a request is there.
    pub(in crate::shard) fn awaited_reply(
        &mut self,
        id: ConnectionId,
        asked: Asked,
        request_id: Option<&str>,
    ) {
        let connection = &mut self[id];
        connection.awaited_bytes = connection.awaited_bytes.saturating_sub(weight(request_id));
        let messages = u32::from(asked == Asked::Message);
        connection.awaited_messages = connection.awaited_messages.saturating_sub(messages);
        if !connection.held.any() {
            return;
        }
        let (was_last, is_behind) = (connection.awaited_messages == 0, connection.is_behind());
        if was_last {
            self.release_input(id, Held::ANSWERS);
        }
        if !is_behind {
            self.release_input(id, Held::REPLIES);
        }
    }
}

impl Context {
    pub(in crate::shard) fn check_connection_bounds(&self, connection: &Connection) {
        let limits = &self.config.limits;
        let held = connection.bytes_held();
        let message = limits.message_bytes_max + ENVELOPE_BYTES_MAX + HEADER_BYTES_MAX;
        let request = limits.head_bytes_max + limits.rest_body_bytes_max;
        // The socket is read again only when what is left is a part of one message or request.
        let read = match connection.held.any() {
            true => READ_BYTES_MAX,
            false => 0,
        };
        let input_max = message.max(request) + read;
        assert!(held.input <= input_max, "input is bounded: {held:?}");
        let control_max = CONTROL_BACKLOG_BYTES_MAX + 2 * CONTROL_FRAME_BYTES_MAX;
        assert!(held.control <= control_max, "control frames are: {held:?}");
        let is_bounded = !connection.exceeds(self.delivery_bytes_max(), held.directs);
        assert!(is_bounded, "held directs are: {held:?}");
        let replays_max = REPLAY_BYTES_MAX + RESUMES_MAX * limits.history.replay_bytes;
        assert!(held.replays <= replays_max, "replays are: {held:?}");
        if let Phase::Http(_) | Phase::Open(_) = connection.phase {
            let waits = !connection.is_behind() || connection.held.has(Held::REPLIES);
            assert!(waits, "input goes on while answers wait: {held:?}");
        }
    }
}

fn weight(request_id: Option<&str>) -> u32 {
    (ANSWER_BYTES + request_id.map_or(0, str::len)) as u32
}
