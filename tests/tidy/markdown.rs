//! The rules for Markdown: lines that fit, files and tests that exist, commands that are there,
//! and a map of the sources that is complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use ringmesh::Cli;

use super::{COLUMNS_MAX, Source, check, paths_below, read, root, sources};

/// Endings by which a word with a slash is taken for a file.
const FILE_ENDINGS: [&str; 8] = [".rs", ".md", ".toml", ".py", ".js", ".json", ".yml", ".png"];
/// Endings of files that are looked for by their name alone.
const NAME_ENDINGS: [&str; 2] = [".rs", ".md"];
/// What a build makes, and what is only there in somebody's worktree.
const MADE: [&str; 3] = ["target/", "node_modules/", "ringmesh-data/"];
/// Columns of a word from which on its line cannot be broken.
const LONG_WORD_COLUMNS: usize = 80;
/// The heading of the map of the sources.
const MAP: &str = "## Where things are";

fn documents() -> Vec<Source> {
    let documents: Vec<_> = paths_below("")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| read(&path))
        .collect();
    assert!(documents.len() > 10, "looked in the wrong place");
    documents
}

/// A line of a document.
struct Line<'d> {
    number: usize,
    text: &'d str,
    /// The language of the block that it stands in, if it stands in one.
    block: Option<&'d str>,
}

fn lines(document: &str) -> impl Iterator<Item = Line<'_>> {
    let mut block = None;
    document.lines().enumerate().filter_map(move |(at, text)| {
        if let Some(language) = text.trim_start().strip_prefix("```") {
            block = match block {
                Some(_) => None,
                None => Some(language.trim()),
            };
            return None;
        }
        Some(Line {
            number: at + 1,
            text,
            block,
        })
    })
}

/// What stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// A line without the addresses of its links.
fn without_links(line: &str) -> String {
    let mut pieces = line.split("](");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text += "](";
        text += piece.split_once(')').map_or("", |(_, behind)| behind);
    }
    text
}

#[test]
fn lines_fit() {
    let mut offences = Vec::new();
    for document in documents() {
        for line in lines(&document.text) {
            let is_table = line.block.is_none() && line.text.trim_start().starts_with('|');
            let is_address = line.text.starts_with('[') && line.text.contains("]: ");
            // Frames are shown as they are sent.
            let is_frame = line.block == Some("exchange");
            let mut words = line.text.split_whitespace();
            if is_table || is_address || is_frame || words.any(|it| it.len() > LONG_WORD_COLUMNS) {
                continue;
            }
            let columns = without_links(line.text).chars().count();
            if columns > COLUMNS_MAX {
                let place = format!("{}:{}", document.path, line.number);
                offences.push(format!("{place}: {columns} columns"));
            }
        }
    }
    check("a line of Markdown has at most 100 columns", &offences);
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expanded(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let Some((choices, behind)) = rest.split_once('}') else {
        return vec![path.to_owned()];
    };
    let choices = choices.split(',');
    choices
        .flat_map(|choice| expanded(&format!("{before}{choice}{behind}")))
        .collect()
}

/// Where the files that a document names may be: at the root, beside it, or in `src`.
fn found(document: &Source, path: &str) -> Option<std::path::PathBuf> {
    let beside = Path::new(&document.path).parent().unwrap();
    let places = [Path::new(""), beside, Path::new("src")];
    let mut candidates = places.iter().map(|place| root().join(place).join(path));
    candidates.find(|candidate| candidate.exists())
}

/// Whether a word is meant as a path of the repository.
fn is_path(document: &Source, word: &str) -> bool {
    let good = |char: char| char.is_ascii_alphanumeric() || "_-./{},".contains(char);
    if word.starts_with('/') || !word.chars().all(good) {
        return false;
    }
    if MADE.iter().any(|made| word.starts_with(made)) {
        return false;
    }
    match word.split_once('/') {
        Some((first, _)) => {
            let is_file = FILE_ENDINGS.iter().any(|end| word.ends_with(end));
            is_file || (!first.is_empty() && found(document, first).is_some())
        }
        None => NAME_ENDINGS.iter().any(|end| word.ends_with(end)),
    }
}

/// What is wrong with a path, and the test in it, that a document names.
fn complaint(document: &Source, names: &BTreeSet<String>, word: &str) -> Option<String> {
    let (path, function) = match word.split_once("::") {
        Some((path, function)) if path.ends_with(".rs") => (path, Some(function)),
        _ => (word, None),
    };
    if !is_path(document, path) {
        return None;
    }
    if !path.contains('/') {
        return (!names.contains(path)).then(|| format!("no file is called {path}"));
    }
    for path in expanded(path) {
        let Some(file) = found(document, &path) else {
            return Some(format!("there is no {path}"));
        };
        if let Some(function) = function
            && !fs::read_to_string(file)
                .unwrap()
                .contains(&format!("fn {function}("))
        {
            return Some(format!("{path} has no {function}"));
        }
    }
    None
}

#[test]
fn files_and_tests_that_are_named_exist() {
    let names = paths_below("").into_iter();
    let names: BTreeSet<_> = names
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut offences = Vec::new();
    for document in documents() {
        for line in lines(&document.text).filter(|line| line.block.is_none()) {
            let place = format!("{}:{}", document.path, line.number);
            for word in spans(line.text) {
                if let Some(complaint) = complaint(&document, &names, word) {
                    offences.push(format!("{place}: {complaint}"));
                }
            }
            for link in line.text.split("](").skip(1) {
                let target = link.split(')').next().unwrap_or_default();
                let file = target.split('#').next().unwrap_or_default();
                let beside = root().join(Path::new(&document.path).parent().unwrap());
                if !file.is_empty() && !file.contains("://") && !beside.join(file).exists() {
                    offences.push(format!("{place}: the link to {file} leads nowhere"));
                }
            }
        }
    }
    check("what a document names is there", &offences);
}

/// The words behind `ringmesh` in code, as far as they could be commands.
fn commands(code: &str) -> impl Iterator<Item = Vec<&str>> {
    code.match_indices("ringmesh ").filter_map(|(at, name)| {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || "-_.".contains(char)) {
            return None;
        }
        let words = code[at + name.len()..].split(' ');
        let is_word = |word: &&str| {
            !word.is_empty()
                && word
                    .chars()
                    .all(|char| char.is_ascii_lowercase() || char == '-')
        };
        let words: Vec<_> = words
            .take_while(|word| is_word(word) && !word.starts_with('-'))
            .collect();
        (!words.is_empty()).then_some(words)
    })
}

/// Whether there is such a command, down to its last subcommand.
fn is_command(words: &[&str]) -> bool {
    let mut command = Cli::command();
    // Only then it has `help`.
    command.build();
    let mut command = &command;
    for word in words {
        if !command.has_subcommands() {
            break;
        }
        match command.find_subcommand(word) {
            Some(found) => command = found,
            None => return false,
        }
    }
    true
}

#[test]
fn commands_that_are_named_exist() {
    let mut offences = Vec::new();
    let mut seen = 0;
    let mut look = |place: String, code: &str| {
        for words in commands(code) {
            seen += 1;
            if !is_command(&words) {
                offences.push(format!("{place}: there is no ringmesh {}", words.join(" ")));
            }
        }
    };
    for document in documents() {
        for line in lines(&document.text) {
            let place = || format!("{}:{}", document.path, line.number);
            match line.block {
                Some("sh") => look(place(), line.text),
                Some(_) => {}
                None => spans(line.text).for_each(|span| look(place(), span)),
            }
        }
    }
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            let place = || format!("{}:{}", source.path, at + 1);
            spans(line).for_each(|span| look(place(), span));
        }
    }
    assert!(seen > 10, "{seen}");
    check("a command that is named exists", &offences);
}

#[test]
fn the_map_of_the_sources_is_complete() {
    let architecture = read(&root().join("src/ARCHITECTURE.md"));
    let (_, behind) = architecture.text.split_once(MAP).unwrap();
    let tree = behind.split("```").nth(1).unwrap();
    let entry = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let mut mapped = BTreeSet::new();
    let mut offences = Vec::new();
    let mut directory = String::new();
    for line in tree.lines().skip(2) {
        let (depth, Some(name)) = (line.len() - line.trim_start().len(), entry(line)) else {
            continue;
        };
        match depth {
            2 => {
                directory.clone_from(&name);
                mapped.insert(name);
            }
            4 if !root().join("src").join(&directory).join(&name).exists() => {
                offences.push(format!("there is no src/{directory}{name}"));
            }
            _ => {}
        }
    }
    let there: BTreeSet<_> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let slash = if entry.path().is_dir() { "/" } else { "" };
            entry.file_name().to_str().unwrap().to_owned() + slash
        })
        .filter(|name| name != "ARCHITECTURE.md")
        .collect();
    for name in mapped.difference(&there) {
        offences.push(format!("there is no src/{name}"));
    }
    for name in there.difference(&mapped) {
        offences.push(format!("src/{name} is not in the map"));
    }
    check("src/ARCHITECTURE.md maps the sources", &offences);
}

#[test]
fn the_reader_of_markdown_knows_links_blocks_and_commands() {
    assert_eq!(without_links("a [b](c) d [e](f)"), "a [b]( d [e](");
    assert_eq!(expanded("a/{b,c}.rs"), ["a/b.rs", "a/c.rs"]);
    let text = "a\n```sh\nb\n```\nc";
    let blocks: Vec<_> = lines(text).map(|line| (line.text, line.block)).collect();
    assert_eq!(blocks, [("a", None), ("b", Some("sh")), ("c", None)]);
    let found: Vec<_> = commands("x/ringmesh app create --app x; my-ringmesh dev; ringmesh --help")
        .map(|words| words.join(" "))
        .collect();
    assert_eq!(found, ["app create"]);
    for (words, there) in [
        (vec!["app", "create"], true),
        (vec!["stats"], true),
        (vec!["nurse"], false),
        (vec!["app", "make"], false),
    ] {
        assert_eq!(is_command(&words), there, "{words:?}");
    }
}
