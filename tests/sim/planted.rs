//! Shows that the simulation finds bugs: each of those in `src/planted.rs` is planted alone, and
//! seeds are run until a check fails.
//!
//! `SIM_PLANTED=write` writes the table, `tests/sim/planted.md`; without it the table that is
//! there must have a row for each bug. `SIM_BUG=LostWakeUp` hunts that one.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ringmesh::planted::{Bug, plant};

use crate::histories::Histories;
use crate::walk::Walk;
use crate::{HISTORY_STEPS, STEPS};

/// Seeds within which every bug must be found.
const SEEDS_MAX: u64 = 3_000;
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/planted.md");
const SOURCE: &str = include_str!("../../src/planted.rs");

/// What caught a bug.
#[derive(Clone, Debug)]
struct Catch {
    /// Seeds that were run until then, that one included.
    seeds: u64,
    /// The file of the check.
    file: String,
    text: String,
}

thread_local! {
    static LAST_PANIC: std::cell::RefCell<Option<(String, String)>> =
        const { std::cell::RefCell::new(None) };
}

/// Whether it is the simulation of histories that can find it.
fn is_of_history(bug: Bug) -> bool {
    matches!(
        bug,
        Bug::ReplayOffByOne
            | Bug::RepeatedIdPublished
            | Bug::EvictionUntold
            | Bug::AckBeforeStored
            | Bug::AckBeforeFsync
            | Bug::TornTailTakenForWhole
    )
}

/// Runs seeds with that bug until a check fails.
fn hunt(bug: Bug) -> Option<Catch> {
    plant(Some(bug));
    let found = (0..SEEDS_MAX).find_map(|seed| {
        let run = || match is_of_history(bug) {
            true => _ = Histories::new(seed).run(HISTORY_STEPS),
            false => Walk::new(seed).run(STEPS),
        };
        let failed = catch_unwind(AssertUnwindSafe(run)).is_err();
        let (file, text) = LAST_PANIC.take().filter(|_| failed)?;
        Some(Catch {
            seeds: seed + 1,
            file,
            text,
        })
    });
    plant(None);
    found
}

/// What the source says about a bug.
fn description(bug: Bug) -> String {
    let declared = format!("\n    {bug:?},\n");
    let before = SOURCE.split(&declared).next().unwrap();
    let lines = before.lines().rev();
    let comment = lines.take_while(|line| line.trim_start().starts_with("///"));
    let mut comment: Vec<&str> = comment
        .map(|line| line.trim_start().trim_start_matches("/// "))
        .collect();
    comment.reverse();
    comment.join(" ")
}

/// A check's words without names and numbers, which the seed chooses.
fn kind(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.trim_start_matches("assertion `left == right` failed: ");
    let line = line.split(['{', '[', ':']).next().unwrap_or_default();
    let words = line.split_whitespace().map(|word| {
        let is_name = word.contains(|c: char| c.is_ascii_digit());
        if is_name { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ").replace('|', "/")
}

fn table(catches: &[(Bug, Catch)]) -> String {
    let mut text = String::from(
        "# Planted bugs, and what caught them\n\n\
         Written by `SIM_PLANTED=write cargo test --release --features planted-bugs --test sim \
         planted`, from\nthe bugs in `src/planted.rs`: each is planted alone, and seeds are run \
         from 0 on, 2,500 steps each,\nuntil a check fails. A check in `tests/sim` is the \
         model's; one in `src` is an\ninvariant of the server's own.\n\n\
         | bug | what it is | caught by | after seeds |\n| --- | --- | --- | ---: |\n",
    );
    for (bug, catch) in catches {
        let what = description(*bug);
        let Catch {
            seeds,
            file,
            text: found,
            ..
        } = catch;
        let found = kind(found);
        let _ = writeln!(text, "| `{bug:?}` | {what} | `{file}`: {found} | {seeds} |");
    }
    text
}

#[test]
fn planted_bugs_are_found() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| {
        let file = panic.location().map(|it| it.file().to_owned());
        let text = panic.payload_as_str().unwrap_or_default().to_owned();
        LAST_PANIC.set(Some((file.unwrap_or_default(), text)));
    }));
    let only = std::env::var("SIM_BUG").ok();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
            if only
                .as_ref()
                .is_some_and(|only| *only != format!("{bug:?}"))
            {
                continue;
            }
            let catch = hunt(bug);
            eprintln!("{bug:?}: {catch:?}");
            found.lock().unwrap().push((bug, catch));
        }
    };
    let cores = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    std::panic::set_hook(before);
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|(bug, _)| *bug as usize);
    let missed = found.iter().filter(|(_, catch)| catch.is_none());
    let missed: Vec<Bug> = missed.map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "no check finds {missed:?}");
    if only.is_some() {
        return;
    }
    let found = found.into_iter().filter_map(|(bug, it)| Some((bug, it?)));
    let table = table(&found.collect::<Vec<_>>());
    if std::env::var("SIM_PLANTED").is_ok_and(|it| it == "write") {
        return std::fs::write(PATH, table).unwrap();
    }
    // How soon a bug is found changes with every change of the walk; that it is found must not.
    let committed = std::fs::read_to_string(PATH).unwrap();
    for bug in Bug::ALL {
        let row = format!("| `{bug:?}` |");
        assert!(
            committed.contains(&row),
            "{bug:?} has no row: write the table"
        );
    }
}
