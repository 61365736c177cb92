//! Lifecycle events that the backend of an app follows: who came into a channel and left it, who
//! connected and is gone.
//!
//! Each shard writes those of the channels and peers that it owns into a ring of its own, where it
//! puts them into order. Whoever reads is overtaken, not waited for, and is told so: then it lists
//! again. A record has these words:
//!
//! | word | bits |
//! |---|---|
//! | 0 | words 8, kind 8, bytes of the peer's id 8, of the channel's name 16 |
//! | 1 | nanoseconds on the monotonic clock |
//! | 2, 3 | the tag of the app |
//! | 4 | its number among the events of its channel, or of its peer |
//! | then | the peer's id and the channel's name, each padded with zeros |

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::blocks_from;
use super::record::{RECORD_WORDS_MAX, put_text, text};
use super::ring::{Block, Ring, RingWriter};
use crate::limits::{CHANNEL_NAME_BYTES_MAX, PEER_ID_BYTES_MAX};

/// Words before the texts.
const FIXED_WORDS: usize = 5;

const _: () = assert!(
    FIXED_WORDS + PEER_ID_BYTES_MAX.div_ceil(8) + CHANNEL_NAME_BYTES_MAX.div_ceil(8)
        <= RECORD_WORDS_MAX,
    "every record fits"
);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FeedKind {
    /// A channel has its first member.
    ChannelOccupied,
    /// A channel has lost its last member.
    ChannelVacated,
    /// A peer has come into a channel, with its first connection there.
    MemberJoined,
    /// A peer has left a channel, with its last connection there.
    MemberLeft,
    /// A peer has its first connection.
    PeerOnline,
    /// A peer has lost its last connection.
    PeerOffline,
}

impl FeedKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 6] = [
        Self::ChannelOccupied,
        Self::ChannelVacated,
        Self::MemberJoined,
        Self::MemberLeft,
        Self::PeerOnline,
        Self::PeerOffline,
    ];

    /// Returns the text of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChannelOccupied => "channel_occupied",
            Self::ChannelVacated => "channel_vacated",
            Self::MemberJoined => "member_joined",
            Self::MemberLeft => "member_left",
            Self::PeerOnline => "peer_online",
            Self::PeerOffline => "peer_offline",
        }
    }
}

/// An event, as the owner of the channel or peer says it. Texts that are too long are cut.
#[derive(Clone, Copy, Debug)]
pub struct FeedEntry<'a> {
    /// What has happened.
    pub kind: FeedKind,
    /// The tag of the app.
    pub app: [u64; 2],
    /// Its number among the events of its channel, or of its peer.
    pub number: u64,
    /// The peer's id; empty where a channel is meant.
    pub peer: &'a str,
    /// The channel's name; empty where only a peer is meant.
    pub channel: &'a str,
}

/// What one shard writes with. Without memory it writes nothing.
#[derive(Debug, Default)]
pub struct FeedWriter {
    ring: Option<RingWriter>,
    /// Of the last event: times never go back.
    time_ns: u64,
}

impl FeedWriter {
    /// A writer with about that many bytes, and its ring; 0 bytes: it writes nothing.
    #[must_use]
    pub fn new(bytes: usize) -> (Self, Option<Arc<Ring>>) {
        if bytes == 0 {
            return (Self::default(), None);
        }
        let (ring, writer) = Ring::new(bytes);
        let writer = Self {
            ring: Some(writer),
            time_ns: 0,
        };
        (writer, Some(ring))
    }

    /// Writes an event down.
    pub fn write(&mut self, record: &FeedEntry<'_>, time_ns: u64) {
        let Some(writer) = &mut self.ring else {
            return;
        };
        self.time_ns = self.time_ns.max(time_ns);
        let peer = &record.peer[..record.peer.floor_char_boundary(PEER_ID_BYTES_MAX)];
        let channel = &record.channel[..record.channel.floor_char_boundary(CHANNEL_NAME_BYTES_MAX)];
        let count = FIXED_WORDS + peer.len().div_ceil(8) + channel.len().div_ceil(8);
        let mut words = [0; RECORD_WORDS_MAX];
        words[0] = count as u64
            | (record.kind as u64) << 8
            | (peer.len() as u64) << 16
            | (channel.len() as u64) << 24;
        words[1] = self.time_ns;
        words[2..4].copy_from_slice(&record.app);
        words[4] = record.number;
        let texts = Cell::from_mut(&mut words[FIXED_WORDS..count]).as_slice_of_cells();
        let rest = put_text(peer.as_bytes(), texts, Cell::set);
        put_text(channel.as_bytes(), rest, Cell::set);
        writer.write_words(&words[..count]);
    }
}

/// An event that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// Which of the rings it stands in.
    pub ring: usize,
    /// Its place there: with the ring it names the event while the process lives.
    pub place: u64,
    /// What has happened.
    pub kind: FeedKind,
    /// When, in nanoseconds on the monotonic clock.
    pub time_ns: u64,
    /// Its number among the events of its channel, or of its peer.
    pub number: u64,
    /// The peer's id; empty where a channel is meant.
    pub peer: String,
    /// The channel's name; empty where only a peer is meant.
    pub channel: String,
}

impl FeedEvent {
    fn parse(words: &[u64], (ring, place): (usize, u64)) -> Option<Self> {
        let (fixed, rest) = words.split_first_chunk::<FIXED_WORDS>()?;
        let head = fixed[0];
        let peer_bytes = usize::from((head >> 16) as u8);
        let channel_bytes = usize::from((head >> 24) as u16);
        let (peer, channel) = rest.split_at_checked(peer_bytes.div_ceil(8))?;
        Some(Self {
            ring,
            place,
            kind: *FeedKind::ALL.get(usize::from((head >> 8) as u8))?,
            time_ns: fixed[1],
            number: fixed[4],
            peer: text(peer, peer_bytes),
            channel: text(channel, channel_bytes),
        })
    }

    fn key(&self) -> Order {
        (self.time_ns, self.ring, self.place)
    }
}

/// By what events are in order: their times, their rings and their places there.
type Order = (u64, usize, u64);

/// What a reading has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPage {
    /// In order of time; those of one channel, and of one peer, in their own.
    pub events: Vec<FeedEvent>,
    /// From where the next reading goes on: the place of the next event in each ring.
    pub next: Vec<u64>,
    /// Whether there may be more now.
    pub has_more: bool,
}

/// Reads the rings of all shards. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FeedReader {
    rings: Arc<[Arc<Ring>]>,
}

impl FeedReader {
    /// A reader of these rings.
    #[must_use]
    pub fn new(rings: Vec<Arc<Ring>>) -> Self {
        Self {
            rings: rings.into(),
        }
    }

    /// Whether anything is written at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Rises with every event of any app.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.rings.iter().map(|ring| ring.written()).sum()
    }

    /// Bytes that the ring of a shard has been filled with.
    #[must_use]
    pub fn filled_bytes(&self, ring: usize) -> u64 {
        self.rings.get(ring).map_or(0, |ring| ring.filled_bytes())
    }

    /// From where on there is only what has not been written yet.
    #[must_use]
    pub fn end(&self) -> Vec<u64> {
        let mut block = Block::default();
        self.rings.iter().map(|it| end_of(it, &mut block)).collect()
    }

    /// Whether a reading may go on from there: it is no later than the end.
    #[must_use]
    pub fn has_been_at(&self, next: &[u64]) -> bool {
        let end = self.end();
        next.len() == end.len() && next.iter().zip(&end).all(|(next, end)| next <= end)
    }

    /// The events of an app that come next and are wanted, at most so many, until `goes_on` says
    /// no, which is asked before each block. `None`: some that came next are overwritten.
    #[must_use]
    pub fn read(
        &self,
        app: [u64; 2],
        from: &[u64],
        limit: usize,
        mut goes_on: impl FnMut() -> bool,
        mut is_wanted: impl FnMut(&FeedEvent) -> bool,
    ) -> Option<FeedPage> {
        let mut page = FeedPage {
            next: from.to_vec(),
            ..FeedPage::default()
        };
        let mut found = BTreeMap::<Order, FeedEvent>::new();
        let mut block = Block::default();
        for (at, ring) in self.rings.iter().enumerate() {
            'blocks: for number in blocks_from(ring, *from.get(at)?, 0) {
                if !goes_on() {
                    page.has_more = true;
                    break;
                }
                if !ring.copy(number, &mut block) {
                    return None;
                }
                for (place, words) in block.words_of_records() {
                    if place < page.next[at] {
                        continue;
                    }
                    if place > page.next[at] {
                        return None;
                    }
                    let last = found.last_key_value();
                    let is_late = last.is_some_and(|((time_ns, ..), _)| words[1] > *time_ns);
                    if found.len() >= limit && is_late {
                        page.has_more = true;
                        break 'blocks;
                    }
                    page.next[at] = place + 1;
                    if words.get(2..4) != Some(&app) {
                        continue;
                    }
                    let event = FeedEvent::parse(words, (at, place))?;
                    if !is_wanted(&event) {
                        continue;
                    }
                    found.insert(event.key(), event);
                    if found.len() > limit
                        && let Some(((_, ring, place), _)) = found.pop_last()
                    {
                        page.has_more = true;
                        page.next[ring] = page.next[ring].min(place);
                        if ring == at {
                            break 'blocks;
                        }
                    }
                }
            }
        }
        page.events = found.into_values().collect();
        Some(page)
    }
}

/// The place of the next event of a ring.
fn end_of(ring: &Ring, block: &mut Block) -> u64 {
    loop {
        let Some(last) = ring.readable().next_back() else {
            return 0;
        };
        // The newest block is given away only when the whole ring was written meanwhile.
        if ring.copy(last, block)
            && let Some(first) = block.first()
        {
            return first + block.words_of_records().count() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const APP: [u64; 2] = [7, 8];

    fn joined<'a>(app: [u64; 2], number: u64, peer: &'a str, channel: &'a str) -> FeedEntry<'a> {
        FeedEntry {
            kind: FeedKind::MemberJoined,
            app,
            number,
            peer,
            channel,
        }
    }

    fn rings(count: usize, bytes: usize) -> (Vec<FeedWriter>, FeedReader) {
        let made = (0..count).map(|_| FeedWriter::new(bytes));
        let (writers, rings): (Vec<_>, Vec<_>) = made.unzip();
        (
            writers,
            FeedReader::new(rings.into_iter().flatten().collect()),
        )
    }

    proptest! {
        /// Whatever is written and however it is read: every event of the app is there once and in
        /// the order of its ring, or the reader is told that some are gone.
        #[test]
        fn nothing_is_missed_in_silence(
            writes in prop::collection::vec((0..3_usize, 0..2_u64, 0..60_usize), 0..600),
            limit in 1..20_usize, every in 1..50_usize, blocks in 2..6_usize,
        ) {
            let (mut writers, reader) = rings(3, blocks << 12);
            let mut next = reader.end();
            let mut seen = [0; 3];
            let mut written = [0; 3];
            for (at, (ring, app, length)) in writes.iter().enumerate() {
                let (ring, app) = (*ring, *app);
                if app == 0 {
                    written[ring] += 1;
                }
                let name = "x".repeat(*length);
                let record = joined([app, 0], written[ring], &name, &name);
                writers[ring].write(&record, at as u64 / 3);
                if at % every > 0 {
                    continue;
                }
                match reader.read([0, 0], &next, limit, || true, |_| true) {
                    Some(page) => {
                        prop_assert!(page.events.len() <= limit);
                        prop_assert!(page.events.is_sorted_by_key(|it| it.time_ns));
                        for event in &page.events {
                            seen[event.ring] += 1;
                            prop_assert_eq!(event.number, seen[event.ring]);
                        }
                        next = page.next;
                    }
                    None => (next, seen) = (reader.end(), written),
                }
            }
            while let Some(page) = reader.read([0, 0], &next, limit, || true, |_| true) {
                page.events.iter().for_each(|event| seen[event.ring] += 1);
                next = page.next;
                if !page.has_more {
                    prop_assert_eq!(seen, written);
                    prop_assert_eq!(&next, &reader.end());
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_with_the_longest_names() {
        let (mut writers, reader) = rings(1, 2 << 12);
        let (peer, channel) = ("p".repeat(PEER_ID_BYTES_MAX), "ö".repeat(128));
        for kind in FeedKind::ALL {
            let record = FeedEntry {
                kind,
                ..joined(APP, 3, &peer, &channel)
            };
            writers[0].write(&record, 5);
        }
        let page = reader.read(APP, &[0], 10, || true, |_| true).unwrap();
        let kinds: Vec<_> = page.events.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, FeedKind::ALL);
        let last = page.events.last().unwrap();
        assert_eq!((&last.peer, &last.channel), (&peer, &channel));
        assert_eq!((last.time_ns, last.number, last.place), (5, 3, 5));
        assert_eq!((page.next, page.has_more), (vec![6], false));
    }

    #[test]
    fn who_was_overtaken_is_told_and_who_was_never_there_too() {
        let (mut writers, reader) = rings(2, 2 << 12);
        let old = reader.end();
        (0..200).for_each(|at| writers[1].write(&joined(APP, at, "ann", "room"), at));
        assert_eq!(reader.read(APP, &old, 10, || true, |_| true), None);
        let end = reader.end();
        assert_eq!(end, [0, 200]);
        assert!(reader.has_been_at(&end));
        assert!(!reader.has_been_at(&[0, 201]));
        assert!(!reader.has_been_at(&[0]));
        assert!(!reader.has_been_at(&[0, 200, 0]));
    }

    #[test]
    fn without_memory_nothing_is_written() {
        let (mut writer, ring) = FeedWriter::new(0);
        writer.write(&joined(APP, 1, "ann", "room"), 1);
        assert!(ring.is_none());
        assert!(!FeedReader::default().is_on());
    }
}
