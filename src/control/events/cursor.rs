//! Where somebody has read to, and which event is meant, as text.
//!
//! A position is `epoch-n.n.n…`, a number for each ring; an event is `epoch.shard.ring.number`, as
//! `t9k2c1.2.e.18442`. Both end with the process: their epoch says of which one they are.

use crate::events::kind::Keep;
use crate::events::reader::{Cursor, Place};
use crate::ids::ShardId;

/// Bytes of a position, at most: 1,024 shards with two rings each, and the digits of their numbers.
const POSITION_BYTES_MAX: usize = 2 * 1_024 * 14 + 32;

/// A position in the events of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    epoch: String,
    numbers: Vec<u64>,
}

impl Position {
    /// A cursor of the process of that epoch.
    pub(super) fn of(epoch: &str, cursor: &Cursor) -> Self {
        Self {
            epoch: epoch.to_owned(),
            numbers: cursor.0.clone(),
        }
    }

    /// Reads what [`text`](Self::text) has written.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, numbers) = text.split_once('-')?;
        if text.len() > POSITION_BYTES_MAX || epoch.is_empty() {
            return None;
        }
        let number = |digits| u64::from_str_radix(digits, 36).ok();
        Some(Self {
            epoch: epoch.to_owned(),
            numbers: numbers.split('.').map(number).collect::<Option<_>>()?,
        })
    }

    /// Returns it as text.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let numbers = self.numbers.iter().map(|number| base36(*number));
        format!("{}-{}", self.epoch, numbers.collect::<Vec<_>>().join("."))
    }

    /// The cursor, if it is of the process of that epoch.
    pub(super) fn cursor(&self, epoch: &str) -> Option<Cursor> {
        (self.epoch == epoch).then(|| Cursor(self.numbers.clone()))
    }
}

/// Returns the id of an event.
pub(super) fn event_id(epoch: &str, place: Place) -> String {
    let ring = match place.keep {
        Keep::Ends => 'e',
        Keep::Routine => 'r',
    };
    match place.shard {
        Some(shard) => format!("{epoch}.{shard}.{ring}.{}", place.number),
        None => format!("{epoch}.p.{ring}.{}", place.number),
    }
}

/// Reads what [`event_id`] has written; `None` also for an event of another process.
pub(super) fn parse_event_id(epoch: &str, text: &str) -> Option<Place> {
    let mut parts = text.strip_prefix(epoch)?.strip_prefix('.')?.split('.');
    let shard = match parts.next()? {
        "p" => None,
        number => Some(ShardId(number.parse().ok()?)),
    };
    let keep = match parts.next()? {
        "e" => Keep::Ends,
        "r" => Keep::Routine,
        _ => return None,
    };
    let number = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Place {
        shard,
        keep,
        number,
    })
}

/// A number in digits and small letters.
pub(super) fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::vec(any::<u64>(), 1..9)) {
            let position = Position::of("k3", &Cursor(numbers.clone()));
            let read = Position::parse(&position.text()).unwrap();
            prop_assert_eq!(&read, &position);
            prop_assert_eq!(read.cursor("k3"), Some(Cursor(numbers.clone())));
            prop_assert_eq!(read.cursor("k4"), None);
            for shard in [None, Some(ShardId(7))] {
                for keep in [Keep::Ends, Keep::Routine] {
                    let place = Place { shard, keep, number: numbers[0] };
                    prop_assert_eq!(parse_event_id("k3", &event_id("k3", place)), Some(place));
                }
            }
        }

        #[test]
        fn any_text_is_one_or_none(text in "\\PC{0,60}") {
            let _ = Position::parse(&text);
            let _ = parse_event_id("k3", &text);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "-", "k3", "k3-", "k3-1..2", "k3-1.!", "-1"] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
        for text in [
            "",
            "k3",
            "k3.1.e",
            "k3.1.x.2",
            "k3.1.e.2.3",
            "k4.1.e.2",
            "k3.q.e.1",
        ] {
            assert_eq!(parse_event_id("k3", text), None, "{text}");
        }
    }
}
