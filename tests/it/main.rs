//! The server from outside: the real executable, started as an operator starts it, and spoken to
//! by clients that share no code with it.
//!
//! Each file is named after the property that it shows. Nothing here waits for time to pass:
//! tests wait for what must come, and give up after [`support::PATIENCE`].
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test's support cannot do fails the test"
)]

mod support;

mod admin_api;
mod admin_changes;
mod bounds;
mod commands;
mod commands_refused;
mod connect;
mod credentials;
mod direct;
mod drain;
mod ends;
mod frames;
mod hostile;
mod killed;
mod liveness;
mod logs;
mod metrics;
mod operators;
mod presence;
mod protocol_document;
mod proxies;
mod publish;
mod reload;
mod rest;
mod signals;
mod slow_consumer;
mod startup;
mod store;
