//! The admin API: its own listener, its own token, `/api/internal/v1` and the probes.
//!
//! Routes turn requests into changes and outcomes into bodies; what a change means is
//! decided elsewhere. No client, with or without the token, can hold more than a bounded number
//! of connections, a bounded body and a bounded time.

mod accept;
mod access;
mod answer;
mod apps;
mod backend;
mod backup;
mod buffered;
mod channel_history;
mod drain;
mod events;
mod feed;
mod gate;
mod gzip;
mod host;
mod intake;
mod live;
mod looks;
mod once;
pub(super) mod openapi;
mod operation;
pub(super) mod pages;
mod peers;
mod places;
mod refusals;
mod routes;
mod server;
mod session;
mod sign_in;
mod tokens;
mod trace;

pub(super) use access::{Access, TokenError};
pub(super) use host::HostNames;
pub(super) use server::{Listening, serve};
pub(super) use session::Sessions;

#[cfg(test)]
mod tests;
