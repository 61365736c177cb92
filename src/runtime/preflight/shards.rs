//! How many shards to start, where the configuration leaves that to the server: one for each
//! core, as far as CPU quota and locked memory reach.

use super::warning::Warning;

/// Bytes of locked memory that one shard uses: its ring, with 256 submissions and 8,192
/// completions in 148 KiB (`runtime/ring.rs`). Kernels before 6.14 count none of it.
pub(crate) const MEMLOCK_BYTES_PER_SHARD: u64 = 160 * 1_024;
/// Shards at most, as in the configuration.
const SHARDS_MAX: usize = 1_024;

/// What the machine allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Cores for the shards.
    pub(crate) core_count: usize,
    /// The CPU quota, in thousandths of a core; `None` is unlimited.
    pub(crate) cpu_millicores_max: Option<u64>,
    /// Memory that the process may lock, in bytes; `None` is unlimited, or not counted.
    pub(crate) memlock_bytes_max: Option<u64>,
}

impl Bounds {
    /// Returns the number of shards, and what is not as good as it could be about it. `asked` is
    /// what the configuration says; `None` is "auto".
    pub(crate) fn shards(&self, asked: Option<u16>) -> (u16, Vec<Warning>) {
        let mut warnings = Vec::new();
        let shard_count = match asked {
            Some(asked) => asked,
            None => {
                let wanted = self.one_per_core();
                let shard_count = self.lockable(wanted);
                if let Some(memlock_bytes_max) = self.memlock_bytes_max
                    && shard_count < wanted
                {
                    warnings.push(Warning::ShardsBelowCores {
                        shard_count,
                        wanted,
                        memlock_bytes_max,
                    });
                }
                shard_count
            }
        };
        if usize::from(shard_count) > self.core_count {
            warnings.push(Warning::MoreShardsThanCores {
                shard_count,
                core_count: self.core_count,
            });
        }
        if let Some(millicores_max) = self.cpu_millicores_max
            && shard_count > 1
            && u64::from(shard_count) * 1_000 > millicores_max
        {
            warnings.push(Warning::MoreShardsThanQuota {
                shard_count,
                millicores_max,
            });
        }
        (shard_count, warnings)
    }

    /// Whole cores of the quota: a shard more would use it up, and then all of them are stopped
    /// until the next period, usually for tens of milliseconds. What is left over is for the
    /// other threads.
    fn one_per_core(&self) -> u16 {
        let quota = self.cpu_millicores_max.map_or(u64::MAX, |max| max / 1_000);
        let quota = usize::try_from(quota).unwrap_or(usize::MAX).max(1);
        // At most 1,024.
        self.core_count.min(quota).min(SHARDS_MAX) as u16
    }

    /// As many of them as may lock their rings, and at least one: whether that fits is checked
    /// with its own message.
    fn lockable(&self, wanted: u16) -> u16 {
        let lockable = self
            .memlock_bytes_max
            .map_or(u64::MAX, |max| max / MEMLOCK_BYTES_PER_SHARD);
        wanted
            .min(u16::try_from(lockable).unwrap_or(u16::MAX))
            .max(1)
    }
}

/// Moves the cores that stand before the present one to the end. Several servers with quotas
/// on one machine would else put all their shards onto its first cores: where the kernel runs
/// this one now, it found the least to do.
pub(super) fn begin_with(cores: &mut [usize], present: usize) {
    if let Some(at) = cores.iter().position(|core| *core == present) {
        cores.rotate_left(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1_024;

    #[track_caller]
    fn check(
        bounds: (usize, Option<u64>, Option<u64>),
        asked: Option<u16>,
        expected: u16,
    ) -> Vec<Warning> {
        let (core_count, cpu_millicores_max, memlock_kib_max) = bounds;
        let bounds = Bounds {
            core_count,
            cpu_millicores_max,
            memlock_bytes_max: memlock_kib_max.map(|kib| kib * KIB),
        };
        let (shard_count, warnings) = bounds.shards(asked);
        assert_eq!(shard_count, expected, "{bounds:?}, {asked:?}");
        warnings
    }

    #[test]
    fn one_for_each_core_where_nothing_is_limited() {
        assert_eq!(check((1, None, None), None, 1), []);
        assert_eq!(check((64, None, None), None, 64), []);
        assert_eq!(check((4_096, None, None), None, 1_024), []);
    }

    #[test]
    fn the_quota_is_followed_in_whole_cores() {
        assert_eq!(check((64, Some(4_000), None), None, 4), []);
        assert_eq!(check((64, Some(3_999), None), None, 3), []);
        assert_eq!(check((64, Some(500), None), None, 1), []);
        assert_eq!(check((64, Some(0), None), None, 1), []);
        assert_eq!(check((2, Some(4_000), None), None, 2), []);
    }

    #[test]
    fn a_number_that_was_asked_for_is_kept_and_warned_about() {
        let warnings = check((64, Some(1_500), None), Some(2), 2);
        let (shard_count, millicores_max) = (2, 1_500);
        let expected = Warning::MoreShardsThanQuota {
            shard_count,
            millicores_max,
        };
        assert_eq!(warnings, [expected]);
        let text = expected.to_string();
        assert!(
            text.starts_with("2 shards share 1.500 cores, the CPU quota"),
            "{text}"
        );
        assert_eq!(check((64, Some(2_000), None), Some(2), 2), []);
        assert_eq!(check((64, Some(100), None), Some(1), 1), []);
        let warnings = check((1, None, None), Some(2), 2);
        assert!(matches!(
            warnings[..],
            [Warning::MoreShardsThanCores { .. }]
        ));
    }

    #[test]
    fn memory_that_may_be_locked_is_followed_with_a_warning() {
        let warnings = check((128, None, Some(8_192)), None, 51);
        let [warning @ Warning::ShardsBelowCores { .. }] = warnings[..] else {
            panic!("{warnings:?}");
        };
        let text = warning.to_string();
        assert!(
            text.starts_with("51 shards are started instead of 128, because only 8192 KiB"),
            "{text}"
        );
        assert_eq!(check((51, None, Some(8_192)), None, 51), []);
        assert_eq!(check((64, Some(2_000), Some(8_192)), None, 2), []);
        // Too little even for one: that is refused elsewhere.
        check((64, None, Some(64)), None, 1);
    }

    #[test]
    fn the_present_core_comes_first() {
        for (present, expected) in [
            (0, [0, 2, 5]),
            (2, [2, 5, 0]),
            (5, [5, 0, 2]),
            (7, [0, 2, 5]),
        ] {
            let mut cores = [0, 2, 5];
            begin_with(&mut cores, present);
            assert_eq!(cores, expected);
        }
    }
}
