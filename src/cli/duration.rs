//! Durations as people type them.

use jiff::SignedDuration;

/// Reads `1h`, `30m`, `45s`, `1h30m`, or a bare number of seconds. Returns whole seconds.
///
/// # Errors
/// Anything else: what was expected.
pub(super) fn duration_sec(text: &str) -> Result<u64, &'static str> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let duration: Option<SignedDuration> = text.parse().ok();
    duration
        .filter(|duration| duration.subsec_nanos() == 0)
        .and_then(|duration| u64::try_from(duration.as_secs()).ok())
        .ok_or("expected a duration such as 1h, 30m, 45s or 3600")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read() {
        for (text, seconds) in [
            ("1h", 3_600),
            ("30m", 1_800),
            ("45s", 45),
            ("3600", 3_600),
            ("1h30m", 5_400),
            ("0", 0),
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
            "99999999999999999999",
        ] {
            assert!(duration_sec(text).is_err(), "{text}");
        }
    }
}
