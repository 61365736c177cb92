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
mod descriptors;
mod handshakes;
mod heard;
pub mod listener;
pub mod memory;
mod mesh;
mod preflight;
pub(crate) mod process;
mod read_queue;
mod reload;
mod ring;
pub(crate) mod server;
mod shard_loop;
mod signals;
mod sinks;
mod sockets;
mod transport;
mod wake;
