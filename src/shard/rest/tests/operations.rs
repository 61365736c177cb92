//! What the operations do.

use serde_json::json;

use super::{cluster, request, with_key};
use crate::domain::rights::{App, TurnServers};
use crate::domain::usage::{PeriodUsage, PlanView};
use crate::shard::input::Input;
use crate::shard::testing::{Client, Cluster, app, rights};

/// Mints a token with `sk_id_full` for a peer, with these further members.
fn token(cluster: &mut Cluster, peer_id: &str, members: &str) -> String {
    let body = format!(r#"{{"peerId":"{peer_id}"{members}}}"#);
    let response = cluster.request(0, &with_key("POST", "/v1/tokens", &body));
    assert_eq!(response.status, 200, "{}", response.body);
    response.json()["token"].as_str().unwrap().to_owned()
}

/// A peer's connection on that shard, and its `welcome`.
fn peer(cluster: &mut Cluster, shard: usize, peer_id: &str, members: &str) -> (Client, String) {
    let token = token(cluster, peer_id, members);
    cluster.connect(shard, &format!("token={token}"))
}

fn subscribe(cluster: &mut Cluster, client: Client, members: &str) {
    let text = format!(r#"{{"type":"subscribe","channel":"room"{members}}}"#);
    cluster.message(client, &text);
    cluster.take(client);
}

fn publish(cluster: &mut Cluster, shard: usize, body: &str) -> String {
    let request = with_key("POST", "/v1/channels/room/publish", body);
    cluster.request(shard, &request).body
}

#[test]
fn a_minted_token_connects_with_what_it_says() {
    let mut cluster = cluster(2);
    let body = r#"{"peerId":"ann \"1\"","channels":["room"],"permissions":["subscribe"],
        "expiresInSec":60,"metadata":{ "a" : 1 },"peerMetadata":{"b":2}}"#;
    let response = cluster.request(1, &with_key("POST", "/v1/tokens", body));
    let minted = response.json();
    assert_eq!(minted["expiresAt"], 1_700_000_060);
    let token = minted["token"].as_str().unwrap();
    let (ann, welcome) = cluster.connect(0, &format!("token={token}"));
    assert_eq!(
        welcome,
        concat!(
            r#"{"type":"welcome","peerId":"ann \"1\"","expiresAt":1700000060,"#,
            r#""serverTime":1700000000,"maxMessageSize":65536,"metadata":{ "a" : 1 }}"#
        )
    );
    for (command, answer) in [
        (
            r#"{"type":"subscribe","channel":"room","requestId":"1"}"#,
            "ack",
        ),
        (
            r#"{"type":"subscribe","channel":"hall","requestId":"1"}"#,
            "channel_not_authorized",
        ),
        (
            r#"{"type":"publish","channel":"room","data":1,"requestId":"1"}"#,
            "action_not_permitted",
        ),
    ] {
        cluster.message(ann, command);
        assert!(cluster.messages(ann)[0].contains(answer), "{command}");
    }
}

#[test]
fn a_token_says_only_what_was_asked_for() {
    use base64::Engine;
    let mut cluster = cluster(1);
    let token = token(&mut cluster, "ann", "");
    let part = |at| {
        let part = token.split('.').nth(at).unwrap();
        let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part);
        serde_json::from_slice::<serde_json::Value>(&decoded.unwrap()).unwrap()
    };
    assert_eq!(
        part(0),
        json!({"alg": "HS256", "typ": "JWT", "kid": "sk_id_full"})
    );
    assert_eq!(
        part(1),
        json!({
            "sub": "ann",
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
            "iss": "ringmesh",
        })
    );
}

#[test]
fn a_publication_reaches_every_subscriber_as_it_was_written() {
    for shard_count in [1, 2, 4] {
        let mut cluster = cluster(shard_count);
        let mut clients = Vec::new();
        for at in 0..usize::from(shard_count) * 2 {
            let shard = at % usize::from(shard_count);
            let (client, _) = peer(&mut cluster, shard, &format!("p{at}"), "");
            let wants = format!(r#","includeSenderMetadata":{}"#, at < 2);
            subscribe(&mut cluster, client, &wants);
            clients.push(client);
        }
        for client in &clients {
            cluster.take(*client);
        }
        for shard in 0..usize::from(shard_count) {
            let body = r#"{"data": { "a" : 1e400 } ,"from":"b\"t","peerMetadata":{"x": 1}}"#;
            assert_eq!(
                publish(&mut cluster, shard, body),
                format!(r#"{{"channel":"room","delivered":{}}}"#, clients.len())
            );
            for (at, client) in clients.iter().enumerate() {
                let metadata = match at < 2 {
                    true => r#","fromMetadata":{"x": 1}"#,
                    false => "",
                };
                let data = r#"{ "a" : 1e400 }"#;
                let expected = format!(
                    r#"{{"type":"message","channel":"room","from":"b\"t","data":{data}{metadata}}}"#
                );
                assert_eq!(
                    cluster.messages(*client),
                    [expected],
                    "{shard_count} shards"
                );
            }
        }
    }
}

#[test]
fn publications_keep_their_order_and_are_from_the_server_unless_they_say() {
    let mut cluster = cluster(3);
    let (ann, _) = peer(&mut cluster, 2, "ann", "");
    subscribe(&mut cluster, ann, "");
    let client = cluster.accept(1);
    let pipelined: Vec<u8> = (0..20)
        .flat_map(|at| {
            let body = format!(r#"{{"data":{at}}}"#);
            with_key("POST", "/v1/channels/room/publish", &body)
        })
        .collect();
    cluster.send(client, &pipelined);
    assert_eq!(cluster.responses(client).len(), 20);
    let expected: Vec<String> = (0..20)
        .map(|at| format!(r#"{{"type":"message","channel":"room","from":"server","data":{at}}}"#))
        .collect();
    assert_eq!(cluster.messages(ann), expected);
}

#[test]
fn nobody_there_is_no_error() {
    for shard in 0..3 {
        let mut cluster = cluster(3);
        let body = publish(&mut cluster, shard, r#"{"data":null}"#);
        assert_eq!(body, r#"{"channel":"room","delivered":0}"#);
        let peers = with_key("GET", "/v1/channels/a%20%22b%22/peers", "");
        let body = cluster.request(shard, &peers).body;
        assert_eq!(body, r#"{"channel":"a \"b\"","peers":[]}"#);
    }
}

#[test]
fn peers_are_listed_once_each_and_sorted() {
    for shard_count in [1, 3] {
        let mut cluster = cluster(shard_count);
        let count = usize::from(shard_count);
        for (at, id) in ["zoe", "ann", "Bob", "ann", "eve"].iter().enumerate() {
            let members = match *id {
                "ann" => r#","peerMetadata":{ "n": 1 }"#,
                _ => "",
            };
            let (client, _) = peer(&mut cluster, at % count, id, members);
            subscribe(&mut cluster, client, "");
        }
        for shard in 0..count {
            let list = with_key("GET", "/v1/channels/room/peers", "");
            assert_eq!(
                cluster.request(shard, &list).body,
                concat!(
                    r#"{"channel":"room","peers":[{"peerId":"Bob"},"#,
                    r#"{"peerId":"ann","metadata":{ "n": 1 }},"#,
                    r#"{"peerId":"eve"},{"peerId":"zoe"}]}"#
                )
            );
        }
    }
}

#[test]
fn usage_is_the_apps_report() {
    let plan = PlanView {
        name: Some("pro".into()),
        max_messages_per_period: Some(9),
        ..PlanView::default()
    };
    let app = App { plan, ..app() };
    app.gauges.publish_usage(PeriodUsage {
        start_unix: 1,
        end_unix: 2,
        messages: 7,
        ..PeriodUsage::default()
    });
    let mut cluster = Cluster::new(2, rights(app));
    let _ = peer(&mut cluster, 0, "ann", "");
    let usage = cluster.request(1, &with_key("GET", "/v1/usage", "")).json();
    assert_eq!(usage["appId"], "app_test");
    assert_eq!(usage["concurrentNow"], 1);
    assert_eq!(usage["messagesUsed"], 7);
    assert_eq!(usage["plan"]["maxMessagesPerPeriod"], 9);
}

#[test]
fn health_and_document_need_no_credential() {
    let mut cluster = cluster(1);
    let health = cluster.request(0, &request("GET", "/healthz", "", ""));
    assert_eq!((health.status, &*health.body), (200, r#"{"status":"ok"}"#));
    let document = cluster.request(0, &request("GET", "/v1/openapi.json", "", ""));
    assert_eq!(document.json()["openapi"], "3.1.0");
}

#[test]
fn messages_over_a_websocket_count_and_stop_at_the_quota() {
    let mut cluster = Cluster::new(
        2,
        rights(App {
            messages_max: Some(3),
            ..app()
        }),
    );
    let (ann, _) = cluster.connect(0, "key=pk_live_test");
    for (at, text) in [
        r#"{"type":"publish","channel":"a","data":1,"requestId":"1"}"#,
        // Neither valid nor counted.
        r#"{"type":"publish","channel":"a","requestId":"1"}"#,
        r#"{"type":"send","to":"nobody","data":1,"requestId":"1"}"#,
        r#"{"type":"publish","channel":"b","data":1,"requestId":"1"}"#,
        r#"{"type":"publish","channel":"b","data":1,"requestId":"1"}"#,
        r#"{"type":"send","to":"nobody","data":1,"requestId":"1"}"#,
        r#"{"type":"subscribe","channel":"b","requestId":"1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        cluster.message(ann, text);
        let answer = &cluster.messages(ann)[0];
        let over = answer.contains("over_message_quota");
        assert_eq!(over, at == 4 || at == 5, "{answer}");
    }
    cluster.input(0, Input::Usage);
    cluster.run();
    let messages: u64 = cluster.usage.iter().map(|delta| delta.messages).sum();
    assert_eq!(messages, 5);
}

#[test]
fn connections_over_the_limit_count_where_they_may_pass() {
    for overages in [true, false] {
        let mut cluster = Cluster::new(
            2,
            rights(App {
                connections_max: Some(1),
                overages,
                ..app()
            }),
        );
        cluster.connect(0, "key=pk_live_test");
        let (_, second) = cluster.connect(1, "key=pk_live_test");
        assert_eq!(second == "close 4010", !overages, "{second}");
        cluster.wait(1_000);
        let over: u64 = cluster.usage.iter().map(|it| it.overage_connections).sum();
        assert_eq!(over, u64::from(overages));
    }
}

#[test]
fn turn_servers_are_in_the_welcome_of_keys_that_want_them() {
    let turn = TurnServers {
        urls: vec!["turn:t.example".into()],
        secret: zeroize::Zeroizing::new(b"north".to_vec()),
        ttl_sec: 60,
    };
    let mut cluster = Cluster::new(
        1,
        rights(App {
            turn: Some(turn),
            ..app()
        }),
    );
    let welcomes = [
        cluster.connect(0, "key=pk_live_test").1,
        peer(&mut cluster, 0, "ann", "").1,
        peer(&mut cluster, 0, "ann", r#","metadata":{"a":1}"#).1,
    ];
    for welcome in &welcomes {
        let welcome: serde_json::Value = serde_json::from_str(welcome).unwrap();
        let server = &welcome["metadata"]["iceServers"][0];
        let peer_id = welcome["peerId"].as_str().unwrap();
        assert_eq!(server["urls"], json!(["turn:t.example"]));
        assert_eq!(server["username"], format!("1700000060:{peer_id}"));
    }
    let own = r#","metadata":{"iceServers":[]}"#;
    let (_, welcome) = peer(&mut cluster, 0, "ann", own);
    assert!(welcome.ends_with(r#""metadata":{"iceServers":[]}}"#));
    let narrow = "Authorization: Bearer sk_live_narrow\r\n";
    let mint = request("POST", "/v1/tokens", narrow, r#"{"peerId":"ann"}"#);
    let minted = cluster.request(0, &mint).json();
    let token = format!("token={}", minted["token"].as_str().unwrap());
    let (_, welcome) = cluster.connect(0, &token);
    assert!(!welcome.contains("iceServers"), "{welcome}");
}
