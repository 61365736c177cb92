//! The mesh: a lock-free link for each ordered pair of shards, on which batches travel.
//!
//! One batch per destination and turn. A link takes a bounded number of batches; what does not
//! fit waits here, in order, and is part of the next batch, so that a slow link gets larger
//! batches, not more of them. Receiving never waits for sending: two shards that both wait for
//! room would do so for ever. The backlog is bounded by holding back whatever feeds it, see
//! [`Input::Link`](crate::shard::input::Input::Link).

use std::sync::Arc;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::ids::ShardId;
use crate::runtime::wake::Wake;
use crate::shard::mesh_message::MeshMessage;

/// What crosses a link at once.
pub type Batch = Vec<MeshMessage>;

/// Batches that a link holds before its sender keeps them back.
const LINK_BATCHES_MAX: usize = 64;
/// Bytes kept back for one link before what feeds it is held back too.
const BACKLOG_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// Links between all pairs of shards, in both directions: the two ends that each shard has.
/// `wakes` holds what wakes each shard.
#[must_use]
pub fn link_all(wakes: &[Arc<Wake>]) -> Vec<(MeshOut, MeshIn)> {
    let mut ends: Vec<_> = wakes
        .iter()
        .map(|_| (MeshOut::default(), MeshIn::default()))
        .collect();
    for from in 0..wakes.len() {
        for (to, wake) in wakes.iter().enumerate() {
            if from == to {
                ends[from].0.links.push(None);
                continue;
            }
            let (sender, receiver) = RingBuffer::new(LINK_BATCHES_MAX);
            ends[from].0.links.push(Some(Link {
                sender,
                wake: wake.clone(),
                backlog: Batch::new(),
                over_limit: false,
            }));
            ends[to].1.links.push((ShardId(from as u16), receiver));
        }
    }
    ends
}

/// The outgoing links of one shard, by the number of the other one; none to itself.
#[derive(Default)]
pub struct MeshOut {
    links: Vec<Option<Link>>,
}

struct Link {
    sender: Producer<Batch>,
    /// Wakes the other shard.
    wake: Arc<Wake>,
    backlog: Batch,
    over_limit: bool,
}

impl MeshOut {
    /// Sends what the turn has produced, behind what is still kept back. Reports each link that
    /// has passed its limit, or is below half of it again.
    pub fn send(&mut self, produced: &mut [Batch], mut changed: impl FnMut(ShardId, bool)) {
        for (to, (link, batch)) in self.links.iter_mut().zip(produced).enumerate() {
            if let Some(link) = link
                && let Some(over_limit) = link.send(batch)
            {
                changed(ShardId(to as u16), over_limit);
            }
        }
    }

    /// Whether something is kept back, so that the links must be tried again soon.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let mut links = self.links.iter().flatten();
        links.any(|link| !link.backlog.is_empty())
    }
}

impl Link {
    /// Answers whether the link is over its limit, where that has changed.
    fn send(&mut self, batch: &mut Batch) -> Option<bool> {
        if self.backlog.is_empty() {
            std::mem::swap(&mut self.backlog, batch);
        } else {
            self.backlog.append(batch);
        }
        if self.backlog.is_empty() {
            return None;
        }
        match self.sender.push(std::mem::take(&mut self.backlog)) {
            Ok(()) => self.wake.wake(),
            Err(PushError::Full(batch)) => self.backlog = batch,
        }
        let bytes_max = match self.over_limit {
            true => BACKLOG_BYTES_MAX / 2,
            false => BACKLOG_BYTES_MAX,
        };
        let over = self.backlog.iter().map(MeshMessage::weight).sum::<usize>() > bytes_max;
        (std::mem::replace(&mut self.over_limit, over) != over).then_some(over)
    }
}

/// The incoming links of one shard.
#[derive(Default)]
pub struct MeshIn {
    links: Vec<(ShardId, Consumer<Batch>)>,
}

impl MeshIn {
    /// Whether no batch has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.iter().all(|(_, link)| link.is_empty())
    }

    /// Hands out the batches that have come, link by link and those of a link in order. What
    /// comes meanwhile waits for the next call.
    pub fn take(&mut self, mut handle: impl FnMut(ShardId, Batch)) {
        for (from, link) in &mut self.links {
            for _ in 0..link.slots() {
                if let Ok(batch) = link.pop() {
                    handle(*from, batch);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<(MeshOut, MeshIn)> {
        let wakes: Vec<_> = (0..3).map(|_| Arc::new(Wake::new().unwrap())).collect();
        link_all(&wakes)
    }

    /// What a turn of shard 0 has for shard 2.
    fn for_shard_2(numbers: impl Iterator<Item = u64>) -> Vec<Batch> {
        vec![
            Batch::new(),
            Batch::new(),
            numbers.map(MeshMessage::Reach).collect(),
        ]
    }

    fn taken(mesh: &mut MeshIn) -> Vec<(ShardId, u64)> {
        let mut taken = Vec::new();
        mesh.take(|from, batch| {
            for message in batch {
                let MeshMessage::Reach(number) = message else {
                    panic!("{message:?}");
                };
                taken.push((from, number));
            }
        });
        taken
    }

    #[test]
    fn batches_arrive_at_their_shard_only() {
        let mut links = links();
        links[0].0.send(&mut for_shard_2(0..3), |_, _| panic!());
        links[1].0.send(&mut for_shard_2(3..4), |_, _| panic!());
        assert!(links[0].1.is_empty() && links[1].1.is_empty());
        let expected = [(0, 0), (0, 1), (0, 2), (1, 3)].map(|(from, it)| (ShardId(from), it));
        assert_eq!(taken(&mut links[2].1), expected);
        assert!(links[2].1.is_empty());
    }

    #[test]
    fn what_a_full_link_keeps_back_arrives_in_order() {
        let mut links = links();
        let count = LINK_BATCHES_MAX as u64 + 20;
        for number in 0..count {
            let mut produced = for_shard_2(number..number + 1);
            links[0].0.send(&mut produced, |_, _| panic!());
            assert!(produced[2].is_empty());
        }
        assert!(links[0].0.has_backlog());
        let mut all = taken(&mut links[2].1);
        assert_eq!(all.len(), LINK_BATCHES_MAX);
        links[0]
            .0
            .send(&mut for_shard_2(count..count + 1), |_, _| panic!());
        assert!(!links[0].0.has_backlog());
        all.extend(taken(&mut links[2].1));
        let expected: Vec<_> = (0..=count).map(|number| (ShardId(0), number)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_backlog_over_its_limit_is_told_once_and_so_is_its_end() {
        let mut links = links();
        let mut changes = Vec::new();
        let per_turn = 10_000;
        let turns_max = LINK_BATCHES_MAX + BACKLOG_BYTES_MAX / per_turn;
        for _ in 0..turns_max {
            let mut produced = for_shard_2(0..per_turn as u64);
            links[0]
                .0
                .send(&mut produced, |to, over| changes.push((to, over)));
            if !changes.is_empty() {
                break;
            }
        }
        let mut produced = for_shard_2(0..1);
        links[0]
            .0
            .send(&mut produced, |to, over| changes.push((to, over)));
        assert_eq!(changes, [(ShardId(2), true)]);
        taken(&mut links[2].1);
        let mut produced = for_shard_2(0..1);
        links[0]
            .0
            .send(&mut produced, |to, over| changes.push((to, over)));
        assert_eq!(changes, [(ShardId(2), true), (ShardId(2), false)]);
    }
}
