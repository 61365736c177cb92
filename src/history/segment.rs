//! One segment: its name, its header, and how much of it is whole.
//!
//! A segment begins with a header of 40 bytes, little-endian: `ringhist` (8), version (4), shard
//! (2), zeros (2), run (8), number (4), length of the segment before it (8), CRC-32 of all that
//! (4). Sealed records follow. Runs of the server are counted, and in each run the segments of a
//! shard: a channel is written by one shard in one run, so that its records stand in the order of
//! runs, then of numbers.

use crate::proto::records;

const MAGIC: &[u8; 8] = b"ringhist";
/// The version of this format.
const VERSION: u32 = 1;
/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 40;
/// Where the checksum is in it.
const SUM_AT: usize = HEADER_BYTES - 4;
const ENDING: &str = ".segment";

/// Which segment it is. The order of the fields is the one in which segments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentId {
    /// Which run of the server wrote it.
    pub run: u64,
    /// Which shard of that run.
    pub shard: u16,
    /// Its number among those of the shard.
    pub number: u32,
}

impl SegmentId {
    /// The run and the shard that wrote it.
    #[must_use]
    pub(super) fn line(self) -> (u64, u16) {
        (self.run, self.shard)
    }

    /// The name of its file.
    #[must_use]
    pub(super) fn file_name(self) -> String {
        let Self { run, shard, number } = self;
        format!("{run:08}-{shard:03}-{number:06}{ENDING}")
    }

    /// Reads the name of a file. `None`: it is none of a segment.
    #[must_use]
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.split('-');
        let id = Self {
            run: parts.next()?.parse().ok()?,
            shard: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        (parts.next().is_none() && id.file_name() == name).then_some(id)
    }

    /// The header of such a segment, behind one of that length; 0: behind none.
    #[must_use]
    pub(super) fn header(self, before_bytes: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..14].copy_from_slice(&self.shard.to_le_bytes());
        header[16..24].copy_from_slice(&self.run.to_le_bytes());
        header[24..28].copy_from_slice(&self.number.to_le_bytes());
        header[28..SUM_AT].copy_from_slice(&before_bytes.to_le_bytes());
        let sum = crc32fast::hash(&header[..SUM_AT]);
        header[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        header
    }
}

/// An empty file whose name says how many shards a run has: each of them leaves a segment at
/// least, so that the next start sees whether one was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub run: u64,
    pub shards: u16,
}

impl Mark {
    /// The name of its file.
    #[must_use]
    pub(super) fn file_name(self) -> String {
        let Self { run, shards } = self;
        format!("{run:08}-{shards:03}.run")
    }

    /// Reads the name of a file. `None`: it is no mark.
    #[must_use]
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let (run, shards) = name.strip_suffix(".run")?.split_once('-')?;
        let mark = Self {
            run: run.parse().ok()?,
            shards: shards.parse().ok()?,
        };
        (mark.file_name() == name).then_some(mark)
    }
}

/// What the beginning of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// It is the segment that its name says, behind one of that length.
    Sound(u64),
    /// It ended before its header was written.
    Short,
    /// It is a segment of another version of the server.
    OtherVersion(u32),
    /// It is damaged, or another segment than its name says.
    Damaged,
}

/// Looks at the beginning of a file with the name of that segment.
#[must_use]
pub(super) fn read_header(bytes: &[u8], id: SegmentId) -> Header {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        // The rest of a block may be there as zeros.
        let part = &bytes[..bytes.len().min(MAGIC.len())];
        let is_begun = MAGIC.starts_with(part) || part.iter().all(|byte| *byte == 0);
        return if is_begun {
            Header::Short
        } else {
            Header::Damaged
        };
    };
    if crc32fast::hash(&header[..SUM_AT]).to_le_bytes() != header[SUM_AT..] {
        let is_empty = bytes.iter().all(|byte| *byte == 0);
        return if is_empty {
            Header::Short
        } else {
            Header::Damaged
        };
    }
    let mut before = [0; 8];
    before.copy_from_slice(&header[28..SUM_AT]);
    let before_bytes = u64::from_le_bytes(before);
    let [a, b, c, d] = [header[8], header[9], header[10], header[11]];
    match u32::from_le_bytes([a, b, c, d]) {
        _ if *header == id.header(before_bytes) => Header::Sound(before_bytes),
        version if header.starts_with(MAGIC) && version != VERSION => Header::OtherVersion(version),
        _ => Header::Damaged,
    }
}

/// Goes through the records of a segment. Returns how many of its bytes are whole.
pub(super) fn read_records<'b>(bytes: &'b [u8], mut each: impl FnMut(&'b [u8]) -> bool) -> usize {
    let mut rest = bytes.get(HEADER_BYTES..).unwrap_or_default();
    while let Some((payload, behind)) = records::take_sealed(rest) {
        if !each(payload) {
            break;
        }
        rest = behind;
    }
    bytes.len() - rest.len()
}
