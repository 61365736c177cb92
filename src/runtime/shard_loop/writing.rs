//! What is on its way to sockets and is measured when it has been written.
//!
//! It is written when its line of the flush queue has come as far as the line was long when it
//! was added: other lines are not waited for.

use std::collections::VecDeque;

use crate::metrics::Stage;
use crate::runtime::clock::Clock;
use crate::shard::effect::Effects;
use crate::shard::effect::Span;
use crate::shard::effect::Urgency;
use crate::shard::flush::{FlushQueue, LineMark};
use crate::shard::mesh_message::PublishedAt;
use crate::shard::state::Shard;

/// How many of a kind are measured each by itself in one turn. Those beyond are measured as if
/// they had come with the last of these.
const PER_TURN_MAX: u32 = 64;

/// Something to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// A publication, to members of this shard.
    Publication(PublishedAt),
    /// A message to one connection.
    Message(Span),
}

impl Writing {
    fn stage(self) -> Stage {
        match self {
            Self::Publication(_) => Stage::FanOut,
            Self::Message(span) => span.stage,
        }
    }
}

#[derive(Debug)]
struct Unwritten {
    what: Writing,
    /// For how many it stands.
    count: u32,
    until: LineMark,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Writings {
    /// By urgency; each oldest first.
    lines: [VecDeque<Unwritten>; 3],
    /// How many of each stage have been added in this turn.
    added: [u32; Stage::ALL.len()],
    written: Vec<(Writing, u32)>,
}

impl Writings {
    /// The messages of this turn are in the outboxes that stand in the queue now.
    pub(super) fn begin_turn(&mut self, effects: &mut Effects, queue: &FlushQueue) {
        self.added = [0; Stage::ALL.len()];
        for (fan_out, urgency) in effects.published.drain(..) {
            self.add(Writing::Publication(fan_out), urgency, queue);
        }
        for span in effects.writes.drain(..) {
            let urgency = match span.stage {
                Stage::Direct => Urgency::Live,
                _ => Urgency::Reply,
            };
            self.add(Writing::Message(span), urgency, queue);
        }
    }

    /// This turn's outboxes have been flushed: measures what was written with them.
    pub(super) fn end_turn(&mut self, queue: &FlushQueue, shard: &mut Shard, clock: &Clock) {
        let written = self.written(queue);
        if written.is_empty() {
            return;
        }
        let now_ns = clock.mono_ns();
        let since = |began_ns: u64| now_ns.saturating_sub(began_ns);
        let latencies = &mut shard.metrics().latencies;
        for (what, count) in written.drain(..) {
            match what {
                Writing::Publication(PublishedAt {
                    read_ns,
                    ordered_ns,
                }) => {
                    latencies.record_n(Stage::FanOut, since(read_ns), count);
                    latencies.record_n(Stage::OrderToLastWrite, since(ordered_ns), count);
                }
                Writing::Message(Span { stage, began_ns }) => {
                    latencies.record_n(stage, since(began_ns), count);
                }
            }
        }
    }

    /// Adds what is in the outboxes that stand in the queue.
    fn add(&mut self, what: Writing, urgency: Urgency, queue: &FlushQueue) {
        let line = &mut self.lines[urgency as usize];
        let added = &mut self.added[what.stage() as usize];
        *added += 1;
        if *added > PER_TURN_MAX {
            let mut newest = line.iter_mut().rev();
            if let Some(last) = newest.find(|it| it.what.stage() == what.stage()) {
                last.count += 1;
                return;
            }
        }
        line.push_back(Unwritten {
            what,
            count: 1,
            until: queue.line_mark(urgency),
        });
    }

    /// Takes out what has been written, and for how many each stands.
    fn written(&mut self, queue: &FlushQueue) -> &mut Vec<(Writing, u32)> {
        for line in &mut self.lines {
            while let Some(it) = line.pop_front_if(|it| queue.is_line_past(it.until)) {
                self.written.push((it.what, it.count));
            }
        }
        &mut self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnectionId;
    use crate::shard::effect::Dirty;

    fn message(stage: Stage, began_ns: u64) -> Writing {
        Writing::Message(Span { stage, began_ns })
    }

    fn push(queue: &mut FlushQueue, urgency: Urgency, count: u32) {
        for slot in 0..count {
            let generation = 0;
            queue.push(ConnectionId { slot, generation }, urgency);
        }
    }

    fn flush(queue: &mut FlushQueue) {
        queue.begin_turn(&mut Dirty::default(), 0);
        while queue.pop().is_some() {}
    }

    #[test]
    fn each_is_written_when_its_own_line_has_come_so_far() {
        let (mut writings, mut queue) = (Writings::default(), FlushQueue::default());
        push(&mut queue, Urgency::Live, 1);
        push(&mut queue, Urgency::Reply, 100);
        push(&mut queue, Urgency::Wide, 1_000);
        let publication = Writing::Publication(PublishedAt::default());
        let (direct, reply) = (message(Stage::Direct, 1), message(Stage::Reply, 2));
        writings.add(publication, Urgency::Wide, &queue);
        writings.add(direct, Urgency::Live, &queue);
        writings.add(reply, Urgency::Reply, &queue);
        assert!(writings.written(&queue).is_empty());
        let mut turns = Vec::new();
        for _ in 0..20 {
            flush(&mut queue);
            turns.push(std::mem::take(writings.written(&queue)));
        }
        assert_eq!(turns[0], [(direct, 1)]);
        let at = |what| turns.iter().position(|it| *it == [(what, 1)]).unwrap();
        assert!(at(direct) < at(reply) && at(reply) < at(publication));
        assert_eq!(turns.iter().flatten().count(), 3);
    }

    #[test]
    fn none_is_left_out_however_many_there_are() {
        let (mut writings, mut queue) = (Writings::default(), FlushQueue::default());
        for turn in 0..3 {
            push(&mut queue, Urgency::Reply, 10);
            writings.begin_turn(&mut Effects::new(1), &queue);
            for began_ns in 0..1_000 {
                let stage = [Stage::Reply, Stage::Snapshot][began_ns as usize % 2];
                writings.add(message(stage, began_ns), Urgency::Reply, &queue);
            }
            flush(&mut queue);
            let written = std::mem::take(writings.written(&queue));
            assert_eq!(written.len(), 2 * PER_TURN_MAX as usize, "turn {turn}");
            for stage in [Stage::Reply, Stage::Snapshot] {
                let of_stage = written.iter().filter(|(what, _)| what.stage() == stage);
                assert_eq!(of_stage.map(|(_, count)| count).sum::<u32>(), 500);
            }
        }
    }
}
