//! The admin API itself: who may ask, what is told, and what is there after a restart.

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::Client;
use crate::support::raw::Raw;
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key};
use crate::support::token::{now_sec, sign};
use crate::support::{on_shards, until};

const APPS: &str = "/api/internal/v1/apps";
const STATS: &str = "/api/internal/v1/stats";

#[test]
fn nothing_is_told_without_the_token() {
    let server = Setup::new(1).start();
    let mut admin = server.admin();
    let good = std::mem::take(&mut admin.bearer);
    let mut answers = Vec::new();
    for bearer in [
        "",
        "wrong",
        &good[1..],
        &format!("{good}x"),
        "sk_live_declared_0123456789",
    ] {
        admin.bearer = bearer.into();
        for (method, path) in [
            ("GET", APPS.to_owned()),
            ("GET", format!("{APPS}/app_a")),
            ("POST", format!("{APPS}/nobody/keys")),
            ("GET", STATS.into()),
            ("GET", "/nowhere".into()),
        ] {
            let response = admin.call(method, &path, None);
            response.is_error(401, "unauthorized");
            answers.push(response.body);
        }
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "{answers:?}"
    );
    for (path, content) in [
        ("/healthz", "ok"),
        ("/readyz", "ready"),
        ("/metrics", "ringmesh_connections{shard=\"0\"} "),
    ] {
        let response = admin.call("GET", path, None);
        assert!(
            response.status == 200 && response.body.contains(content),
            "{response:?}"
        );
    }
    // And on the public listener there is none of it, with the token or without.
    for path in [APPS, "/readyz", "/metrics"] {
        let mut raw = Raw::open(server.public);
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}\r\n\r\n"
        ));
        raw.response().is_error(404, "not_found");
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let keys = format!("{APPS}/app_m/keys");
    admin.create(APPS, &json!({"appId": "app_m"}));
    let key = json!({"type": "publishable", "channelPatterns": ["a"], "actions": ["publish"]});
    let with = |field: &str, value: Value| {
        let mut changed = key.clone();
        changed[field] = value;
        changed
    };
    for (path, body) in [
        (APPS, json!({"appId": "no spaces"})),
        (APPS, json!({"appId": "x".repeat(65)})),
        (APPS, json!({"plan": {"maxConcurrentConnections": -1}})),
        (APPS, json!({"status": "asleep"})),
        (APPS, json!([])),
        (keys.as_str(), json!({})),
        (&keys, with("type", json!("golden"))),
        (&keys, with("channelPatterns", json!(["a\\"]))),
        (&keys, with("actions", json!(["fly"]))),
        (&keys, with("allowedOrigins", json!(["not an origin"]))),
    ] {
        let response = admin.call("POST", path, Some(&body));
        assert_eq!(response.status, 400, "{body}: {response:?}");
        response.is_error(400, "invalid_request");
    }
    admin
        .call("POST", APPS, Some(&json!({"appId": "app_m"})))
        .is_error(409, "conflict");
    for number in 0..50 {
        admin.create(&keys, &with("name", json!(format!("key {number}"))));
    }
    admin
        .call("POST", &keys, Some(&key))
        .is_error(409, "conflict");
    for (method, path, status) in [
        ("GET", format!("{APPS}/nobody"), 404),
        (
            "PATCH",
            "/api/internal/v1/signalling/keys/pk_live_nobody".into(),
            404,
        ),
        ("PUT", APPS.into(), 405),
        ("GET", "/api/internal/v2/apps".into(), 404),
    ] {
        let response = admin.call(method, &path, Some(&json!({})));
        assert_eq!(response.status, status, "{method} {path}: {response:?}");
    }
    let mut raw = Raw::open(server.admin_address());
    raw.write(
        admin
            .request("POST", APPS, None)
            .replace("Length: 0", "Length: 52428800"),
    );
    raw.response().is_error(413, "invalid_request");
}

fn connections(server: &Server) -> u64 {
    let stats = server.admin().get(STATS);
    let shards = stats["shards"].as_array().unwrap().iter();
    shards
        .map(|shard| shard["connections"].as_u64().unwrap())
        .sum()
}

#[test]
fn stats_and_usage_count_connections_exactly() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let usage = || server.admin().get(&format!("{APPS}/app_a/usage"));
        let mut clients: Vec<Client> = (0..7).map(|_| server.anonymous()).collect();
        let _other_app = server.connect("?key=pk_live_b");
        assert_eq!(usage()["concurrentNow"], 7);
        assert_eq!(connections(&server), 8);
        assert_eq!(
            server.admin().get(STATS)["shards"]
                .as_array()
                .unwrap()
                .len(),
            usize::from(shards)
        );
        clients.truncate(2);
        until("five are gone", || usage()["concurrentNow"] == 2);
        until("five are closed", || connections(&server) == 3);
        until("the peak is known", || usage()["peakConcurrent"] == 7);
        let usage = usage();
        assert_eq!(usage["appId"], "app_a");
        assert_eq!(usage["plan"]["maxConcurrentConnections"], Value::Null);
    });
}

#[test]
fn samples_are_kept_for_charts() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    let _client = server.anonymous();
    let history = format!("{STATS}/history");
    let mut samples = Vec::new();
    until("there are two samples with a connection", || {
        samples = admin.get(&history)["samples"].as_array().unwrap().clone();
        let with_one = samples.iter().filter(|it| it["connections"] == 1);
        with_one.count() >= 2
    });
    assert!(samples.is_sorted_by_key(|it| it["at"].as_u64().unwrap()));
    let last = samples.last().unwrap();
    assert!(last["rates"]["opened"].is_f64() && last["latencies"]["fanOut"].is_object());
    assert_eq!(last["subscriptions"], 0);
    assert!(
        last["memory"]["resident"].as_u64() > Some(1_000_000),
        "{last}"
    );
    assert!(last["memory"]["events"].as_u64() > Some(0), "{last}");
    assert!(admin.get(&format!("{history}?seconds=900"))["samples"].is_array());
    for query in ["seconds=0", "seconds=901", "seconds=x", "minutes=1"] {
        let answer = admin.call("GET", &format!("{history}?{query}"), None);
        answer.is_error(400, "invalid_request");
    }
}

#[test]
fn apps_come_in_pages_and_with_what_they_use() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let _clients = [server.anonymous(), server.anonymous()];
    let all = admin.get(APPS);
    assert_eq!(all.get("next"), None, "{all}");
    let page = admin.get(&format!("{APPS}?limit=1&include=usage"));
    assert_eq!(
        (&page["apps"][0]["appId"], &page["next"]),
        (&json!("app_a"), &json!("app_a"))
    );
    assert_eq!(page["apps"][0]["usage"]["concurrentNow"], 2);
    let page = admin.get(&format!("{APPS}?limit=200&after=app_a"));
    assert_eq!(
        (&page["apps"][0]["appId"], &page["next"]),
        (&json!("app_b"), &Value::Null)
    );
    assert_eq!(page["apps"][0].get("usage"), None);
    for query in ["limit=0", "limit=201", "include=keys", "sort=name"] {
        let answer = admin.call("GET", &format!("{APPS}?{query}"), None);
        answer.is_error(400, "invalid_request");
    }
}

/// A key made through the API, and a token signed with it.
fn made_key(server: &Server) -> (String, String) {
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_m"}));
    let body =
        |kind: &str| json!({"type": kind, "channelPatterns": ["**"], "actions": ALL_ACTIONS});
    let keys = format!("{APPS}/app_m/keys");
    let publishable = admin.create(&keys, &body("publishable"));
    let secret = admin.create(&keys, &body("secret"));
    let header = json!({"alg": "HS256", "kid": secret["keyId"]}).to_string();
    let claims = json!({"sub": "a", "exp": now_sec() + 3_600}).to_string();
    let token = sign(&header, &claims, secret["signingSecret"].as_str().unwrap());
    (publishable["keyId"].as_str().unwrap().into(), token)
}

#[test]
fn apps_and_keys_outlive_a_killed_server() {
    let mut server = Setup::new(2).start();
    let (publishable, token) = made_key(&server);
    let app = server.admin().get(&format!("{APPS}/app_m"));
    let keys = server.admin().get(&format!("{APPS}/app_m/keys"));
    server.kill_and_restart();
    server.connect(&format!("?key={publishable}"));
    server.connect(&format!("?token={token}"));
    assert_eq!(server.admin().get(&format!("{APPS}/app_m")), app);
    assert_eq!(server.admin().get(&format!("{APPS}/app_m/keys")), keys);
}

#[test]
fn without_its_master_key_the_server_serves_what_needs_none() {
    let mut server = Setup::new(2).start();
    let (publishable, token) = made_key(&server);
    let master_key = server.dir().join("data/master.key");
    let good = std::fs::read(&master_key).unwrap();
    let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    for damage in [Some(wrong), Some("no key"), None] {
        match damage {
            Some(content) => std::fs::write(&master_key, content).unwrap(),
            None => std::fs::remove_file(&master_key).unwrap(),
        }
        server.kill_and_restart();
        let error = server.log.find("an error", |line| {
            line.contains("\"ERROR\"").then(|| line.to_owned())
        });
        for told in [
            "master.key",
            "503",
            "copy",
            "store.data_dir",
            "A lost master key",
        ] {
            assert!(error.contains(told), "{error}");
        }
        let connect = |query: String| server.attempt(&format!("/v1{query}"), "");
        connect(format!("?token={token}")).is_error(503, "internal_error");
        connect(format!("?token={token}x")).is_error(503, "internal_error");
        assert_eq!(connect(format!("?key={publishable}")).status, 101);
        // Never replaced, and never stored beside the data that it was to protect.
        assert_eq!(std::fs::read_to_string(&master_key).ok().as_deref(), damage);
        // Declared keys have their secrets from elsewhere.
        server.peer("declared");
    }
    std::fs::write(&master_key, good).unwrap();
    server.kill_and_restart();
    server.connect(&format!("?token={token}"));
}

/// The way out that the manual names for a lost master key.
#[test]
fn a_new_store_with_the_old_ids_declared_goes_on_for_clients() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_m"}));
    let make = |kind: &str| {
        let body = json!({"type": kind, "channelPatterns": ["**"], "actions": ALL_ACTIONS});
        admin.create(&format!("{APPS}/app_m/keys"), &body)
    };
    let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    let (publishable, secret) = (text(&make("publishable"), "keyId"), make("secret"));
    let files = "signing_secret_file = \"m.signing\"\napi_secret_file = \"m.api\"\n";
    let keys = [
        key(&publishable, &["**"], ALL_ACTIONS),
        key(&text(&secret, "keyId"), &["**"], ALL_ACTIONS) + files,
    ];
    let setup = server.into_setup();
    std::fs::remove_file(setup.dir().join("data/master.key")).unwrap();
    let server = setup
        .set("store.data_dir", r#""new""#)
        .write("m.signing", &text(&secret, "signingSecret"))
        .write("m.api", &text(&secret, "apiSecret"))
        .app("app_m", &keys)
        .start();
    server.connect(&format!("?key={publishable}"));
    let rest = Api {
        address: server.public,
        bearer: text(&secret, "apiSecret"),
    };
    let token = rest.done(200, "POST", "/v1/tokens", Some(&json!({"peerId": "a"})));
    server.connect(&format!("?token={}", text(&token, "token")));
}

/// Every path of the manual is served, and nothing is asked of it that changes anything.
#[test]
fn every_path_of_the_manual_is_there() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let manual = include_str!("../../src/docs/admin-api.md");
    let rows = manual.lines().filter_map(|line| {
        let (method, path) = line
            .strip_prefix("| `")?
            .split_once('`')?
            .0
            .split_once(' ')?;
        Some((method, path))
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 26, "{rows:?}");
    for (method, path) in rows {
        let path = path
            .replace("{appId}", "app_a")
            .replace("{keyId}", "sk_id_a")
            .replace("{channel}", "nobody-is-there")
            .replace("{connection}", "0.9.9")
            .replace("{peer}", "alice");
        // What changes something is sent no object, or is for what the configuration declares.
        let body = (method == "POST" || method == "PATCH").then(|| json!([]));
        let answer = admin.call(method, &path, body.as_ref());
        let expected = match method {
            "GET" if path.contains("nobody-is-there") => 404,
            // No app has a feed unless it says so.
            "GET" if path.ends_with("/feed") => 409,
            "GET" => 200,
            "DELETE" if path.contains("/history?") => 404,
            "DELETE" if path.contains("/peer?") || path.contains("/connection?") => 200,
            // Its caller has none to end.
            "DELETE" if path.ends_with("/session") => 200,
            "DELETE" => 409,
            _ => 400,
        };
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
    }
}
