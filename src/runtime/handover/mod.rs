//! A deploy that nobody notices: the running process hands everything over to the next one.
//!
//! The main thread of the old process conducts ([`predecessor`]), that of the new one follows
//! ([`successor`]). Up to the end both have every socket, and one of them at most may read or
//! write: the old one stops first, and the new one begins when it has said `Taken`. So giving up
//! costs nothing, at each stage: the old process goes on.

mod arrival;
mod channel;
mod fault;
mod lineage;
mod memory_file;
mod messages;
mod origin;
mod outcome;
mod places;
mod predecessor;
mod requests;
mod shards;
mod stage;
mod successor;

pub(super) use self::arrival::Arrival;
pub(super) use self::lineage::Lineage;
pub(super) use self::messages::{Counts, SocketRecord};
pub(super) use self::origin::Origin;
pub(super) use self::outcome::{Committed, Outcome as HandoverOutcome};
pub(super) use self::places::{Inherited, matched};
pub(super) use self::predecessor::{Parts, hand_over};
pub(super) use self::requests::UpgradeRequests;
pub(crate) use self::successor::Successor;
