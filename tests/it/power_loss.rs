//! A server that dies while it writes its store, at each call of the kernel that it makes for each
//! kind of change, with and without what was not yet synced: the change is whole or not there,
//! all before it are there, and the store opens.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::disk::{Death, Survives, WRITES, die};
use crate::support::lines::Lines;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup};
use crate::support::syscalls::Syscalls;
use crate::support::token::{now_sec, sign};
use crate::support::until;

const APPS: &str = "/api/internal/v1/apps";
const KEYS: &str = "/api/internal/v1/signalling/keys";
/// More than any change takes calls.
const DEATHS_MAX: usize = 60;

/// A kind of change.
struct Kind {
    /// Makes what it needs, for an app of this id. Returns what the others are told.
    prepare: fn(&Api, &str) -> Value,
    /// Method, path and body.
    change: fn(&str, &Value) -> (&'static str, String, Value),
    /// Whether it is done; fails if it is half done.
    is_done: fn(&Server, &str, &Value) -> bool,
}

fn start(setup: Setup) -> (Server, Syscalls) {
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    let syscalls = Syscalls::of(&mut command, &WRITES);
    (Server::start(command, setup), syscalls)
}

/// Waits for the death of a server. Returns what the next one is started with.
fn died(mut server: Server) -> Setup {
    let status = server.exit_status();
    assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status:?}");
    server.into_setup()
}

/// Lets a server die at each call that a change takes, and after the last.
fn at_each_call(kind: Kind) {
    let (mut server, mut syscalls) = start(Setup::new(1).no_apps());
    let mut told = Vec::new();
    let mut death = Death::Before(0);
    loop {
        let admin = server.admin();
        let app_id = format!("app_{}", told.len());
        let prepared = (kind.prepare)(&admin, &app_id);
        let (method, path, body) = (kind.change)(&app_id, &prepared);
        let data = server.dir().join("data");
        let calls = die(&syscalls, data, death, Survives::number(told.len()));
        let answer = admin.attempt(method, &path, Some(&body));
        let made = calls.load(Ordering::SeqCst);
        if let Some(answer) = &answer {
            assert!([200, 201].contains(&answer.status), "{answer:?}");
            syscalls.pass();
            server.signal(Signal::KILL);
        }
        (server, syscalls) = start(died(server));
        let done = (kind.is_done)(&server, &app_id, &prepared);
        assert!(
            done || answer.is_none(),
            "{death:?}: {app_id} was acknowledged"
        );
        told.push((app_id, prepared, done));
        death = match (death, &answer) {
            (Death::Before(at), None) => Death::Before(at + 1),
            (Death::Before(_), Some(_)) => Death::After(made - 1),
            (Death::After(_), _) => break,
        };
        assert!(told.len() < DEATHS_MAX, "{death:?}");
    }
    assert!(told.len() > 6, "{} deaths", told.len());
    assert!(told.iter().any(|(.., done)| *done) && told.iter().any(|(.., done)| !*done));
    for (app_id, prepared, done) in told {
        let is_done = (kind.is_done)(&server, &app_id, &prepared);
        assert_eq!(is_done, done, "{app_id} later");
    }
}

fn id(key: &Value) -> &str {
    key["keyId"].as_str().unwrap()
}

/// The object at this path, if there is one.
fn find(server: &Server, path: &str) -> Option<Value> {
    let response = server.admin().call("GET", path, None);
    assert!([200, 404].contains(&response.status), "{response:?}");
    (response.status == 200).then(|| response.json())
}

fn app(app_id: &str) -> Value {
    let plan = json!({"name": "big", "maxConcurrentConnections": 7});
    json!({"appId": app_id, "name": app_id, "plan": plan})
}

fn make_app(admin: &Api, app_id: &str) -> Value {
    admin.create(APPS, &app(app_id))
}

fn secret_key() -> Value {
    json!({"type": "secret", "name": "a", "channelPatterns": ["a"], "actions": ALL_ACTIONS})
}

/// An app with a secret key. Returns the key.
fn make_key(admin: &Api, app_id: &str) -> Value {
    make_app(admin, app_id);
    admin.create(&format!("{APPS}/{app_id}/keys"), &secret_key())
}

/// Whether the key's two secrets are good: both, or neither.
fn is_good(server: &Server, key: &Value) -> bool {
    let header = json!({"alg": "HS256", "kid": id(key)}).to_string();
    let claims = json!({"sub": "a", "exp": now_sec() + 600}).to_string();
    let token = sign(&header, &claims, key["signingSecret"].as_str().unwrap());
    let connects = server.attempt(&format!("/v1?token={token}"), "").status == 101;
    let rest = Api {
        address: server.public,
        bearer: key["apiSecret"].as_str().unwrap().into(),
    };
    let asks = rest.call("GET", "/v1/usage", None).status == 200;
    assert_eq!(connects, asks, "half of {}", id(key));
    asks
}

#[test]
fn an_app_is_made_or_not() {
    at_each_call(Kind {
        prepare: |_, _| Value::Null,
        change: |app_id, _| ("POST", APPS.into(), app(app_id)),
        is_done: |server, app_id, _| {
            let found = find(server, &format!("{APPS}/{app_id}"));
            if let Some(found) = &found {
                assert_eq!(found["name"], app_id);
                assert_eq!(found["plan"]["maxConcurrentConnections"], 7);
            }
            found.is_some()
        },
    });
}

#[test]
fn an_app_is_changed_or_not() {
    at_each_call(Kind {
        prepare: make_app,
        change: |app_id, _| {
            let turn = json!({"urls": ["turn:turn.example"], "secret": "of-coturn"});
            let change = json!({"status": "suspended", "name": "other", "turn": turn});
            ("PATCH", format!("{APPS}/{app_id}"), change)
        },
        is_done: |server, app_id, _| {
            let found = find(server, &format!("{APPS}/{app_id}")).unwrap();
            let done = found["status"] == "suspended";
            assert_eq!(found["name"] == "other", done, "{found}");
            assert_eq!(found["turn"].is_object(), done, "{found}");
            done
        },
    });
}

#[test]
fn an_app_goes_with_its_keys_or_stays_with_them() {
    at_each_call(Kind {
        prepare: make_key,
        change: |app_id, _| ("DELETE", format!("{APPS}/{app_id}"), json!({})),
        is_done: |server, app_id, key| {
            let gone = find(server, &format!("{APPS}/{app_id}")).is_none();
            let key_gone = find(server, &format!("{KEYS}/{}", id(key))).is_none();
            assert_eq!(key_gone, gone, "half of {app_id}");
            assert_eq!(is_good(server, key), !gone);
            gone
        },
    });
}

#[test]
fn a_key_is_made_or_not() {
    at_each_call(Kind {
        prepare: make_app,
        change: |app_id, _| ("POST", format!("{APPS}/{app_id}/keys"), secret_key()),
        is_done: |server, app_id, _| {
            let listed = find(server, &format!("{APPS}/{app_id}/keys")).unwrap();
            let keys = listed["keys"].as_array().unwrap();
            assert!(keys.len() < 2, "{listed}");
            if let Some(key) = keys.first() {
                assert_eq!(key["channelPatterns"], json!(["a"]));
                assert_eq!(key["actions"], json!(ALL_ACTIONS));
            }
            !keys.is_empty()
        },
    });
}

#[test]
fn a_key_is_changed_or_not() {
    at_each_call(Kind {
        prepare: make_key,
        change: |_, key| {
            let change = json!({"name": "b", "channelPatterns": ["b"], "actions": []});
            ("PATCH", format!("{KEYS}/{}", id(key)), change)
        },
        is_done: |server, _, key| {
            let found = find(server, &format!("{KEYS}/{}", id(key))).unwrap();
            let done = found["name"] == "b";
            assert_eq!(found["channelPatterns"] == json!(["b"]), done, "{found}");
            assert_eq!(found["actions"] == json!([]), done, "{found}");
            done
        },
    });
}

#[test]
fn a_key_is_rotated_or_not() {
    at_each_call(Kind {
        prepare: make_key,
        change: |_, key| {
            let path = format!("{KEYS}/{}/rotate", id(key));
            ("POST", path, json!({"graceSeconds": 0}))
        },
        is_done: |server, _, key| !is_good(server, key),
    });
}

#[test]
fn a_key_is_revoked_or_not() {
    at_each_call(Kind {
        prepare: make_key,
        change: |_, key| ("DELETE", format!("{KEYS}/{}", id(key)), json!({})),
        is_done: |server, _, key| {
            let gone = find(server, &format!("{KEYS}/{}", id(key))).is_none();
            assert_eq!(is_good(server, key), !gone);
            gone
        },
    });
}

/// Usage is written every 5 s and at the end: here the end comes before it.
#[test]
fn usage_is_saved_or_stays_as_it_was() {
    const MESSAGES: u64 = 57;
    const USAGE: &str = "/api/internal/v1/apps/app_a/usage";
    let (mut server, mut syscalls) = start(Setup::new(1));
    let (mut saved, mut deaths) = (0, 0);
    loop {
        let mut client = server.anonymous();
        for number in 0..MESSAGES {
            client.publish("a", json!(number));
        }
        client.close(None);
        let data = server.dir().join("data");
        let death = Death::Before(deaths);
        die(&syscalls, data, death, Survives::number(deaths));
        server.signal(Signal::TERM);
        let status = server.exit_status();
        (server, syscalls) = start(server.into_setup());
        let used = server.admin().get(USAGE)["messagesUsed"].as_u64().unwrap();
        let counted = saved + MESSAGES;
        assert!((saved..=counted).contains(&used), "{used} after {saved}");
        saved = used;
        if status.success() {
            assert_eq!(used, counted, "a server that ends in order saves all");
            break;
        }
        deaths += 1;
        assert!(deaths < DEATHS_MAX);
    }
    assert!(deaths > 6, "{deaths} deaths");
}

/// The store, the master key and the admin token are made by the first start.
#[test]
fn a_first_start_that_is_cut_short_is_begun_again() {
    let mut deaths = 0;
    loop {
        let setup = Setup::new(1);
        let mut command = ringmesh();
        command.arg("serve").arg("--config").arg(setup.config());
        let syscalls = Syscalls::of(&mut command, &WRITES);
        let data = setup.dir().join("data");
        let death = Death::Before(deaths);
        die(&syscalls, data, death, Survives::number(deaths));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Lines::of(child.stderr.take().unwrap());
        let mut ended = None;
        until("it is dead, or serves", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || log.so_far().iter().any(|it| it.contains("listening"))
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let server = setup.start();
        server.admin().create(APPS, &app("app_x"));
        server.anonymous();
        if ended.is_none() {
            break;
        }
        deaths += 1;
        assert!(deaths < DEATHS_MAX);
    }
    assert!(deaths > 6, "{deaths} deaths");
}
