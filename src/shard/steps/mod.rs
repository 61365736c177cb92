//! Steps that touch more than one part. Only these files, and the shard itself, name `Shard`.

mod admission;
mod back_pressure;
mod commands;
mod drain;
mod kicks;
mod memory;
mod mesh;
mod portions;
mod questions;
mod receive;
mod requests;
mod rights_walk;
mod sockets;
mod time;
