//! How long a function may be.

use crate::{check, sources};

/// Lines of a function, from its signature to its closing brace.
const LINES_MAX: usize = 70;

/// Functions that are longer than [`LINES_MAX`], and their length. Entries may shrink and go; none
/// may grow or be added.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[
    ("loadtest/src/driver/conductor.rs", "conduct", 72),
    ("loadtest/src/report/summary.rs", "of_run", 76),
    ("loadtest/src/report/svg.rs", "chart", 73),
    (
        "src/config/tests/declared.rs",
        "secrets_come_from_exactly_one_place",
        82,
    ),
    (
        "src/config/tests.rs",
        "contradictions_are_refused_at_the_key_that_was_given",
        78,
    ),
    (
        "src/control/admin/tests.rs",
        "every_fault_of_a_request_has_its_status_and_a_json_body",
        71,
    ),
    ("src/runtime/preflight/error.rs", "fmt", 71),
    (
        "tests/it/frames.rs",
        "each_violation_has_its_close_code",
        80,
    ),
    (
        "tests/it/metrics.rs",
        "the_page_tells_exactly_what_has_happened",
        78,
    ),
    (
        "tests/it/operators.rs",
        "every_command_does_what_it_says",
        72,
    ),
];

/// The functions of a source, each with the lines that it takes: `rustfmt` puts the closing brace
/// below the first letter of the line where the signature begins.
fn functions(lines: &[(usize, String)]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, (_, code)) in lines.iter().enumerate() {
        let Some(name) = named(code) else {
            continue;
        };
        let indent = code.len() - code.trim_start().len();
        let is_end = |(_, code): &&(usize, String)| {
            let is_brace = code.trim_end().len() == indent + 1;
            is_brace && code.trim() == "}"
        };
        let has_body = lines[at..]
            .iter()
            .map(|(_, code)| code.trim_end())
            .find(|code| code.ends_with('{') || code.ends_with(';') || code.ends_with('}'))
            .is_some_and(|code| code.ends_with('{'));
        if has_body && let Some(end) = lines[at..].iter().position(|line| is_end(&line)) {
            found.push((name, end + 1));
        }
    }
    found
}

/// The name of the function that a line begins.
pub(crate) fn named(code: &str) -> Option<String> {
    let (before, behind) = code.split_once("fn ")?;
    let words = ["pub", "const", "async", "unsafe", "extern"];
    let is_signature = before.split_whitespace().all(|word| {
        let word = word.split('(').next().unwrap_or_default();
        words.contains(&word) || word == "in" || word.starts_with("crate")
    });
    let name: String = behind
        .chars()
        .take_while(|char| char.is_ascii_alphanumeric() || *char == '_')
        .collect();
    (is_signature && !name.is_empty()).then_some(name)
}

#[test]
fn functions_stay_short() {
    let (mut offences, mut count, mut found) = (Vec::new(), 0, 0);
    for source in sources().iter().filter(|source| source.is_rust()) {
        let lines: Vec<_> = source.code_lines().collect();
        for (name, length) in functions(&lines) {
            count += 1;
            let mut known = LONG_FUNCTIONS.iter();
            let known = known.find(|(path, it, _)| *path == source.path && *it == name);
            let place = format!("{}: {name}", source.path);
            match known {
                Some((.., listed)) => {
                    found += 1;
                    if length > *listed {
                        offences.push(format!("{place} grew from {listed} to {length} lines"));
                    } else if length < *listed {
                        let mend = "correct or remove its entry";
                        offences.push(format!("{place} shrank to {length} lines; {mend}"));
                    }
                }
                None if length > LINES_MAX => offences.push(format!("{place}: {length} lines")),
                None => {}
            }
        }
    }
    assert!(count > 1_000, "{count} functions were found");
    if found < LONG_FUNCTIONS.len() {
        offences.push("an entry of LONG_FUNCTIONS names no function".into());
    }
    check("a function has at most 70 lines", &offences);
}

#[test]
fn the_reader_of_functions_knows_where_they_end() {
    let text = [
        "impl A {",
        "    pub(in crate::shard) fn one(",
        "        a: u8,",
        "    ) -> u8 {",
        "        if a {",
        "        }",
        "    }",
        "",
        "    fn two(&self) {}",
        "    fn three();",
        "}",
        "fn four() {",
        "}",
    ];
    let lines: Vec<_> = (1..).zip(text.map(str::to_owned)).collect();
    let expected = [("one".to_owned(), 6), ("four".to_owned(), 2)];
    assert_eq!(functions(&lines), expected);
}
