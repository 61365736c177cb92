//! `[limits]`: the bounds of what clients may do, and what they must agree with.

use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::model::LimitsConfig;
use super::ranges::{RATES, TIMEOUTS_MS, message_bucket};
use super::section::Section;
use crate::limits::{
    CHANNEL_NAME_BYTES_MAX, ENVELOPE_BYTES_MAX, HEAD_BYTES_DEFAULT, PEER_ID_BYTES_MAX,
    PEER_METADATA_BYTES_MAX, SERVER_FRAME_BYTES_MAX,
};

/// Bytes of a delivered `message` around its `data`: channel and sender with every character
/// escaped, the sender's metadata, and less than 256 for the rest.
const DELIVERY_ENVELOPE_BYTES_MAX: usize =
    256 + 2 * CHANNEL_NAME_BYTES_MAX + 2 * PEER_ID_BYTES_MAX + PEER_METADATA_BYTES_MAX;
/// Time that a pinged connection has at least to answer, in milliseconds: a slow mobile link's
/// round trip, with the 100 ms of the timer wheel on either side.
const PONG_MS_MIN: u64 = 1_000;
/// Ceiling of the process, in bytes, and 0 for the machine's. No machine has more than 1 TiB times
/// a thousand.
const MEMORY_BYTES: RangeInclusive<u64> = 0..=1 << 50;
/// The least ceiling that leaves room for clients: an idle server of a few shards takes 15 MB.
const MEMORY_BYTES_MIN: u64 = 64 * 1_024 * 1_024;
/// Connections before their credential is known, and 0 for a quarter of the descriptors. The
/// kernel has no more descriptors for one process than a billion.
const UNAUTHENTICATED_CONNECTIONS: RangeInclusive<u32> = 0..=1_000_000_000;
/// Bytes of `data` that still fit into a frame of the server's.
const DATA_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX - DELIVERY_ENVELOPE_BYTES_MAX;

/// Asks the section for its keys. `connects` is the default of `connects_per_address`.
pub(super) fn resolve(
    mut section: Section<'_>,
    connects: u32,
) -> Result<LimitsConfig, ConfigError> {
    let (message_rate, message_burst) = message_bucket(&mut section)?;
    let config = LimitsConfig {
        message_bytes: section.integer(
            "message_bytes",
            65_536,
            256..=DATA_BYTES_MAX - ENVELOPE_BYTES_MAX,
        )?,
        channels_per_connection: section.integer("channels_per_connection", 100, 1..=100_000)?,
        message_rate,
        message_burst,
        connects_per_address: section.integer("connects_per_address", connects, RATES)?,
        connects_window_sec: section.integer("connects_window_sec", 60, 1..=86_400)?,
        outbound_queue_bytes: section.integer(
            "outbound_queue_bytes",
            1_048_576,
            8_192..=1_073_741_824,
        )?,
        rest_body_bytes: section.integer("rest_body_bytes", 32_768, 1_024..=DATA_BYTES_MAX)?,
        head_bytes: section.integer("head_bytes", HEAD_BYTES_DEFAULT, 1_024..=1_048_576)?,
        head_timeout_ms: section.integer("head_timeout_ms", 5_000, TIMEOUTS_MS)?,
        ping_after_ms: section.integer("ping_after_ms", 25_000, TIMEOUTS_MS)?,
        drop_after_ms: section.integer("drop_after_ms", 75_000, TIMEOUTS_MS)?,
        memory_bytes: section.integer("memory_bytes", 0, MEMORY_BYTES)?,
        unauthenticated_connections: section.integer(
            "unauthenticated_connections",
            0,
            UNAUTHENTICATED_CONNECTIONS,
        )?,
    };
    check_silence(&section, &config)?;
    check_deliveries(&section, &config)?;
    check_memory(&section, &config)?;
    section.finish();
    Ok(config)
}

/// A ping is only fair with time for its answer.
fn check_silence(section: &Section<'_>, config: &LimitsConfig) -> Result<(), ConfigError> {
    if config.drop_after_ms >= config.ping_after_ms + PONG_MS_MIN {
        return Ok(());
    }
    let text = format!(
        "a silent connection would be dropped after {} ms, and pinged after {} ms; make \
         limits.drop_after_ms at least {PONG_MS_MIN} more than limits.ping_after_ms, so that an \
         answer can come",
        config.drop_after_ms, config.ping_after_ms
    );
    section.refuse(&["drop_after_ms", "ping_after_ms"], text)
}

/// The largest delivery must fit into the queue of a connection.
fn check_deliveries(section: &Section<'_>, config: &LimitsConfig) -> Result<(), ConfigError> {
    let delivery_bytes_max = delivery_bytes_max(config);
    if config.outbound_queue_bytes < delivery_bytes_max {
        let text = format!(
            "a single delivery can have {delivery_bytes_max} bytes; make \
             limits.outbound_queue_bytes at least that, or limits.message_bytes and \
             limits.rest_body_bytes smaller"
        );
        let keys = ["outbound_queue_bytes", "message_bytes", "rest_body_bytes"];
        section.refuse(&keys, text)?;
    }
    Ok(())
}

/// Returns the bytes of the largest delivery that these limits allow.
pub(super) fn delivery_bytes_max(config: &LimitsConfig) -> usize {
    let data_bytes_max = usize::max(
        config.message_bytes + ENVELOPE_BYTES_MAX,
        config.rest_body_bytes,
    );
    data_bytes_max + DELIVERY_ENVELOPE_BYTES_MAX
}

/// A ceiling below what an idle server takes would refuse everybody.
fn check_memory(section: &Section<'_>, config: &LimitsConfig) -> Result<(), ConfigError> {
    if config.memory_bytes == 0 || config.memory_bytes >= MEMORY_BYTES_MIN {
        return Ok(());
    }
    let text = format!(
        "{} bytes are less than the server needs with no client at all; give at least \
         {MEMORY_BYTES_MIN}, or 0 for 80% of what the machine or its cgroup allows",
        config.memory_bytes
    );
    section.refuse(&["memory_bytes"], text)
}
