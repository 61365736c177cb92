//! The shards of a process, simulated: real shard values, with links and sockets in memory, and
//! every step chosen by a seed.
//!
//! Clients subscribe, publish, send, stall, leave and come back while links stall, deadlines
//! pass, rights change and the server drains, and hostile ones are beside them; the checks in
//! `receive` and `quiet` hold what each client sees against what was promised, and the shards'
//! own invariants.
//!
//! `SIM_SEEDS=10000` runs that many seeds, from `SIM_FIRST_SEED` on; `SIM_SEED=7` runs that one;
//! `SIM_STEPS=20000` makes each run that long.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing, and prints its seed"
)]

mod client;
mod hostile;
mod ledger;
mod quiet;
mod random;
mod receive;
mod sockets;
mod tenants;
mod walk;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use walk::Walk;

const SEEDS: u64 = 160;
const STEPS: u64 = 2_500;
/// Seeds that once failed, with the number of steps that it took.
const FAILED: &[(u64, u64)] = &[
    // A snapshot showed changes that were announced again.
    (1, 2_500),
    // A member was told of its own leaving.
    (3, 2_500),
    // Input held for a link that was free.
    (24, 2_500),
    // Ack and snapshot in one write.
    (123, 2_500),
];

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

#[track_caller]
fn check(seed: u64, steps: u64) {
    let mut walk = Walk::new(seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| walk.run(steps))) {
        eprintln!(
            "SIM_SEED={seed} SIM_STEPS={steps} failed at step {} with {} shards",
            walk.step,
            walk.world.shard_count()
        );
        resume_unwind(panic);
    }
}

#[test]
fn what_was_promised_holds_in_every_order_of_events() {
    let steps = from_environment("SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = from_environment("SIM_SEED") {
        return check(seed, steps);
    }
    let first = from_environment("SIM_FIRST_SEED").unwrap_or(0);
    for seed in first..first + from_environment("SIM_SEEDS").unwrap_or(SEEDS) {
        check(seed, steps);
    }
}

#[test]
fn what_once_failed_stays_repaired() {
    for (seed, steps) in FAILED {
        check(*seed, *steps);
    }
}
