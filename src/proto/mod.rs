//! Bytes to values and back: no I/O, no clock, no randomness, no configuration.

pub mod actions;
pub mod cidr;
pub mod claims;
pub mod forwarded;
pub mod http;
pub mod origin;
pub mod pattern;
pub mod proxy_protocol;
pub mod records;
pub mod wire;
pub mod ws;
