//! What shards tell backends of who came and went, as backends ask for it: cursors of one app.
//!
//! A cursor is `epoch-app.since-n.n.n…`: the process, the app in it and the rights since which the
//! app has this feed, and a number for each shard. So none is good for another app, for another
//! process, or behind a time in which nothing was kept.

use super::cursor::base36;
use crate::domain::rights::App;
use crate::events::feed::FeedReader;

/// Bytes of a cursor, at most: 1,024 shards, and the digits of their numbers.
const CURSOR_BYTES_MAX: usize = 1_024 * 14 + 64;

/// The feeds of all apps.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    reader: FeedReader,
    /// Tells this process from any other.
    pub(super) epoch: String,
}

/// What a cursor is to a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeedStart {
    /// It goes on from there.
    From(Vec<u64>),
    /// Something may have been missed.
    Expired,
    /// It is none.
    NoCursor,
}

impl Feed {
    /// The feeds that a reader reads; the epoch is a random number.
    #[must_use]
    pub(crate) fn new(reader: FeedReader, epoch: u64) -> Self {
        Self {
            reader,
            epoch: base36(epoch),
        }
    }

    /// What reads it.
    #[must_use]
    pub(crate) fn reader(&self) -> &FeedReader {
        &self.reader
    }

    /// The cursor of an app that goes on from there.
    #[must_use]
    pub(crate) fn cursor(&self, app: &App, next: &[u64]) -> String {
        let numbers = next.iter().map(|number| base36(*number));
        let numbers = numbers.collect::<Vec<_>>().join(".");
        format!("{}{numbers}", self.beginning(app))
    }

    /// What every good cursor of an app begins with.
    fn beginning(&self, app: &App) -> String {
        let (index, since) = (u64::from(app.index.0), app.feed.since_version);
        format!("{}-{}.{}-", self.epoch, base36(index), base36(since))
    }

    /// Where a reader of an app goes on that shows that cursor.
    #[must_use]
    pub(crate) fn start(&self, app: &App, cursor: &str) -> FeedStart {
        let Some(next) = parse(cursor) else {
            return FeedStart::NoCursor;
        };
        let is_ours = cursor.starts_with(&self.beginning(app));
        match is_ours && self.reader.has_been_at(&next) {
            true => FeedStart::From(next),
            false => FeedStart::Expired,
        }
    }
}

/// The numbers of a cursor, if it has the form of one.
fn parse(cursor: &str) -> Option<Vec<u64>> {
    let is_digit = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let is_number = |text: &str| !text.is_empty() && text.len() <= 13 && text.bytes().all(is_digit);
    let mut parts = cursor.split('-');
    let (epoch, app, next) = (parts.next()?, parts.next()?, parts.next()?);
    let (index, since) = app.split_once('.')?;
    let is_one = cursor.len() <= CURSOR_BYTES_MAX
        && parts.next().is_none()
        && [epoch, index, since].into_iter().all(is_number);
    let number = |digits: &str| {
        let number = u64::from_str_radix(digits, 36).ok();
        number.filter(|_| is_number(digits))
    };
    let next = next.split('.').map(number).collect();
    if is_one { next } else { None }
}
