//! The only place that names glommio, sockets and the clock.

pub mod boot;
pub mod clock;
pub mod command;
mod listener;
mod mesh;
pub mod preflight;
mod ring;
mod shard_loop;
mod sockets;
mod wake;
