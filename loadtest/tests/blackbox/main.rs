//! The executable against a small server of the protocol.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod abuse;
mod bad_input;
mod deliveries;
mod history;
mod support;
