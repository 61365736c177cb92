//! Durations as people type them.

use jiff::SignedDuration;

/// Reads `7d`, `1h`, `30m`, `45s`, `1h30m`, or a bare number of seconds. Returns whole seconds.
///
/// # Errors
/// Anything else: what was expected.
pub(super) fn duration_sec(text: &str) -> Result<u64, &'static str> {
    const DAY_SEC: u64 = 86_400;
    if text.starts_with('-') {
        return Err("a duration is positive, such as 7d, 1h, 30m, 45s or 3600");
    }
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let days = text
        .strip_suffix('d')
        .and_then(|days| days.parse::<u64>().ok());
    if let Some(seconds) = days.and_then(|days| days.checked_mul(DAY_SEC)) {
        return Ok(seconds);
    }
    let duration: Option<SignedDuration> = text.parse().ok();
    duration
        .filter(|duration| duration.subsec_nanos() == 0)
        .and_then(|duration| u64::try_from(duration.as_secs()).ok())
        .ok_or("expected a duration such as 7d, 1h, 30m, 45s or 3600")
}

/// Reads what [`duration_sec`] reads, and `500ms`. Returns milliseconds.
///
/// # Errors
/// Anything else: what was expected.
pub(super) fn duration_ms(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected a duration such as 1h, 30m, 45s, 500ms or 3600";
    let number = text.strip_suffix("ms").and_then(|it| it.parse().ok());
    let seconds = || duration_sec(text).ok()?.checked_mul(1_000);
    number.or_else(seconds).ok_or(EXPECTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_read_too() {
        for (text, ms) in [("500ms", 500), ("0ms", 0), ("2s", 2_000), ("1m", 60_000)] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["", "ms", "-1ms", "1.5ms", "18446744073709551615"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_usual_forms_are_read() {
        for (text, seconds) in [
            ("1h", 3_600),
            ("30m", 1_800),
            ("45s", 45),
            ("3600", 3_600),
            ("1h30m", 5_400),
            ("0", 0),
            ("2d", 172_800),
        ] {
            assert_eq!(duration_sec(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "h",
            "-1",
            "-1h",
            "1.5s",
            "1x",
            "1 fortnight",
            "d",
            "-1d",
            "99999999999999999d",
            "99999999999999999999",
        ] {
            assert!(duration_sec(text).is_err(), "{text}");
        }
    }
}
