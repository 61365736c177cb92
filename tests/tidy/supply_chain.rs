//! What is trusted stands in `tests/supply-chain.md`: dependencies, and unsafe blocks.

use std::collections::BTreeSet;
use std::fs;

use crate::{check, root, sources};

fn page() -> String {
    fs::read_to_string(root().join("tests/supply-chain.md")).unwrap()
}

/// The rows of the table whose head begins with those cells, taken apart.
fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let behind = page.lines().skip_while(|line| !line.starts_with(head));
    let rows = behind.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|');
        cells
            .map(|cell| cell.trim().trim_matches('`').into())
            .collect()
    };
    rows.map(cells).collect()
}

fn table(path: &str) -> toml::Table {
    fs::read_to_string(root().join(path))
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn every_dependency_has_its_row_and_the_version_that_was_looked_at() {
    let page = page();
    let looked_at = rows(&page, "| dependency | version |");
    let others = rows(&page, "| dependency | for |");
    let manifest = table("Cargo.toml");
    let wanted: BTreeSet<&str> = manifest["dependencies"]
        .as_table()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let found: Vec<&str> = looked_at
        .iter()
        .chain(&others)
        .map(|it| it[0].as_str())
        .collect();
    let mut offences = Vec::new();
    for name in &wanted {
        if found.iter().filter(|it| *it == name).count() != 1 {
            offences.push(format!("{name}: not in exactly one row"));
        }
    }
    for name in found.iter().filter(|it| !wanted.contains(**it)) {
        offences.push(format!("{name}: a row without a dependency"));
    }
    let lock = table("Cargo.lock");
    let locked: BTreeSet<(&str, &str)> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["name"].as_str().unwrap(),
                it["version"].as_str().unwrap(),
            )
        })
        .collect();
    for row in &looked_at {
        if !locked.contains(&(row[0].as_str(), row[1].as_str())) {
            offences.push(format!("{} {}: another version is locked", row[0], row[1]));
        }
    }
    check("dependencies stand in tests/supply-chain.md", &offences);
}

#[test]
fn every_unsafe_block_has_its_row() {
    let mut blocks = BTreeSet::new();
    for source in sources().iter().filter(|it| it.path.starts_with("src/")) {
        let mut function = String::new();
        for (number, code) in source.code_lines() {
            if number >= source.tests_from() {
                break;
            }
            if let Some(name) = crate::functions::named(&code) {
                function = name;
            }
            if code.contains("unsafe {") {
                blocks.insert((source.path.clone(), function.clone()));
            }
        }
    }
    let rows = rows(&page(), "| file | function |");
    let rows: BTreeSet<_> = rows
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let differing = blocks.symmetric_difference(&rows);
    let offences: Vec<String> = differing
        .map(|(file, function)| format!("{file}: {function}"))
        .collect();
    check(
        "unsafe blocks and rows of tests/supply-chain.md are the same",
        &offences,
    );
}
