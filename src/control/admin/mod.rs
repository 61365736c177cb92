//! The admin API: its own listener, its own token, `/api/internal/v1` and the probes.
//!
//! Routes turn requests into changes and outcomes into bodies; what a change means is
//! decided elsewhere. No client, with or without the token, can hold more than a bounded number
//! of connections, a bounded body and a bounded time.

mod access;
mod answer;
mod drain;
mod host;
pub mod pages;
mod places;
mod routes;
mod server;

pub use access::{Access, TokenError};
pub use host::HostNames;
pub use server::serve;

#[cfg(test)]
mod tests;
