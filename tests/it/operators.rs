//! The operators' commands against a running server: what is typed, what is printed, what has
//! changed.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::command::check_failure;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

/// Runs `ringmesh` with these words and the server's token.
fn run(server: &Server, words: &str) -> Output {
    let admin = server.admin();
    run_with(&admin.address.to_string(), &admin.bearer, words)
}

fn run_with(address: &str, token: &str, words: &str) -> Output {
    let mut command = ringmesh();
    command
        .args(words.split_whitespace())
        .arg("--admin-url")
        .arg(format!("http://{address}"))
        .env("RINGMESH_ADMIN_TOKEN", token);
    command.output().unwrap()
}

/// The text that a command prints when all is well.
#[track_caller]
fn printed(server: &Server, words: &str) -> String {
    let output = run(server, words);
    assert!(output.status.success(), "{words}: {output:?}");
    assert!(output.stderr.is_empty(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same as JSON.
#[track_caller]
fn told(server: &Server, words: &str) -> Value {
    serde_json::from_str(&printed(server, &format!("{words} --json"))).unwrap()
}

#[test]
fn every_command_does_what_it_says() {
    let server = Setup::new(2)
        .no_apps()
        .write("turn.secret", "hush\n")
        .start();
    let secret = server.dir().join("turn.secret");
    let create = "app create --app shop --name Shop --max-connections 9 --turn-urls turn:a";
    let created = told(
        &server,
        &format!("{create} --turn-secret-file {}", secret.display()),
    );
    assert_eq!(
        (&created["appId"], &created["turn"]["ttlSec"]),
        (&json!("shop"), &json!(86_400))
    );
    assert_eq!(told(&server, "app list"), json!({"apps": [created]}));
    let app = told(
        &server,
        "app update --app shop --status suspended --direct-scope shared-channel --plan-name pro \
         --max-connections 0 --max-messages 7 --overages-allowed true --overages-enabled true \
         --period-start 1 --period-days 30 --turn-urls= --message-rate 5 --message-burst 6 --yes",
    );
    assert_eq!(
        app,
        json!({
            "appId": "shop", "name": "Shop", "status": "suspended",
            "plan": {
                "name": "pro", "maxConcurrentConnections": null, "maxMessagesPerPeriod": 7,
                "overagesAllowed": true, "overagesEnabled": true,
                "periodStartUnix": 1, "periodDays": 30,
            },
            "directScope": "shared-channel", "turn": null, "feed": created["feed"], "history": [],
            "limits": {"messageRate": 5, "messageBurst": 6}, "createdAt": created["createdAt"],
        })
    );
    assert_eq!(told(&server, "app show --app shop"), app);
    assert!(printed(&server, "app show --app shop").contains("\nplan.periodDays"));

    let key = told(
        &server,
        "key create --app shop --type publishable --name k --channels a/* --actions publish \
         --origins https://a.example --auto-inject-turn false",
    );
    let id = key["keyId"].as_str().unwrap();
    assert_eq!(told(&server, &format!("key show {id}")), key);
    let changed = told(
        &server,
        &format!("key update {id} --actions subscribe,send"),
    );
    assert_eq!(
        (&changed["actions"], &changed["name"]),
        (&json!(["subscribe", "send"]), &json!("k"))
    );
    assert_eq!(told(&server, &format!("key revoke {id} --yes")), changed);

    let text = printed(
        &server,
        "key create --app shop --type secret --channels ** --actions publish",
    );
    assert!(text.contains("\nsigningSecret"), "{text}");
    assert!(text.ends_with("\nThe secrets are not shown again.\n"));
    let keys = told(&server, "key list --app shop");
    let id = keys["keys"][0]["keyId"].as_str().unwrap();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let rotated = told(&server, &format!("key rotate {id} --grace 60"));
    assert!(!text.contains(rotated["signingSecret"].as_str().unwrap()));
    let table = printed(&server, "key list --app shop");
    assert!(table.starts_with("KEY") && table.lines().nth(1).unwrap().starts_with(id));

    assert_eq!(told(&server, "app delete --app shop --yes"), app);
    assert_eq!(told(&server, "app list"), json!({"apps": []}));
}

#[test]
fn the_node_is_shown_as_tables_and_as_json() {
    let server = Setup::new(2).start();
    let mut client = server.anonymous();
    client.subscribe("room");
    let report = told(&server, "stats");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let shards = report["shards"].as_array().unwrap();
    let connections: u64 = shards
        .iter()
        .map(|shard| shard["connections"].as_u64().unwrap())
        .sum();
    assert_eq!((shards.len(), connections), (2, 1));
    let text = printed(&server, "stats");
    let version = format!("ringmesh {}, up ", env!("CARGO_PKG_VERSION"));
    assert!(text.starts_with(&version), "{text}");
    assert!(text.contains("\nSHARD  CPU  CONNS") && text.contains("\nfan-out "));
}

#[test]
fn refusals_are_one_line_with_the_servers_reason() {
    let mut server = Setup::new(1).start();
    check_failure(
        &run(&server, "app show --app no/such-app"),
        4,
        "there is no app \"no/such-app\"; ringmesh app list shows all",
    );
    check_failure(
        &run(
            &server,
            "app update --app a --turn-secret-file /nonexistent",
        ),
        2,
        "--turn-secret-file: /nonexistent: ",
    );
    let address = server.admin_address().to_string();
    check_failure(
        &run_with(&address, "wrong", "app list"),
        4,
        "RINGMESH_ADMIN_TOKEN",
    );
    check_failure(
        &run_with("a b", "wrong", "app list"),
        2,
        "is not like 7464, ",
    );
    told(&server, "app create --app b");
    server.signal(rustix::process::Signal::TERM);
    server.exit_status();
    check_failure(
        &run_with(&address, "token", "stats"),
        3,
        &format!("no answer from http://{address}: "),
    );
}

/// What was typed is named, not the fields that it became.
#[test]
fn refusals_name_arguments() {
    let server = Setup::new(1).start();
    told(&server, "app create --app b");
    for (words, exit_code, expected) in [
        ("key create --app b", 2, "--type <TYPE>"),
        (
            "key create --app b --type secret --channels a,b\\ --actions send",
            2,
            "--channels, item 2: a channel pattern must not end with a lone",
        ),
        (
            "app create --turn-urls turn:a",
            2,
            "--turn-secret-file: is required",
        ),
        ("app create --turn-ttl 1h", 2, "--turn-urls: is required"),
        (
            "app create --message-rate 5 --message-burst 0",
            2,
            "--message-burst: must be at least 1 with a rate",
        ),
        ("app update --app b", 2, "there is nothing to change"),
        ("key rotate k --grace 400d", 4, "there is no key"),
    ] {
        check_failure(&run(&server, words), exit_code, expected);
    }
    let address = server.admin_address().to_string();
    let public = server.public.to_string();
    check_failure(&run_with(&public, "t", "app list"), 4, "check --admin-url");
    check_failure(
        &run_with(&address, "", "app list"),
        2,
        "the admin token is empty: set",
    );
    check_failure(
        &run_with(&address, "a b", "app list"),
        2,
        "has a blank or another",
    );
}
