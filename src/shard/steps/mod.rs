//! Steps that touch more than one part. Only these files, and the shard itself, name `Shard`.

mod admission;
mod back_pressure;
mod commands;
mod kicks;
mod mesh;
mod questions;
mod receive;
mod requests;
mod sockets;
mod time;
