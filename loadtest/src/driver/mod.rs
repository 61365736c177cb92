//! The load itself: one glommio executor per load core, each with one readiness loop over all its
//! sockets, and a conductor that leads them through the phases of a run.

pub(crate) mod conductor;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod gathered;
pub(crate) mod phase;
pub(crate) mod poller;
pub(crate) mod worker;
