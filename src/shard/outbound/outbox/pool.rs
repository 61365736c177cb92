//! Empty buffers, ready to be used again.

/// Buffers above this many bytes of capacity are given back to the allocator, not to the pool.
const POOLED_CAPACITY_MAX: usize = 64 * 1_024;
/// Bytes of capacity that wait in the pool: enough for a fan-out of a few kilobytes to a thousand
/// subscribers, whose buffers are all in use before the first is flushed. Beyond this the
/// allocator serves as well.
const POOLED_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Bytes a fresh buffer holds at least, so that small frames do not grow it step by step.
const BUFFER_CAPACITY_MIN: usize = 512;

/// Empty buffers of one shard, ready to be used by its outboxes.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Vec<u8>>,
    /// Capacity of all of `free`.
    free_bytes: usize,
    /// See [`taken_bytes`](Self::taken_bytes).
    taken_bytes: u64,
}

impl BufferPool {
    pub(in crate::shard) fn take(&mut self, capacity: usize) -> Vec<u8> {
        let mut buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        self.enlarge(&mut buffer, capacity.max(BUFFER_CAPACITY_MIN));
        buffer
    }

    /// Makes room for so many bytes more in a buffer.
    pub(in crate::shard) fn enlarge(&mut self, buffer: &mut Vec<u8>, count: usize) {
        let capacity = buffer.capacity();
        buffer.reserve(count);
        self.note_taken(buffer.capacity() - capacity);
    }

    /// An outbox takes so many bytes more, or refers to as many.
    pub(in crate::shard) fn note_taken(&mut self, bytes: usize) {
        self.taken_bytes += bytes as u64;
    }

    /// Bytes that outboxes have taken from the allocator since the start, at most: what several
    /// share is counted for each of them, and what was given back is not subtracted.
    pub(in crate::shard) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    pub(in crate::shard) fn give_back(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        // One without memory would hide those that have some.
        if capacity > 0
            && capacity <= POOLED_CAPACITY_MAX
            && self.free_bytes + capacity <= POOLED_BYTES_MAX
        {
            self.free_bytes += capacity;
            buffer.clear();
            self.free.push(buffer);
        }
    }

    /// Bytes of memory that wait for their use.
    pub(in crate::shard) fn bytes(&self) -> usize {
        self.free_bytes
    }

    /// Gives all of it back.
    pub(in crate::shard) fn clear(&mut self) {
        self.free = Vec::new();
        self.free_bytes = 0;
    }

    /// How many buffers wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.free.len()
    }
}
