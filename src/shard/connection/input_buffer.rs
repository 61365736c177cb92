//! Bytes of one connection that have come but cannot be used yet.

/// An incomplete head, body or frame, or everything that came while input is held back. Owns no
/// memory when empty. Using bytes from its front moves nothing; adding to its end moves what is
/// left once, which is less than one unit of the protocol and one read.
#[derive(Debug, Default)]
pub(in crate::shard) struct InputBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes`, from the front, have been used.
    used: usize,
}

impl InputBuffer {
    /// Bytes that wait.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Whether none wait.
    #[inline]
    #[must_use]
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of memory that it owns.
    #[cfg(test)]
    #[must_use]
    pub(in crate::shard) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds what came.
    pub(in crate::shard) fn append(&mut self, more: &[u8]) {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// What waits.
    pub(in crate::shard) fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// What waits. It may be changed in place.
    pub(in crate::shard) fn waiting(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// Notes that the first `count` bytes have been used.
    pub(in crate::shard) fn consume(&mut self, count: usize) {
        self.used += count;
        debug_assert!(self.used <= self.bytes.len());
        if self.used >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_came() {
        let mut buffer = InputBuffer::default();
        let (mut came, mut used) = (Vec::new(), Vec::new());
        for round in 0..200_u8 {
            let more = vec![round; usize::from(round % 7)];
            came.extend_from_slice(&more);
            buffer.append(&more);
            let count = buffer.len().min(usize::from(round % 5));
            used.extend_from_slice(&buffer.waiting()[..count]);
            buffer.consume(count);
            assert_eq!(buffer.len(), came.len() - used.len());
        }
        used.extend_from_slice(buffer.waiting());
        assert_eq!(used, came);
    }

    #[test]
    fn used_bytes_are_given_back() {
        let mut buffer = InputBuffer::default();
        for _ in 0..1_000 {
            buffer.append(&[7; 1_000]);
            buffer.consume(990);
            let left = buffer.len();
            buffer.consume(left - 10);
            assert!(buffer.capacity() < 4_000);
        }
        buffer.consume(10);
        assert!(buffer.is_empty() && buffer.capacity() == 0);
    }
}
