//! What the operator should know about this machine, although the server starts.

use std::fmt;

/// Something that works, but worse than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Warning {
    /// Shards will take turns on a core.
    MoreShardsThanCores {
        /// Shards to start.
        shard_count: u16,
        /// Cores for them.
        core_count: usize,
    },
    /// Shards will be stopped for a part of each period.
    MoreShardsThanQuota {
        /// Shards to start.
        shard_count: u16,
        /// What the control group allows, in thousandths of a core.
        millicores_max: u64,
    },
    /// More memory to lock would allow more shards.
    ShardsBelowCores {
        /// Shards to start.
        shard_count: u16,
        /// Shards without that limit.
        wanted: u16,
        /// The limit of locked memory, in bytes.
        memlock_bytes_max: u64,
    },
    /// Few connections are possible.
    FewOpenFiles {
        /// Files that may be open at once.
        open_files_max: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MoreShardsThanCores {
                shard_count,
                core_count,
            } => write!(
                f,
                "{shard_count} shards share {core_count} cores and will wait for each other; \
                 set server.shards to {core_count} or less, or \"auto\""
            ),
            Self::MoreShardsThanQuota {
                shard_count,
                millicores_max,
            } => write!(
                f,
                "{shard_count} shards share {}.{:03} cores, the CPU quota of the control group, \
                 and will all be stopped when it is used up; set server.shards to \"auto\", or \
                 raise the quota (cpu.max, `docker run --cpus`)",
                millicores_max / 1_000,
                millicores_max % 1_000
            ),
            Self::ShardsBelowCores {
                shard_count,
                wanted,
                memlock_bytes_max,
            } => write!(
                f,
                "{shard_count} shards are started instead of {wanted}, because only {} KiB of \
                 memory may be locked; raise the limit with `ulimit -l unlimited`, \
                 LimitMEMLOCK=infinity in the systemd unit, or `docker run --ulimit memlock=-1`",
                memlock_bytes_max / 1_024
            ),
            Self::FewOpenFiles { open_files_max } => write!(
                f,
                "only {open_files_max} files may be open, and each connection is one; raise the \
                 limit with `ulimit -n 1048576`, or LimitNOFILE=1048576 in the systemd unit"
            ),
        }
    }
}
