//! The load itself: one glommio executor per load core, each with one readiness loop over all its
//! sockets, and a conductor that leads them through the phases of a run.

pub mod conductor;
pub mod connection;
pub mod core;
pub mod gathered;
pub mod phase;
pub mod poller;
pub mod worker;
