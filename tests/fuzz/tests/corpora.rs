//! The inputs that are kept, again: those that a fuzzer found worth keeping, and those that once
//! failed. Runs on any toolchain.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ringmesh_fuzz::TARGETS;

#[test]
fn what_was_kept_still_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora");
    let mut failed = Vec::new();
    for (name, run) in TARGETS {
        let mut count = 0;
        run(b"");
        for entry in fs::read_dir(root.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            count += 1;
            if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
                failed.push(path);
            }
        }
        assert!(count > 0, "{name} has a corpus");
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A target without a number could not be run by `.ci/run`.
#[test]
fn every_target_has_a_number_of_inputs() {
    let text = include_str!("../runs");
    let mut named: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (target, runs) = line.split_once(' ')?;
            let runs: u32 = runs.parse().ok()?;
            (runs > 0).then_some(target)
        })
        .collect();
    let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known);
}
