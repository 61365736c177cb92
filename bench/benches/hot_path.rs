//! `cargo bench -p ringmesh-bench`: wall-clock times of the cases that the instruction gate counts.

use divan::Bencher;
use ringmesh_bench::cases::{CASES, Case};

fn main() {
    divan::main();
}

#[divan::bench(args = names())]
fn case(bencher: Bencher<'_, '_>, name: &str) {
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        return;
    };
    let mut operation = (case.prepare)();
    bencher.bench_local(&mut operation);
}

fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case: &Case| case.name)
}
