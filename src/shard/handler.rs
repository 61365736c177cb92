//! Another protocol over the same connections.
//!
//! A shard with a handler accepts, upgrades, reads, bounds and closes connections as any other
//! does; their messages go to the handler in place of ringmesh's own commands, and no `welcome`
//! is sent. Conformance suites that want an echo are served so, by the code that serves clients.

use std::fmt::Debug;

/// What takes the messages of all connections. Shared by all shards.
pub trait Handler: Debug + Send + Sync {
    /// One message, complete and within the limit. What is appended to `frames` is sent to where
    /// it came from: whole WebSocket frames.
    fn message(&self, message: Message<'_>, frames: &mut Vec<u8>);
}

/// A message as a client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Any bytes. Only a shard with a handler takes them.
    Binary(&'a [u8]),
}
