//! A ring of words with one writer, and any number of readers that it never waits for.
//!
//! The ring is cut into blocks. A block begins with the number of its first record, records follow,
//! and none crosses a block: a reader that was overtaken goes on at a block's beginning, and sees
//! by its number how many records it has lost.
//!
//! It is a sequence lock over atomic words. Before the first word of a block is overwritten, the
//! writer says so in `reserved`; when a record is whole, it says so in `committed`. A reader copies
//! a block up to `committed` and then looks at `reserved`: if the block has been given away
//! meanwhile, the copy is thrown away. Each word is atomic, so nothing is a data race, and the two
//! fences order the words after the one and before the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use bytemuck::allocation::zeroed_slice_box;

use super::record::{Read, Record};

/// Words of a block: 4 KiB.
pub const BLOCK_WORDS: usize = 512;
/// Blocks of a ring, at least: one that is written and one that can be read.
const BLOCKS_MIN: usize = 2;

/// What writer and readers share.
#[derive(Debug)]
pub struct Ring {
    /// Zero pages of the system until they are first written.
    words: Box<[AtomicU64]>,
    /// Up to here words may have been overwritten or be about to be, counted from the start of
    /// the process; a multiple of [`BLOCK_WORDS`].
    reserved: AtomicU64,
    /// Up to here records are whole.
    committed: AtomicU64,
}

/// The one that writes.
#[derive(Debug)]
pub struct RingWriter {
    ring: Arc<Ring>,
    /// Where the next record begins, counted from the start of the process.
    at: u64,
    /// The number of the next record.
    number: u64,
    /// Where that is among the ring's words.
    next: usize,
    /// Where the block ends there.
    block_end: usize,
}

impl Ring {
    /// A ring of about that many bytes, and its writer.
    #[must_use]
    pub fn new(bytes: usize) -> (Arc<Self>, RingWriter) {
        let blocks = (bytes / (BLOCK_WORDS * 8)).max(BLOCKS_MIN);
        let ring = Arc::new(Self {
            words: zeroed_slice_box(blocks * BLOCK_WORDS),
            reserved: AtomicU64::new(0),
            committed: AtomicU64::new(0),
        });
        let writer = RingWriter {
            ring: Arc::clone(&ring),
            at: 0,
            number: 0,
            next: 0,
            block_end: 0,
        };
        (ring, writer)
    }

    fn blocks(&self) -> u64 {
        (self.words.len() / BLOCK_WORDS) as u64
    }

    /// The words of a block, whatever is in them.
    fn block(&self, number: u64) -> &[AtomicU64] {
        let begin = (number % self.blocks()) as usize * BLOCK_WORDS;
        &self.words[begin..begin + BLOCK_WORDS]
    }

    /// How many words have been written since the start: it rises with every record.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// The numbers of the blocks that may be read, the oldest first.
    #[must_use]
    pub fn readable(&self) -> std::ops::Range<u64> {
        let end = self.committed.load(Ordering::Acquire);
        let end = end.div_ceil(BLOCK_WORDS as u64);
        self.oldest()..end
    }

    /// The oldest block that is not overwritten.
    fn oldest(&self) -> u64 {
        let reserved = self.reserved.load(Ordering::Relaxed) / BLOCK_WORDS as u64;
        reserved.saturating_sub(self.blocks())
    }

    /// Copies the records of a block. `false` when it has been given away: nothing is copied then.
    #[must_use]
    pub fn copy(&self, number: u64, into: &mut Block) -> bool {
        let committed = self.committed.load(Ordering::Acquire);
        let begin = number * BLOCK_WORDS as u64;
        let count = committed.saturating_sub(begin).min(BLOCK_WORDS as u64) as usize;
        into.count = 0;
        if number < self.oldest() {
            return false;
        }
        for (word, copy) in self.block(number).iter().zip(&mut into.words[..count]) {
            *copy = word.load(Ordering::Relaxed);
        }
        // With the writer's fence: whoever has read a word of a later block sees here that it was
        // reserved.
        fence(Ordering::Acquire);
        if number < self.oldest() {
            return false;
        }
        into.count = count;
        true
    }

    /// The number and the time of a block's first record; `None` when it has been given away, or
    /// has none.
    #[must_use]
    pub fn first_of(&self, number: u64) -> Option<(u64, u64)> {
        /// The block's own word, and the two words of a record up to its time.
        const WORDS: u64 = 3;
        let committed = self.committed.load(Ordering::Acquire);
        if number < self.oldest() || committed < number * BLOCK_WORDS as u64 + WORDS {
            return None;
        }
        let block = self.block(number);
        let first = (
            block[0].load(Ordering::Relaxed),
            block[2].load(Ordering::Relaxed),
        );
        fence(Ordering::Acquire);
        (number >= self.oldest()).then_some(first)
    }

    /// Bytes that were ever written: the system has given no others.
    #[must_use]
    pub fn filled_bytes(&self) -> u64 {
        let written = self.committed.load(Ordering::Relaxed) * 8;
        written.min(self.bytes() as u64)
    }

    /// Bytes that the ring may take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words.len() * 8
    }
}

impl RingWriter {
    /// Writes a record down, as `Record::write` does.
    #[inline(always)]
    pub fn write(&mut self, record: &Record<'_>, time_ns: u64) {
        let measured = record.measured();
        let place = self.place(measured.words);
        record.write(&measured, time_ns, place, |place, word| {
            place.store(word, Ordering::Relaxed);
        });
        self.commit(measured.words);
    }

    /// Writes the words of a record down that was written elsewhere.
    pub(super) fn write_words(&mut self, words: &[u64]) {
        let place = self.place(words.len());
        for (place, word) in place.iter().zip(words) {
            place.store(*word, Ordering::Relaxed);
        }
        self.commit(words.len());
    }

    #[inline(always)]
    fn commit(&mut self, count: usize) {
        self.at += count as u64;
        self.next += count;
        self.number += 1;
        self.ring.committed.store(self.at, Ordering::Release);
    }

    /// The words of the next record.
    #[inline(always)]
    fn place(&mut self, count: usize) -> &[AtomicU64] {
        if self.next + count > self.block_end {
            self.begin_block();
        }
        &self.ring.words[self.next..self.next + count]
    }

    /// Goes on at the beginning of a block.
    #[cold]
    fn begin_block(&mut self) {
        let block_words = BLOCK_WORDS as u64;
        let within = self.at % block_words;
        if within > 0 {
            // No record begins with a zero: what is left of the block is nothing.
            let rest = &self.ring.block(self.at / block_words)[within as usize..];
            rest[0].store(0, Ordering::Relaxed);
            self.at += rest.len() as u64;
        }
        let reserved = self.at + block_words;
        self.ring.reserved.store(reserved, Ordering::Relaxed);
        // No word of the block is written before this is said.
        fence(Ordering::Release);
        self.next = (self.at % self.ring.words.len() as u64) as usize;
        self.ring.words[self.next].store(self.number, Ordering::Relaxed);
        self.at += 1;
        self.block_end = self.next + BLOCK_WORDS;
        self.next += 1;
    }
}

/// A copy of a block.
#[derive(Debug)]
pub struct Block {
    words: Box<[u64; BLOCK_WORDS]>,
    count: usize,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            words: Box::new([0; BLOCK_WORDS]),
            count: 0,
        }
    }
}

impl Block {
    /// The number of its first record; `None` for an empty block.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        (self.count > 0).then(|| self.words[0])
    }

    /// Its records, each with its number, the oldest first.
    pub fn records(&self) -> impl Iterator<Item = (u64, Read)> {
        let records = self.words_of_records();
        records.map_while(|(number, words)| Some((number, Read::parse(words)?)))
    }

    /// The words of its records, each with its number, the oldest first. The lowest byte of a
    /// record says how many words it has.
    pub(super) fn words_of_records(&self) -> impl Iterator<Item = (u64, &[u64])> {
        let mut rest = self.words.get(1..self.count).unwrap_or_default();
        let mut number = self.words[0];
        std::iter::from_fn(move || {
            let count = usize::from(*rest.first()? as u8);
            let (words, behind) = rest.split_at_checked(count).filter(|_| count > 0)?;
            rest = behind;
            number += 1;
            Some((number - 1, words))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;
    use crate::events::kind::{Cause, Kind};

    /// A record whose every part says which one it is.
    fn write(writer: &mut RingWriter, number: u64, length: usize) {
        let text = format!("{number}:{}", "x".repeat(length));
        let numbers = [number; 6];
        let record = Record {
            numbers: &numbers,
            first: &text,
            second: &text,
            count: number as u32,
            ..Record::new(Kind::Closed, Cause::Reset)
        };
        writer.write(&record, number);
    }

    #[track_caller]
    fn check_whole(number: u64, read: &Read) {
        assert_eq!((read.kind, read.cause), (Kind::Closed, Cause::Reset));
        assert_eq!((read.time_ns, read.count), (number, number as u32));
        assert!(read.numbers().all(|(_, it)| it == number));
        assert_eq!(read.numbers().count(), 6);
        let text = format!("{number}:");
        assert!(read.first.starts_with(&text) && read.second.starts_with(&text));
        assert!(read.first.bytes().skip(text.len()).all(|byte| byte == b'x'));
    }

    /// Reads on from a number: what there is, and how many records were lost before it.
    fn read_on(ring: &Ring, next: &mut u64, block: &mut Block) -> (u64, u64) {
        let (mut seen, mut lost) = (0, 0);
        for number in ring.readable() {
            if !ring.copy(number, block) {
                continue;
            }
            for (number, read) in block.records() {
                if number < *next {
                    continue;
                }
                check_whole(number, &read);
                lost += number - *next;
                *next = number + 1;
                seen += 1;
            }
        }
        (seen, lost)
    }

    proptest! {
        #[test]
        fn the_newest_are_there_whole_and_in_order(
            lengths in proptest::collection::vec(0..120_usize, 0..400), blocks in 1..6_usize,
        ) {
            let (ring, mut writer) = Ring::new(blocks * BLOCK_WORDS * 8);
            let mut bytes = 0;
            for (number, length) in lengths.iter().enumerate() {
                write(&mut writer, number as u64, *length);
                bytes += 2 * length + 200;
            }
            let (mut next, mut block) = (0, Block::default());
            let (seen, lost) = read_on(&ring, &mut next, &mut block);
            prop_assert_eq!(seen + lost, lengths.len() as u64);
            prop_assert_eq!(next, lengths.len() as u64);
            if bytes < ring.bytes() / 2 {
                prop_assert_eq!(lost, 0);
            }
            // Nothing new, nothing read.
            prop_assert_eq!(read_on(&ring, &mut next, &mut block), (0, 0));
        }
    }

    #[test]
    fn a_reader_beside_the_writer_sees_whole_records_in_order_and_counts_the_others() {
        const RECORDS: u64 = 60_000;
        for blocks in [2, 3, 64] {
            let (ring, mut writer) = Ring::new(blocks * BLOCK_WORDS * 8);
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let ended = &ended;
                scope.spawn(move || {
                    for number in 0..RECORDS {
                        write(&mut writer, number, (number * 7 % 110) as usize);
                    }
                    ended.store(true, Ordering::Release);
                });
                let (mut next, mut block) = (0, Block::default());
                let (mut seen, mut lost) = (0, 0);
                loop {
                    let is_last = ended.load(Ordering::Acquire);
                    let (more, gone) = read_on(&ring, &mut next, &mut block);
                    (seen, lost) = (seen + more, lost + gone);
                    if is_last {
                        break;
                    }
                }
                assert_eq!(seen + lost, RECORDS);
                assert!(seen > 0);
            });
        }
    }

    #[test]
    fn a_block_that_was_given_away_is_not_read() {
        let (ring, mut writer) = Ring::new(2 * BLOCK_WORDS * 8);
        (0..100).for_each(|number| write(&mut writer, number, 100));
        let mut block = Block::default();
        let readable = ring.readable();
        assert!(readable.start > 0);
        assert!(!ring.copy(readable.start - 1, &mut block));
        assert_eq!(block.records().count(), 0);
        assert!(ring.copy(readable.start, &mut block));
        assert!(block.records().count() > 0);
    }
}
