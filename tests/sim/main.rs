//! The shards of a process, simulated: real shard values, with links and sockets in memory, and
//! every step chosen by a seed.
//!
//! Clients subscribe, publish, send, stall, leave and come back while backends use REST, links
//! stall, deadlines pass, rights change, quotas run out, memory is short, shards are silent or
//! lost and the server drains; operators look, hostile ones and vandals are beside them. The checks
//! in `receive`, `backend`, `quiet` and `seen` hold what each of them sees against what was
//! promised. They are a model of their own (`ledger`, `permit`, `wire`) and share no code with the
//! server, whose own invariants are checked beside.
//!
//! A step is one choice of the schedule: a client, a backend, a socket, a link, a shard's turn or
//! the clock does one thing.
//!
//! Channels with history have a simulation of their own, with the same shards, links and sockets:
//! `histories`. `SIM_HISTORY_SEED=7` runs one of its seeds, `SIM_HISTORY_SEEDS=3000` that many.
//!
//! `SIM_SEEDS=10000` runs that many seeds, from `SIM_FIRST_SEED` on; `SIM_SEED=7` runs that one;
//! `SIM_STEPS=20000` makes each run that long; `SIM_THREADS=1` runs them one after the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test says what is wrong by failing, and prints its seed"
)]

mod backend;
mod client;
#[path = "../../src/history/tests/disk.rs"]
mod disk;
mod drained;
mod events;
mod freezes;
mod histories;
mod hostile;
mod ledger;
mod looks;
mod meter;
mod permit;
#[cfg(feature = "planted-bugs")]
mod planted;
mod quiet;
mod random;
mod receive;
mod refresh;
mod requests;
mod seen;
mod sockets;
mod surroundings;
mod tenants;
mod vandals;
mod walk;
mod wire;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use freezes::Ending;
use histories::Histories;
use meter::Meter;
/// Of the crate whose disk the simulation has.
use ringmesh::history;
use rustix::time::{ClockId, clock_gettime};
use walk::Walk;

/// Without optimisation a seed takes twenty times as long.
const SEEDS: u64 = if cfg!(debug_assertions) { 120 } else { 3_000 };
const STEPS: u64 = 2_500;
/// Seeds of the simulation of histories, and steps of each.
const HISTORY_SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 1_000 };
const HISTORY_STEPS: u64 = 1_500;
/// Seeds over which everything that can occur does.
const METERED_SEEDS_MIN: u64 = 1_000;
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
    // A message in pieces was not read to its end behind a close.
    (64, 2_500),
    // Members stayed whose leave was confirmed too late.
    (266, 2_500),
    (550, 2_500),
    // A session that was at its end was asked for its join.
    (29, 2_500),
    // Subscriptions that wait one for the other outlasted the check.
    (201_938, 2_500),
    // Room was made when a connection was accepted.
    (2_060, 2_500),
    (3_611, 2_500),
    // Somebody was dropped for a missing pong, and spoke on.
    (5_617, 2_500),
    // A publisher waited for members of a shard that was lost.
    (4_324, 2_500),
];

/// What has come of some seeds.
#[derive(Default)]
struct Report {
    seeds: u64,
    steps: u64,
    cpu_sec: f64,
    meter: Meter,
}

impl Report {
    fn join(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.cpu_sec += other.cpu_sec;
        self.meter.join(&other.meter);
    }

    fn print(&self) {
        let per_minute = self.steps as f64 * 60.0 / self.cpu_sec;
        eprintln!(
            "{} seeds, {} steps in {:.1} s of one core: {per_minute:.0} steps a minute",
            self.seeds, self.steps, self.cpu_sec
        );
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// How long this thread has computed, in seconds.
fn cpu_sec() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[track_caller]
fn check(seed: u64, steps: u64) -> Report {
    let began_sec = cpu_sec();
    let mut walk = Walk::new(seed);
    let run = || {
        walk.run(steps);
        walk.world.check_all_events();
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        eprintln!(
            "SIM_SEED={seed} SIM_STEPS={steps} failed at step {} with {} shards{}",
            walk.step,
            walk.world.shard_count(),
            if walk.is_lossy {
                ", one silent or lost"
            } else {
                ""
            },
        );
        resume_unwind(panic);
    }
    walk.world.note_deadlines();
    Report {
        seeds: 1,
        steps: walk.step,
        cpu_sec: cpu_sec() - began_sec,
        meter: walk.world.meter,
    }
}

/// Runs seeds on as many threads as there are cores.
fn check_all(first: u64, count: u64, steps: u64) -> Report {
    let next = AtomicU64::new(first);
    let work = || {
        let mut report = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return report;
            }
            report.join(&check(seed, steps));
        }
    };
    let cores = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let threads = from_environment("SIM_THREADS").unwrap_or(cores);
    let mut report = Report::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => report.join(&done),
                Err(panic) => resume_unwind(panic),
            }
        }
    });
    report
}

#[test]
fn what_was_promised_holds_in_every_order_of_events() {
    let steps = from_environment("SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = from_environment("SIM_SEED") {
        return check(seed, steps).print();
    }
    let first = from_environment("SIM_FIRST_SEED").unwrap_or(0);
    let count = from_environment("SIM_SEEDS").unwrap_or(SEEDS);
    let report = check_all(first, count, steps);
    let (table, missing) = report.meter.table();
    eprint!("{table}");
    report.print();
    let is_metered = count >= METERED_SEEDS_MIN;
    assert!(!is_metered || missing.is_empty(), "never seen: {missing:?}");
}

/// What shards hand over is a copy: they go on as if they had not handed anything over. A seed
/// whose turns write all they can leaves nothing that a copy could put into another order.
#[test]
fn handing_over_changes_nothing() {
    let digests = |seed, ending| {
        let mut walk = Walk::new(seed);
        walk.all_freezes_end = Some(ending);
        walk.run(STEPS);
        let sockets = walk.world.sockets.iter();
        sockets.map(|it| it.digest).collect::<Vec<_>>()
    };
    for seed in (1..9).filter(|seed| seed % 3 > 0) {
        let gone_on = digests(seed, Ending::Thaw);
        assert_eq!(digests(seed, Ending::GiveUp), gone_on, "seed {seed}");
    }
}

#[test]
fn who_comes_back_has_missed_nothing_or_is_told_so() {
    let check = |seed: u64| {
        let mut histories = Histories::new(seed);
        let run = || histories.run(HISTORY_STEPS);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            eprintln!("SIM_HISTORY_SEED={seed} failed: {}", histories.describe());
            resume_unwind(panic);
        })
    };
    let began_sec = cpu_sec();
    let mut report = Report::default();
    let seeds = match from_environment("SIM_HISTORY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_environment("SIM_HISTORY_SEEDS").unwrap_or(HISTORY_SEEDS),
    };
    for seed in seeds {
        report.steps += check(seed);
        report.seeds += 1;
    }
    report.cpu_sec = cpu_sec() - began_sec;
    report.print();
}

#[test]
fn what_once_failed_stays_repaired() {
    for (seed, steps) in FAILED {
        check(*seed, *steps);
    }
}
