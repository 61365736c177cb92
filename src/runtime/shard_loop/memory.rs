//! The process's memory, as the shard hears of it, and what it gives back.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Now;
use crate::runtime::allocator;
use crate::runtime::clock::Clock;
use crate::runtime::memory::{Memory, Pressure};
use crate::shard::input::{Input, MemoryLevel};
use crate::shard::state::Shard;

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

/// Whether a shard has been quiet, and when it may give memory back again.
#[derive(Debug, Default)]
struct Quiet {
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

/// See the top of this file.
pub(super) struct MemoryWatch {
    memory: Arc<Memory>,
    /// What this shard knows about it, and from which reading.
    level: MemoryLevel,
    reading: u64,
    quiet: Quiet,
}

impl MemoryWatch {
    /// Of the process that these shards share.
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            level: MemoryLevel::default(),
            reading: 0,
            quiet: Quiet::default(),
        }
    }

    /// How tight it is, as far as this shard knows.
    pub(super) fn level(&self) -> MemoryLevel {
        self.level
    }

    /// Tells the shard what the last reading of the process's memory says, where that asks for
    /// anything.
    pub(super) fn look(&mut self, shard: &mut Shard, now: Now) {
        self.memory.look(now.mono_ms);
        let Pressure {
            reading,
            level,
            excess_bytes,
        } = self.memory.pressure();
        let is_news = reading != self.reading;
        self.reading = reading;
        if is_news && (level != self.level || level == MemoryLevel::AtCeiling) {
            self.level = level;
            let shard_count = shard.effects().mesh.len();
            let excess_bytes = excess_bytes as usize / shard_count;
            let memory = Input::Memory {
                level,
                excess_bytes,
            };
            shard.handle(memory, now);
            if level == MemoryLevel::AtCeiling {
                // What the allocator keeps would be taken for memory in use, and cost others
                // their connections at the next reading.
                allocator::give_back();
            }
        }
    }

    /// How long the shard sleeps at most that has nothing to do for so long. While there is memory
    /// to give back, the shard looks each second whether it has become quiet.
    pub(super) fn bound_sleep(&self, shard: &Shard, timeout: Option<Duration>) -> Option<Duration> {
        match self.has_unused(shard) {
            true => Some(timeout.map_or(QUIET, |timeout| timeout.min(QUIET))),
            false => timeout,
        }
    }

    /// The shard has slept: if it has become quiet, it gives back what is unused.
    pub(super) fn slept(&mut self, shard: &mut Shard, clock: &Clock) {
        if !self.has_unused(shard) {
            return;
        }
        let turns = shard.metrics().counters.turns;
        let now = clock.now();
        if self.quiet.looks_quiet(now.mono_ms, turns) && now.mono_ms >= self.quiet.give_back_ms {
            shard.handle(Input::Quiet, now);
            allocator::give_back();
            self.memory.note_given_back();
            let took_ms = clock.now().mono_ms - now.mono_ms;
            self.quiet.give_back_ms = now.mono_ms + took_ms * GIVE_BACK_ONE_IN;
        }
    }

    fn has_unused(&self, shard: &Shard) -> bool {
        shard.unused_bytes() >= UNUSED_BYTES_MIN || self.memory.grown_bytes() >= GROWN_BYTES_MIN
    }
}
