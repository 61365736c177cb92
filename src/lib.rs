#![doc = include_str!("ARCHITECTURE.md")]

mod cli;
mod config;
mod control;
mod demo;
mod dev;
pub mod domain;
pub mod ids;
pub mod limits;
mod log;
mod metrics;
mod program;
pub mod proto;
pub mod runtime;
pub mod shard;
pub mod tls;

pub use cli::Cli;
pub use program::run;
