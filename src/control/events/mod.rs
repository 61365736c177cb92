//! Events as operators ask for them: names in place of numbers, times of the wall clock, filters,
//! cursors and stories. Reading costs the shards nothing.
//!
//! What happens outside of the shards is recorded here too, into rings of the process.

mod book;
mod cursor;
mod feed;
mod follow;
mod json;
mod log;
mod names;
mod query;
mod states;
mod story;
mod warnings;
mod watch;

pub(crate) use book::{Events, Moment};
pub(crate) use cursor::Position;
pub(crate) use feed::{Feed, FeedStart};
pub(crate) use follow::FeedEventJson;
pub(crate) use json::NODE;
pub(crate) use log::{LogEvents, LogTail};
pub(crate) use query::{Found, Query};
pub(crate) use states::Severity;
pub(crate) use warnings::WarningJson;

#[cfg(test)]
pub(crate) mod tests;
