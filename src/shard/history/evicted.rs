//! What a history gives way with when there is too little memory.

/// What of a history gives way next when there is too little memory. Of all histories, what
/// comes first here gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::shard) enum Stage {
    /// Its publications.
    Publications,
    /// Its numbering: nothing else is known of it.
    Numbering,
    /// Its ids, the oldest first.
    Ids,
    /// Its numbering, although the disk may have publications of it.
    StoredNumbering,
}

/// Publications before those that are kept, which only a lack of memory has ended: the disk
/// still has them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Evicted {
    /// The number of the first of them; 0: there is none.
    first: u64,
    /// From here on are those whose bytes are counted.
    counted_from: u64,
    bytes: usize,
}

impl Evicted {
    /// The number of the first of them.
    pub(in crate::shard) fn first(&self) -> Option<u64> {
        Some(self.first).filter(|it| *it > 0)
    }

    /// Those from a number to another one, whose bytes are not known any more.
    pub(in crate::shard) fn from(first: u64, last: u64) -> Self {
        Self {
            first,
            counted_from: last.max(first),
            bytes: 0,
        }
    }

    /// Another one, of so many bytes. Of those before it, as many bytes are held as a channel
    /// may keep, and at most twice as many.
    pub(in crate::shard) fn add(&mut self, seq: u64, bytes: usize, bytes_max: usize) {
        if self.first == 0 {
            *self = Self {
                first: seq,
                counted_from: seq,
                bytes: 0,
            };
        }
        self.bytes += bytes;
        if self.bytes > bytes_max {
            (self.first, self.counted_from, self.bytes) = (self.counted_from, seq + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_as_much_is_held_as_may_be_kept_and_at_most_twice_as_much() {
        let mut evicted = Evicted::default();
        assert_eq!(evicted.first(), None);
        for seq in 7..200 {
            evicted.add(seq, 10, 100);
            let first = evicted.first().unwrap();
            let bytes = 10 * (seq + 1 - first);
            assert!(first == 7 || bytes >= 100, "{bytes} bytes at {seq}");
            assert!(bytes <= 210, "{bytes} bytes at {seq}");
        }
    }
}
