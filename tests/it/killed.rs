//! kill -9 in the middle of a thousand key changes: every acknowledged one is there after the
//! restart, and no half one.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::setup::Setup;
use crate::support::token::{now_sec, sign};

const KEYS: &str = "/api/internal/v1/apps/app_m/keys";
const WRITERS: usize = 4;
/// Changes of each writer, if nobody kills the server.
const CHANGES: usize = 250;
/// Acknowledged changes after which it is killed.
const KILLED_AFTER: usize = 400;

/// What one writer was told before the connection broke.
#[derive(Default)]
struct Acknowledged {
    /// Keys made, as answered.
    made: Vec<Value>,
    /// Keys revoked, and the one that was being revoked at the end.
    revoked: Vec<String>,
    /// For the writer's own key: the number of its last change.
    changes: usize,
}

/// The object in a good answer, or nothing when the server is gone.
fn change(admin: &Api, method: &str, path: &str, body: &Value) -> Option<Value> {
    let response = admin.attempt(method, path, Some(body))?;
    assert!([200, 201].contains(&response.status), "{response:?}");
    Some(response.json())
}

/// Changes a key of its own again and again; every tenth time makes another, or revokes one.
fn write(admin: &Api, own: &str, count: &AtomicUsize) -> Acknowledged {
    let own = format!("/api/internal/v1/signalling/keys/{own}");
    let secret_key = json!({"type": "secret", "channelPatterns": ["**"], "actions": ["publish"]});
    let mut done = Acknowledged::default();
    for number in 1..=CHANGES {
        // Two fields that must never be seen apart.
        let patch = json!({"name": number.to_string(), "channelPatterns": [number.to_string()]});
        let Some(_) = change(admin, "PATCH", &own, &patch) else {
            break;
        };
        done.changes = number;
        count.fetch_add(1, Ordering::Relaxed);
        if number % 10 == 0 {
            let Some(key) = change(admin, "POST", KEYS, &secret_key) else {
                break;
            };
            done.made.push(key);
        }
        if number % 40 == 0 {
            let key_id = done.made.remove(0)["keyId"].as_str().unwrap().to_owned();
            let path = format!("/api/internal/v1/signalling/keys/{key_id}");
            done.revoked.push(key_id);
            if change(admin, "DELETE", &path, &json!({})).is_none() {
                // Whether it still is there is open.
                done.revoked.pop();
                break;
            }
        }
    }
    done
}

#[test]
fn every_acknowledged_change_is_there_and_no_half_one() {
    let mut server = Setup::new(2).start();
    let admin = server.admin();
    admin.create("/api/internal/v1/apps", &json!({"appId": "app_m"}));
    let key = json!({"type": "publishable", "name": "0", "channelPatterns": ["0"],
                     "actions": ["publish"]});
    let own: Vec<String> = (0..WRITERS)
        .map(|_| admin.create(KEYS, &key)["keyId"].as_str().unwrap().into())
        .collect();
    let count = AtomicUsize::new(0);
    let told: Vec<Acknowledged> = std::thread::scope(|scope| {
        let (admin, count) = (&admin, &count);
        let writers: Vec<_> = own
            .iter()
            .map(|own| scope.spawn(move || write(admin, own, count)))
            .collect();
        while count.load(Ordering::Relaxed) < KILLED_AFTER {
            std::thread::yield_now();
        }
        server.kill_and_restart();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let listed = server.admin().get(KEYS);
    let listed = listed["keys"].as_array().unwrap();
    let find = |id: &str| listed.iter().find(|key| key["keyId"] == id);
    for (own, told) in own.iter().zip(&told) {
        let key = find(own).unwrap();
        let number: usize = key["name"].as_str().unwrap().parse().unwrap();
        assert_eq!(
            key["channelPatterns"],
            json!([key["name"]]),
            "half a change"
        );
        let last = told.changes;
        assert!(
            (last..=last + 1).contains(&number),
            "{number} after {last} were acknowledged"
        );
        for revoked in &told.revoked {
            assert!(find(revoked).is_none(), "{revoked} is back");
        }
        for made in &told.made {
            let id = made["keyId"].as_str().unwrap();
            assert!(find(id).is_some(), "{id} is lost");
            let header = json!({"alg": "HS256", "kid": id}).to_string();
            let claims = json!({"sub": "a", "exp": now_sec() + 600}).to_string();
            let token = sign(&header, &claims, made["signingSecret"].as_str().unwrap());
            server.connect(&format!("?token={token}"));
        }
    }
    let made: usize = told.iter().map(|told| told.made.len()).sum();
    assert!(
        made > 0 && told.iter().any(|told| told.changes < CHANGES),
        "killed too late"
    );
}
