//! Who is connected to what, as operators see it: lists and single things, with good, bad and
//! borderline parameters.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::raw::handshake;
use crate::support::server::Server;
use crate::support::setup::Setup;
use crate::support::token::now_sec;
use crate::support::{on_shards, until};

const A: &str = "/api/internal/v1/apps/app_a";

fn names(list: &Value, field: &str) -> Vec<String> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row[field].as_str().unwrap().to_owned())
        .collect()
}

/// Connections of ann (two), bob and dan, and the channels that they are in.
fn scene(server: &Server) -> Vec<Client> {
    // Without presence frames, which would come between acks.
    let connect = |peer: &str| {
        let metadata = json!({"name": peer.to_uppercase()});
        let permissions = ["publish", "subscribe"];
        server.with_claims(json!({
            "sub": peer, "permissions": permissions, "peerMetadata": metadata,
        }))
    };
    let mut clients: Vec<_> = ["ann", "ann", "bob", "dan"].map(connect).into();
    for (at, channels) in [&["room/1", "room/2"][..], &["room/1"], &["room/1"], &[]]
        .iter()
        .enumerate()
    {
        for channel in *channels {
            clients[at].subscribe(channel);
        }
    }
    clients
}

#[test]
fn channels_members_connections_and_peers_are_listed() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let admin = server.admin();
        let mut clients = scene(&server);
        for data in 0..3 {
            clients[0].publish("room/2", json!(data));
        }
        let seen = admin.get(&format!("{A}/channels"));
        assert_eq!(seen["complete"], true, "{seen}");
        assert_eq!(seen["next"], Value::Null);
        let [first, second] = [0, 1].map(|at| seen["channels"][at].clone());
        assert_eq!(names(&seen["channels"], "channel"), ["room/1", "room/2"]);
        assert_eq!(
            (&first["peers"], &first["connections"]),
            (&json!(2), &json!(3))
        );
        assert_eq!(
            (&second["peers"], &second["connections"]),
            (&json!(1), &json!(1))
        );
        let seen = admin.get(&format!("{A}/channels?sort=connections&limit=1"));
        assert_eq!(names(&seen["channels"], "channel"), ["room/1"]);
        assert_eq!(seen["next"], Value::Null, "no second page of numbers");
        let seen = admin.get(&format!("{A}/channels?sort=rate&match=room/**"));
        assert_eq!(names(&seen["channels"], "channel"), ["room/2", "room/1"]);

        let seen = admin.get(&format!("{A}/channel?name=room%2F2"));
        assert_eq!(seen["published"], 3, "{seen}");
        assert_eq!((&seen["peers"], &seen["joining"]), (&json!(1), &json!(0)));
        assert!(seen["owner"].as_u64().unwrap() < u64::from(shards));
        assert_eq!(seen["homes"][0]["connections"], 1);
        assert!(seen["rate"].as_f64().unwrap() > 0.0);

        let seen = admin.get(&format!("{A}/channel/members?name=room/1"));
        let ann = json!({"peerId": "ann", "connections": 2, "metadata": {"name": "ANN"}});
        assert_eq!(seen["members"][0], ann, "{seen}");
        assert_eq!(names(&seen["members"], "peerId"), ["ann", "bob"]);

        let seen = admin.get(&format!("{A}/peers"));
        assert_eq!(names(&seen["peers"], "peerId"), ["ann", "bob", "dan"]);
        assert_eq!(seen["peers"][0]["connections"], 2);

        let seen = admin.get(&format!("{A}/connections?sort=messagesIn&limit=1"));
        let row = &seen["connections"][0];
        assert_eq!(
            (&row["peerId"], &row["key"]),
            (&json!("ann"), &json!("sk_id_a"))
        );
        assert_eq!(
            (&row["address"], &row["held"]),
            (&json!("127.0.0.1"), &Value::Null)
        );
        assert_eq!(
            (&row["channels"], &row["blockedMs"]),
            (&json!(2), &json!(0))
        );
        assert!(row["bytesIn"].as_u64() > Some(0) && row["bytesOut"].as_u64() > Some(0));
        assert!(
            row["since"].as_u64().unwrap().abs_diff(now_sec()) < 120,
            "{row}"
        );
        let other = admin.get("/api/internal/v1/apps/app_b/connections");
        assert_eq!(other["connections"], json!([]));
    });
}

#[test]
fn pages_go_on_behind_the_last_name_until_there_is_no_more() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    let mut clients: Vec<_> = (0..7)
        .map(|at| server.quiet_peer(&format!("peer-{at}")))
        .collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.subscribe("all");
        client.subscribe(&format!("c{at}"));
    }
    for (path, list, field, count) in [
        ("channels?", "channels", "channel", 8),
        ("channel/members?name=all&", "members", "peerId", 7),
        ("peers?", "peers", "peerId", 7),
        ("channels?match=c*&", "channels", "channel", 7),
    ] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let seen = admin.get(&format!("{A}/{path}limit=3{after}"));
            let page = names(&seen[list], field);
            assert!(page.len() <= 3, "{seen}");
            found.extend(page);
            match seen["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(found.len(), count, "{path} {found:?}");
        assert!(found.is_sorted(), "{path} {found:?}");
    }
}

#[test]
fn one_peer_is_shown_with_its_last_close_also_when_it_is_gone() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    let mut clients = scene(&server);
    let seen = admin.get(&format!("{A}/peer?id=ann"));
    assert_eq!(seen["metadata"], json!({"name": "ANN"}), "{seen}");
    let connections = seen["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2);
    let mut channels: Vec<_> = connections
        .iter()
        .map(|it| it["channels"].to_string())
        .collect();
    channels.sort();
    assert_eq!(channels, [r#"["room/1","room/2"]"#, r#"["room/1"]"#]);
    assert!(connections[0]["expiresAt"].as_u64().unwrap() > now_sec());
    assert!(connections[0]["lastReceivedMs"].is_u64());
    assert_eq!(seen["lastClosed"], Value::Null);
    clients.remove(3);
    let mut tries = 0..;
    until("dan's close is told", || {
        let dan = ["dan", "d%61n", "%64an", "da%6E"][tries.next().unwrap_or(0) % 4];
        let seen = admin.get(&format!("{A}/peer?id={dan}"));
        seen["connections"] == json!([]) && seen["lastClosed"]["kind"] == "closed"
    });
    let seen = admin.get(&format!("{A}/peer?id=nobody"));
    assert_eq!(
        (&seen["connections"], &seen["metadata"]),
        (&json!([]), &Value::Null)
    );
}

#[test]
fn connections_are_narrowed() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let _clients = scene(&server);
    let _other = server.connect("?key=pk_live_a");
    for (query, count) in [
        ("match=ann", 2),
        ("match=%2Aan", 1),
        ("key=sk_id_a", 4),
        ("key=pk_live_a", 1),
        ("key=nobody", 0),
        ("address=127.0.0.1", 5),
        ("address=127.0.0.0/8&limit=2", 2),
        ("address=10.0.0.0/8", 0),
        ("sort=oldest&limit=200", 5),
        ("sort=queue", 5),
        ("sort=bytesOut", 5),
    ] {
        let seen = admin.get(&format!("{A}/connections?{query}"));
        let rows = seen["connections"].as_array().unwrap();
        assert_eq!(rows.len(), count, "{query}: {seen}");
    }
}

#[test]
fn connections_are_counted_by_where_they_come_from() {
    on_shards(|shards| {
        let server = Setup::new(shards)
            .set("server.trusted_proxies", "[\"127.0.0.0/8\"]")
            .start();
        let from = |address: &str| {
            let header = format!("X-Forwarded-For: {address}\r\n");
            let mut raw = server.raw();
            raw.write(handshake("/v1?key=pk_live_a", &header));
            assert_eq!(raw.response().status, 101);
            // Its welcome.
            raw.frame();
            raw
        };
        let addresses = [
            "203.0.113.9",
            "203.0.113.9",
            "203.0.113.10",
            "2001:db8:1:2::3",
            "2001:db8:1:2:f::4",
            "2001:db8:1:2::5",
        ];
        let _clients = addresses.map(from);
        let admin = server.admin();
        let seen = admin.get(&format!("{A}/connections?group=address"));
        let row = |from: &str, count: u64| json!({"address": from, "connections": count});
        let v6 = row("2001:db8:1:2::/64", 3);
        let all = [v6.clone(), row("203.0.113.9", 2), row("203.0.113.10", 1)];
        assert_eq!(seen["addresses"], json!(all), "{seen}");
        assert_eq!(
            (&seen["distinct"], &seen["complete"]),
            (&json!(3), &json!(true))
        );
        let seen = admin.get(&format!("{A}/connections?group=address&limit=1"));
        assert_eq!(seen["addresses"], json!([v6]), "{seen}");
        let block = "address=203.0.113.0/24&key=pk_live_a";
        let seen = admin.get(&format!("{A}/connections?group=address&{block}"));
        assert_eq!(seen["addresses"], json!(all[1..]), "{seen}");
        // What was counted is what is found there.
        let seen = admin.get(&format!("{A}/connections?address=2001:db8:1:2::/64"));
        assert_eq!(seen["connections"].as_array().unwrap().len(), 3, "{seen}");
    });
}

/// Asks with each, and checks status and a part of the answer.
fn check_each(cases: &[(&str, u16, &str)]) {
    let server = Setup::new(1).start();
    let admin = server.admin();
    for (path, status, part) in cases {
        let answer = admin.call("GET", &format!("{A}/{path}"), None);
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        assert!(answer.body.contains(part), "{path}: {answer:?}");
    }
}

#[test]
fn parameters_of_channels_that_make_no_sense_are_refused() {
    let long = "x".repeat(300);
    check_each(&[
        (
            "channels?limit=0",
            400,
            "limit: must be a number from 1 to 200",
        ),
        ("channels?limit=201", 400, "limit: must be"),
        ("channels?limit=x", 400, "limit: must be"),
        ("channels?limit=200", 200, "channels"),
        ("channels?limit=1", 200, "channels"),
        (
            "channels?sort=size",
            400,
            "sort: must be one of name, connections, rate",
        ),
        (
            "channels?sort=rate&after=a",
            400,
            "after: only lists by name",
        ),
        (
            "channels?after=",
            400,
            "after: must be the name of a channel",
        ),
        (&format!("channels?after={long}"), 400, "after: must be"),
        (
            "channels?match=",
            400,
            "match: a channel pattern must not be empty",
        ),
        (
            "channels?match=a%5C",
            400,
            "match: a channel pattern must not end",
        ),
        (
            "channels?match=a&match=b",
            400,
            "match: it may be there once",
        ),
        ("channels?size=1", 400, "size: there is no such parameter"),
        ("channels?match=%ZZ", 400, "percent escape"),
    ]);
}

#[test]
fn parameters_of_other_lists_that_make_no_sense_are_refused() {
    check_each(&[
        ("channel", 400, "name: it must be given"),
        ("channel?name=", 400, "name: must be the name of a channel"),
        ("channel?name=nobody", 404, "nobody is in the channel"),
        (
            "channel?name=a&limit=1",
            400,
            "limit: there is no such parameter",
        ),
        ("channel/members?limit=1", 400, "name: it must be given"),
        (
            "channel/members?name=nobody",
            404,
            "nobody is in the channel",
        ),
        (
            "channel/members?name=a&after=%01",
            400,
            "after: must be the id of a peer",
        ),
        ("connections?sort=name", 400, "sort: must be one of newest"),
        ("connections?address=home", 400, "address: must be one"),
        ("connections?group=key", 400, "group: must be address"),
        (
            "connections?group=address&sort=newest",
            400,
            "sort: there is no such parameter",
        ),
        (
            "connections?after=a",
            400,
            "after: there is no such parameter",
        ),
        ("peers?limit=201", 400, "limit: must be"),
        ("peer", 400, "id: it must be given"),
        ("peer?id=%01", 400, "id: must be 1 to 128 printable ASCII"),
    ]);
}

#[test]
fn an_app_that_is_not_there_has_nothing() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    for what in [
        "channels",
        "connections",
        "peers",
        "channel?name=a",
        "peer?id=a",
    ] {
        let path = format!("/api/internal/v1/apps/nobody/{what}");
        admin.call("GET", &path, None).is_error(404, "not_found");
    }
}
