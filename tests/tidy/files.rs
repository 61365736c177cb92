//! Files that somebody names are read by one reader, which has a limit.

use crate::{check, sources};

/// How a file is read without a bound, and who may: what the kernel makes up, and what the bounded
/// reader is made of.
const UNBOUNDED_READS: &[&str] = &[
    "fs::read(",
    "read_to_string(",
    "pem_file_iter(",
    "read_to_end(",
];
const MAY_READ: &[&str] = &[
    "src/bounded_file.rs",
    "src/check/ports.rs",
    // They have a limit of their own.
    "src/cli/client/mod.rs",
    "src/cli/pub_sub/publish.rs",
    "src/cli/tokens.rs",
    "src/config/secret.rs",
    "src/control/testing.rs",
    "src/doctor/",
    // As long as a segment is, which has a limit.
    "src/history/files.rs",
    "src/runtime/",
];

#[test]
fn files_that_somebody_names_are_read_within_a_bound() {
    let mut offences = Vec::new();
    let sources = sources();
    let ours = sources
        .iter()
        .filter(|it| it.is_rust() && it.path.starts_with("src/"));
    for source in ours.filter(|it| !MAY_READ.iter().any(|home| it.path.starts_with(home))) {
        let tests_from = source.tests_from();
        let lines = source
            .code_lines()
            .take_while(|(number, _)| *number < tests_from);
        for (number, code) in lines {
            for name in UNBOUNDED_READS.iter().filter(|name| code.contains(**name)) {
                offences.push(format!("{}:{number}: {name}…)", source.path));
            }
        }
    }
    check("files are read by bounded_file, within a limit", &offences);
}
