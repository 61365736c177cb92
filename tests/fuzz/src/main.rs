//! The program that libFuzzer drives: the target named in `FUZZ_TARGET`, with libFuzzer's own
//! arguments. `tests/fuzz/run` builds it so that the fuzzer sees which code the bytes reach.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ringmesh_fuzz::{Target, target};

fn chosen() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET names no target: {name:?}"))
}

fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(chosen)(bytes);
});
