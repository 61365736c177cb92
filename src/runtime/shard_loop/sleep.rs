//! How a shard with nothing to do waits: in its ring, where sockets, other threads and the next
//! deadline end the wait alike.

use std::io;
use std::time::Duration;

use super::ShardLoop;
use crate::domain::throttle::Throttle;
use crate::domain::time::Now;
use crate::runtime::allocator;
use crate::shard::input::Input;

/// Over that time a shard is looked at for being quiet.
const QUIET: Duration = Duration::from_secs(1);
/// Turns in it of one that is.
const QUIET_TURNS_MAX: u64 = 100;
/// Memory of the process that has come since it was given back last, and makes it worth while to do
/// so again; and what the shard itself keeps for later use.
const GROWN_BYTES_MIN: u64 = 1_024 * 1_024;
const UNUSED_BYTES_MIN: usize = 256 * 1_024;
/// Giving back takes this part of a shard's time at most: one in so many milliseconds.
const GIVE_BACK_ONE_IN: u64 = 100;
/// Pause before trying a full mesh link again, if nothing else wakes the shard.
const LINK_RETRY: Duration = Duration::from_millis(1);
/// A turn that begins so much later than it should is the process's own stall: ten times the
/// longest turns of a storm.
const LATE_MS: u64 = 500;

/// What the log says about it, for all shards.
static STOOD_STILL: Throttle = Throttle::new();

/// Whether a shard has been quiet, and when it may give memory back again.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    /// When it was last looked, and how many turns there had been.
    looked_ms: u64,
    turns: u64,
    give_back_ms: u64,
}

impl Quiet {
    /// Whether the time since the last look was a quiet one, of a second at least.
    fn looks_quiet(&mut self, now_ms: u64, turns: u64) -> bool {
        if now_ms < self.looked_ms + QUIET.as_millis() as u64 {
            return false;
        }
        let since = turns - self.turns;
        (self.looked_ms, self.turns) = (now_ms, turns);
        since <= QUIET_TURNS_MAX
    }
}

impl ShardLoop {
    /// A turn begins: if it does so late, peers are not to blame for what they did not do, or did
    /// not get, meanwhile.
    pub(super) fn forgive_lateness(&mut self, now: Now) {
        let late_ms = now.mono_ms.saturating_sub(self.due_ms);
        if late_ms >= LATE_MS {
            self.shard.forgive(late_ms, now);
            if let Some(times) = STOOD_STILL.pass(now.mono_ms) {
                let shard = self.shard.number();
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

    /// Sleeps until there is something to do.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        self.wake.prepare_to_sleep();
        if self.mesh_in.is_empty() && self.commands.is_empty() {
            let now_ms = self.clock.now().mono_ms;
            let timeout = self.until_next_deadline(now_ms);
            if now_ms.saturating_sub(self.due_ms) < LATE_MS {
                let slept_ms = timeout.map_or(u64::MAX, |timeout| timeout.as_millis() as u64);
                self.due_ms = now_ms.saturating_add(slept_ms);
            }
            self.wait(timeout)?;
        }
        self.wake.awake();
        Ok(())
    }

    /// Waits in the ring. While there is memory to give back, the shard looks each second whether
    /// it has become quiet, and then does.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let is_some = self.shard.unused_bytes() >= UNUSED_BYTES_MIN
            || self.memory.grown_bytes() >= GROWN_BYTES_MIN;
        if !is_some {
            return self.ring.wait(timeout);
        }
        self.ring
            .wait(Some(timeout.map_or(QUIET, |timeout| timeout.min(QUIET))))?;
        let turns = self.shard.metrics().counters.turns;
        let now = self.clock.now();
        if self.quiet.looks_quiet(now.mono_ms, turns) && now.mono_ms >= self.quiet.give_back_ms {
            self.handle(Input::Quiet, now);
            allocator::give_back();
            self.memory.note_given_back();
            let took_ms = self.clock.now().mono_ms - now.mono_ms;
            self.quiet.give_back_ms = now.mono_ms + took_ms * GIVE_BACK_ONE_IN;
        }
        Ok(())
    }

    fn until_next_deadline(&self, now_ms: u64) -> Option<Duration> {
        let paused = self.paused_listeners.iter().map(|(_, at)| *at).min();
        let deadlines = self.shard.next_deadline_ms().into_iter();
        let deadline_ms = deadlines.chain(paused).min();
        let timeout = deadline_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        if self.mesh_out.has_backlog() {
            return Some(timeout.map_or(LINK_RETRY, |timeout| timeout.min(LINK_RETRY)));
        }
        timeout
    }
}
