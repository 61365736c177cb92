//! What the loop measures around the shard's inputs.
//!
//! The clock is read when a turn begins and ends, for each socket that is read, each batch that
//! comes, those that go, and where something ends: 20 to 30 ns each time, beside 1 µs and more
//! for the read or write that it is about.

use crate::domain::time::Now;
use crate::metrics::Stage;
use crate::runtime::clock::Clock;
use crate::shard::state::Shard;

/// A turn has begun.
pub(super) fn begin_turn(shard: &mut Shard, now: Now, began_ns: u64) {
    shard.stamp(began_ns);
    let metrics = shard.metrics();
    metrics.counters.turns += 1;
    metrics.latencies.turn_windows(now.mono_ms);
}

/// A turn ends that began at `began_ns`. Returns the time.
pub(super) fn end_turn(shard: &mut Shard, clock: &Clock, began_ns: u64) -> u64 {
    let now_ns = clock.mono_ns();
    let took_ns = now_ns - began_ns;
    shard.metrics().latencies.record(Stage::LoopLag, took_ns);
    now_ns
}

/// A socket that was known to be readable at `ready_ns` is read. Returns the time.
pub(super) fn begin_read(shard: &mut Shard, clock: &Clock, ready_ns: u64) -> u64 {
    begin(shard, clock, Stage::ReadToCommand, ready_ns)
}

/// A batch is handled that another shard sent at `sent_ns`.
pub(super) fn begin_batch(shard: &mut Shard, clock: &Clock, sent_ns: u64) {
    begin(shard, clock, Stage::MeshHop, sent_ns);
}

fn begin(shard: &mut Shard, clock: &Clock, stage: Stage, since_ns: u64) -> u64 {
    let now_ns = clock.mono_ns();
    shard.stamp(now_ns);
    let waited_ns = now_ns.saturating_sub(since_ns);
    shard.metrics().latencies.record(stage, waited_ns);
    now_ns
}

/// Measures what the shard says has ended.
pub(super) fn end_spans(shard: &mut Shard, clock: &Clock) {
    if shard.effects().ended.is_empty() {
        return;
    }
    let now_ns = clock.mono_ns();
    let mut ended = std::mem::take(&mut shard.effects_mut().ended);
    let latencies = &mut shard.metrics().latencies;
    for span in ended.drain(..) {
        latencies.record(span.stage, now_ns.saturating_sub(span.began_ns));
    }
    shard.effects_mut().ended = ended;
}
