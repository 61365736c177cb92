//! Billing periods: a calendar month in UTC, or a number of days counted from some moment.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::domain::record::PlanRecord;

const DAY_SEC: u64 = 86_400;
/// The last moment whose month has a next one in the calendar: the year 9999 begins.
const UNIX_MAX: u64 = 253_370_764_800;

/// How an app's periods follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeriodRule {
    /// Calendar months in UTC.
    Month,
    /// Every so many days, with one period beginning at the anchor.
    Days {
        /// Start of some period, in Unix seconds.
        anchor_unix: u64,
        /// Length of a period in days, at least 1.
        days: u32,
    },
}

impl PeriodRule {
    /// The rule of a plan: months, unless it has both a start and a length.
    #[must_use]
    pub(super) fn of(plan: &PlanRecord) -> Self {
        match (plan.period_start_unix, plan.period_days) {
            (Some(anchor_unix), Some(days)) => Self::Days {
                anchor_unix,
                days: days.max(1),
            },
            _ => Self::Month,
        }
    }

    /// The first second of the period at `now_unix`, and the first after it.
    #[must_use]
    pub(super) fn period_at(self, now_unix: u64) -> (u64, u64) {
        let now_unix = now_unix.min(UNIX_MAX);
        match self {
            Self::Month => month_at(now_unix),
            Self::Days { anchor_unix, days } => {
                let length = u64::from(days) * DAY_SEC;
                // Counted from a moment before `now_unix` that is whole periods from the
                // anchor, which may lie in the future.
                let phase = anchor_unix % length;
                if now_unix < phase {
                    return (0, phase);
                }
                let start = now_unix - (now_unix - phase) % length;
                (start, start + length)
            }
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "up to the year 9999 every month has a first and a next"
)]
fn month_at(now_unix: u64) -> (u64, u64) {
    let now = Timestamp::from_second(now_unix.cast_signed()).expect("a moment of the calendar");
    let first = now.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first
        .checked_add(1.month())
        .expect("a month of the calendar");
    (unix_of(first), unix_of(next))
}

#[expect(
    clippy::expect_used,
    reason = "UTC has a midnight on every day from 1970"
)]
fn unix_of(date: Date) -> u64 {
    let midnight = date.to_zoned(TimeZone::UTC).expect("a midnight");
    u64::try_from(midnight.timestamp().as_second()).expect("from 1970")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: PeriodRule, now: &str, start: &str, end: &str) {
        let unix = |text: &str| text.parse::<Timestamp>().unwrap().as_second() as u64;
        assert_eq!(
            rule.period_at(unix(now)),
            (unix(start), unix(end)),
            "{rule:?} at {now}"
        );
    }

    #[test]
    fn calendar_months_in_utc() {
        for (now, start, end) in [
            (
                "2026-01-01T00:00:00Z",
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
            ),
            (
                "2026-01-31T23:59:59Z",
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
            ),
            (
                "2024-02-29T12:00:00Z",
                "2024-02-01T00:00:00Z",
                "2024-03-01T00:00:00Z",
            ),
            (
                "2026-12-15T00:00:00Z",
                "2026-12-01T00:00:00Z",
                "2027-01-01T00:00:00Z",
            ),
            (
                "1970-01-01T00:00:00Z",
                "1970-01-01T00:00:00Z",
                "1970-02-01T00:00:00Z",
            ),
        ] {
            check(PeriodRule::Month, now, start, end);
        }
    }

    #[test]
    fn days_from_an_anchor_before_and_after_now() {
        let anchor_unix = "2026-03-10T06:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_second() as u64;
        let rule = PeriodRule::Days {
            anchor_unix,
            days: 7,
        };
        for (now, start, end) in [
            (
                "2026-03-10T06:00:00Z",
                "2026-03-10T06:00:00Z",
                "2026-03-17T06:00:00Z",
            ),
            (
                "2026-03-17T05:59:59Z",
                "2026-03-10T06:00:00Z",
                "2026-03-17T06:00:00Z",
            ),
            (
                "2026-03-17T06:00:00Z",
                "2026-03-17T06:00:00Z",
                "2026-03-24T06:00:00Z",
            ),
            (
                "2026-03-10T05:59:59Z",
                "2026-03-03T06:00:00Z",
                "2026-03-10T06:00:00Z",
            ),
        ] {
            check(rule, now, start, end);
        }
    }

    #[test]
    fn any_moment_lies_in_its_period() {
        let days = |anchor_unix, days| {
            PeriodRule::of(&PlanRecord {
                period_start_unix: Some(anchor_unix),
                period_days: Some(days),
                ..PlanRecord::default()
            })
        };
        for rule in [
            PeriodRule::Month,
            days(0, 1),
            days(UNIX_MAX, 3_660),
            days(5, 0),
        ] {
            for now in [0, 1, 86_399, 86_400, 1_800_000_000, UNIX_MAX - 1, UNIX_MAX] {
                let (start, end) = rule.period_at(now);
                assert!(
                    start <= now && now < end,
                    "{rule:?} at {now}: {start} to {end}"
                );
            }
            // Beyond the calendar it only must not panic.
            let _ = rule.period_at(u64::MAX);
        }
    }

    #[test]
    fn a_plan_needs_start_and_length_for_its_own_periods() {
        let plan = |period_start_unix, period_days| PlanRecord {
            period_start_unix,
            period_days,
            ..PlanRecord::default()
        };
        assert_eq!(PeriodRule::of(&plan(Some(5), None)), PeriodRule::Month);
        assert_eq!(PeriodRule::of(&plan(None, Some(5))), PeriodRule::Month);
        let both = PeriodRule::of(&plan(Some(5), Some(6)));
        assert_eq!(
            both,
            PeriodRule::Days {
                anchor_unix: 5,
                days: 6
            }
        );
    }
}
