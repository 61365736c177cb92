//! Bytes to values and back: no I/O, no clock, no randomness, no configuration.

pub mod actions;
pub mod claims;
pub mod http;
pub mod origin;
pub mod pattern;
pub mod wire;
pub mod ws;
