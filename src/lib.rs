#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod dev;
pub mod domain;
pub mod ids;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod proto;
pub mod runtime;
pub mod shard;
pub mod tls;
