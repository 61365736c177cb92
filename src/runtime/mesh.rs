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

/// A batch under way.
struct Sent {
    /// When the first of it was to be sent, in nanoseconds on the monotonic clock.
    at_ns: u64,
    batch: Batch,
}

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
                backlog_since_ns: 0,
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
    sender: Producer<Sent>,
    /// Wakes the other shard.
    wake: Arc<Wake>,
    backlog: Batch,
    /// When the first of it was to be sent.
    backlog_since_ns: u64,
    over_limit: bool,
}

impl MeshOut {
    /// Sends what the turn has produced, behind what is still kept back. Reports each link that
    /// has passed its limit, or is below half of it again. Answers how many messages are new.
    pub fn send(
        &mut self,
        produced: &mut [Batch],
        now_ns: u64,
        mut changed: impl FnMut(ShardId, bool),
    ) -> usize {
        let count = produced.iter().map(Vec::len).sum();
        for (to, (link, batch)) in self.links.iter_mut().zip(produced).enumerate() {
            if let Some(link) = link
                && let Some(over_limit) = link.send(batch, now_ns)
            {
                changed(ShardId(to as u16), over_limit);
            }
        }
        count
    }

    /// Whether something is kept back, so that the links must be tried again soon.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let mut links = self.links.iter().flatten();
        links.any(|link| !link.backlog.is_empty())
    }

    /// How many messages are kept back.
    #[must_use]
    pub fn backlog_len(&self) -> usize {
        let links = self.links.iter().flatten();
        links.map(|link| link.backlog.len()).sum()
    }
}

impl Link {
    /// Answers whether the link is over its limit, where that has changed.
    fn send(&mut self, batch: &mut Batch, now_ns: u64) -> Option<bool> {
        if self.backlog.is_empty() {
            self.backlog_since_ns = now_ns;
            std::mem::swap(&mut self.backlog, batch);
        } else {
            self.backlog.append(batch);
        }
        if self.backlog.is_empty() {
            return None;
        }
        let sent = Sent {
            at_ns: self.backlog_since_ns,
            batch: std::mem::take(&mut self.backlog),
        };
        match self.sender.push(sent) {
            Ok(()) => self.wake.wake(),
            Err(PushError::Full(sent)) => self.backlog = sent.batch,
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
    links: Vec<(ShardId, Consumer<Sent>)>,
}

impl MeshIn {
    /// Whether no batch has come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.links.iter().all(|(_, link)| link.is_empty())
    }

    /// How many batches have come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.links.iter().map(|(_, link)| link.slots()).sum()
    }

    /// Hands out the batches that have come, link by link and those of a link in order, and when
    /// each was sent. What comes meanwhile waits for the next call.
    pub fn take(&mut self, mut handle: impl FnMut(ShardId, u64, Batch)) {
        for (from, link) in &mut self.links {
            for _ in 0..link.slots() {
                if let Ok(sent) = link.pop() {
                    handle(*from, sent.at_ns, sent.batch);
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
        mesh.take(|from, _, batch| {
            taken.extend(numbers(batch).map(|number| (from, number)));
        });
        taken
    }

    fn numbers(batch: Batch) -> impl Iterator<Item = u64> {
        batch.into_iter().map(|message| {
            let MeshMessage::Reach(number) = message else {
                panic!("{message:?}");
            };
            number
        })
    }

    #[test]
    fn batches_arrive_at_their_shard_only() {
        let mut links = links();
        let new = links[0].0.send(&mut for_shard_2(0..3), 0, |_, _| panic!());
        assert_eq!(new, 3);
        links[1].0.send(&mut for_shard_2(3..4), 0, |_, _| panic!());
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
            let now_ns = 1_000 + number;
            links[0].0.send(&mut produced, now_ns, |_, _| panic!());
            assert!(produced[2].is_empty());
        }
        assert!(links[0].0.has_backlog());
        assert_eq!(
            (links[0].0.backlog_len(), links[2].1.len()),
            (20, LINK_BATCHES_MAX)
        );
        let mut all = taken(&mut links[2].1);
        assert_eq!(all.len(), LINK_BATCHES_MAX);
        links[0]
            .0
            .send(&mut for_shard_2(count..count + 1), 5_000, |_, _| panic!());
        assert!(!links[0].0.has_backlog());
        let mut sent_ns = 0;
        links[2].1.take(|_, at_ns, batch| {
            sent_ns = at_ns;
            all.extend(numbers(batch).map(|number| (ShardId(0), number)));
        });
        assert_eq!(
            sent_ns,
            1_000 + LINK_BATCHES_MAX as u64,
            "the oldest of what waited"
        );
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
                .send(&mut produced, 0, |to, over| changes.push((to, over)));
            if !changes.is_empty() {
                break;
            }
        }
        let mut produced = for_shard_2(0..1);
        links[0]
            .0
            .send(&mut produced, 0, |to, over| changes.push((to, over)));
        assert_eq!(changes, [(ShardId(2), true)]);
        taken(&mut links[2].1);
        let mut produced = for_shard_2(0..1);
        links[0]
            .0
            .send(&mut produced, 0, |to, over| changes.push((to, over)));
        assert_eq!(changes, [(ShardId(2), true), (ShardId(2), false)]);
    }
}
