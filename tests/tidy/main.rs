//! The rules that no compiler checks: which module may name which, how a file begins, how long
//! it and its lines may be, what is left out of the repository, what documents may say.
//!
//! Text is looked at, not syntax: a comment or a string never counts, and a macro could hide an
//! import. That is enough, because the rules are for those who want to keep them.

#![expect(
    clippy::unwrap_used,
    reason = "a file that cannot be read fails the test"
)]

mod circles;
mod dependencies;
mod files;
mod functions;
mod markdown;
mod rooms;
mod supply_chain;
mod walls;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line.
const COLUMNS_MAX: usize = 100;
/// Lines of a source file.
const LINES_MAX: usize = 600;
/// Lines of a header.
const HEADER_LINES_MAX: usize = 20;

/// Files that are longer than [`LINES_MAX`], and their length. Entries may shrink and go; none
/// may grow or be added.
const LONG_FILES: &[(&str, usize)] = &[];

/// Every module below `src`, and what it may name besides itself.
///
/// `program → cli, config, runtime → tls, control, shard → domain → proto → ids, limits`, and never
/// upward. `control` and `shard` know nothing of each other: they meet in `runtime`.
const LAYERS: &[(&str, &[&str])] = &[
    ("build", &[]),
    ("ids", &[]),
    ("limits", &[]),
    ("nearest", &[]),
    ("bounded_file", &[]),
    ("private_file", &[]),
    ("directory_lock", &[]),
    ("redact", &[]),
    ("run_file", &["bounded_file", "private_file"]),
    ("planted", &[]),
    ("start_page", &[]),
    ("events", &["ids", "limits"]),
    ("metrics", &["ids", "limits"]),
    ("proto", &["ids", "limits"]),
    ("domain", &["proto", "planted", "ids", "limits"]),
    (
        "shard",
        &[
            "events", "metrics", "domain", "proto", "planted", "ids", "limits", "nearest",
        ],
    ),
    (
        "control",
        &[
            "events",
            "metrics",
            "domain",
            "proto",
            "bounded_file",
            "private_file",
            "directory_lock",
            "redact",
            "ids",
            "limits",
            "nearest",
        ],
    ),
    (
        "history",
        &["directory_lock", "proto", "planted", "ids", "limits"],
    ),
    ("fuzzing", &["config", "control"]),
    (
        "tls",
        &["bounded_file", "metrics", "proto", "ids", "limits"],
    ),
    (
        "config",
        &[
            "domain",
            "proto",
            "bounded_file",
            "redact",
            "ids",
            "limits",
            "nearest",
        ],
    ),
    ("log", &["config"]),
    (
        "cli",
        &[
            "config",
            "events",
            "metrics",
            "domain",
            "proto",
            "bounded_file",
            "private_file",
            "redact",
            "run_file",
            "ids",
            "limits",
            "nearest",
        ],
    ),
    (
        "check",
        &[
            "cli",
            "config",
            "control",
            "bounded_file",
            "run_file",
            "runtime",
            "tls",
            "limits",
        ],
    ),
    (
        "doctor",
        &[
            "check",
            "cli",
            "config",
            "bounded_file",
            "run_file",
            "runtime",
            "limits",
        ],
    ),
    (
        "backup",
        &["cli", "config", "control", "bounded_file", "run_file"],
    ),
    (
        "setup",
        &["cli", "config", "control", "bounded_file", "limits"],
    ),
    ("console", &["control"]),
    ("demo", &["control", "proto", "ids", "limits"]),
    (
        "dev",
        &[
            "config",
            "control",
            "demo",
            "proto",
            "bounded_file",
            "private_file",
            "run_file",
            "ids",
            "limits",
        ],
    ),
    (
        "program",
        &[
            "backup",
            "check",
            "doctor",
            "setup",
            "cli",
            "config",
            "console",
            "control",
            "demo",
            "dev",
            "runtime",
            "shard",
            "run_file",
            "start_page",
        ],
    ),
    (
        "runtime",
        &[
            "config", "log", "tls", "control", "shard", "events", "history", "metrics", "domain",
            "proto", "run_file", "ids", "limits",
        ],
    ),
];

/// The layers without I/O, clock and randomness, and how those would be named.
const PURE_LAYERS: &[&str] = &[
    "ids", "limits", "nearest", "events", "proto", "domain", "shard",
];
const IMPURE_NAMES: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "new_v4",
    // They draw the keys of their hashes.
    "RandomState::new",
    "AHashMap::new",
    "AHashMap::default",
    "tokio::",
];

/// What may stand in one place only: the word, where, and why.
const CONFINED_NAMES: &[(&str, &[&str])] = &[
    ("core_affinity::", &["src/runtime/affinity.rs"]),
    ("io_uring::", &["src/runtime/"]),
    // Hash keys are drawn once, so that another process can be given them.
    ("RandomState::new()", &[]),
    ("unsafe ", &["src/runtime/", "src/proto/ws/mask.rs"]),
];

/// Left-overs of work in progress.
const LEFT_OVERS: &[&str] = &[
    concat!("db", "g!("),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("#[ign", "ore"),
];

struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The module directly below `src` that this file belongs to.
    fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let name = inside.split('/').next()?;
        let name = name.strip_suffix(".rs").unwrap_or(name);
        (!matches!(name, "main" | "lib")).then_some(name)
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The line from which on everything is test code; our tests stand last in a file.
    fn tests_from(&self) -> usize {
        if self.path.contains("/tests/") || self.path.ends_with("/tests.rs") {
            return 1;
        }
        let before = self.text.find("#[cfg(test)]\nmod tests {");
        before.map_or(usize::MAX, |at| self.text[..at].lines().count() + 1)
    }

    /// The lines without their comments and strings, counted from 1.
    fn code_lines(&self) -> impl Iterator<Item = (usize, String)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, code_of(line)))
    }
}

/// What of a line is neither comment nor string. Good enough for names: a string over several
/// lines is taken for code, and none of ours looks like an import.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut in_string = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_string => drop(chars.next()),
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            _ if !in_string => code.push(char),
            _ => {}
        }
    }
    code
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources that we wrote, sorted by path.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for directory in ["src", "tests", "bench", "loadtest"] {
        paths.extend(paths_below(directory));
    }
    paths.retain(|path| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("rs" | "js" | "mjs" | "py"))
    });
    paths.push(root().join(".ci/run"));
    paths.sort();
    let sources: Vec<_> = paths.iter().map(|path| read(path)).collect();
    assert!(sources.len() > 100, "looked in the wrong place");
    sources
}

fn read(path: &Path) -> Source {
    let inside = path.strip_prefix(root()).unwrap();
    Source {
        path: inside.to_str().unwrap().to_owned(),
        text: fs::read_to_string(path).unwrap(),
    }
}

/// The files below a directory of the repository that nobody else and no tool has made.
fn paths_below(directory: &str) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    collect(&root().join(directory), &mut paths);
    paths
}

fn collect(directory: &Path, into: &mut Vec<PathBuf>) {
    const NOT_OURS: [&str; 5] = [
        "node_modules",
        "target",
        "__pycache__",
        ".git",
        "ringmesh-data",
    ];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if NOT_OURS.contains(&name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push(path);
        }
    }
}

/// Fails with all offences at once.
#[track_caller]
fn check(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

/// The modules that a line of code names as `crate::module` or `crate::{module, …}`.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let behind = &code[at + prefix.len()..];
        let candidates: Vec<&str> = match behind.strip_prefix('{') {
            Some(group) => group.split(',').collect(),
            None => vec![behind],
        };
        for candidate in candidates {
            let name: String = candidate
                .trim_start()
                .chars()
                .take_while(|char| char.is_ascii_lowercase() || *char == '_')
                .collect();
            modules.insert(name);
        }
    }
    modules.remove("");
    modules
}

#[test]
fn imports_point_downward() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let Some(layer) = source.layer() else {
            continue;
        };
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            offences.push(format!(
                "{}: {layer} is in no layer; add it to LAYERS",
                source.path
            ));
            continue;
        };
        for (number, code) in source.code_lines() {
            for module in modules_named(&code) {
                let known = LAYERS.iter().any(|(name, _)| *name == module);
                if known && module != layer && !below.contains(&module.as_str()) {
                    offences.push(format!("{}:{number}: {layer} names {module}", source.path));
                }
            }
        }
    }
    check("a layer names only what is below it", &offences);
}

#[test]
fn names_stay_where_they_belong() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust()) {
        let pure = source
            .layer()
            .is_some_and(|layer| PURE_LAYERS.contains(&layer));
        for (number, code) in source.code_lines() {
            let place = format!("{}:{number}", source.path);
            let pure = pure && number < source.tests_from();
            for name in IMPURE_NAMES.iter().filter(|_| pure) {
                if code.contains(name) {
                    offences.push(format!("{place}: {name} in a layer without I/O and clock"));
                }
            }
            for (name, homes) in CONFINED_NAMES {
                let at_home = homes.iter().any(|home| source.path.starts_with(home));
                if !at_home && source.path.starts_with("src/") && code.contains(name) {
                    offences.push(format!("{place}: {name} outside {}", homes.join(", ")));
                }
            }
        }
    }
    check("I/O, io_uring and unsafe code have their places", &offences);
}

#[test]
fn files_begin_with_a_header() {
    let mut offences = Vec::new();
    for source in sources() {
        let mark = match source.path.rsplit('.').next() {
            // Its documentation is the architecture text.
            _ if source.path == "src/lib.rs" => "#![doc = include_str!(\"ARCHITECTURE.md\")]",
            Some("rs") => "//!",
            Some("js" | "mjs") => "//",
            Some("py") => "\"\"\"",
            _ => "#!",
        };
        let header = source
            .text
            .lines()
            .take_while(|line| line.starts_with("//"));
        let lines = header.count();
        if !source.text.starts_with(mark) {
            offences.push(format!("{}: does not begin with {mark}", source.path));
        }
        if lines > HEADER_LINES_MAX {
            offences.push(format!("{}: {lines} lines of header", source.path));
        }
    }
    check(
        "a file begins with what it is, in at most twenty lines",
        &offences,
    );
}

/// What stands at the top, beside dot files. `target` and `ringmesh-data` are made there.
const TOP_LEVEL: [&str; 16] = [
    "Cargo.toml",
    "Cargo.lock",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "bench",
    "clippy.toml",
    "deny.toml",
    "loadtest",
    "ringmesh-data",
    "src",
    "target",
    "tests",
    "tuning",
];

#[test]
fn nothing_is_left_at_the_top() {
    let mut offences = Vec::new();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            offences.push(name);
        }
    }
    check("the top level holds what it is agreed to hold", &offences);
}

#[test]
fn lines_fit() {
    let mut offences = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                offences.push(format!("{}:{}: {columns} columns", source.path, index + 1));
            }
            if line.ends_with([' ', '\t']) {
                offences.push(format!("{}:{}: space at the end", source.path, index + 1));
            }
        }
    }
    check("a line has at most 100 columns", &offences);
}

#[test]
fn files_stay_short() {
    let mut offences = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let exception = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        match exception {
            Some((_, listed)) if lines > *listed => {
                offences.push(format!(
                    "{}: grew from {listed} to {lines} lines",
                    source.path
                ));
            }
            Some((_, listed)) if lines < *listed => {
                offences.push(format!(
                    "{}: shrank to {lines} lines; correct or remove its entry",
                    source.path
                ));
            }
            None if lines > LINES_MAX => {
                offences.push(format!("{}: {lines} lines", source.path));
            }
            _ => {}
        }
    }
    check("a file has at most 600 lines", &offences);
}

/// Where what a remote does is handled: it could cause a line of log any number of times.
const NEAR_REMOTES: &[&str] = &[
    "src/shard/",
    "src/proto/",
    "src/tls/session.rs",
    "src/runtime/shard_loop",
    "src/runtime/memory.rs",
    "src/domain/",
];
/// Lines between the throttle and what it lets pass.
const THROTTLE_LINES_MAX: usize = 3;

#[test]
fn remotes_cannot_flood_the_log() {
    let mut offences = Vec::new();
    let near = |source: &&Source| NEAR_REMOTES.iter().any(|it| source.path.starts_with(it));
    let (mut found, sources) = (0, sources());
    for source in sources.iter().filter(near) {
        let lines: Vec<_> = source.code_lines().collect();
        for (at, (number, code)) in lines.iter().enumerate() {
            let mut macros = ["warn!(", "info!(", "error!("].into_iter();
            if !macros.any(|it| code.contains(&format!("tracing::{it}"))) {
                continue;
            }
            found += 1;
            let before = &lines[at.saturating_sub(THROTTLE_LINES_MAX)..at];
            if !before.iter().any(|(_, code)| code.contains(".pass(")) {
                offences.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert!(found > 5, "{found}");
    check(
        "log lines that remotes may cause go through a Throttle",
        &offences,
    );
}

#[test]
fn nothing_is_left_over() {
    let mut offences = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            for left_over in LEFT_OVERS.iter().filter(|word| line.contains(**word)) {
                offences.push(format!("{}:{}: {left_over}", source.path, index + 1));
            }
        }
    }
    check("work in progress stays out of the repository", &offences);
}

#[test]
fn the_reader_of_lines_knows_comments_and_strings() {
    for (line, code) in [
        ("a // b", "a "),
        (r#"a("// \" c") + d"#, "a() + d"),
        ("//! a", ""),
    ] {
        assert_eq!(code_of(line), code, "{line}");
    }
    let named = modules_named("use crate::{ids::ShardId, proto}; crate::domain::x(self::y)");
    assert_eq!(named, ["domain", "ids", "proto"].map(str::to_owned).into());
}
