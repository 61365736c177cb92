//! Which of the publications that a channel keeps somebody wants to read, and how that is written
//! in a query: for backends and for operators.
//!
//! What is kept, and what an answer looks like, is not known here.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::proto::wire::position::Epoch;

/// Publications of a page for which no number is asked.
pub const LIMIT_DEFAULT: u32 = 100;
/// Publications of a page.
pub const LIMIT_MAX: u32 = 1_000;
/// Bytes of an epoch, of any server's.
const EPOCH_BYTES: RangeInclusive<usize> = 8..=16;

/// Which publications are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only those behind that position; the epoch is `None` where none of this server's is called
    /// so.
    pub since: Option<(Option<Epoch>, u64)>,
    /// At most so many.
    pub limit: u32,
    /// The newest first.
    pub is_newest_first: bool,
    /// Whether it is told how many the channel keeps, and how many bytes: for operators.
    pub tells_size: bool,
}

/// What is asked about what a channel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryAsked {
    /// To show some of it.
    Page(Page),
    /// To forget it.
    Forget,
}

/// What is answered to [`HistoryAsked`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryTold {
    /// The page, as a JSON object; `None` where what was asked for is not kept any more.
    Page(Option<Arc<[u8]>>),
    /// It is forgotten.
    Forgotten(Forgotten),
}

/// What was forgotten of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// How many publications.
    pub count: u64,
    /// The disk was to be told before this is answered, and has not taken it: it may have them
    /// still.
    pub is_refused: bool,
}

/// Returns how many publications are wanted, if that may be asked for.
#[must_use]
pub fn limit_of(text: &str) -> Option<u32> {
    let limit = text.parse().ok().filter(|_| is_number(text));
    limit.filter(|limit| (1..=LIMIT_MAX).contains(limit))
}

/// Returns whether the newest come first, of `asc` or `desc`.
#[must_use]
pub fn is_newest_first(text: &str) -> Option<bool> {
    match text {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    }
}

/// Returns the position that `<epoch>:<seq>` names, whose epoch may be of another server.
#[must_use]
pub fn since_of(text: &str) -> Option<(Option<Epoch>, u64)> {
    let (epoch, seq) = text.split_once(':')?;
    let is_url_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_epoch = EPOCH_BYTES.contains(&epoch.len()) && epoch.bytes().all(is_url_safe);
    Some((Epoch::parse(epoch), seq_of(seq).filter(|_| is_epoch)?))
}

/// Returns the number of a publication. One that no channel reaches is one that this one has not
/// reached.
#[must_use]
pub fn seq_of(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().unwrap_or(u64::MAX))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_whosever_they_are() {
        let known = Epoch::parse("q7Zk2wAb");
        assert!(known.is_some());
        for (text, expected) in [
            ("q7Zk2wAb:41", Some((known, 41))),
            ("q7Zk2wAb:0", Some((known, 0))),
            ("an-epoch_of-more:7", Some((None, 7))),
            ("q7Zk2wAb:99999999999999999999", Some((known, u64::MAX))),
            ("q7Zk2wAb:", None),
            ("q7Zk2wAb:-1", None),
            ("q7Zk2wAb:+1", None),
            ("q7Zk2wAb:1:2", None),
            ("q7Zk2wA:1", None),
            ("q7Zk2wA!:1", None),
            ("41", None),
            (":41", None),
            ("", None),
        ] {
            assert_eq!(since_of(text), expected, "{text}");
        }
        assert_eq!(
            (seq_of("41"), seq_of("4 1"), seq_of("")),
            (Some(41), None, None)
        );
    }

    #[test]
    fn a_page_has_bounds_and_an_order() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1000", Some(1_000)),
            ("0", None),
            ("1001", None),
            ("-1", None),
            ("+1", None),
            ("", None),
            ("all", None),
        ] {
            assert_eq!(limit_of(text), expected, "{text}");
        }
        assert_eq!(
            ["asc", "desc", "DESC", ""].map(is_newest_first),
            [Some(false), Some(true), None, None]
        );
    }
}
