//! The mesh: a lock-free link for each ordered pair of shards, on which batches travel.
//!
//! One batch per destination and turn. A link takes a bounded number of batches; what does not
//! fit waits here, in order, and is part of the next batch, so that a slow link gets larger
//! batches, not more of them. Receiving never waits for sending: two shards that both wait for
//! room would do so for ever. The backlog is bounded by holding back the connections that feed
//! it, see [`Input::Link`](crate::shard::input::Input::Link).

use std::sync::Arc;
use std::vec;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::ids::ShardId;
use crate::limits::{LINK_BACKLOG_BYTES_MAX, LINK_BATCHES_MAX};
use crate::runtime::wake::Wake;
use crate::shard::mesh_message::MeshMessage;

/// What crosses a link at once.
pub(super) type Batch = Vec<MeshMessage>;

/// A batch under way.
struct Sent {
    /// When the first of it was to be sent, in nanoseconds on the monotonic clock.
    at_ns: u64,
    batch: Batch,
}

/// Messages of one link that are handed out before those of the next.
const MESSAGES_IN_A_ROW: usize = 64;
/// Links between all pairs of shards, in both directions: the two ends that each shard has.
/// `wakes` holds what wakes each shard.
#[must_use]
pub(super) fn link_all(wakes: &[Arc<Wake>]) -> Vec<(MeshOut, MeshIn)> {
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
                backlog_bytes: 0,
                over_limit: false,
            }));
            ends[to].1.links.push(Inbox {
                from: ShardId(from as u16),
                receiver,
                begun: Batch::new().into_iter(),
            });
        }
    }
    ends
}

/// The outgoing links of one shard, by the number of the other one; none to itself.
#[derive(Default)]
pub(super) struct MeshOut {
    links: Vec<Option<Link>>,
}

struct Link {
    sender: Producer<Sent>,
    /// Wakes the other shard.
    wake: Arc<Wake>,
    backlog: Batch,
    /// When the first of it was to be sent.
    backlog_since_ns: u64,
    /// What it weighs.
    backlog_bytes: usize,
    over_limit: bool,
}

impl MeshOut {
    /// Sends what the turn has produced, behind what is still kept back. Reports each link that
    /// has passed its limit, or is below half of it again. Returns how many messages are new.
    pub(super) fn send(
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
    pub(super) fn has_backlog(&self) -> bool {
        let mut links = self.links.iter().flatten();
        links.any(|link| !link.backlog.is_empty())
    }

    /// What is kept back for a shard, in bytes.
    #[must_use]
    pub(super) fn backlog_bytes(&self, to: ShardId) -> u64 {
        let link = self.links.get(to.index()).and_then(Option::as_ref);
        link.map_or(0, |link| link.backlog_bytes as u64)
    }

    /// How many messages are kept back.
    #[must_use]
    pub(super) fn backlog_len(&self) -> usize {
        let links = self.links.iter().flatten();
        links.map(|link| link.backlog.len()).sum()
    }
}

impl Link {
    /// Panics unless what it says of its backlog is true.
    fn check(&self) {
        let weight: usize = self.backlog.iter().map(MeshMessage::weight).sum();
        assert_eq!(self.backlog_bytes, weight, "what a backlog weighs");
        assert!(self.backlog_bytes <= LINK_BACKLOG_BYTES_MAX || self.over_limit);
    }

    /// Returns whether the link is over its limit, where that has changed.
    fn send(&mut self, batch: &mut Batch, now_ns: u64) -> Option<bool> {
        self.backlog_bytes += batch.iter().map(MeshMessage::weight).sum::<usize>();
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
            Ok(()) => {
                self.backlog_bytes = 0;
                self.wake.wake();
            }
            Err(PushError::Full(sent)) => self.backlog = sent.batch,
        }
        let bytes_max = match self.over_limit {
            true => LINK_BACKLOG_BYTES_MAX / 2,
            false => LINK_BACKLOG_BYTES_MAX,
        };
        let over = self.backlog_bytes > bytes_max;
        let was_over = std::mem::replace(&mut self.over_limit, over);
        if cfg!(debug_assertions) {
            self.check();
        }
        (was_over != over).then_some(over)
    }
}

/// The incoming links of one shard.
#[derive(Default)]
pub(super) struct MeshIn {
    links: Vec<Inbox>,
    /// The link whose turn it is, and for how many messages more.
    at: usize,
    left: usize,
}

/// The receiving end of one link.
struct Inbox {
    from: ShardId,
    receiver: Consumer<Sent>,
    /// What is left of the batch that was begun.
    begun: vec::IntoIter<MeshMessage>,
}

/// A message that has come.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The shard that sent it.
    pub from: ShardId,
    /// The message itself.
    pub message: MeshMessage,
    /// When its batch was sent, with the first message of each batch: in nanoseconds on the
    /// monotonic clock.
    pub sent_ns: Option<u64>,
}

impl MeshIn {
    /// Whether no message has come.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many batches have come, those that were begun included.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.links.iter().map(Inbox::len).sum()
    }

    /// The next message: those of a link in order, the links in turn, so that a long batch does
    /// not keep the others waiting.
    pub(super) fn next(&mut self) -> Option<Incoming> {
        for _ in 0..=self.links.len() {
            if self.left > 0
                && let Some(incoming) = self.links.get_mut(self.at).and_then(Inbox::next)
            {
                self.left -= 1;
                return Some(incoming);
            }
            self.at = (self.at + 1) % self.links.len().max(1);
            self.left = MESSAGES_IN_A_ROW;
        }
        None
    }
}

impl Inbox {
    fn len(&self) -> usize {
        self.receiver.slots() + usize::from(self.begun.len() > 0)
    }

    fn next(&mut self) -> Option<Incoming> {
        let mut sent_ns = None;
        if self.begun.len() == 0 {
            // No batch is empty.
            let sent = self.receiver.pop().ok()?;
            sent_ns = Some(sent.at_ns);
            self.begun = sent.batch.into_iter();
        }
        Some(Incoming {
            from: self.from,
            message: self.begun.next()?,
            sent_ns,
        })
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
        vec![Batch::new(), Batch::new(), numbers.map(numbered).collect()]
    }

    /// A message that is known again by its number.
    fn numbered(number: u64) -> MeshMessage {
        let ticket = crate::ids::Ticket {
            slot: number as u32,
            generation: 0,
        };
        MeshMessage::Reach { ticket }
    }

    fn taken(mesh: &mut MeshIn) -> Vec<(ShardId, u64)> {
        incoming(mesh)
            .map(|(from, number, _)| (from, number))
            .collect()
    }

    /// From whom, which number, and when its batch was sent.
    fn incoming(mesh: &mut MeshIn) -> impl Iterator<Item = (ShardId, u64, Option<u64>)> {
        std::iter::from_fn(|| mesh.next()).map(|incoming| match incoming.message {
            MeshMessage::Reach { ticket } => {
                (incoming.from, u64::from(ticket.slot), incoming.sent_ns)
            }
            message => panic!("{message:?}"),
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
        let mut all = taken(&mut links[2].1);
        all.sort_unstable();
        assert_eq!(all, expected);
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
        let mut sent_ns = None;
        for (from, number, batch_sent_ns) in incoming(&mut links[2].1) {
            sent_ns = sent_ns.or(batch_sent_ns);
            all.push((from, number));
        }
        let oldest = 1_000 + LINK_BATCHES_MAX as u64;
        assert_eq!(sent_ns, Some(oldest));
        let expected: Vec<_> = (0..=count).map(|number| (ShardId(0), number)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_long_batch_does_not_keep_the_other_links_waiting() {
        let mut links = links();
        let long = 0..10 * MESSAGES_IN_A_ROW as u64;
        links[0]
            .0
            .send(&mut for_shard_2(long.clone()), 1, |_, _| panic!());
        links[1].0.send(&mut for_shard_2(7..9), 2, |_, _| panic!());
        assert_eq!(links[2].1.len(), 2);
        let all: Vec<_> = incoming(&mut links[2].1).collect();
        let place = all.iter().position(|it| *it == (ShardId(1), 7, Some(2)));
        assert!(place.unwrap() <= MESSAGES_IN_A_ROW, "{place:?}");
        let of_long: Vec<u64> = all
            .iter()
            .filter(|(from, ..)| *from == ShardId(0))
            .map(|(_, number, _)| *number)
            .collect();
        assert_eq!(of_long, long.collect::<Vec<_>>());
        assert_eq!(all.iter().filter(|it| it.2.is_some()).count(), 2);
    }

    #[test]
    fn a_batch_that_was_begun_is_not_forgotten() {
        let mut links = links();
        links[0].0.send(&mut for_shard_2(0..3), 1, |_, _| panic!());
        assert!(links[2].1.next().is_some());
        assert_eq!(links[2].1.len(), 1);
        assert_eq!(taken(&mut links[2].1), [(ShardId(0), 1), (ShardId(0), 2)]);
        assert!(links[2].1.is_empty() && links[2].1.next().is_none());
    }

    #[test]
    fn a_backlog_over_its_limit_is_told_once_and_so_is_its_end() {
        let mut links = links();
        let mut changes = Vec::new();
        let per_turn = 10_000;
        let turns_max = LINK_BATCHES_MAX + LINK_BACKLOG_BYTES_MAX / per_turn;
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
