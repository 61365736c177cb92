//! Events: what just happened to whom, and why, for minutes back.
//!
//! A shard writes records of words into two rings that only it writes ([`recorder`], [`ring`]), and
//! never waits, allocates or formats for it. Whoever reads copies blocks and drops what was
//! overwritten meanwhile (`reader`), so that reading costs the shard nothing. Texts are made when
//! an event is read, from one table (`text`).
//!
//! Nothing secret is ever recorded: no credential, no query string, header, payload or metadata.
//!
//! This layer knows names of numbers and bounds, and nothing of the server.

pub mod author;
mod coalesce;
pub mod feed;
pub mod kind;
pub(crate) mod reader;
pub mod record;
pub mod recorder;
pub mod ring;
pub(crate) mod text;
