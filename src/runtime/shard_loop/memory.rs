//! The process's memory, as the shard hears of it, and what it gives back.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::time::Now;
use crate::runtime::allocator;
use crate::runtime::clock::{Clock, ms};
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
/// What has come since then, and makes it worth while for a shard that is not quiet, but has time;
/// and how long such a one waits then: live messages wait for some tens of milliseconds.
const GROWN_MUCH_BYTES: u64 = 32 * 1_024 * 1_024;
const NEXT_OF_AWAKE_MS: u64 = 10_000;
/// Giving back takes this part of a shard's time at most: one in so many milliseconds.
const GIVE_BACK_ONE_IN: u64 = 100;

/// What a shard had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Next to nothing.
    Quiet,
    /// It slept at least half of the time.
    Awake,
    /// More than that.
    Busy,
}

impl Activity {
    /// Whether such a shard gives memory back while the process's has grown by so much since the
    /// last time, and how long it waits then, in milliseconds. Near the ceiling nobody new is let
    /// in, and clients who try again keep a shard awake: it gives back whatever there is, also
    /// what has become unused without any growth.
    fn next_ms(self, level: MemoryLevel, grown_bytes: u64) -> Option<u64> {
        match self {
            Self::Quiet => Some(0),
            _ if level != MemoryLevel::Normal => Some(0),
            Self::Awake if grown_bytes >= GROWN_MUCH_BYTES => Some(NEXT_OF_AWAKE_MS),
            Self::Awake | Self::Busy => None,
        }
    }
}

/// How active a shard has been, and when it may give memory back again.
#[derive(Debug, Default)]
struct Quiet {
    /// When it was last looked, and how many turns there had been.
    looked_ms: u64,
    turns: u64,
    /// How long it has slept since then.
    asleep_ms: u64,
    give_back_ms: u64,
}

impl Quiet {
    /// What there was to do since the last look, if that was a second ago at least.
    fn look(&mut self, now_ms: u64, turns: u64) -> Option<Activity> {
        let since_ms = now_ms.saturating_sub(self.looked_ms);
        if since_ms < QUIET.as_millis() as u64 {
            return None;
        }
        let turns_since = turns - self.turns;
        (self.looked_ms, self.turns) = (now_ms, turns);
        let asleep_ms = std::mem::take(&mut self.asleep_ms);
        Some(match turns_since {
            ..=QUIET_TURNS_MAX => Activity::Quiet,
            _ if 2 * asleep_ms >= since_ms => Activity::Awake,
            _ => Activity::Busy,
        })
    }
}

/// See the top of this file.
pub(super) struct MemoryWatch {
    memory: Arc<Memory>,
    /// What this shard knows about it, and from which reading.
    level: MemoryLevel,
    reading: u64,
    /// What this shard had taken by then, in bytes.
    taken_bytes: u64,
    quiet: Quiet,
}

impl MemoryWatch {
    /// Of the process that these shards share.
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            level: MemoryLevel::default(),
            reading: 0,
            taken_bytes: 0,
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
        let shard_count = shard.effects().mesh.len();
        let taken_bytes = shard.taken_bytes();
        let portion_bytes = self.memory.portion_bytes() / shard_count as u64;
        let has_taken = taken_bytes - self.taken_bytes >= portion_bytes;
        self.memory.look(now.mono_ms, has_taken);
        let Pressure {
            reading,
            level,
            excess_bytes,
        } = self.memory.pressure();
        let is_news = reading != self.reading;
        self.reading = reading;
        if is_news {
            self.taken_bytes = taken_bytes;
        }
        if is_news && (level != self.level || level == MemoryLevel::AtCeiling) {
            self.level = level;
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

    /// The shard has slept since that time: if it has become quiet, it gives back what is unused. A
    /// shard that never becomes quiet does so when it is much, or when memory is tight.
    pub(super) fn slept(&mut self, since_ms: u64, shard: &mut Shard, clock: &Clock) {
        if !self.has_unused(shard) {
            return;
        }
        let turns = shard.metrics().counters.turns;
        let now_ms = ms(clock.mono_ns());
        self.quiet.asleep_ms += now_ms.saturating_sub(since_ms);
        let activity = self.quiet.look(now_ms, turns);
        let grown_bytes = self.memory.grown_bytes();
        let Some(next_ms) = activity.and_then(|it| it.next_ms(self.level, grown_bytes)) else {
            return;
        };
        if now_ms >= self.quiet.give_back_ms {
            let now = clock.now();
            shard.handle(Input::Quiet, now);
            allocator::give_back();
            self.memory.note_given_back();
            let took_ms = clock.now().mono_ms - now.mono_ms;
            let pause_ms = next_ms.max(took_ms * GIVE_BACK_ONE_IN);
            self.quiet.give_back_ms = now.mono_ms + pause_ms;
        }
    }

    fn has_unused(&self, shard: &Shard) -> bool {
        self.level != MemoryLevel::Normal
            || shard.unused_bytes() >= UNUSED_BYTES_MIN
            || self.memory.grown_bytes() >= GROWN_BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_the_ceiling_every_shard_gives_back_however_awake_it_is_kept() {
        let (normal, near) = (MemoryLevel::Normal, MemoryLevel::Near);
        for activity in [Activity::Quiet, Activity::Awake, Activity::Busy] {
            assert_eq!(activity.next_ms(near, 0), Some(0), "{activity:?}");
        }
        assert_eq!(Activity::Quiet.next_ms(normal, 0), Some(0));
        assert_eq!(Activity::Awake.next_ms(normal, GROWN_MUCH_BYTES - 1), None);
        let much = Activity::Awake.next_ms(normal, GROWN_MUCH_BYTES);
        assert_eq!(much, Some(NEXT_OF_AWAKE_MS));
        assert_eq!(Activity::Busy.next_ms(normal, GROWN_MUCH_BYTES), None);
    }

    #[test]
    fn a_shard_is_judged_by_a_second_of_turns_and_sleep() {
        let mut quiet = Quiet::default();
        quiet.look(10_000, 0);
        assert_eq!(quiet.look(10_999, 1), None);
        assert_eq!(quiet.look(11_000, QUIET_TURNS_MAX), Some(Activity::Quiet));
        let mut turns = QUIET_TURNS_MAX;
        for (asleep_ms, activity) in [(499, Activity::Busy), (500, Activity::Awake)] {
            turns += QUIET_TURNS_MAX + 1;
            quiet.asleep_ms += asleep_ms;
            let now_ms = quiet.looked_ms + 1_000;
            assert_eq!(quiet.look(now_ms, turns), Some(activity));
        }
    }
}
