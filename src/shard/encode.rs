//! Events as whole frames, appended to a buffer of the caller's.

use crate::domain::peer::{ChannelKey, PeerInfo, SharedPeer};
use crate::proto::wire::error::ErrorCode;
use crate::proto::wire::event::Event;
use crate::proto::wire::presence::{PresenceEntry, PresenceFrames};
use crate::proto::wire::string::JsonStr;
use crate::proto::ws::frame::{Header, Opcode};

/// Appends one event as a text frame.
#[inline]
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

/// Appends the variant with `fromMetadata` of a `message` frame without.
pub(in crate::shard) fn with_metadata(out: &mut Vec<u8>, plain: &[u8], metadata: &str) {
    let payload = match Header::decode(plain) {
        Ok(Some((_, header_bytes))) => plain.get(header_bytes..).unwrap_or_default(),
        // Only our own frames come here.
        _ => plain,
    };
    event(
        out,
        &Event::MessageExtended {
            message: payload,
            from_metadata: metadata.as_bytes(),
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

/// Who is in a channel: one frame, unless the ids alone pass the frame limit.
pub(in crate::shard) fn presence_snapshot<'a>(
    channel: &'a ChannelKey,
    others: impl Iterator<Item = &'a SharedPeer> + Clone,
) -> Vec<u8> {
    let channel = JsonStr::from_escaped(channel.name.json());
    let mut out = Vec::new();
    for frame in PresenceFrames::snapshot(channel, others.map(entry)) {
        text_header(&mut out, frame.encoded_len());
        frame.append_to(&mut out);
    }
    out
}

/// Who came and who went, as one frame or more.
pub(in crate::shard) fn presence_changes(
    channel: &ChannelKey,
    joined: &[SharedPeer],
    left: &[SharedPeer],
) -> Vec<u8> {
    let channel = JsonStr::from_escaped(channel.name.json());
    let mut out = Vec::new();
    let (joined, left) = (joined.iter().map(entry), left.iter().map(entry));
    for frame in PresenceFrames::changes(channel, joined, left) {
        text_header(&mut out, frame.encoded_len());
        frame.append_to(&mut out);
    }
    out
}

fn entry(peer: &SharedPeer) -> PresenceEntry<'_> {
    PresenceEntry {
        peer_id: JsonStr::from_escaped(peer.id.json()),
        metadata: peer.metadata.as_deref().map(str::as_bytes),
    }
}

#[inline]
fn text_header(out: &mut Vec<u8>, payload_len: usize) {
    let header = Header {
        fin: true,
        opcode: Opcode::Text,
        mask: None,
        payload_len: payload_len as u64,
    };
    header.encode(out);
}
