//! Events as whole frames, appended to a buffer of the caller's.

use crate::domain::peer::{ChannelKey, PeerInfo, SharedPeer};
use crate::domain::presence::Told;
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event::{AckTold, Event, SEQ};
use crate::proto::wire::position::Position;
use crate::proto::wire::presence::{PresenceEntry, PresenceFrames};
use crate::proto::wire::string::JsonStr;
use crate::proto::ws::frame::{Header, Opcode};

/// Appends one event as a text frame.
#[inline(always)]
pub(in crate::shard) fn event(out: &mut Vec<u8>, event: &Event<'_>) {
    text_header(out, event.encoded_len());
    event.append_to(out);
}

/// Appends an `ack`.
pub(in crate::shard) fn ack(out: &mut Vec<u8>, request_id: &str) {
    event(
        out,
        &Event::Ack {
            request_id: JsonStr::from_escaped(request_id),
        },
    );
}

/// Appends the `ack` of a `refresh` that so many snapshots follow.
pub(in crate::shard) fn refreshed(
    out: &mut Vec<u8>,
    request_id: &str,
    expires_at_sec: u64,
    snapshots: usize,
) {
    event(
        out,
        &Event::Refreshed {
            request_id: JsonStr::from_escaped(request_id),
            expires_at_sec,
            snapshots,
        },
    );
}

/// Appends the `error` that tells of the end of a subscription.
pub(in crate::shard) fn subscription_ended(out: &mut Vec<u8>, channel: &ChannelKey) {
    event(
        out,
        &Event::SubscriptionEnded {
            channel: JsonStr::from_escaped(channel.name.json()),
        },
    );
}

/// Appends an `error`.
pub(in crate::shard) fn error(
    out: &mut Vec<u8>,
    request_id: Option<&str>,
    code: ErrorCode,
    message: &'static str,
) {
    let request_id = request_id.map(JsonStr::from_escaped);
    event(
        out,
        &Event::Error {
            request_id,
            code,
            message,
        },
    );
}

/// Appends a `message` without `fromMetadata`.
#[inline]
pub(in crate::shard) fn message(out: &mut Vec<u8>, channel: &str, from: &PeerInfo, data: &str) {
    event(
        out,
        &Event::Message {
            channel: JsonStr::from_escaped(channel),
            from: JsonStr::from_escaped(from.id.json()),
            data: data.as_bytes(),
            from_metadata: None,
        },
    );
}

/// Appends a `message` frame that is encoded already, with what it does not have: `fromMetadata`,
/// the number in its channel, or both.
pub(in crate::shard) fn extended(
    out: &mut Vec<u8>,
    plain: &[u8],
    metadata: Option<&str>,
    seq: Option<u64>,
) {
    let payload = payload(plain);
    let message = payload.strip_suffix(b"}").unwrap_or(payload);
    message_with(out, message, metadata, seq);
}

/// Appends a `message` frame, of whose payload all is encoded but its last members and its brace.
pub(in crate::shard) fn message_with(
    out: &mut Vec<u8>,
    message: &[u8],
    metadata: Option<&str>,
    seq: Option<u64>,
) {
    event(
        out,
        &Event::MessageExtended {
            message,
            from_metadata: metadata.map(str::as_bytes),
            seq,
        },
    );
}

/// The payload of a `message` frame with a number, without the number and the brace.
pub(in crate::shard) fn unnumbered(frame: &[u8], seq: u64) -> &[u8] {
    let payload = payload(frame);
    let digits = seq.checked_ilog10().unwrap_or(0) as usize + 1;
    let end = payload.len().saturating_sub(SEQ.len() + digits + 1);
    debug_assert!(payload[end..].starts_with(SEQ), "a frame with that number");
    &payload[..end]
}

/// The payload of a frame. Only our own frames come here.
pub(in crate::shard) fn payload(frame: &[u8]) -> &[u8] {
    match Header::decode(frame) {
        Ok(Some((_, header_bytes))) => frame.get(header_bytes..).unwrap_or_default(),
        _ => frame,
    }
}

/// Appends an `ack` that tells of the history of a channel.
pub(in crate::shard) fn ack_at(
    out: &mut Vec<u8>,
    request_id: &str,
    position: Option<Position>,
    told: AckTold,
) {
    let request_id = JsonStr::from_escaped(request_id);
    event(
        out,
        &Event::AckAt {
            request_id,
            position,
            told,
        },
    );
}

/// Appends a `direct`.
pub(in crate::shard) fn direct(out: &mut Vec<u8>, from: &PeerInfo, data: &str) {
    event(
        out,
        &Event::Direct {
            from: JsonStr::from_escaped(from.id.json()),
            data: data.as_bytes(),
            from_metadata: from.metadata.as_deref().map(str::as_bytes),
        },
    );
}

/// Appends a `going_away`.
pub(in crate::shard) fn going_away(out: &mut Vec<u8>, retry_after_ms: u64) {
    event(out, &Event::GoingAway { retry_after_ms });
}

/// Who came and who went, as one frame or more.
pub(in crate::shard) fn presence_changes(channel: &ChannelKey, told: &Told) -> Vec<u8> {
    let channel = JsonStr::from_escaped(channel.name.json());
    let mut out = Vec::new();
    let nobody: &[SharedPeer] = &[];
    // Of a peer that has left and come back, both is told, in this order.
    for (joined, left) in [(&told.joined[..], &told.left[..]), (&told.returned, nobody)] {
        let (joined, left) = (joined.iter().map(entry), left.iter().map(entry));
        for frame in PresenceFrames::changes(channel, joined, left) {
            text_header(&mut out, frame.encoded_len());
            frame.append_to(&mut out);
        }
    }
    out
}

fn entry(peer: &SharedPeer) -> PresenceEntry<'_> {
    PresenceEntry {
        peer_id: JsonStr::from_escaped(peer.id.json()),
        metadata: peer.metadata.as_deref().map(str::as_bytes),
    }
}

/// Bytes of a frame's header, at most.
pub(in crate::shard) const HEADER_BYTES_MAX: usize = 10;

/// Bytes of a text frame whose payload has that many.
pub(in crate::shard) fn text_frame_len(payload_len: usize) -> usize {
    let header_len = match payload_len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => HEADER_BYTES_MAX,
    };
    header_len + payload_len
}

/// Appends the header of a text frame.
#[inline]
pub(in crate::shard) fn text_header(out: &mut Vec<u8>, payload_len: usize) {
    let header = Header {
        fin: true,
        opcode: Opcode::Text,
        mask: None,
        payload_len: payload_len as u64,
    };
    header.encode(out);
}
