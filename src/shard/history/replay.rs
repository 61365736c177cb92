//! Publications on their way to one subscriber that has missed them: parts of blocks that others
//! share, sent a portion at a time.

use std::collections::VecDeque;

use crate::proto::wire::position::Position;
use crate::shard::history::blocks::Part;

/// Bytes that a portion has at most, but for one of a single larger frame: what follows it in the
/// queue of its connection waits no longer than one write takes.
const PORTION_BYTES_MAX: usize = 48 * 1_024;

/// See the top of this file.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    parts: VecDeque<Part>,
    bytes: usize,
    count: u32,
}

/// How a subscription goes on from what the subscriber has.
#[derive(Clone, Debug)]
pub struct Resumed {
    /// The present position; `None` where the channel has no history.
    pub position: Option<Position>,
    /// Whether nothing is missing; `None` where only the position was asked for.
    pub recovered: Option<bool>,
    /// What follows the ack.
    pub replay: Replay,
}

impl Resumed {
    /// Only the position was asked for.
    pub(in crate::shard) fn at(position: Option<Position>) -> Self {
        Self {
            position,
            recovered: None,
            replay: Replay::default(),
        }
    }

    /// What is missing cannot be had.
    pub(in crate::shard) fn lost(position: Option<Position>) -> Self {
        Self {
            recovered: Some(false),
            ..Self::at(position)
        }
    }
}

impl Replay {
    /// That many publications, in these parts.
    pub(in crate::shard) fn new(parts: VecDeque<Part>, count: u32) -> Self {
        let bytes = parts.iter().map(|(_, range)| range.len()).sum();
        Self {
            parts,
            bytes,
            count,
        }
    }

    /// How many publications it had at first.
    pub(in crate::shard) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that are left.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is left, in order.
    pub(in crate::shard) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.parts.iter();
        parts.map(|(frame, range)| &frame[range.clone()])
    }

    /// Whether nothing is left.
    pub(in crate::shard) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes the next portion.
    pub(in crate::shard) fn next_portion(&mut self) -> Vec<Part> {
        let (mut portion, mut bytes) = (Vec::new(), 0);
        while let Some((_, range)) = self.parts.front()
            && (bytes == 0 || bytes + range.len() <= PORTION_BYTES_MAX)
        {
            bytes += range.len();
            portion.extend(self.parts.pop_front());
        }
        self.bytes -= bytes;
        portion
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::frame::Frame;

    #[test]
    fn portions_are_bounded_and_none_is_left_out() {
        let part = |bytes: usize| (Frame::from(vec![0; bytes]), 0..bytes);
        let parts = [20_000, 20_000, 20_000, 100_000, 1, 48 * 1_024, 5].map(part);
        let mut replay = Replay::new(parts.into(), 7);
        let mut portions = Vec::new();
        while !replay.is_over() {
            let portion = replay.next_portion();
            portions.push(portion.iter().map(|(_, range)| range.len()).sum::<usize>());
        }
        assert_eq!(portions, [40_000, 20_000, 100_000, 1, 48 * 1_024, 5]);
        assert_eq!(replay.bytes(), 0);
        assert!(replay.next_portion().is_empty());
    }
}
