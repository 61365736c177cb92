//! What a package depends upon, it uses.

use std::fs;

use crate::{Source, check, root, sources};

/// The packages, by the directories of their manifests.
const PACKAGES: &[&str] = &["", "bench/", "loadtest/", "tests/fuzz/"];

#[test]
fn every_dependency_is_used() {
    let sources = sources();
    let mut offences = Vec::new();
    for package in PACKAGES {
        let manifest = format!("{package}Cargo.toml");
        let text = fs::read_to_string(root().join(&manifest)).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let of_package = |source: &&Source| {
            let inside = source.path.strip_prefix(package);
            let of_others =
                package.is_empty() && PACKAGES[1..].iter().any(|it| source.path.starts_with(it));
            inside.is_some() && !of_others && source.is_rust()
        };
        let files: Vec<_> = sources.iter().filter(of_package).collect();
        for section in ["dependencies", "dev-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table);
            let names = names.into_iter().flat_map(toml::Table::keys);
            for name in names.map(|name| name.replace('-', "_")) {
                let used = |source: &&&Source| {
                    let is_for_tests = section == "dev-dependencies";
                    let tests_from = if is_for_tests {
                        usize::MAX
                    } else {
                        source.tests_from()
                    };
                    let mut lines = source.code_lines();
                    lines.any(|(number, code)| number < tests_from && names_crate(&code, &name))
                };
                if !files.iter().any(|source| used(&source)) {
                    offences.push(format!("{package}Cargo.toml: {section}: {name}"));
                }
            }
        }
    }
    check("what is depended upon is named in the code", &offences);
}

/// Whether a line of code begins a path with that crate.
fn names_crate(code: &str, name: &str) -> bool {
    let is_part = |it: char| it == ':' || it == '_' || it.is_alphanumeric();
    code.match_indices(name).any(|(at, _)| {
        let behind = &code[at + name.len()..];
        !code[..at].ends_with(is_part) && (behind.starts_with("::") || behind.starts_with(';'))
    })
}
