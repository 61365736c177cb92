#![doc = include_str!("ARCHITECTURE.md")]

mod backup;
mod bounded_file;
mod check;
mod cli;
mod config;
mod console;
mod control;
mod demo;
mod dev;
mod directory_lock;
mod doctor;
pub mod domain;
pub mod events;
#[doc(hidden)]
pub mod fuzzing;
pub mod history;
pub mod ids;
pub mod limits;
mod log;
mod metrics;
mod nearest;
pub mod planted;
mod private_file;
mod program;
pub mod proto;
mod redact;
mod run_file;
pub mod runtime;
mod setup;
pub mod shard;
mod start_page;
pub mod tls;

pub use cli::Cli;
pub use program::run;
