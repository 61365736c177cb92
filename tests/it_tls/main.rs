//! The executable over TLS and behind proxies: clients that are not ours, listeners of both
//! kinds, certificates that change, bytes that no client should send, storms.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod causes;
mod certificates;
mod clients;
mod command_line;
mod ends;
mod listeners;
mod proxies;
mod storm;
mod support;
