//! Threads, sockets, io_uring, clock and signals: what drives the shards. No other module names
//! io_uring, sockets or the clock.

mod affinity;
mod allocator;
pub mod boot;
mod certificates;
mod cgroup;
pub mod clock;
mod command;
mod control_link;
mod departures;
mod descriptors;
pub mod found;
mod handed;
mod handover;
mod handshakes;
mod heard;
mod histories;
pub mod listener;
pub mod memory;
mod mesh;
mod node;
mod options;
mod preflight;
pub(crate) mod process;
mod rates;
mod read_queue;
mod reload;
mod reload_requests;
mod ring;
pub(crate) mod server;
mod service;
mod shard_loop;
mod shards_handle;
mod signals;
mod sinks;
mod sockets;
mod topology;
mod transport;
mod wake;

pub(crate) use cgroup::Cgroups;
pub(crate) use handover::Successor;
pub(crate) use preflight::{
    Bounds, MEMLOCK_BYTES_PER_SHARD, io_uring_fault, is_at_least, machine_findings,
};
pub(crate) use topology::{Topology, core_list};
