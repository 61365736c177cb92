//! The `presence` message that tells who is in a channel, rendered once for everybody who joins.
//!
//! A joiner is told of everybody else, so the messages of two joiners differ in one entry only:
//! each leaves its own out. The entries are therefore rendered once, and each payload is made of
//! ranges of them. There is one payload as long as the ids alone fit into a frame; where the
//! metadata does not fit, later entries go without.

use std::ops::Range;
use std::sync::{Arc, Weak};

use smallvec::{SmallVec, smallvec};

use super::presence::{PresenceEntry, entry_len, write_entry};
use super::string::JsonStr;
use crate::limits::SERVER_FRAME_BYTES_MAX;

/// What stands behind the entries.
const TAIL: &[u8] = br#"],"left":[]}"#;

/// The entries of a channel. See the top of this file.
#[derive(Clone, Debug)]
pub struct Rendering {
    layout: Arc<Layout>,
    /// Each behind a comma.
    entries: Arc<[u8]>,
}

/// A rendering that can be had again while its entries are still kept, which is as long as they
/// wait in some connection's queue.
#[derive(Debug)]
pub struct Remembered {
    layout: Arc<Layout>,
    entries: Weak<[u8]>,
}

/// How payloads are made of the entries.
#[derive(Debug)]
struct Layout {
    /// What stands before the entries.
    head: Box<[u8]>,
    /// Where each entry begins, and where the last one ends.
    starts: Box<[u32]>,
    /// The first entry of each payload.
    payloads: SmallVec<[u32; 1]>,
}

/// One message for one who joins: the parts follow each other.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The beginning of the JSON object, up to the entries.
    pub head: &'a [u8],
    /// The two parts in the middle, as ranges of [`Rendering::entries`]; they may be empty.
    pub ranges: [Range<usize>; 2],
    /// The end of the JSON object, behind the entries.
    pub tail: &'static [u8],
}

impl Rendering {
    /// Renders the entries, in their order.
    pub fn new<'a>(
        channel: JsonStr<'_>,
        entries: impl Iterator<Item = PresenceEntry<'a>> + Clone,
    ) -> Self {
        Self::within(SERVER_FRAME_BYTES_MAX, channel, entries)
    }

    fn within<'a>(
        payload_bytes_max: usize,
        channel: JsonStr<'_>,
        entries: impl Iterator<Item = PresenceEntry<'a>> + Clone,
    ) -> Self {
        let mut head = br#"{"type":"presence","channel":"#.to_vec();
        head.extend_from_slice(channel.as_bytes());
        head.extend_from_slice(br#","joined":["#);
        // The first entry of a payload loses its comma.
        let room = (payload_bytes_max + 1).saturating_sub(head.len() + TAIL.len());
        let (mut ids_len, mut metadata_len) = (0, 0);
        for entry in entries.clone() {
            let id_len = 1 + entry_len(&entry, false);
            ids_len += id_len;
            metadata_len += 1 + entry_len(&entry, true) - id_len;
        }
        let mut metadata_room = room.checked_sub(ids_len);
        let mut bytes = Vec::with_capacity(ids_len + metadata_len.min(room));
        let mut starts = Vec::new();
        for entry in entries {
            let metadata_len = entry_len(&entry, true) - entry_len(&entry, false);
            metadata_room = metadata_room.and_then(|room| room.checked_sub(metadata_len));
            starts.push(bytes.len() as u32);
            bytes.push(b',');
            write_entry(&entry, metadata_room.is_some(), &mut bytes);
        }
        starts.push(bytes.len() as u32);
        let layout = Layout {
            head: head.into(),
            payloads: split(&starts, room),
            starts: starts.into(),
        };
        Self {
            layout: layout.into(),
            entries: bytes.into(),
        }
    }

    /// Remembers it without keeping its entries.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        Remembered {
            layout: self.layout.clone(),
            entries: Arc::downgrade(&self.entries),
        }
    }

    /// The bytes that payloads are ranges of.
    #[must_use]
    pub fn entries(&self) -> &Arc<[u8]> {
        &self.entries
    }

    /// Returns the messages for a joiner, at least one. The joiner's own entry is left out.
    pub fn payloads(&self, own: Option<u32>) -> impl Iterator<Item = Payload<'_>> {
        let Layout {
            head,
            starts,
            payloads,
        } = &*self.layout;
        payloads.iter().enumerate().filter_map(move |(at, first)| {
            let last = (starts.len() - 1) as u32;
            let end = payloads.get(at + 1).copied().unwrap_or(last);
            let ranges = self.ranges(*first..end, own);
            let is_empty = ranges.iter().all(Range::is_empty);
            (at == 0 || !is_empty).then_some(Payload {
                head,
                ranges,
                tail: TAIL,
            })
        })
    }

    /// These entries without one.
    fn ranges(&self, entries: Range<u32>, own: Option<u32>) -> [Range<usize>; 2] {
        let start = |entry: u32| self.layout.starts[entry as usize] as usize;
        let own = own.filter(|own| entries.contains(own));
        let (left_out, behind) = own.map_or((entries.end, entries.end), |own| (own, own + 1));
        let mut before = start(entries.start)..start(left_out);
        let mut behind = start(behind)..start(entries.end);
        let first = if before.is_empty() {
            &mut behind
        } else {
            &mut before
        };
        first.start = (first.start + 1).min(first.end);
        [before, behind]
    }
}

impl Remembered {
    /// Whether anybody keeps its entries.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.entries.strong_count() > 0
    }

    /// The rendering, if anybody keeps its entries.
    #[must_use]
    pub fn recall(&self) -> Option<Rendering> {
        Some(Rendering {
            entries: self.entries.upgrade()?,
            layout: self.layout.clone(),
        })
    }
}

impl Payload<'_> {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        let entries = self.ranges.iter().map(ExactSizeIterator::len);
        self.head.len() + entries.sum::<usize>() + self.tail.len()
    }

    /// It is never empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The first entry of each payload whose entries have so much room.
fn split(starts: &[u32], room: usize) -> SmallVec<[u32; 1]> {
    let mut payloads: SmallVec<[u32; 1]> = smallvec![0];
    let mut payload_start = 0;
    for (at, entry) in starts.windows(2).enumerate() {
        // An entry fits into an empty frame. One that does not, against the contract, goes alone.
        let is_full = (entry[1] - payload_start) as usize > room;
        if is_full && entry[0] != payload_start {
            payloads.push(at as u32);
            payload_start = entry[0];
        }
    }
    payloads
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::proto::wire::string::JsonString;

    type Peer = (JsonString, Option<String>);

    fn peer(id: &str, metadata: Option<&str>) -> Peer {
        (JsonString::new(id), metadata.map(str::to_owned))
    }

    fn render(room: usize, peers: &[Peer]) -> Rendering {
        let entries = peers.iter().map(|(id, metadata)| PresenceEntry {
            peer_id: id.as_json_str(),
            metadata: metadata.as_ref().map(String::as_bytes),
        });
        let channel = JsonStr::from_escaped(r#""a/\"b\"""#);
        Rendering::within(room, channel, entries)
    }

    fn texts(rendering: &Rendering, own: Option<u32>) -> Vec<String> {
        let payloads = rendering.payloads(own).map(|payload| {
            let [before, behind] = payload.ranges.clone();
            let entries = rendering.entries();
            let parts = [
                payload.head,
                &entries[before],
                &entries[behind],
                payload.tail,
            ];
            let text = String::from_utf8(parts.concat()).unwrap();
            assert_eq!(payload.len(), text.len());
            text
        });
        payloads.collect()
    }

    const EMPTY: &str = r#"{"type":"presence","channel":"a/\"b\"","joined":[],"left":[]}"#;

    #[test]
    fn nobody_is_told_of_itself() {
        let nobody = render(1_000, &[]);
        assert_eq!(texts(&nobody, None), [EMPTY]);
        let peers = [
            peer("a", Some(r#"{"n": 1}"#)),
            peer("\"\\", None),
            peer("c", None),
        ];
        let rendering = render(1_000, &peers);
        let [a, b, c] = [
            r#"{"peerId":"a","metadata":{"n": 1}}"#,
            r#"{"peerId":"\"\\"}"#,
            r#"{"peerId":"c"}"#,
        ];
        for (own, expected) in [
            (None, format!("{a},{b},{c}")),
            (Some(0), format!("{b},{c}")),
            (Some(1), format!("{a},{c}")),
            (Some(2), format!("{a},{b}")),
        ] {
            assert_eq!(
                texts(&rendering, own),
                [EMPTY.replace("[],\"l", &format!("[{expected}],\"l"))]
            );
        }
        assert_eq!(texts(&render(1_000, &peers[..1]), Some(0)), [EMPTY]);
    }

    #[test]
    fn metadata_goes_before_a_snapshot_is_split() {
        let peers: Vec<_> = ["a", "b", "c"].map(|id| peer(id, Some("{\"n\":1}"))).into();
        let len = texts(&render(1_000, &peers), None)[0].len();
        let metadata_len = ",\"metadata\":{\"n\":1}".len();
        for missing in 0..=3 {
            // Room for all but `missing` metadata, and one byte less.
            let room = len - missing * metadata_len;
            for (room, kept) in [
                (room, 3 - missing),
                (room - 1, 2usize.saturating_sub(missing)),
            ] {
                let payloads = texts(&render(room, &peers), None);
                let is_split = room < len - 3 * metadata_len;
                assert_eq!(payloads.len(), if is_split { 2 } else { 1 });
                let with_metadata = payloads.concat().matches("metadata").count();
                assert_eq!(with_metadata, if is_split { 0 } else { kept });
            }
        }
    }

    #[test]
    fn entries_larger_than_a_frame_go_one_by_one() {
        let peers: Vec<_> = ["a", "b"].map(|id| peer(id, None)).into();
        assert_eq!(texts(&render(1, &peers), None).len(), 2);
    }

    #[test]
    fn large_channels_stay_within_the_frame_limit() {
        let name = |number| peer(&format!("peer-{number:05}"), Some("{\"name\":\"x\"}"));
        let peers: Vec<_> = (0..100_000).map(name).collect();
        for (count, payload_count, metadata_counts) in [
            (20_000, 1, 20_000..=20_000),
            (25_000, 1, 1..=24_999),
            (100_000, 3, 0..=0),
        ] {
            let payloads = texts(&render(SERVER_FRAME_BYTES_MAX, &peers[..count]), None);
            assert_eq!(payloads.len(), payload_count);
            let mut lengths = payloads.iter().map(String::len);
            assert!(lengths.all(|length| length <= SERVER_FRAME_BYTES_MAX));
            assert!(metadata_counts.contains(&payloads.concat().matches("metadata").count()));
        }
    }

    fn peers() -> impl Strategy<Value = Vec<Peer>> {
        let id = "[ -~]{1,12}".prop_map(|id| JsonString::new(&id));
        let metadata = prop::option::weighted(0.7, "\\{(\"n\":\"[a-z ]{0,40}\")?\\}");
        prop::collection::vec((id, metadata), 0..20)
    }

    fn told(payloads: &[String]) -> Vec<(Value, Option<Value>)> {
        let mut told = Vec::new();
        for payload in payloads {
            let message: Value = serde_json::from_str(payload).unwrap();
            assert_eq!(message["type"], "presence");
            assert_eq!(message["channel"], "a/\"b\"");
            assert_eq!(message["left"], Value::Array(Vec::new()));
            for entry in message["joined"].as_array().unwrap() {
                told.push((entry["peerId"].clone(), entry.get("metadata").cloned()));
            }
        }
        told
    }

    proptest! {
        /// Room for the largest entry alone at least, for all of them at most.
        #[test]
        fn a_snapshot_tells_of_every_other_peer_once(
            (peers, own) in (peers(), prop::option::of(0u32..20)),
            room in 170usize..1_500,
        ) {
            let rendering = render(room, &peers);
            let own = own.filter(|own| (*own as usize) < peers.len());
            let all = texts(&rendering, None);
            prop_assert!(all.iter().all(|payload| payload.len() <= room));
            let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
            let expected = peers.iter().map(|(id, metadata)| {
                let id = parse(id.as_json_str().as_bytes());
                (id, metadata.as_ref().map(|it| parse(it.as_bytes())))
            });
            let expected: Vec<_> = expected.collect();
            let mut told_all = told(&all);
            prop_assert_eq!(told_all.len(), expected.len());
            // The first ones whole, from some place on without metadata.
            let pairs = told_all.iter().zip(&expected);
            let whole = pairs.take_while(|(told, peer)| told == peer).count();
            for (told, peer) in told_all.iter().zip(&expected).skip(whole) {
                prop_assert_eq!(told, &(peer.0.clone(), None));
            }
            let ids_len: usize = peers.iter().map(|(id, _)| {
                1 + r#"{"peerId":}"#.len() + id.as_json_str().as_bytes().len()
            }).sum();
            let fits = EMPTY.len() + ids_len.saturating_sub(1) <= room;
            prop_assert_eq!(all.len() == 1, fits);
            // The first metadata that is gone would not have fitted.
            if fits && whole < peers.len() {
                let metadata = peers[whole].1.as_ref().unwrap();
                prop_assert!(all[0].len() + ",\"metadata\":".len() + metadata.len() > room);
            }
            let without_own = told(&texts(&rendering, own));
            if let Some(own) = own {
                told_all.remove(own as usize);
            }
            prop_assert_eq!(without_own, told_all);
        }
    }
}
