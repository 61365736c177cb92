//! The exchanges of `src/docs/protocol.md`, replayed as they stand there.
//!
//! A block of it that is fenced as `exchange` has one line for each step: a client connects, sends
//! (`>`), receives (`<`) or disconnects. An ellipsis stands for any text.

use std::collections::BTreeMap;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, signer};
use crate::support::token::token;

const DOCUMENT: &str = include_str!("../../src/docs/protocol.md");
const FENCE: &str = "```";
/// Stands for any text in what is received.
const ANY: &str = "…";

/// The exchanges: the number of the first line of each, and its lines.
fn exchanges() -> Vec<(usize, Vec<&'static str>)> {
    let mut found = Vec::new();
    let mut lines = DOCUMENT.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "```exchange" {
            let inside = lines.by_ref().map(|(_, line)| line);
            found.push((number + 2, inside.take_while(|it| *it != FENCE).collect()));
        }
    }
    found
}

/// Whether a text is the pattern with something in place of each ellipsis.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split(ANY);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// A server whose channels below `chat/` have history.
fn setup() -> Setup {
    let keys = [key("pk_live_a", &["**"], ALL_ACTIONS), signer("sk_id_a")];
    let app = "app_a\nhistory = [{ pattern = \"chat/**\" }]";
    Setup::new(2).no_apps().app(app, &keys)
}

/// A message that is sent. Of one that has a token there, the claims of it follow.
fn with_token(message: &str) -> String {
    match message.split_once("} with {") {
        None => message.to_owned(),
        Some((message, claims)) => {
            let claims = serde_json::from_str(&format!("{{{claims}")).unwrap();
            format!("{message}}}").replace(ANY, &token("sk_id_a", claims))
        }
    }
}

/// The clients of an exchange, by name.
struct Stage {
    server: Server,
    clients: BTreeMap<&'static str, Client>,
    /// Those whose `welcome` has not been looked at.
    welcomed: Vec<&'static str>,
}

impl Stage {
    fn step(&mut self, line: &'static str) {
        let (name, step) = line.split_once(' ').unwrap();
        if let Some(credential) = step.strip_prefix("connects with ") {
            let client = match credential.starts_with('{') {
                true => self
                    .server
                    .with_claims(serde_json::from_str(credential).unwrap()),
                false => self.server.connect(&format!("?key={credential}")),
            };
            self.clients.insert(name, client);
            self.welcomed.push(name);
        } else if step == "disconnects" {
            self.clients.remove(name).unwrap().close(Some(1000));
        } else if let Some(message) = step.strip_prefix("> ") {
            self.clients
                .get_mut(name)
                .unwrap()
                .send(with_token(message));
        } else if let Some(pattern) = step.strip_prefix("< ") {
            let client = self.clients.get_mut(name).unwrap();
            let text = match self.welcomed.iter().position(|it| *it == name) {
                Some(at) => {
                    self.welcomed.remove(at);
                    client.welcome.clone()
                }
                None => client.next(),
            };
            assert!(matches(pattern, &text), "{name} was sent {text}");
        } else {
            panic!("no step");
        }
    }
}

#[test]
fn the_document_s_exchanges_are_what_happens() {
    let exchanges = exchanges();
    assert!(exchanges.len() >= 6, "{}", exchanges.len());
    for (first, lines) in exchanges {
        let mut stage = Stage {
            server: setup().start(),
            clients: BTreeMap::new(),
            welcomed: Vec::new(),
        };
        for (at, line) in lines.into_iter().enumerate() {
            eprintln!("protocol.md:{}: {line}", first + at);
            stage.step(line);
        }
        assert!(stage.welcomed.is_empty(), "{:?}", stage.welcomed);
        for client in stage.clients.values_mut() {
            client.expect_nothing_queued();
        }
    }
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    assert!(matches("a…c", "abc"));
    assert!(matches("a…c…", "a-c-c"));
    assert!(matches("abc", "abc"));
    for (pattern, text) in [
        ("a…c", "ab"),
        ("a…c", "bc"),
        ("abc", "abcd"),
        ("a…b…c", "ac"),
    ] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
