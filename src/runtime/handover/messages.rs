//! What two processes of the server say to each other: maps of numbered fields, in CBOR, as the
//! records of shards are. A number is never used again. A field that is added is an `Option`;
//! fields that are not known are skipped.

use std::net::IpAddr;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

/// Kinds of frames.
pub(super) mod kind {
    pub(in crate::runtime::handover) const HELLO: u16 = 1;
    pub(in crate::runtime::handover) const WELCOME: u16 = 2;
    pub(in crate::runtime::handover) const READY: u16 = 3;
    pub(in crate::runtime::handover) const STATE: u16 = 4;
    pub(in crate::runtime::handover) const SOCKETS: u16 = 5;
    pub(in crate::runtime::handover) const GOT: u16 = 6;
    pub(in crate::runtime::handover) const IMPORTED: u16 = 7;
    pub(in crate::runtime::handover) const COMMIT: u16 = 8;
    pub(in crate::runtime::handover) const TAKEN: u16 = 9;
    pub(in crate::runtime::handover) const STORE_RELEASED: u16 = 10;
    pub(in crate::runtime::handover) const FAILED: u16 = 12;
    pub(in crate::runtime::handover) const ABORT: u16 = 13;
    pub(in crate::runtime::handover) const LISTENERS: u16 = 14;
    pub(in crate::runtime::handover) const USAGE: u16 = 15;
}

/// A message without content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Nothing {}

/// The new process is there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Hello {
    #[n(0)]
    pub version: String,
    /// The formats of records that it reads, from the first to the last.
    #[n(1)]
    pub reads: (u32, u32),
    #[n(2)]
    pub shard_count: u16,
    /// Bits of state that it understands.
    #[n(3)]
    pub features_known: u64,
}

/// What the new process begins with. Beside it: the copy of the store, and the admin listener if
/// there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Welcome {
    #[n(0)]
    pub format: u32,
    /// Bits of state that it must understand.
    #[n(1)]
    pub features_used: u64,
    #[n(2)]
    pub shard_count: u16,
    /// When the old process's clock stood at 0, in nanoseconds of `CLOCK_MONOTONIC`.
    #[n(3)]
    pub clock_origin_ns: u64,
    /// How many times a server has been handed over, counted with this time.
    #[n(4)]
    pub generation: u64,
    /// How many listeners follow.
    #[n(5)]
    pub listeners: u32,
    #[n(6)]
    pub has_admin: bool,
    /// Upgrades that were done, and that failed, before this one.
    #[n(7)]
    pub done: u64,
    #[n(8)]
    pub failed: u64,
    #[n(9)]
    pub pause_max_ms: u64,
    #[n(10)]
    pub state_bytes_max: u64,
}

/// Listeners, whose sockets stand beside it in their order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Listeners {
    /// Of each its address as it was configured, which may have port 0.
    #[n(0)]
    pub configured: Vec<String>,
}

/// What a shard hands over; beside it its records, and what stands before its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct State {
    #[n(0)]
    pub shard: u16,
    #[n(1)]
    pub connections: u32,
    /// Since when nobody is served, on the server's clock.
    #[n(2)]
    pub frozen_ms: u64,
    /// How many shards hand over.
    #[n(3)]
    pub of: u16,
}

/// Sockets of a shard, in the order of its records, which stand beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Sockets {
    #[n(0)]
    pub shard: u16,
    #[n(1)]
    pub first: u32,
    #[n(2)]
    pub count: u32,
}

/// How many sockets have come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Got {
    #[n(0)]
    pub sockets: u64,
}

/// What was handed over, counted by either side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(in crate::runtime) struct Counts {
    #[n(0)]
    pub connections: u64,
    #[n(1)]
    pub memberships: u64,
    /// Bytes that wait to be written.
    #[n(2)]
    pub outbox_bytes: u64,
}

impl Counts {
    /// Adds those of another shard.
    pub(super) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.memberships += other.memberships;
        self.outbox_bytes += other.outbox_bytes;
    }
}

/// The new process gives up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Failed {
    #[n(0)]
    pub cause: String,
}

/// The old process gives up.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Abort {
    #[n(0)]
    pub cause: String,
}

/// What stands between a socket and its shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(in crate::runtime) struct SocketRecord {
    /// A proxy whose header has not been read whole: its address, and what has come.
    #[n(0)]
    pub proxy: Option<(IpAddr, ByteVec)>,
    /// Bytes to be sent before all others.
    #[n(1)]
    pub unsent: Option<ByteVec>,
    /// What the peer sends is ignored.
    #[n(2)]
    pub is_refused: Option<bool>,
}
