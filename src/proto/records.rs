//! Records of history on disk: what is told of a channel, as bytes and back.
//!
//! A batch is records one behind the other. A record is its payload behind a head of eight bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | length of the payload |
//! | 4 | CRC-32 of the length and the payload: [`seal`] fills it in |
//!
//! A payload begins with its kind (1) and the channel: the length of the app's id (1), the length
//! of the channel's name (2), both texts. Behind it a publication has lifetime (4), time (8), the
//! number of the oldest publication that is kept (8), its own number (8), the lengths of epoch (1),
//! publisher (1), id (1) and metadata (2), these texts, and the frame. A numbering has the last
//! number (8), epoch (1 and text) and, of each earlier epoch, its last number (8) and text (1 and
//! text). Numbers are little-endian.

/// Bytes before a payload.
const HEAD_BYTES: usize = 8;
/// Longest text whose length is one byte.
const SHORT_TEXT_BYTES_MAX: usize = 255;

const PUBLICATION: u8 = 1;
const NUMBERING: u8 = 2;
const FORGOTTEN: u8 = 3;
const END: u8 = 4;

/// A channel, as records name it: both lengths and both texts. Equal channels have equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey<'a>(&'a [u8]);

impl<'a> ChannelKey<'a> {
    /// The bytes of a key.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The key with these bytes, which [`bytes`](Self::bytes) has returned.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the app's id and the channel's name; `None` if they are not text.
    #[must_use]
    pub fn texts(self) -> Option<(&'a str, &'a str)> {
        let mut rest = Reader(self.0);
        let (app, channel) = (rest.u8()?, rest.u16()?);
        Some((rest.text(app.into())?, rest.text(channel.into())?))
    }
}

/// A publication of a channel whose history is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// The app's id.
    pub app: &'a str,
    /// The channel's name.
    pub channel: &'a str,
    /// Which numbering its number belongs to.
    pub epoch: &'a str,
    /// Its number.
    pub seq: u64,
    /// The number of the oldest publication that the channel keeps, this one included.
    pub first: u64,
    /// When it was published, as Unix time in milliseconds.
    pub time_ms: u64,
    /// How long it is kept, in seconds.
    pub ttl_sec: u32,
    /// Who published it.
    pub from: &'a str,
    /// What the publisher calls it; empty: nothing.
    pub id: &'a str,
    /// The publisher's public metadata, as JSON; empty: none.
    pub metadata: &'a str,
    /// Its frame without the number.
    pub frame: &'a [u8],
}

/// Where a channel's numbering is, without the publications themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbering<'a> {
    /// The app's id.
    pub app: &'a str,
    /// The channel's name.
    pub channel: &'a str,
    /// Its epoch.
    pub epoch: &'a str,
    /// The number of the last publication.
    pub last: u64,
    /// Earlier epochs whose numbers this one continues, and up to which number each holds.
    pub earlier: Vec<(&'a str, u64)>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A publication.
    Publication(Publication<'a>),
    /// The channel's numbering is there.
    Numbering(Numbering<'a>),
    /// The channel has no history any more, and the next publication begins another epoch.
    Forgotten(ChannelKey<'a>),
    /// Whoever wrote had nothing more to write.
    End,
}

/// Appends a publication to a batch. Texts are at most 255 bytes long, the channel's name and the
/// frame longer.
pub fn push_publication(batch: &mut Vec<u8>, it: &Publication<'_>) {
    let start = begin(batch, PUBLICATION, it.app, it.channel);
    batch.extend_from_slice(&it.ttl_sec.to_le_bytes());
    batch.extend_from_slice(&it.time_ms.to_le_bytes());
    batch.extend_from_slice(&it.first.to_le_bytes());
    batch.extend_from_slice(&it.seq.to_le_bytes());
    let texts = [it.epoch, it.from, it.id].map(short);
    batch.extend_from_slice(&texts.map(|text| text.len() as u8));
    // Its limit is 4 KB; cut, it would be no JSON any more.
    let has_room = u16::try_from(it.metadata.len()).is_ok();
    let metadata = if has_room { it.metadata } else { "" };
    batch.extend_from_slice(&(metadata.len() as u16).to_le_bytes());
    for text in texts {
        batch.extend_from_slice(text.as_bytes());
    }
    batch.extend_from_slice(metadata.as_bytes());
    batch.extend_from_slice(it.frame);
    finish(batch, start);
}

/// Appends a numbering to a batch.
pub fn push_numbering(batch: &mut Vec<u8>, it: &Numbering<'_>) {
    let start = begin(batch, NUMBERING, it.app, it.channel);
    let all = std::iter::once((it.epoch, it.last)).chain(it.earlier.iter().copied());
    for (epoch, last) in all {
        batch.extend_from_slice(&last.to_le_bytes());
        batch.push(short(epoch).len() as u8);
        batch.extend_from_slice(short(epoch).as_bytes());
    }
    finish(batch, start);
}

/// Appends to a batch that a channel has no history any more.
pub fn push_forgotten(batch: &mut Vec<u8>, app: &str, channel: &str) {
    let start = begin(batch, FORGOTTEN, app, channel);
    finish(batch, start);
}

/// Appends that nothing more follows.
pub fn push_end(batch: &mut Vec<u8>) {
    let start = begin(batch, END, "", "");
    finish(batch, start);
}

fn begin(batch: &mut Vec<u8>, kind: u8, app: &str, channel: &str) -> usize {
    let start = batch.len();
    batch.extend_from_slice(&[0; HEAD_BYTES]);
    let (app, channel) = (short(app), cut(channel, u16::MAX.into()));
    batch.push(kind);
    batch.push(app.len() as u8);
    batch.extend_from_slice(&(channel.len() as u16).to_le_bytes());
    batch.extend_from_slice(app.as_bytes());
    batch.extend_from_slice(channel.as_bytes());
    start
}

fn finish(batch: &mut [u8], start: usize) {
    // A frame is far below 4 GB: messages have a limit.
    let bytes = (batch.len() - start - HEAD_BYTES) as u32;
    batch[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
}

/// Names are shorter: the limits of names see to it before anything is published.
fn short(text: &str) -> &str {
    cut(text, SHORT_TEXT_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Fills in the checksums of a batch.
pub fn seal(batch: &mut [u8]) {
    let mut rest = batch;
    while let Some((head, behind)) = rest.split_first_chunk_mut::<HEAD_BYTES>() {
        let [a, b, c, d, ..] = *head;
        let bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let (payload, next) = behind.split_at_mut(bytes.min(behind.len()));
        let sum = checksum([a, b, c, d], payload);
        head[4..].copy_from_slice(&sum.to_le_bytes());
        rest = next;
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// Returns the payloads of a batch that nobody has damaged, in order.
pub fn payloads(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        let (payload, behind) = split(rest)?;
        rest = behind;
        Some(payload)
    })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, behind) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [a, b, c, d, ..] = *head;
    behind.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)
}

/// Takes the first record off sealed bytes: its payload and what is behind it. `None`: there is
/// none, it is not all there, or it is damaged.
#[must_use]
pub fn take_sealed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (payload, behind) = split(bytes)?;
    let length = *bytes.first_chunk::<4>()?;
    let told: [u8; 4] = *bytes[4..].first_chunk()?;
    (checksum(length, payload).to_le_bytes() == told).then_some((payload, behind))
}

impl<'a> Record<'a> {
    /// Reads a payload. `None` if it is none.
    #[must_use]
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let mut rest = Reader(payload);
        let kind = rest.u8()?;
        let (app_bytes, channel_bytes) = (rest.u8()?, rest.u16()?);
        let app = rest.text(app_bytes.into())?;
        let channel = rest.text(channel_bytes.into())?;
        match kind {
            PUBLICATION => rest.publication(app, channel).map(Self::Publication),
            NUMBERING => rest.numbering(app, channel).map(Self::Numbering),
            FORGOTTEN if rest.0.is_empty() => key_of(payload).map(Self::Forgotten),
            END if rest.0.is_empty() => Some(Self::End),
            _ => None,
        }
    }
}

/// Whether a payload says that nothing more follows.
#[must_use]
pub fn is_end(payload: &[u8]) -> bool {
    *payload == [END, 0, 0, 0]
}

/// Returns how many bytes the record with that payload has.
#[must_use]
pub fn sealed_bytes(payload: &[u8]) -> usize {
    HEAD_BYTES + payload.len()
}

/// Returns the channel that a payload is about.
#[must_use]
pub fn key_of(payload: &[u8]) -> Option<ChannelKey<'_>> {
    let mut rest = Reader(payload.get(1..)?);
    let (app, channel) = (rest.u8()?, rest.u16()?);
    let bytes = 4 + usize::from(app) + usize::from(channel);
    payload.get(1..bytes).map(ChannelKey)
}

/// What of a publication's payload decides where it belongs, without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its epoch.
    pub epoch: &'a [u8],
    /// Its number.
    pub seq: u64,
    /// The number of the oldest one that is kept.
    pub first: u64,
    /// When it was published, as Unix time in milliseconds.
    pub time_ms: u64,
    /// How long it is kept, in seconds.
    pub ttl_sec: u32,
    /// Whether its publisher may send it again.
    pub has_id: bool,
    /// Bytes of its frame.
    pub frame_bytes: usize,
}

/// Returns the place of a publication in that channel; `None` of another record.
#[must_use]
pub fn place_of<'a>(payload: &'a [u8], key: ChannelKey<'_>) -> Option<Place<'a>> {
    if *payload.first()? != PUBLICATION {
        return None;
    }
    let mut rest = Reader(payload.get(1 + key.0.len()..)?);
    let (ttl_sec, time_ms) = (rest.u32()?, rest.u64()?);
    let (first, seq) = (rest.u64()?, rest.u64()?);
    let [epoch_bytes, from_bytes, id_bytes] = rest.array::<3>()?.map(usize::from);
    let metadata_bytes = usize::from(rest.u16()?);
    let epoch = rest.take(epoch_bytes)?;
    rest.take(from_bytes + id_bytes + metadata_bytes)?;
    Some(Place {
        epoch,
        seq,
        first,
        time_ms,
        ttl_sec,
        has_id: id_bytes > 0,
        frame_bytes: rest.0.len(),
    })
}

/// Takes bytes apart, from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, bytes: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(bytes)?).ok()
    }

    fn publication(&mut self, app: &'a str, channel: &'a str) -> Option<Publication<'a>> {
        let (ttl_sec, time_ms) = (self.u32()?, self.u64()?);
        let (first, seq) = (self.u64()?, self.u64()?);
        let [epoch_bytes, from_bytes, id_bytes] = self.array()?;
        let metadata_bytes = self.u16()?;
        Some(Publication {
            app,
            channel,
            epoch: self.text(epoch_bytes.into())?,
            seq,
            first,
            time_ms,
            ttl_sec,
            from: self.text(from_bytes.into())?,
            id: self.text(id_bytes.into())?,
            metadata: self.text(metadata_bytes.into())?,
            frame: std::mem::take(&mut self.0),
        })
    }

    fn numbering(&mut self, app: &'a str, channel: &'a str) -> Option<Numbering<'a>> {
        let (epoch, last) = self.epoch()?;
        let mut earlier = Vec::new();
        while !self.0.is_empty() {
            earlier.push(self.epoch()?);
        }
        Some(Numbering {
            app,
            channel,
            epoch,
            last,
            earlier,
        })
    }

    fn epoch(&mut self) -> Option<(&'a str, u64)> {
        let (last, bytes) = (self.u64()?, self.u8()?);
        Some((self.text(bytes.into())?, last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "\\PC{0,40}"
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_changed_byte_is(
            texts in prop::collection::vec(text(), 5),
            numbers in any::<(u64, u64, u64, u32)>(),
            frame in prop::collection::vec(any::<u8>(), 0..200),
            change in any::<(prop::sample::Index, u8)>(),
        ) {
            let (seq, first, time_ms, ttl_sec) = numbers;
            let publication = Publication {
                app: &texts[0],
                channel: &texts[1],
                epoch: "epoch-01",
                seq,
                first,
                time_ms,
                ttl_sec,
                from: &texts[2],
                id: &texts[3],
                metadata: &texts[4],
                frame: &frame,
            };
            let numbering = Numbering {
                app: &texts[0],
                channel: &texts[1],
                epoch: "epoch-02",
                last: seq,
                earlier: vec![("epoch-01", first), ("x", 0)],
            };
            let mut batch = Vec::new();
            push_publication(&mut batch, &publication);
            let bytes = batch.len();
            push_numbering(&mut batch, &numbering);
            push_forgotten(&mut batch, &texts[0], &texts[1]);
            push_end(&mut batch);
            seal(&mut batch);
            let (payload, mut rest) = take_sealed(&batch).unwrap();
            prop_assert_eq!(sealed_bytes(payload), bytes);
            let key = key_of(payload).unwrap();
            prop_assert_eq!(key.texts(), Some((&*texts[0], &*texts[1])));
            let place = place_of(payload, key).unwrap();
            prop_assert_eq!((place.seq, place.first, place.frame_bytes), (seq, first, frame.len()));
            prop_assert_eq!(Record::read(payload), Some(Record::Publication(publication)));
            let mut others = Vec::new();
            while let Some((payload, behind)) = take_sealed(rest) {
                others.push(payload);
                rest = behind;
            }
            prop_assert!(rest.is_empty() && is_end(others[2]));
            prop_assert_eq!(Record::read(others[0]), Some(Record::Numbering(numbering)));
            prop_assert_eq!(Record::read(others[1]), Some(Record::Forgotten(key)));
            prop_assert_eq!(payloads(&batch).count(), 4);
            let (at, with) = (change.0.index(bytes), change.1);
            if with > 0 {
                batch[at] ^= with;
                prop_assert_eq!(take_sealed(&batch), None);
            }
        }
    }
}
