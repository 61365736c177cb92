//! Within a module, too, imports point in one direction: no file comes back to itself by what it
//! imports.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Source, check, sources};

/// Modules whose files are held to it.
const WITHOUT_CIRCLES: &[&str] = &[
    "control", "config", "cli", "domain", "log", "tls", "metrics", "shard",
];

/// Another package that is held to it, as a whole.
const LOADTEST: &str = "loadtest/src/";

/// A module by its path below `src`: `["control", "store", "row"]`.
type ModulePath = Vec<String>;

impl Source {
    /// The module that this file is.
    fn module(&self) -> ModulePath {
        let inside = self.path.strip_prefix(LOADTEST).unwrap_or(&self.path);
        let inside = inside.strip_prefix("src/").unwrap_or(inside);
        let inside = inside.strip_suffix(".rs").unwrap_or(inside);
        let inside = inside.strip_suffix("/mod").unwrap_or(inside);
        inside.split('/').map(str::to_owned).collect()
    }

    /// Whether it is there for tests only.
    fn is_test(&self) -> bool {
        let module = self.module();
        let mut names = module.iter().map(String::as_str);
        names.any(|name| matches!(name, "tests" | "testing") || name.ends_with("_tests"))
    }

    /// The code without comments, strings and tests, in one line.
    fn code(&self) -> String {
        let before_tests = |(number, _): &(usize, String)| *number < self.tests_from();
        let lines = self.code_lines().take_while(before_tests);
        let lines = lines.map(|(_, code)| code.trim().to_owned());
        lines.collect::<Vec<_>>().join(" ")
    }

    /// The paths that it names, each from its first word on: `crate::…`, `super::…`, `self::…`,
    /// and what `use` takes from its own children.
    fn paths(&self) -> Vec<String> {
        let code = self.code();
        let mut paths = Vec::new();
        for begin in ["crate::", "super::", "self::"] {
            for (at, _) in code.match_indices(begin) {
                let is_inside =
                    code[..at].ends_with(|it: char| it == ':' || it == '_' || it.is_alphanumeric());
                if !is_inside {
                    paths.extend(expanded(&code[at..]));
                }
            }
        }
        for (at, word) in code.match_indices("use ") {
            if code[..at].is_empty() || code[..at].ends_with(' ') {
                paths.extend(expanded(&code[at + word.len()..]));
            }
        }
        paths
    }

    /// The modules that it names, of those in `all`, besides itself.
    fn names_modules(&self, all: &BTreeSet<ModulePath>) -> BTreeSet<ModulePath> {
        let own = self.module();
        let mut named = BTreeSet::new();
        for path in self.paths() {
            let mut words = path.split("::").peekable();
            let mut from = own.clone();
            if words.next_if_eq(&"crate").is_some() {
                from.clear();
            }
            while let Some(word) = words.next_if(|word| matches!(*word, "self" | "super")) {
                if word == "super" {
                    from.pop();
                }
            }
            from.extend(words.map(str::to_owned));
            while !from.is_empty() && !all.contains(&from) {
                from.pop();
            }
            if !from.is_empty() && from != own {
                named.insert(from);
            }
        }
        named
    }
}

/// The paths of an import: `a::{b, c::d}` is `a::b` and `a::c::d`. What comes behind is ignored.
fn expanded(text: &str) -> Vec<String> {
    let is_part = |it: char| it == ':' || it == '_' || it.is_alphanumeric();
    let end = text.find(|it| !is_part(it)).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(end);
    if !(prefix.ends_with("::") && rest.starts_with('{')) {
        return vec![prefix.to_owned()];
    }
    let (mut depth, mut begin, mut parts) = (0, 1, Vec::new());
    for (at, char) in rest.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && char == ',') {
            parts.push(rest[begin..at].trim_start());
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    let inner = parts.into_iter().flat_map(expanded);
    inner.map(|part| format!("{prefix}{part}")).collect()
}

/// A circle in a graph, if there is one: its members in order.
fn circle(graph: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Option<Vec<ModulePath>> {
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        // Depth first, with what is left to try at each step of the way.
        let mut way = vec![(start, graph[start].iter())];
        while let Some((_, left)) = way.last_mut() {
            let Some(next) = left.next() else {
                let (module, _) = way.pop().unwrap();
                done.insert(module);
                continue;
            };
            if let Some(at) = way.iter().position(|(module, _)| *module == next) {
                return Some(way[at..].iter().map(|(it, _)| (*it).clone()).collect());
            }
            if let Some(edges) = graph.get(next)
                && !done.contains(next)
            {
                way.push((next, edges.iter()));
            }
        }
    }
    None
}

#[test]
fn files_of_a_module_form_no_circle() {
    let sources = sources();
    let inside = |is_inside: &dyn Fn(&Source) -> bool| {
        let all = sources.iter().filter(|it| it.is_rust() && !it.is_test());
        all.filter(|it| is_inside(it)).collect::<Vec<_>>()
    };
    let layers = WITHOUT_CIRCLES.iter();
    let layers = layers.map(|layer| inside(&|source| source.layer() == Some(*layer)));
    let loadtest = inside(&|source| source.path.starts_with(LOADTEST));
    for files in layers.chain([loadtest]) {
        assert!(files.len() > 3, "looked in the wrong place");
        let all = files.iter().map(|file| file.module()).collect();
        let edges = |file: &&Source| (file.module(), file.names_modules(&all));
        let graph = files.iter().map(edges).collect();
        let found = circle(&graph).unwrap_or_default();
        let found: Vec<_> = found.iter().map(|module| module.join("::")).collect();
        check("a file that imports another is not imported by it", &found);
    }
}

#[test]
fn the_reader_of_imports_knows_groups_and_parents() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.into(),
    };
    let modules = ["a", "a/b", "a/c", "a/c/d", "a/e"];
    let all = modules.map(|it| it.split('/').map(str::to_owned).collect());
    let all = BTreeSet::from(all);
    let text = "use super::{b::X, c::{self, d::{Y, Z}}};\npub use crate::a::b;\n\
                fn f() { super::super::e::g(); } // super::super::b\n\
                #[cfg(test)]\nmod tests {\nuse crate::a::e;\n}";
    let inner = source(
        "src/a/c/d.rs",
        &text.replace("use super::{", "use super::super::{"),
    );
    let named = inner.names_modules(&all);
    let named: Vec<_> = named.iter().map(|it| it.join("/")).collect();
    assert_eq!(named, ["a/b", "a/c", "a/e"]);
    let outer = source("src/a/mod.rs", "mod b;\npub use b::X;\nuse c::{d, Y};\n");
    let named = outer.names_modules(&all);
    let named: Vec<_> = named.iter().map(|it| it.join("/")).collect();
    assert_eq!(named, ["a/b", "a/c", "a/c/d"]);
    let graph = [("a", "b"), ("b", "c"), ("c", "b")];
    let one = |it: &str| vec![it.to_owned()];
    let graph = graph.map(|(from, to)| (one(from), BTreeSet::from([one(to)])));
    assert_eq!(
        circle(&BTreeMap::from(graph)),
        Some(vec![one("b"), one("c")])
    );
}
