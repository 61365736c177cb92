//! What channels keep, as a backend reads it; and what of another app or another time it is told.

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::server::Server;
use crate::support::setup::{Setup, signer};
use crate::support::token::token;

const API_SECRET: &str = "api_secret_file = \"api.secret\"\n";

fn server(shards: u16) -> Server {
    let rule = "history = [{ pattern = \"room/*\", messages = 100 }]\n";
    Setup::new(shards)
        .app(&format!("app_h\n{rule}"), &[signer("sk_id_h") + API_SECRET])
        .app(&format!("app_i\n{rule}"), &[signer("sk_id_i")])
        .start()
}

fn backend(server: &Server, key_id: &str) -> Api {
    Api {
        address: server.public,
        bearer: format!("{key_id}:{}", crate::support::token::SECRET),
    }
}

#[test]
fn a_backend_reads_what_was_published_and_forgets_it() {
    for shards in [1, 2, 4] {
        let server = server(shards);
        let api = backend(&server, "sk_id_h");
        let credential = format!("?token={}", token("sk_id_h", json!({"sub": "alice"})));
        let mut alice = server.connect(&credential);
        alice.publish("room/1", json!({"text": "hi"}));
        let body = json!({"data": 2, "id": "m"});
        let published = api
            .call("POST", "/v1/channels/room/1/publish", Some(&body))
            .json();
        assert_eq!(published["seq"], 2, "{published}");
        let again = api
            .call("POST", "/v1/channels/room/1/publish", Some(&body))
            .json();
        assert_eq!(
            (&again["seq"], &again["duplicate"]),
            (&json!(2), &json!(true))
        );

        let page = api.get("/v1/channels/room/1/history");
        let texts: Vec<&Value> = page["messages"].as_array().unwrap().iter().collect();
        assert_eq!(texts.len(), 2, "{page}");
        assert_eq!(
            (&texts[0]["from"], &texts[0]["data"]),
            (&json!("alice"), &json!({"text": "hi"}))
        );
        assert_eq!(page["epoch"], published["epoch"]);

        // The same name in another app is another channel, and its positions are none here.
        let other = backend(&server, "sk_id_i");
        let theirs = other
            .call("POST", "/v1/channels/room/1/publish", Some(&body))
            .json();
        assert_eq!(theirs["seq"], 1, "{theirs}");
        let since = format!("{}:1", theirs["epoch"].as_str().unwrap());
        let lost = api.call(
            "GET",
            &format!("/v1/channels/room/1/history?since={since}"),
            None,
        );
        lost.is_error(410, "history_lost");

        let forgotten = api
            .call("DELETE", "/v1/channels/room/1/history", None)
            .json();
        assert_eq!(forgotten, json!({"channel": "room/1", "deleted": 2}));
        assert_eq!(
            api.get("/v1/channels/room/1/history")["messages"],
            json!([])
        );
        let kept = other.get("/v1/channels/room/1/history");
        assert_eq!(kept["messages"].as_array().unwrap().len(), 1, "{kept}");
    }
}

#[test]
fn what_is_kept_is_counted() {
    let server = server(1);
    let api = backend(&server, "sk_id_h");
    let body = json!({"data": "x".repeat(1_000), "id": "m"});
    for _ in 0..2 {
        api.call("POST", "/v1/channels/room/1/publish", Some(&body));
    }
    let page = server.admin().call("GET", "/metrics", None).body;
    let value = |name: &str| -> f64 {
        let name = format!("ringmesh_{name}{{shard=\"0\"}} ");
        let mut lines = page.lines();
        let found = lines.find_map(|line| line.strip_prefix(&name));
        found
            .unwrap_or_else(|| panic!("{name}: {page}"))
            .parse()
            .unwrap()
    };
    assert_eq!(value("history_channels"), 1.0);
    assert!((1_000.0..100_000.0).contains(&value("history_bytes")));
    assert_eq!(value("history_duplicates_total"), 1.0);
    assert_eq!(value("history_evicted_total"), 0.0);
}
