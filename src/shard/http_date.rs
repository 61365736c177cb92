//! The `Date` of HTTP responses, formatted once a second.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::domain::time::Now;

/// The last second's `Date` (RFC 9110, section 6.6.1).
#[derive(Debug, Default)]
pub(in crate::shard) struct HttpDate {
    unix_sec: u64,
    text: Option<String>,
}

impl HttpDate {
    /// The header's value now; `None` in years that it cannot express.
    pub(in crate::shard) fn at(&mut self, now: Now) -> Option<&str> {
        if self.text.is_none() || self.unix_sec != now.unix_sec() {
            self.unix_sec = now.unix_sec();
            self.text = i64::try_from(self.unix_sec)
                .ok()
                .and_then(|second| Timestamp::from_second(second).ok())
                .and_then(|time| {
                    let printer = DateTimePrinter::new();
                    printer.timestamp_to_rfc9110_string(&time).ok()
                });
        }
        self.text.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_rfc_and_follow_the_clock() {
        let mut date = HttpDate::default();
        let mut at = |unix_ms| {
            let now = Now {
                mono_ms: 0,
                unix_ms,
            };
            date.at(now).map(str::to_owned)
        };
        let example = "Sun, 06 Nov 1994 08:49:37 GMT"; // RFC 9110, section 5.6.7
        assert_eq!(at(784_111_777_999).as_deref(), Some(example));
        assert_eq!(at(0).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(at(u64::MAX), None);
    }
}
