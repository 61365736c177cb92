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

mod activation;
mod admin_api;
mod admin_changes;
mod admin_openapi;
mod backup;
mod bounds;
mod broken_disk;
mod causes;
mod check;
mod commands;
mod commands_refused;
mod configuration;
mod connect;
mod console;
mod credentials;
mod dev_lines;
mod direct;
mod doctor;
mod drain;
mod ends;
mod events;
mod events_told;
mod feed;
mod finding;
mod frames;
mod history;
mod history_command;
mod history_disk;
mod hostile;
mod http_cases;
mod init;
mod ipv6;
mod killed;
mod liveness;
mod logs;
mod looks;
mod metrics;
mod operators;
mod out_of_kernel;
mod output;
mod placement;
mod power_loss;
mod presence;
mod protocol_document;
mod proxies;
mod pub_and_sub;
mod publish;
mod refresh;
mod reload;
mod rest;
mod rest_history;
mod service;
mod signals;
mod silent;
mod slow_consumer;
mod startup;
mod store;
mod tokens;
mod trace;
mod truth;
mod upgrade;
mod upgrade_failures;
mod usage;
mod warnings;
