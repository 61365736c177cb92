//! What a channel keeps of its publications, at its owner: numbers, frames, senders, ids.
//!
//! `history::History` is the value of one channel. It knows no shard, no connection and no
//! clock: it is told the time, and hands out pieces that everybody shares. `table::Table` holds
//! all that a shard keeps to its bounds, of memory and of time. What follows from both in a
//! channel stands in `shard/channel/numbers.rs` and `shard/channel/resume.rs`.

pub(in crate::shard) mod blocks;
pub(in crate::shard) mod evicted;
#[expect(
    clippy::module_inception,
    reason = "the value that this module is about"
)]
pub(in crate::shard) mod history;
pub(in crate::shard) mod ids;
pub mod page;
pub mod replay;
pub mod restored;
pub(in crate::shard) mod senders;
pub(in crate::shard) mod table;
