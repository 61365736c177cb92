//! The rooms of a shard: which may know which, by what they import and by what they call.

use std::collections::BTreeMap;

use crate::{Source, check, sources};

/// The rooms below `src/shard`, from below, and which of them each may know. The files beside
/// them are known to all, but for those of [`TOP`].
const ROOMS: &[(&str, &[&str])] = &[
    ("outbound", &[]),
    ("connection", &["outbound"]),
    ("channel", &["outbound", "connection"]),
    ("peer", &["outbound", "connection", "channel"]),
    ("rest", &["outbound", "connection", "channel"]),
    (
        "steps",
        &["outbound", "connection", "channel", "peer", "rest"],
    ),
];

/// What stands above the rooms: the shard, its contract with drivers, and its checks.
const TOP: &[&str] = &["state", "flush", "invariants", "testing"];

/// The types whose methods stand in several rooms, and what a value of each is called.
const PARTS: &[(&str, &str)] = &[
    ("Context", "context"),
    ("Connections", "connections"),
    ("Connection", "connection"),
    ("Channels", "channels"),
    ("Peers", "peers"),
    ("Rest", "rest"),
];

impl Source {
    /// The room that the file is in, or the name of the file beside the rooms.
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/shard/")?;
        let name = inside.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    /// Its lines of code outside tests, each with the type in whose methods it stands.
    fn lines_of_methods(&self) -> Vec<(usize, String, Option<&'static str>)> {
        let (mut found, mut of) = (Vec::new(), None);
        for (number, code) in self.code_lines() {
            if number >= self.tests_from() {
                break;
            }
            if let Some(rest) = code.strip_prefix("impl ") {
                let is_of = |(name, _): &&(&str, &str)| rest == format!("{name} {{");
                of = PARTS.iter().find(is_of).map(|(name, _)| *name);
            } else if code == "}" {
                of = None;
            }
            found.push((number, code, of));
        }
        found
    }
}

fn in_rooms(sources: &[Source]) -> impl Iterator<Item = (&Source, &str, &'static [&'static str])> {
    sources.iter().filter_map(|source| {
        let is_test = source.path.contains("/tests") || source.path.contains("_tests.rs");
        let name = source.room().filter(|_| !is_test)?;
        let (_, below) = ROOMS.iter().find(|(room, _)| *room == name)?;
        Some((source, name, *below))
    })
}

/// Files of tests that do not stand in a module `tests`.
const TESTS: &[&str] = &["two_shards.rs", "slow_members.rs", "net.rs"];

fn is_test(source: &Source) -> bool {
    TESTS.iter().any(|end| source.path.ends_with(end))
}

#[test]
fn a_room_names_only_rooms_below() {
    let sources = sources();
    let (mut offences, mut found) = (Vec::new(), 0);
    for (source, name, below) in in_rooms(&sources).filter(|(source, ..)| !is_test(source)) {
        found += 1;
        let above = ROOMS.iter().map(|(room, _)| *room);
        let above = above.filter(|room| *room != name && !below.contains(room));
        let top = TOP.iter().copied().filter(|_| name != "steps");
        let forbidden: Vec<&str> = above.chain(top).collect();
        for (number, code, _) in source.lines_of_methods() {
            let place = format!("{}:{number}", source.path);
            for other in &forbidden {
                if code.contains(&format!("crate::shard::{other}::")) {
                    offences.push(format!("{place}: {name} names {other}"));
                }
            }
            let mut words = code.split(|it: char| !(it == '_' || it.is_alphanumeric()));
            if name != "steps" && words.any(|word| word == "Shard") {
                offences.push(format!("{place}: {name} names the shard"));
            }
        }
    }
    assert!(found > 50, "looked in the wrong place");
    check("a room knows only those below it", &offences);
}

#[test]
fn a_room_calls_only_rooms_below() {
    let sources = sources();
    // Where each method of a part stands; a name that two rooms have is left out.
    let mut methods: BTreeMap<(&str, String), Option<&str>> = BTreeMap::new();
    for source in &sources {
        let Some(room) = source.room() else { continue };
        for (_, code, of) in source.lines_of_methods() {
            let (Some(part), Some(at)) = (of, code.find("fn ")) else {
                continue;
            };
            let rest = &code[at + 3..];
            let end = rest.find(|it: char| !(it == '_' || it.is_alphanumeric()));
            let name = rest[..end.unwrap_or(rest.len())].to_owned();
            let known = methods.entry((part, name)).or_insert(Some(room));
            *known = known.filter(|known| *known == room);
        }
    }
    assert!(methods.len() > 150, "looked in the wrong place");
    let mut offences = Vec::new();
    for (source, name, below) in in_rooms(&sources).filter(|(source, ..)| !is_test(source)) {
        for (number, code, of) in source.lines_of_methods() {
            for ((part, method), room) in &methods {
                let (_, value) = PARTS.iter().find(|(it, _)| it == part).unwrap();
                let is_called = code.contains(&format!("{value}.{method}("))
                    || (of == Some(part) && code.contains(&format!("self.{method}(")));
                let Some(room) = room.filter(|_| is_called) else {
                    continue;
                };
                let is_room = ROOMS.iter().any(|(it, _)| *it == room);
                let is_above = (is_room && room != name && !below.contains(&room))
                    || (name != "steps" && TOP.contains(&room));
                if is_above {
                    let place = format!("{}:{number}", source.path);
                    offences.push(format!("{place}: {name} calls {method} of {room}"));
                }
            }
        }
    }
    check("a room calls only those below it", &offences);
}
