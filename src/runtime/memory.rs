//! The process's resident memory, measured against its ceiling.
//!
//! One reading of the resident memory serves all shards: the first of them whose turn comes a
//! tenth of a second after the last reading makes the next one. An idle process reads nothing, and
//! does not grow either. From half of the ceiling on the pause is a hundredth of a second.
//!
//! Nor does much come in between, however fast it comes: a shard counts what it takes, and a
//! reading is due as soon as it has taken its part of [`Memory::portion_bytes`], a quarter of what
//! is left up to the ceiling. So the ceiling is passed by what the shards take in one turn, and a
//! small part of the ceiling.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::throttle::Throttle;
use crate::runtime::cgroup::Cgroups;
use crate::shard::input::MemoryLevel;

/// Time between two readings, in milliseconds: one costs 3 µs.
const READ_EVERY_MS: u64 = 100;
/// The same from half of the ceiling on: for what is not counted, as what the allocator cannot use
/// again.
const READ_OFTEN_EVERY_MS: u64 = 10;
/// Share of the ceiling from which on it is read often, in percent.
const READ_OFTEN_PERCENT: u64 = 50;
/// Of what is left up to the ceiling, the part that may be taken before it is read again.
const PORTION_ONE_IN: u64 = 4;
/// Of the ceiling, the part that may always be: 0.4%.
const PORTION_MIN_ONE_IN: u64 = 256;
/// Share of the ceiling from which on nobody new is let in, in percent.
const NEAR_PERCENT: u64 = 90;
/// Share below which clients are let in again: lower, so that the level does not go to and fro.
const CALM_PERCENT: u64 = 85;
/// Share that is aimed for once the ceiling is reached.
const RELIEVED_PERCENT: u64 = 95;
/// Of a machine's or a control group's memory, what the process may have by default.
const DEFAULT_PERCENT: u64 = 80;

/// Time between two looks at the limits of control groups, in milliseconds: each costs a file for
/// the group and for every one above it.
const FOLLOW_EVERY_MS: u64 = 5_000;

static NEAR_CEILING: Throttle = Throttle::new();
static AT_CEILING: Throttle = Throttle::new();
static OTHER_LIMIT: Throttle = Throttle::new();

/// See the top of this file. Shared by all shards.
#[derive(Debug)]
pub struct Memory {
    /// `proc_pid_statm(5)`; `None` where it cannot be read, and then nothing is bounded.
    statm: Option<File>,
    ceiling_bytes: AtomicU64,
    /// Whose limits the ceiling follows; `None`: it is as configured.
    groups: Option<Cgroups>,
    /// When to look at them next, in milliseconds on the monotonic clock.
    follow_ms: AtomicU64,
    /// When to read next, in milliseconds on the monotonic clock.
    next_ms: AtomicU64,
    reading: AtomicU64,
    resident_bytes: AtomicU64,
    /// What was resident when unused memory was given back last.
    kept_bytes: AtomicU64,
    is_near: AtomicU64,
}

/// What the last reading says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Number of the reading.
    pub reading: u64,
    /// How close to the ceiling it is.
    pub level: MemoryLevel,
    /// What is to be given back, by all shards together, in bytes.
    pub excess_bytes: u64,
}

impl Memory {
    /// Bounds the process by so many bytes.
    #[must_use]
    pub fn new(ceiling_bytes: u64) -> Self {
        let statm = File::open("/proc/self/statm").ok();
        Self {
            kept_bytes: AtomicU64::new(statm.as_ref().and_then(resident_bytes).unwrap_or(0)),
            statm,
            ceiling_bytes: AtomicU64::new(ceiling_bytes),
            groups: None,
            follow_ms: AtomicU64::new(0),
            next_ms: AtomicU64::new(0),
            reading: AtomicU64::new(0),
            resident_bytes: AtomicU64::new(0),
            is_near: AtomicU64::new(0),
        }
    }

    /// Bounds the process by what is configured, in bytes; by 0, for a share of what the machine
    /// and its control groups let it have, also when their limits change.
    #[must_use]
    pub(super) fn configured(bytes: u64, groups: Cgroups) -> Self {
        let memory = Self::new(ceiling_bytes(bytes, groups.memory_bytes_max()));
        Self {
            groups: (bytes == 0).then_some(groups),
            ..memory
        }
    }

    /// The ceiling in bytes.
    #[must_use]
    pub fn ceiling_bytes(&self) -> u64 {
        self.ceiling_bytes.load(Ordering::Relaxed)
    }

    /// Looks whether control groups have other limits now.
    fn follow(&self, now_ms: u64) {
        let Some(groups) = &self.groups else {
            return;
        };
        if now_ms < self.follow_ms.load(Ordering::Relaxed) {
            return;
        }
        let next_ms = now_ms + FOLLOW_EVERY_MS;
        self.follow_ms.store(next_ms, Ordering::Relaxed);
        let ceiling_bytes = ceiling_bytes(0, groups.memory_bytes_max());
        if self.ceiling_bytes.swap(ceiling_bytes, Ordering::Relaxed) != ceiling_bytes
            && let Some(times) = OTHER_LIMIT.pass(now_ms)
        {
            tracing::info!(
                ceiling_bytes,
                times,
                "the control group has another limit of memory now"
            );
        }
    }

    /// What the last reading said, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.resident_bytes.load(Ordering::Relaxed)
    }

    /// How much more was resident at the last reading than when unused memory was given back last,
    /// in bytes.
    #[must_use]
    pub fn grown_bytes(&self) -> u64 {
        let kept_bytes = self.kept_bytes.load(Ordering::Relaxed);
        self.resident_bytes().saturating_sub(kept_bytes)
    }

    /// Unused memory has just been given back.
    pub fn note_given_back(&self) {
        if let Some(bytes) = self.statm.as_ref().and_then(resident_bytes) {
            self.kept_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that all shards together may take before it is read again.
    #[must_use]
    pub fn portion_bytes(&self) -> u64 {
        let left_bytes = self.ceiling_bytes().saturating_sub(self.resident_bytes());
        (left_bytes / PORTION_ONE_IN).max(self.ceiling_bytes() / PORTION_MIN_ONE_IN)
    }

    /// Reads it, if it is time to, or a shard `has_taken` its portion. Costs one look at a shared
    /// word otherwise.
    pub fn look(&self, now_ms: u64, has_taken: bool) {
        if !has_taken && now_ms < self.next_ms.load(Ordering::Relaxed) {
            return;
        }
        let every_ms = self.read_every_ms();
        let is_due = |due_ms| has_taken || due_ms <= now_ms;
        let next = |due_ms| is_due(due_ms).then_some(now_ms + every_ms);
        let order = Ordering::Relaxed;
        let Ok(_) = self.next_ms.fetch_update(order, order, next) else {
            return;
        };
        self.follow(now_ms);
        if let Some(bytes) = self.statm.as_ref().and_then(resident_bytes) {
            self.note(bytes, now_ms);
        }
    }

    fn read_every_ms(&self) -> u64 {
        match self.resident_bytes() >= percent(self.ceiling_bytes(), READ_OFTEN_PERCENT) {
            true => READ_OFTEN_EVERY_MS,
            false => READ_EVERY_MS,
        }
    }

    fn note(&self, resident_bytes: u64, now_ms: u64) {
        let was_near = self.is_near.load(Ordering::Relaxed) != 0;
        let bound = if was_near { CALM_PERCENT } else { NEAR_PERCENT };
        let is_near = resident_bytes >= percent(self.ceiling_bytes(), bound);
        self.is_near.store(is_near.into(), Ordering::Relaxed);
        self.resident_bytes.store(resident_bytes, Ordering::Relaxed);
        self.reading.fetch_add(1, Ordering::Release);
        let ceiling_bytes = self.ceiling_bytes();
        if resident_bytes >= ceiling_bytes {
            if let Some(times) = AT_CEILING.pass(now_ms) {
                tracing::warn!(
                    resident_bytes,
                    ceiling_bytes,
                    times,
                    "memory is at its ceiling: the slowest consumers are closed (1013); see \
                     limits.memory_bytes"
                );
            }
        } else if is_near
            && !was_near
            && let Some(times) = NEAR_CEILING.pass(now_ms)
        {
            tracing::warn!(
                resident_bytes,
                ceiling_bytes,
                times,
                "memory is near its ceiling: new connections get 503; see limits.memory_bytes"
            );
        }
    }

    /// What the last reading says.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let reading = self.reading.load(Ordering::Acquire);
        let resident_bytes = self.resident_bytes.load(Ordering::Relaxed);
        let ceiling_bytes = self.ceiling_bytes();
        let level = if resident_bytes >= ceiling_bytes {
            MemoryLevel::AtCeiling
        } else if self.is_near.load(Ordering::Relaxed) != 0 {
            MemoryLevel::Near
        } else {
            MemoryLevel::Normal
        };
        let excess_bytes = match level {
            MemoryLevel::AtCeiling => resident_bytes - percent(ceiling_bytes, RELIEVED_PERCENT),
            MemoryLevel::Near | MemoryLevel::Normal => 0,
        };
        Pressure {
            reading,
            level,
            excess_bytes,
        }
    }
}

/// The ceiling that holds: the configured one, or else a share of what the process can get at
/// all, which is the less of its control group's limit and the machine's memory.
fn ceiling_bytes(configured: u64, cgroup_max: Option<u64>) -> u64 {
    let machine = rustix::system::sysinfo();
    let machine_bytes = (machine.totalram as u64).saturating_mul(machine.mem_unit.into());
    match configured {
        0 => percent(
            machine_bytes.min(cgroup_max.unwrap_or(u64::MAX)),
            DEFAULT_PERCENT,
        ),
        bytes => bytes,
    }
}

fn percent(of: u64, share: u64) -> u64 {
    of / 100 * share
}

fn resident_bytes(statm: &File) -> Option<u64> {
    let mut text = [0; 128];
    let count = statm.read_at(&mut text, 0).ok()?;
    let text = str::from_utf8(text.get(..count)?).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn at(memory: &Memory, resident_mb: u64) -> (MemoryLevel, u64) {
        memory.note(resident_mb * MB, 0);
        let pressure = memory.pressure();
        (pressure.level, pressure.excess_bytes / MB)
    }

    #[test]
    fn levels_rise_at_their_bounds_and_fall_below_them() {
        let memory = Memory::new(1_000 * MB);
        assert_eq!(memory.pressure().level, MemoryLevel::Normal);
        assert_eq!(at(&memory, 899), (MemoryLevel::Normal, 0));
        assert_eq!(at(&memory, 900), (MemoryLevel::Near, 0));
        assert_eq!(at(&memory, 1_010), (MemoryLevel::AtCeiling, 60));
        assert_eq!(at(&memory, 999), (MemoryLevel::Near, 0));
        assert_eq!(at(&memory, 850), (MemoryLevel::Near, 0));
        assert_eq!(at(&memory, 849), (MemoryLevel::Normal, 0));
        assert_eq!(at(&memory, 899), (MemoryLevel::Normal, 0));
    }

    #[test]
    fn what_has_come_since_memory_was_given_back_is_known() {
        let memory = Memory::new(u64::MAX);
        memory.note_given_back();
        memory.note(0, 0);
        assert_eq!(memory.grown_bytes(), 0);
        memory.note(1 << 40, 0);
        let grown = memory.grown_bytes();
        assert!(((1 << 39)..(1 << 40) - MB).contains(&grown), "{grown}");
    }

    #[test]
    fn it_is_read_once_in_a_while_by_whoever_comes_first() {
        let memory = Memory::new(u64::MAX);
        memory.look(1_000, false);
        let first = memory.pressure().reading;
        assert_eq!(first, 1);
        memory.look(1_000 + READ_EVERY_MS - 1, false);
        assert_eq!(memory.pressure().reading, first);
        memory.look(1_000 + READ_EVERY_MS, false);
        assert_eq!(memory.pressure().reading, first + 1);
        let resident = memory.resident_bytes.load(Ordering::Relaxed);
        assert!(resident > MB, "{resident}");
        memory.look(1_000 + READ_EVERY_MS, true);
        assert_eq!(memory.pressure().reading, first + 2);
        memory.look(1_000 + READ_EVERY_MS, false);
        assert_eq!(memory.pressure().reading, first + 2);
    }

    #[test]
    fn the_ceiling_is_passed_by_little_however_fast_memory_is_taken() {
        let ceiling = 160 * MB;
        for turn_bytes in [MB / 10, MB / 4, MB, 2 * MB] {
            let memory = Memory::new(ceiling);
            let (mut resident, mut taken, mut readings) = (10 * MB, 0, 1);
            memory.note(resident, 0);
            while memory.pressure().level != MemoryLevel::AtCeiling {
                resident += turn_bytes;
                taken += turn_bytes;
                if taken >= memory.portion_bytes() {
                    memory.note(resident, 0);
                    (taken, readings) = (0, readings + 1);
                }
            }
            let over = resident - ceiling;
            assert!(over <= turn_bytes + ceiling / PORTION_MIN_ONE_IN, "{over}");
            assert!(readings <= 24, "{readings}");
        }
    }

    #[test]
    fn it_is_read_often_once_half_of_the_ceiling_is_reached() {
        let memory = Memory::new(1_000 * MB);
        memory.note(499 * MB, 0);
        assert_eq!(memory.read_every_ms(), READ_EVERY_MS);
        memory.note(500 * MB, 0);
        assert_eq!(memory.read_every_ms(), READ_OFTEN_EVERY_MS);
    }

    #[test]
    fn the_default_is_a_share_of_what_there_is() {
        assert_eq!(ceiling_bytes(123 * MB, Some(50 * MB)), 123 * MB);
        assert_eq!(ceiling_bytes(0, Some(50 * MB)), 40 * MB);
        let machine = ceiling_bytes(0, None);
        assert_eq!(ceiling_bytes(0, Some(u64::MAX)), machine);
        assert!(machine > 100 * MB);
    }
}
