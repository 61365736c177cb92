//! `[limits]`: the bounds of what clients may do, and what they must agree with.

use super::LimitsConfig;
use super::error::ConfigError;
use super::section::Section;
use super::settings::{RATES, TIMEOUTS_MS, message_bucket};
use crate::limits::{
    CHANNEL_NAME_BYTES_MAX, ENVELOPE_BYTES_MAX, PEER_ID_BYTES_MAX, PEER_METADATA_BYTES_MAX,
    SERVER_FRAME_BYTES_MAX,
};

/// Bytes of a delivered `message` around its `data`: channel and sender with every character
/// escaped, the sender's metadata, and less than 256 for the rest.
const DELIVERY_ENVELOPE_BYTES_MAX: usize =
    256 + 2 * CHANNEL_NAME_BYTES_MAX + 2 * PEER_ID_BYTES_MAX + PEER_METADATA_BYTES_MAX;
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
        head_bytes: section.integer("head_bytes", 24_576, 1_024..=1_048_576)?,
        head_timeout_ms: section.integer("head_timeout_ms", 5_000, TIMEOUTS_MS)?,
        ping_after_ms: section.integer("ping_after_ms", 30_000, TIMEOUTS_MS)?,
        drop_after_ms: section.integer("drop_after_ms", 75_000, TIMEOUTS_MS)?,
    };
    if config.drop_after_ms <= config.ping_after_ms {
        let text = format!(
            "silent connections would be dropped ({} ms) before they are pinged ({} ms); \
             make drop_after_ms the longer one",
            config.drop_after_ms, config.ping_after_ms
        );
        return Err(section.conflict(&["drop_after_ms", "ping_after_ms"], text));
    }
    let data_bytes_max = usize::max(
        config.message_bytes + ENVELOPE_BYTES_MAX,
        config.rest_body_bytes,
    );
    let delivery_bytes_max = data_bytes_max + DELIVERY_ENVELOPE_BYTES_MAX;
    if config.outbound_queue_bytes < delivery_bytes_max {
        let text = format!(
            "a single delivery can have {delivery_bytes_max} bytes; make outbound_queue_bytes at \
             least that, or message_bytes and rest_body_bytes smaller"
        );
        let keys = ["outbound_queue_bytes", "message_bytes", "rest_body_bytes"];
        return Err(section.conflict(&keys, text));
    }
    section.finish();
    Ok(config)
}
