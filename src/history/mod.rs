//! History on disk: segment files of records, one line of them for each shard.
//!
//! A shard makes records of what it publishes in channels whose history is on disk, one batch a
//! turn. A thread beside it appends them to a segment, so that no disk holds a shard up. At the
//! start all segments are read, of whatever shards they were, and what they hold is handed to the
//! shards that own the channels now.
//!
//! Always true: what is rebuilt was written so, and is without gaps. What cannot be proved to be
//! whole goes on in another epoch, which says of earlier positions up to where they hold.

mod behind;
mod epoch;
mod files;
mod index;
mod open;
mod rebuild;
mod segment;
mod thread;
mod writer;

#[cfg(test)]
mod tests;

pub use behind::{From, Unwritten};
pub use epoch::Epoch;
pub use files::{Directory, Files, SegmentFile};
pub use open::{OpenError, Opened, Options, open};
pub use rebuild::{Bounds, Id, Item, Rebuilt};
pub use thread::{Log, Worker, Writing, start, without_thread};
pub use writer::{Counters, Fsync, Writer};
