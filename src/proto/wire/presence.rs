//! `presence` messages that tell who came to a channel and who went; who is there is told in
//! [`super::snapshot`].
//!
//! Stands between a roster and the outbox: entries in, payloads within the limit of a frame
//! out. Entries are walked once to plan a frame and once to write it, never stored.

use std::iter::{self, Peekable};

use super::event::{Length, Output};
use super::string::JsonStr;
use crate::limits::{
    CHANNEL_NAME_BYTES_MAX, PEER_ID_BYTES_MAX, PEER_METADATA_BYTES_MAX, SERVER_FRAME_BYTES_MAX,
};

// Whatever the names and the metadata are, an entry fits into a frame: escaping doubles a name
// at most (no control characters), and a hundred bytes are keys and punctuation.
const _: () = assert!(
    2 * (CHANNEL_NAME_BYTES_MAX + PEER_ID_BYTES_MAX) + PEER_METADATA_BYTES_MAX + 100
        <= SERVER_FRAME_BYTES_MAX
);

/// A peer in `joined` or `left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceEntry<'a> {
    /// Id of the peer, as it stands in JSON.
    pub peer_id: JsonStr<'a>,
    /// The peer's metadata: one JSON value of at most [`PEER_METADATA_BYTES_MAX`] bytes.
    pub metadata: Option<&'a [u8]>,
}

/// The frames that tell of some entries, each entry once, in their order, those that joined
/// before those that left. Every frame takes as many entries as fit.
pub struct PresenceFrames<'a, J: Iterator, L: Iterator> {
    channel: JsonStr<'a>,
    joined: Peekable<J>,
    left: Peekable<L>,
    payload_bytes_max: usize,
}

/// One `presence` message, which can tell its length before it is written.
pub struct PresenceFrame<'a, J: Iterator, L: Iterator> {
    channel: JsonStr<'a>,
    joined: iter::Take<Peekable<J>>,
    left: iter::Take<Peekable<L>>,
    encoded_len: usize,
}

impl<'a, J, L> PresenceFrames<'a, J, L>
where
    J: Iterator<Item = PresenceEntry<'a>> + Clone,
    L: Iterator<Item = PresenceEntry<'a>> + Clone,
{
    /// Tells who came and who went: no frame if nobody did.
    pub fn changes(channel: JsonStr<'a>, joined: J, left: L) -> Self {
        Self::changes_within(SERVER_FRAME_BYTES_MAX, channel, joined, left)
    }

    fn changes_within(payload_bytes_max: usize, channel: JsonStr<'a>, joined: J, left: L) -> Self {
        Self {
            channel,
            joined: joined.peekable(),
            left: left.peekable(),
            payload_bytes_max,
        }
    }
}

impl<'a, J, L> Iterator for PresenceFrames<'a, J, L>
where
    J: Iterator<Item = PresenceEntry<'a>> + Clone,
    L: Iterator<Item = PresenceEntry<'a>> + Clone,
{
    type Item = PresenceFrame<'a, J, L>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.joined.peek().is_none() && self.left.peek().is_none() {
            return None;
        }
        let (joined, left) = (self.joined.clone(), self.left.clone());
        let mut filling = Filling {
            payload_bytes_max: self.payload_bytes_max,
            encoded_len: empty_len(self.channel),
            is_empty: true,
        };
        let joined_count = filling.take(&mut self.joined);
        let is_full = self.joined.peek().is_some();
        let left_count = if is_full {
            0
        } else {
            filling.take(&mut self.left)
        };
        Some(PresenceFrame {
            channel: self.channel,
            joined: joined.take(joined_count),
            left: left.take(left_count),
            encoded_len: filling.encoded_len,
        })
    }
}

/// A frame while its entries are being counted.
struct Filling {
    payload_bytes_max: usize,
    encoded_len: usize,
    is_empty: bool,
}

impl Filling {
    /// Advances over the entries of one list that still fit, and counts them.
    fn take<'a>(
        &mut self,
        entries: &mut Peekable<impl Iterator<Item = PresenceEntry<'a>>>,
    ) -> usize {
        let mut count = 0;
        while let Some(entry) = entries.peek() {
            let comma_len = usize::from(count > 0);
            let with_entry_len = self.encoded_len + comma_len + entry_len(entry, true);
            // An entry fits into an empty frame: see the assertion above. One that does not,
            // against the contract, still goes out, so that planning comes to an end.
            if with_entry_len > self.payload_bytes_max && !self.is_empty {
                break;
            }
            self.encoded_len = with_entry_len;
            self.is_empty = false;
            count += 1;
            entries.next();
        }
        count
    }
}

impl<'a, J, L> PresenceFrame<'a, J, L>
where
    J: Iterator<Item = PresenceEntry<'a>> + Clone,
    L: Iterator<Item = PresenceEntry<'a>> + Clone,
{
    /// Returns exactly how many bytes [`PresenceFrame::append_to`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    /// Appends the message's payload.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        let (joined, left) = (self.joined.clone(), self.left.clone());
        write_frame(self.channel, joined, left, out);
    }
}

fn write_frame<'a>(
    channel: JsonStr<'a>,
    joined: impl Iterator<Item = PresenceEntry<'a>>,
    left: impl Iterator<Item = PresenceEntry<'a>>,
    output: &mut impl Output,
) {
    output.put(br#"{"type":"presence","channel":"#);
    output.put(channel.as_bytes());
    output.put(br#","joined":["#);
    write_entries(joined, output);
    output.put(br#"],"left":["#);
    write_entries(left, output);
    output.put(b"]}");
}

fn write_entries<'a>(entries: impl Iterator<Item = PresenceEntry<'a>>, output: &mut impl Output) {
    for (index, entry) in entries.enumerate() {
        if index > 0 {
            output.put(b",");
        }
        write_entry(&entry, true, output);
    }
}

/// Puts an entry, without the comma before it.
pub(super) fn write_entry(
    entry: &PresenceEntry<'_>,
    with_metadata: bool,
    output: &mut impl Output,
) {
    output.put(br#"{"peerId":"#);
    output.put(entry.peer_id.as_bytes());
    output.put_member(br#","metadata":"#, entry.metadata.filter(|_| with_metadata));
    output.put(b"}");
}

/// Bytes of a frame without entries.
fn empty_len(channel: JsonStr<'_>) -> usize {
    let mut length = Length(0);
    write_frame(channel, iter::empty(), iter::empty(), &mut length);
    length.0
}

/// Bytes of an entry without the comma before it.
pub(super) fn entry_len(entry: &PresenceEntry<'_>, with_metadata: bool) -> usize {
    let mut length = Length(0);
    write_entry(entry, with_metadata, &mut length);
    length.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::proto::wire::string::JsonString;

    /// A peer's id and its metadata, as a roster holds them.
    type Peer = (JsonString, Option<String>);

    fn peer(id: &str, metadata: Option<&str>) -> Peer {
        (JsonString::new(id), metadata.map(str::to_owned))
    }

    fn entries(peers: &[Peer]) -> impl Iterator<Item = PresenceEntry<'_>> + Clone {
        peers.iter().map(|(id, metadata)| PresenceEntry {
            peer_id: id.as_json_str(),
            metadata: metadata.as_ref().map(String::as_bytes),
        })
    }

    fn payloads<'a, J, L>(frames: PresenceFrames<'a, J, L>) -> Vec<String>
    where
        J: Iterator<Item = PresenceEntry<'a>> + Clone,
        L: Iterator<Item = PresenceEntry<'a>> + Clone,
    {
        let encode = |frame: PresenceFrame<'a, J, L>| {
            let mut out = Vec::new();
            frame.append_to(&mut out);
            assert_eq!(frame.encoded_len(), out.len());
            String::from_utf8(out).unwrap()
        };
        frames.map(encode).collect()
    }

    fn channel() -> JsonStr<'static> {
        JsonStr::from_escaped(r#""a/\"b\"""#)
    }

    const EMPTY: &str = r#"{"type":"presence","channel":"a/\"b\"","joined":[],"left":[]}"#;

    #[test]
    fn both_arrays_are_always_there() {
        let peers = [peer("a", Some(r#"{"n": 1}"#)), peer("\"\\", None)];
        let a = r#"{"peerId":"a","metadata":{"n": 1}}"#;
        let b = r#"{"peerId":"\"\\"}"#;
        for (joined, left, expected) in [
            (&peers[..1], &peers[..0], format!("[{a}],\"left\":[]")),
            (&peers[1..], &peers[..1], format!("[{b}],\"left\":[{a}]")),
            (&peers[..0], &peers[..2], format!("[],\"left\":[{a},{b}]")),
        ] {
            let frames = PresenceFrames::changes(channel(), entries(joined), entries(left));
            let head = r#"{"type":"presence","channel":"a/\"b\"","joined":"#;
            assert_eq!(payloads(frames), [format!("{head}{expected}}}")]);
        }
    }

    #[test]
    fn without_changes_there_is_no_frame() {
        let changes = PresenceFrames::changes(channel(), entries(&[]), entries(&[]));
        assert!(payloads(changes).is_empty());
    }

    #[test]
    fn entries_larger_than_a_frame_go_one_by_one() {
        let peers: Vec<_> = ["a", "b"].map(|id| peer(id, None)).into();
        let frames = PresenceFrames::changes_within(1, channel(), entries(&peers), entries(&peers));
        assert_eq!(payloads(frames).len(), 4);
    }

    fn peers() -> impl Strategy<Value = Vec<Peer>> {
        let id = "[ -~]{1,12}".prop_map(|id| JsonString::new(&id));
        let metadata = prop::option::weighted(0.7, "\\{(\"n\":\"[a-z ]{0,40}\")?\\}");
        prop::collection::vec((id, metadata), 0..20)
    }

    /// What the payloads tell, in order: ids and metadata of one list.
    fn told(payloads: &[String], list: &str) -> Vec<(Value, Option<Value>)> {
        let mut told = Vec::new();
        for payload in payloads {
            let message: Value = serde_json::from_str(payload).unwrap();
            assert_eq!(message["type"], "presence");
            assert_eq!(message["channel"], "a/\"b\"");
            for entry in message[list].as_array().unwrap() {
                told.push((entry["peerId"].clone(), entry.get("metadata").cloned()));
            }
        }
        told
    }

    fn expected(peers: &[Peer]) -> Vec<(Value, Option<Value>)> {
        let parse = |text: &[u8]| serde_json::from_slice(text).unwrap();
        let expect =
            |entry: PresenceEntry<'_>| (parse(entry.peer_id.as_bytes()), entry.metadata.map(parse));
        entries(peers).map(expect).collect()
    }

    proptest! {
        #[test]
        fn changes_tell_everything_once(
            (joined, left) in (peers(), peers()),
            room in 170usize..3_000,
        ) {
            let frames =
                PresenceFrames::changes_within(room, channel(), entries(&joined), entries(&left));
            let payloads = payloads(frames);
            prop_assert!(payloads.iter().all(|payload| payload.len() <= room));
            prop_assert!(payloads.iter().all(|payload| payload != EMPTY));
            prop_assert_eq!(told(&payloads, "joined"), expected(&joined));
            prop_assert_eq!(told(&payloads, "left"), expected(&left));
            // The first entry of a frame would not have fitted into the frame before.
            let mut told = 0;
            for payload in &payloads[..payloads.len().saturating_sub(1)] {
                told += payload.matches("\"peerId\"").count();
                let next = entries(&joined).chain(entries(&left)).nth(told).unwrap();
                let comma_len = usize::from(told != joined.len());
                prop_assert!(payload.len() + comma_len + entry_len(&next, true) > room);
            }
        }
    }
}
