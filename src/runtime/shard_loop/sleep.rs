//! How a shard with nothing to do waits: in its ring, where sockets, other threads and the next
//! deadline end the wait alike.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::runtime::clock::NS_PER_MS;
use crate::runtime::wake::Wake;
use crate::shard::state::Shard;

/// A turn that begins so much later than it should is the process's own stall: ten times the
/// longest turns of a storm.
const LATE_MS: u64 = 500;

/// What the log says about it, for all shards.
static STOOD_STILL: Throttle = Throttle::new();

/// See the top of this file.
pub(super) struct Sleep {
    wake: Arc<Wake>,
    /// When the next turn should begin, in milliseconds on the monotonic clock.
    due_ms: u64,
}

impl Sleep {
    /// `wake` ends it.
    pub(super) fn new(wake: Arc<Wake>) -> Self {
        Self {
            wake,
            due_ms: u64::MAX,
        }
    }

    /// A turn begins: if it does so late, peers are not to blame for what they did not do, or did
    /// not get, meanwhile.
    pub(super) fn forgive_lateness(&mut self, shard: &mut Shard, now: Now) {
        let late_ms = now.mono_ms.saturating_sub(self.due_ms);
        if late_ms >= LATE_MS {
            shard.forgive(late_ms, now);
            if let Some(times) = STOOD_STILL.pass(now.mono_ms) {
                let shard = shard.number();
                tracing::warn!(
                    shard,
                    late_ms,
                    times,
                    "the shard stood still: the process was stopped, or had no core to run on"
                );
            }
        }
        // Unless there is nothing to do until later.
        self.due_ms = now.mono_ms;
    }

    /// The shard will sleep unless it finds news when it looks once more, after this.
    pub(super) fn prepare(&self) {
        self.wake.prepare_to_sleep();
    }

    /// The shard sleeps from now on, for so long at most.
    pub(super) fn begin(&mut self, now_ms: u64, timeout: Option<Duration>) {
        if now_ms.saturating_sub(self.due_ms) < LATE_MS {
            let slept_ms = timeout.map_or(u64::MAX, |timeout| timeout.as_millis() as u64);
            self.due_ms = now_ms.saturating_add(slept_ms);
        }
    }

    /// A pause is over for which nobody is to blame: lateness counts from now on.
    pub(super) fn begin_anew(&mut self, now: Now) {
        self.due_ms = now.mono_ms;
    }

    /// The shard is awake, and looks for news by itself.
    pub(super) fn end(&self) {
        self.wake.awake();
    }
}

/// How long it is until then. A deadline comes with the first nanosecond of its millisecond: what
/// is done each millisecond would be done every second one if the sleep were a whole one.
pub(super) fn until(deadline_ms: u64, now_ns: u64) -> Duration {
    let deadline_ns = deadline_ms.saturating_mul(NS_PER_MS);
    Duration::from_nanos(deadline_ns.saturating_sub(now_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::ms;

    #[test]
    fn a_sleep_ends_when_the_millisecond_of_the_deadline_begins() {
        assert_eq!(until(12, 10_950_000), Duration::from_micros(1_050));
        assert_eq!(until(12, 12_000_000), Duration::ZERO);
        assert_eq!(until(12, 13_000_000), Duration::ZERO, "it is over");
        assert_eq!(ms(10_950_000 + until(12, 10_950_000).as_nanos() as u64), 12);
        assert!(until(u64::MAX, 1) > Duration::from_secs(1_000_000_000));
    }
}
