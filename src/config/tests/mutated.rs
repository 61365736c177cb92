//! Files that are nearly sound: whatever stands in one, it is a configuration or one line of text
//! that says where the fault is.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// What values, keys and headers are made of, and what must not be in them.
const PIECES: &[&str] = &[
    "0",
    "-1",
    "18446744073709551616",
    "1e9",
    "nan",
    "true",
    "\"\"",
    "\"127.0.0.1:0\"",
    "[\"[::1]:0\", \"0.0.0.0:1\"]",
    "[]",
    "{}",
    "1979-05-27T07:32:00Z",
    "'''",
    "\\",
    "é\u{202e}",
    "\u{7f}",
    "#",
    "=",
    "server.listen",
    "limits = 1",
    "[[apps]]",
    "[[apps.keys]]",
    "[server]",
    "id = \"a\"",
    "signing_secret_env = \"HOME\"",
    "channel_patterns = [\"**\\\\\"]",
];

/// One change of a file, at a line.
#[derive(Clone, Debug)]
enum Change {
    Value(&'static str),
    Line(&'static str),
    Removed,
    Twice,
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        select(PIECES).prop_map(Change::Value),
        select(PIECES).prop_map(Change::Line),
        Just(Change::Removed),
        Just(Change::Twice),
        (0..40_usize).prop_map(Change::Cut),
    ]
}

fn apply(lines: &mut Vec<String>, at: &Index, change: &Change) {
    if lines.is_empty() {
        return;
    }
    let at = at.index(lines.len());
    match change {
        Change::Value(piece) => {
            let key = lines[at].split('=').next().unwrap_or_default().to_owned();
            lines[at] = format!("{key}= {piece}");
        }
        Change::Line(piece) => lines.insert(at, (*piece).to_owned()),
        Change::Removed => drop(lines.remove(at)),
        Change::Twice => lines.insert(at, lines[at].clone()),
        Change::Cut(count) => {
            let kept = lines[at].chars().take(*count).collect();
            lines[at] = kept;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_changed_file_is_a_configuration_or_one_line_that_names_it(
        changes in vec((any::<Index>(), change()), 1..6),
    ) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        for (at, change) in &changes {
            apply(&mut lines, at, change);
        }
        if let Err(error) = parse(&lines.join("\n"), &[]) {
            prop_assert!(error.starts_with("/etc/rm/r.toml"), "{error}");
            prop_assert!(!error.contains('\n'), "{error}");
        }
    }
}
