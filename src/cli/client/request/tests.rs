//! What each command asks of the admin API.

use super::*;
use crate::cli::{CliCommand, parse};

fn request(line: &str) -> Result<Request, Failure> {
    let Ok(cli) = parse(line.split_whitespace().map(Into::into)) else {
        panic!("{line}")
    };
    match cli.command {
        CliCommand::App(AppCommand::Show(of)) => {
            let id = of.given().unwrap().to_owned();
            Request::of_app(&AppCommand::Show(of), &id)
        }
        CliCommand::App(command) => Request::of_app(&command, "a"),
        CliCommand::Key(command) => Request::of_key(&command, "a"),
        CliCommand::Stats(_) => Ok(Request::of_stats()),
        CliCommand::Events(args) => Ok(Request::of_events(
            &args.parameters(args.app().map(str::to_owned)),
        )),
        CliCommand::Kick(args) => {
            let connection = args.connection.as_deref();
            Ok(Request::of_kick("a/b", &args.peer, connection))
        }
        CliCommand::Why(args) => Ok(Request::of_why(
            args.app.as_deref(),
            &args.peer,
            args.since.as_deref(),
        )),
        _ => panic!("{line}"),
    }
}

/// The line asks for this, with this body.
#[track_caller]
fn check(line: &str, expected: &str, body: Value) {
    let request = request(line).unwrap();
    let asked = format!("{} {}", request.method, request.path);
    assert_eq!(
        asked,
        expected.replace(" /", " /api/internal/v1/"),
        "{line}"
    );
    let sent = request.body.map_or(Value::Null, Value::Object);
    assert_eq!(sent, body, "{line}");
}

#[test]
fn apps_are_asked_for_with_what_was_given() {
    check("ringmesh app list", "GET /apps", Value::Null);
    check(
        "ringmesh app show --app a/b",
        "GET /apps/a%2Fb",
        Value::Null,
    );
    check("ringmesh app delete --app a", "DELETE /apps/a", Value::Null);
    check("ringmesh app create", "POST /apps", json!({}));
    check(
        "ringmesh app create --app a --name A --max-connections 9 --message-rate 5 \
         --message-burst 6",
        "POST /apps",
        json!({
            "appId": "a", "name": "A", "plan": {"maxConcurrentConnections": 9},
            "limits": {"messageRate": 5, "messageBurst": 6},
        }),
    );
    check(
        "ringmesh app update --app a --status suspended --direct-scope shared-channel \
         --plan-name pro --max-messages 0 --overages-allowed true --overages-enabled false \
         --period-start 1 --period-days 30 --feed-presence true",
        "PATCH /apps/a",
        json!({
            "feed": {"presence": true},
            "status": "suspended", "directScope": "shared-channel",
            "plan": {
                "name": "pro", "maxMessagesPerPeriod": 0, "overagesAllowed": true,
                "overagesEnabled": false, "periodStartUnix": 1, "periodDays": 30,
            },
        }),
    );
}

#[test]
fn history_is_a_list_of_rules_or_none() {
    let update = "ringmesh app update --app a";
    let rule = json!({
        "pattern": "chat/**", "messages": 5, "bytes": 1_048_576, "ttlSec": 60, "store": "disk",
    });
    let all = json!({
        "pattern": "*", "messages": 1_000, "bytes": 1_048_576, "ttlSec": 3_600,
        "store": "memory",
    });
    check(
        &format!("{update} --history chat/**=messages:5,ttl:1m,store:disk --history *"),
        "PATCH /apps/a",
        json!({"history": [rule, all]}),
    );
    check(
        "ringmesh app create --history *",
        "POST /apps",
        json!({"history": [all]}),
    );
    check(
        &format!("{update} --no-history"),
        "PATCH /apps/a",
        json!({"history": []}),
    );
}

#[test]
fn turn_servers_are_set_kept_or_taken_away() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "hush\n").unwrap();
    let update = "ringmesh app update --app a --turn-ttl 1h --turn-urls turn:a,turn:b";
    let line = format!("{update} --turn-secret-file {}", file.path().display());
    let turn = json!({"urls": ["turn:a", "turn:b"], "secret": "hush", "ttlSec": 3_600});
    check(&line, "PATCH /apps/a", json!({ "turn": turn }));
    check(
        "ringmesh app update --app a --turn-urls=",
        "PATCH /apps/a",
        json!({"turn": null}),
    );
    check(
        "ringmesh app update --app a --turn-ttl 5",
        "PATCH /apps/a",
        json!({"turn": {"ttlSec": 5}}),
    );
}

#[test]
fn keys_are_asked_for_with_what_was_given() {
    check(
        "ringmesh key show --key k",
        "GET /signalling/keys/k",
        Value::Null,
    );
    check("ringmesh key list --app a", "GET /apps/a/keys", Value::Null);
    check("ringmesh key show k", "GET /signalling/keys/k", Value::Null);
    check(
        "ringmesh key revoke k",
        "DELETE /signalling/keys/k",
        Value::Null,
    );
    check(
        "ringmesh key rotate k --grace 60",
        "POST /signalling/keys/k/rotate",
        json!({"graceSeconds": 60}),
    );
    check(
        "ringmesh key create --app a --type publishable --channels a/*,b --actions send \
         --origins https://a.example --auto-inject-turn false --name n",
        "POST /apps/a/keys",
        json!({
            "type": "publishable", "name": "n", "channelPatterns": ["a/*", "b"],
            "actions": ["send"], "allowedOrigins": ["https://a.example"],
            "autoInjectTurn": false,
        }),
    );
    check(
        "ringmesh key update k --actions send",
        "PATCH /signalling/keys/k",
        json!({"actions": ["send"]}),
    );
    check(
        "ringmesh key create --app a --type secret --channels b --actions=",
        "POST /apps/a/keys",
        json!({"type": "secret", "channelPatterns": ["b"], "actions": []}),
    );
    check("ringmesh stats", "GET /stats", Value::Null);
}

#[test]
fn keys_have_defaults() {
    let all = json!(["publish", "subscribe", "presence", "send"]);
    check(
        "ringmesh key create --type secret",
        "POST /apps/a/keys",
        json!({"type": "secret", "channelPatterns": ["**"], "actions": all}),
    );
    let some = json!(["subscribe", "publish", "presence"]);
    check(
        "ringmesh key create a --type publishable",
        "POST /apps/a/keys",
        json!({"type": "publishable", "channelPatterns": ["**"], "actions": some}),
    );
}

#[test]
fn apps_are_suspended_and_resumed() {
    let status = |status: &str| json!({ "status": status });
    check(
        "ringmesh app suspend a",
        "PATCH /apps/a",
        status("suspended"),
    );
    check("ringmesh app resume a", "PATCH /apps/a", status("active"));
}

#[test]
fn an_update_says_what_it_changes() {
    for line in ["ringmesh app update --app a", "ringmesh key update k"] {
        let failure = request(line).err().unwrap();
        assert_eq!(failure.exit_code, 2);
        assert!(
            failure.message.starts_with("there is nothing to change"),
            "{failure}"
        );
    }
}

#[test]
fn questions_stand_in_the_query() {
    for (line, expected) in [
        ("ringmesh events", "GET events"),
        (
            "ringmesh events --peer a=b --kind -opened,error --since 10m",
            "GET events?peer=a%3Db&kind=-opened%2Cerror&since=10m",
        ),
        ("ringmesh why alice --app a", "GET why?app=a&peer=alice"),
        ("ringmesh why a&b --since 1", "GET why?peer=a%26b&since=1"),
        ("ringmesh kick a/b", "DELETE apps/a%2Fb/peer?id=a%2Fb"),
        (
            "ringmesh kick a/b --connection 2.1.7",
            "DELETE apps/a%2Fb/connection?id=2.1.7&peer=a%2Fb",
        ),
    ] {
        let request = request(line).unwrap();
        let path = request.path.strip_prefix("/api/internal/v1/").unwrap();
        assert_eq!(format!("{} {path}", request.method), expected, "{line}");
    }
}

#[test]
fn a_history_is_that_of_a_channel_by_its_name() {
    let path = |request: Request| {
        let path = request.path.strip_prefix("/api/internal/v1/").unwrap();
        format!("{} {path}", request.method)
    };
    let since = [("since", "q7Zk2wAb:41".to_owned())];
    assert_eq!(
        path(Request::of_history("a/b", "room/1", &since)),
        "GET apps/a%2Fb/channel/history?name=room%2F1&since=q7Zk2wAb%3A41"
    );
    let forgetting = Request::of_forgetting("a", "room 1");
    assert!(forgetting.is_change());
    assert_eq!(
        path(forgetting),
        "DELETE apps/a/channel/history?name=room%201"
    );
}
