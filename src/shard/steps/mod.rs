//! Steps that touch more than one part. Only these files, and the shard itself, name `Shard`.

mod admission;
mod back_pressure;
mod commands;
mod drain;
pub mod freeze;
mod kicks;
mod looks;
mod memory;
mod mesh;
mod portions;
mod queries;
mod questions;
mod receive;
mod requests;
mod rights_walk;
mod sockets;
mod time;
