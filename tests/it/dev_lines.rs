//! What `ringmesh dev` tells on its terminal of what happens to whom.

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

/// `ringmesh dev` with these arguments and variables, and its publishable key.
fn dev(arguments: &[&str], variables: &[(&str, &str)]) -> (Server, String) {
    let setup = Setup::new(1);
    let mut command = ringmesh();
    command
        .args(["dev", "--shards", "1"])
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(arguments)
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .env("RINGMESH_LOG__FORMAT", "json")
        .envs(variables.iter().copied())
        .current_dir(setup.dir());
    let server = Server::start(command, setup);
    let key = server.output.find("the key", |line| {
        line.strip_prefix("  publishable key   ").map(str::to_owned)
    });
    (server, key)
}

fn with_key(server: &Server, key: &str) -> Client {
    Client::connect(server.public, &format!("?key={key}"), &[])
}

/// The lines of the terminal that are events, and what follows them.
fn event_lines(server: &Server) -> Vec<String> {
    let lines = server.output.so_far().into_iter();
    let begin = |line: &String| {
        let bytes = line.as_bytes();
        bytes.len() > 8 && bytes[2] == b':' && bytes[5] == b':'
    };
    lines.skip_while(|line| !begin(line)).collect()
}

#[test]
fn a_newcomer_reads_what_happens_and_what_to_do() {
    let (server, key) = dev(&[], &[]);
    assert_eq!(server.attempt("/v1?key=pk_live_wrong", "").status, 101);
    let mut client = with_key(&server, &key);
    client.subscribe("room-42");
    client.ask_refused(json!({"type": "wave"}), "unknown_type");
    client.close(Some(1_000));
    for (what, parts) in [
        (
            "who was refused",
            &["refused ", "127.0.0.1", "no such key", "ringmesh key list"][..],
        ),
        ("who came", &["opened ", "publishable", "after"]),
        (
            "a subscription",
            &["subscribed ", "room-42", "after", " ms"],
        ),
        (
            "an error",
            &["error ", "unknown_type", "protocol's document"],
        ),
        ("who left", &["closed ", "1000 the client said goodbye"]),
    ] {
        server.output.find(what, |line| {
            parts.iter().all(|part| line.contains(part)).then_some(())
        });
    }
    // The key is a credential, and is not in the lines.
    let lines = event_lines(&server);
    assert!(lines.iter().all(|line| !line.contains(&key)), "{lines:?}");
    assert!(
        lines.iter().all(|line| !line.contains('\u{1b}')),
        "{lines:?}"
    );
}

#[test]
fn lines_fit_the_terminal_and_have_its_colours() {
    let (server, key) = dev(&["--color", "always"], &[("COLUMNS", "70")]);
    assert_eq!(server.attempt("/v1?key=pk_live_wrong", "").status, 101);
    let _client = with_key(&server, &key);
    let plain = |line: &str| {
        let parts = line.split('\u{1b}').enumerate();
        let text = parts.map(|(at, part)| match at {
            0 => part,
            _ => part.split_once('m').map_or("", |(_, text)| text),
        });
        text.collect::<String>()
    };
    server.output.find("who came", |line| {
        (line.contains("\u{1b}[32mopened") && plain(line).contains(" opened ")).then_some(())
    });
    server.output.find("a remedy of its own line", |line| {
        plain(line).starts_with("         → ").then_some(())
    });
    for line in event_lines(&server) {
        assert!(plain(&line).chars().count() <= 70, "{line:?}");
    }
}

#[test]
fn a_flood_is_cut_short_and_counted() {
    const PAIRS: usize = 60;
    let (mut server, key) = dev(&[], &[]);
    let mut client = with_key(&server, &key);
    for _ in 0..PAIRS {
        client.ask(json!({"type": "subscribe", "channel": "room"}));
        client.ask(json!({"type": "unsubscribe", "channel": "room"}));
    }
    // Who is still there at the end is closed, and that is told, too.
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let all = server.output.all();
    let lines: Vec<_> = all
        .lines()
        .skip_while(|it| !it.contains(" opened "))
        .collect();
    let more = lines.iter().filter_map(|line| {
        let number = line.strip_prefix("         … ")?;
        number
            .strip_suffix(" more (ringmesh events)")?
            .parse::<usize>()
            .ok()
    });
    let printed = lines.iter().filter(|line| !line.starts_with("      "));
    // One more has come, and has been closed. On a busy machine the lag of a shard is a line, too.
    let told = more.sum::<usize>() + printed.count();
    assert!(
        (2 * PAIRS + 2..=2 * PAIRS + 3).contains(&told),
        "{told}: {all}"
    );
}

#[test]
fn quiet_is_quiet() {
    let (mut server, key) = dev(&["--quiet"], &[]);
    let mut client = with_key(&server, &key);
    client.subscribe("room");
    client.close(Some(1_000));
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let all = server.output.all();
    assert!(all.contains(&key) && !all.contains("subscribed"), "{all}");
}
