//! What one process hands to the next, so that connections live on: pure, without I/O.
//!
//! All shards are frozen until nothing is on its way between them ([`Waves`]). Then each writes
//! records of its connections, and of the channels that it owns (`export`). The shards of the new
//! process read the records of all ([`Handed`]) and go on with them (`import`); there may be more
//! or fewer of them, with other keys of hashes. Bytes of another process are not believed: what
//! cannot be is an [`ImportError`].

mod connection;
mod export;
mod import;
mod left;
mod rates;
pub(in crate::shard) mod record;
#[cfg(test)]
mod record_tests;
mod state;
#[cfg(test)]
mod tests;
mod waves;

pub use self::export::Exported;
pub use self::state::{FORMAT, Handed, ImportError, TooLarge};
pub use self::waves::Waves;
pub use crate::shard::steps::freeze::MeshCounts;
