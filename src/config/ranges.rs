//! What keys of several sections have in common: the ranges of their numbers, and token buckets.

use std::ops::RangeInclusive;

use super::error::ConfigError;
use super::section::Section;
use crate::limits::RATE_MAX;

/// Messages or requests per second, at once, or per window.
pub(super) const RATES: RangeInclusive<u32> = 0..=RATE_MAX;
/// Timeouts, in milliseconds: from the shortest that a timer wheel of 100 ms can keep to a day.
pub(super) const TIMEOUTS_MS: RangeInclusive<u64> = 100..=86_400_000;

/// The message rate of one connection, for the server or for an app.
pub(super) fn message_bucket(section: &mut Section<'_>) -> Result<(u32, u32), ConfigError> {
    bucket(section, ["message_rate", "message_burst"], [100, 200])
}

/// Rate and burst of a token bucket. A burst of 0 would let nothing pass, so it stands for as
/// many as the rate.
pub(super) fn bucket(
    section: &mut Section<'_>,
    [rate_key, burst_key]: [&'static str; 2],
    [rate, burst]: [u32; 2],
) -> Result<(u32, u32), ConfigError> {
    let rate = section.integer(rate_key, rate, RATES)?;
    let burst = section.integer(burst_key, burst, RATES)?;
    Ok((rate, if burst == 0 { rate } else { burst }))
}
