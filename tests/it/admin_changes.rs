//! Apps and keys change under live connections: each change holds when it is answered.

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::client::{self, Client};
use crate::support::on_shards;
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup};
use crate::support::token::{now_sec, sign};

const APPS: &str = "/api/internal/v1/apps";
const KEYS: &str = "/api/internal/v1/signalling/keys";

/// An app with a key of each type, made through the API.
struct Made {
    admin: Api,
    publishable: String,
    secret: Value,
}

fn make(server: &Server) -> Made {
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_m", "name": "made"}));
    let body =
        |kind: &str| json!({"type": kind, "channelPatterns": ["**"], "actions": ALL_ACTIONS});
    let keys = format!("{APPS}/app_m/keys");
    let publishable = admin.create(&keys, &body("publishable"));
    let secret = admin.create(&keys, &body("secret"));
    Made {
        admin,
        publishable: publishable["keyId"].as_str().unwrap().into(),
        secret,
    }
}

/// A token of these claims, signed with the secret in this answer.
fn token(key: &Value, mut claims: Value) -> String {
    claims["exp"] = json!(now_sec() + 3_600);
    let header = json!({"alg": "HS256", "kid": key["keyId"]}).to_string();
    sign(
        &header,
        &claims.to_string(),
        key["signingSecret"].as_str().unwrap(),
    )
}

impl Made {
    fn anonymous(&self, server: &Server) -> Client {
        server.connect(&format!("?key={}", self.publishable))
    }

    fn peer(&self, server: &Server, claims: Value) -> Client {
        server.connect(&format!("?token={}", token(&self.secret, claims)))
    }

    fn key_path(&self) -> String {
        format!("{KEYS}/{}", self.secret["keyId"].as_str().unwrap())
    }
}

#[test]
fn a_new_key_is_good_on_every_shard_at_once() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        for _ in 0..2 * shards {
            made.anonymous(&server);
            made.peer(&server, json!({"sub": "a"}));
        }
        let id = &made.publishable;
        assert!(id.starts_with("pk_live_"), "{id}");
        for (field, prefix) in [
            ("keyId", "sk_id_"),
            ("signingSecret", "sk_secret_"),
            ("apiSecret", "sk_live_"),
        ] {
            assert!(
                made.secret[field].as_str().unwrap().starts_with(prefix),
                "{field}"
            );
        }
        // Secrets are shown once.
        let listed = made.admin.get(&format!("{APPS}/app_m/keys"));
        assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
        for shown in [
            &listed.to_string(),
            &made.admin.get(&made.key_path()).to_string(),
        ] {
            assert!(shown.contains("sk_id_"), "{shown}");
            assert!(
                !shown.contains("sk_secret_") && !shown.contains("sk_live_"),
                "{shown}"
            );
        }
    });
}

#[test]
fn revoking_a_key_closes_what_was_made_with_it() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        let mut with_token: Vec<Client> = (0..6)
            .map(|number| made.peer(&server, json!({"sub": format!("p{number}")})))
            .collect();
        let mut with_key = made.anonymous(&server);
        with_key.subscribe_for_presence("a");
        with_token[0].subscribe("a");
        assert_eq!(with_key.presence("a").0, ["p0"]);
        // The snapshot of its own subscribe: an end does not wait for it.
        assert!(with_token[0].next().contains("presence"));
        let revoked = made.admin.delete(&made.key_path());
        assert_eq!(revoked["keyId"], made.secret["keyId"]);
        for client in &mut with_token {
            client.expect_close(4001);
        }
        assert_eq!(with_key.presence("a").1, ["p0"]);
        let target = format!("/v1?token={}", token(&made.secret, json!({"sub": "a"})));
        for _ in 0..2 * shards {
            server.attempt(&target, "").is_error(401, "unauthorized");
        }
        made.admin
            .call("GET", &made.key_path(), None)
            .is_error(404, "not_found");
        with_key.expect_nothing_queued();
    });
}

#[test]
fn suspending_an_app_closes_its_connections_until_it_is_active_again() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        let app = format!("{APPS}/app_m");
        let mut clients: Vec<Client> = (0..6).map(|_| made.anonymous(&server)).collect();
        let mut other_app = server.anonymous();
        made.admin.patch(&app, &json!({"status": "suspended"}));
        clients
            .iter_mut()
            .for_each(|client| drop(client.expect_close(4012)));
        let query = format!("?key={}", made.publishable);
        for _ in 0..2 * shards {
            let mut refused = client::upgrade(server.public, &query, &[]);
            client::expect_close(&mut refused, 4012, "a suspended app's");
        }
        other_app.expect_nothing_queued();
        assert_eq!(
            made.admin.patch(&app, &json!({"status": "active"}))["status"],
            "active"
        );
        for _ in 0..2 * shards {
            made.anonymous(&server).expect_nothing_queued();
        }
    });
}

#[test]
fn changed_patterns_and_actions_hold_for_the_next_command() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        let permissions = json!(["publish", "subscribe", "send"]);
        let claims = |id: &str| {
            let channels = ["room-*", "chat"];
            json!({"sub": id, "channels": channels, "permissions": permissions})
        };
        let mut clients: Vec<Client> = (0..4)
            .map(|number| made.peer(&server, claims(&format!("p{number}"))))
            .collect();
        clients
            .iter_mut()
            .for_each(|client| client.subscribe("room-1"));
        let narrowed =
            json!({"channelPatterns": ["chat", "other"], "actions": ["publish", "subscribe"]});
        made.admin.patch(&made.key_path(), &narrowed);
        for client in &mut clients {
            let subscribe = |channel: &str| json!({"type": "subscribe", "channel": channel});
            client.ask_refused(subscribe("room-2"), "channel_not_authorized");
            // What the key allows now is not more than what the token asked for.
            client.ask_refused(subscribe("other"), "channel_not_authorized");
            let send = json!({"type": "send", "to": "p0", "data": 1});
            client.ask_refused(send, "action_not_permitted");
            let publish = json!({"type": "publish", "channel": "room-1", "data": 1});
            client.ask_refused(publish, "channel_not_authorized");
        }
        // What is subscribed stays.
        let widened = json!({"channelPatterns": ["**"], "actions": ALL_ACTIONS});
        made.admin.patch(&made.key_path(), &widened);
        clients[0].publish("room-1", json!("still here"));
        for client in &mut clients[1..] {
            assert!(client.next().contains("still here"));
        }
    });
}

#[test]
fn deleting_an_app_ends_its_keys_and_connections() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        let mut clients = [
            made.anonymous(&server),
            made.peer(&server, json!({"sub": "a"})),
        ];
        made.admin.delete(&format!("{APPS}/app_m"));
        clients
            .iter_mut()
            .for_each(|client| drop(client.expect_close(4001)));
        server
            .attempt(&format!("/v1?key={}", made.publishable), "")
            .is_error(401, "unauthorized");
        for path in [
            &format!("{APPS}/app_m"),
            &format!("{APPS}/app_m/keys"),
            &made.key_path(),
        ] {
            made.admin
                .call("GET", path, None)
                .is_error(404, "not_found");
        }
        // Its id is free, and nothing of the old one comes back.
        let again = make(&server);
        assert_ne!(again.publishable, made.publishable);
        server
            .attempt(&format!("/v1?key={}", made.publishable), "")
            .is_error(401, "unauthorized");
    });
}

#[test]
fn a_rotated_secret_is_good_through_its_grace() {
    on_shards(|shards| {
        let server = Setup::new(shards).start();
        let made = make(&server);
        let mut live = made.peer(&server, json!({"sub": "live"}));
        let rotate = format!("{}/rotate", made.key_path());
        let connects = |key: &Value| {
            let target = format!("/v1?token={}", token(key, json!({"sub": "a"})));
            server.attempt(&target, "").status == 101
        };
        let rotated = |body: Value| {
            let mut answer = made.admin.done(200, "POST", &rotate, Some(&body));
            answer["keyId"] = made.secret["keyId"].clone();
            answer
        };
        let second = rotated(json!({"graceSeconds": 3_600}));
        assert_ne!(second["signingSecret"], made.secret["signingSecret"]);
        assert_eq!(second["droppedPrevious"], false);
        assert!(connects(&made.secret) && connects(&second));
        // A second rotation within the window keeps the newest previous one only.
        let third = rotated(json!({}));
        assert_eq!(third["droppedPrevious"], true);
        assert!(!connects(&made.secret) && connects(&second) && connects(&third));
        let fourth = rotated(json!({"graceSeconds": 0}));
        assert!(!connects(&second) && !connects(&third) && connects(&fourth));
        live.expect_nothing_queued();
    });
}

#[test]
fn what_the_configuration_declares_is_not_the_apis_to_change() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    for (method, path, body) in [
        ("PATCH", format!("{APPS}/app_a"), Some(json!({"name": "x"}))),
        ("DELETE", format!("{APPS}/app_a"), None),
        ("DELETE", format!("{KEYS}/pk_live_a"), None),
        ("POST", format!("{KEYS}/sk_id_a/rotate"), Some(json!({}))),
        (
            "POST",
            format!("{APPS}/app_a/keys"),
            Some(json!({"type": "publishable",
            "channelPatterns": ["**"], "actions": ["publish"]})),
        ),
    ] {
        let response = admin.call(method, &path, body.as_ref());
        response.is_error(409, "conflict");
        assert!(
            response.body.contains("ringmesh.toml"),
            "{method} {path}: {response:?}"
        );
    }
    server.anonymous();
}

/// An app with history, and its backend.
fn make_with_history(server: &Server, store: &str) -> Api {
    let admin = server.admin();
    let history = json!([{"pattern": "**", "store": store}]);
    admin.create(APPS, &json!({"appId": "app_m", "history": history}));
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": ALL_ACTIONS});
    let secret = admin.create(&format!("{APPS}/app_m/keys"), &body);
    Api {
        address: server.public,
        bearer: secret["apiSecret"].as_str().unwrap().into(),
    }
}

#[test]
fn an_app_that_is_made_again_reads_nothing_of_the_deleted_one() {
    let publish = |backend: &Api, data: &str| {
        let path = "/v1/channels/desk/publish";
        backend.done(200, "POST", path, Some(&json!({ "data": data })))
    };
    let texts = |backend: &Api| {
        let page = backend.get("/v1/channels/desk/history");
        let messages = page["messages"].as_array().unwrap().iter();
        messages.map(|it| it["data"].clone()).collect::<Vec<_>>()
    };
    for store in ["memory", "disk"] {
        let mut server = Setup::new(2).set("history.ack", r#""stored""#).start();
        let backend = make_with_history(&server, store);
        let theirs = publish(&backend, "theirs");
        assert_eq!(texts(&backend), ["theirs"]);
        server.admin().delete(&format!("{APPS}/app_m"));
        let backend = make_with_history(&server, store);
        assert_eq!(texts(&backend), [] as [Value; 0]);
        let ours = publish(&backend, "ours");
        assert!(
            ours["seq"] == 1 && ours["epoch"] != theirs["epoch"],
            "{ours}"
        );
        assert_eq!(texts(&backend), ["ours"]);
        server.kill_and_restart();
        let kept = match store {
            "disk" => vec!["ours"],
            _ => vec![],
        };
        assert_eq!(texts(&backend), kept);
    }
}
