//! The control plane on a real store: what is acknowledged is on disk and with the shards.

use serde_json::{Value, json};

mod disk;

use super::*;
use crate::control::Object;
use crate::control::testing::{Server, options, scratch};
use crate::domain::usage::UsageDelta;

fn create(app_id: &str) -> Change {
    let mut body = Object::new();
    body.insert("appId".into(), app_id.into());
    Change::CreateApp(body)
}

fn usage_of(server: &Server) -> Value {
    server.expect(200, "GET", "/api/internal/v1/apps/a/usage", None)
}

#[test]
fn a_change_is_answered_after_the_shards_have_it_and_survives_a_restart() {
    let dir = scratch();
    let server = Server::start(dir.path());
    assert_eq!(server.first.apps().count(), 0);
    server.handle.change(create("a")).wait().unwrap();
    assert_eq!(server.shards.rights().apps().count(), 1);
    server.handle.change(create("b")).wait().unwrap();
    let versions = server.shards.versions();
    assert!(versions.is_sorted_by(|a, b| a < b) && server.first.version < versions[0]);
    server.running.shutdown();

    let server = Server::start(dir.path());
    let mut apps: Vec<_> = server.first.apps().map(|app| app.id.to_string()).collect();
    apps.sort();
    assert_eq!(apps, ["a", "b"]);
    server.running.shutdown();
}

#[test]
fn an_answer_waits_for_the_last_shard_and_reads_do_not() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let shards = Arc::clone(&server.shards);
    let held = shards.gate.blocking_lock();
    let mut pending = server.handle.change(create("a"));
    let list = server.expect(200, "GET", "/api/internal/v1/apps", None);
    assert_eq!(list, json!({"apps": []}), "not in force yet");
    assert!(
        pending.0.try_recv().is_err(),
        "answered before the shards had it"
    );
    drop(held);
    pending.wait().unwrap();
    let list = server.expect(200, "GET", "/api/internal/v1/apps", None);
    assert_eq!(list["apps"][0]["appId"], "a");
    server.running.shutdown();
}

#[test]
fn many_changes_at_once_run_one_after_another() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let pending: Vec<_> = (0..20)
        .map(|number| server.handle.change(create(&format!("a{number}"))))
        .collect();
    for answer in pending {
        answer.wait().unwrap();
    }
    assert!(server.shards.versions().is_sorted_by(|a, b| a < b));
    assert_eq!(server.shards.rights().apps().count(), 20);
    server.running.shutdown();
}

#[test]
fn usage_is_merged_written_down_at_the_end_and_read_again() {
    let dir = scratch();
    let server = Server::start(dir.path());
    server.handle.change(create("a")).wait().unwrap();
    let rights = server.shards.rights();
    let app = rights.apps().next().unwrap();
    app.gauges.connect(None).unwrap();
    let delta = UsageDelta {
        app: app.index,
        period: app.quota.period(),
        messages: 7,
        overage_messages: 0,
        overage_connections: 0,
    };
    server.handle.report_usage(vec![delta]).unwrap();
    server.running.shutdown();

    let server = Server::start(dir.path());
    let usage = usage_of(&server);
    assert_eq!(
        (&usage["messagesUsed"], &usage["peakConcurrent"]),
        (&json!(7), &json!(1))
    );
    assert_eq!(usage["concurrentNow"], 0);
    assert_eq!(usage["periodStartUnix"], 1_767_225_600);
    server.running.shutdown();
}

#[test]
fn after_the_end_everything_is_unavailable() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let handle = server.handle.clone();
    server.running.shutdown();
    assert_eq!(handle.change(create("a")).wait().unwrap_err().status(), 503);
    assert!(handle.report_usage(vec![]).is_err());
    let mut options = options(dir.path());
    options.admin = None;
    let control = ControlPlane::open(options).expect("the store is free again");
    assert_eq!(control.admin_address(), None);
}

#[test]
fn what_keeps_it_from_starting_is_one_line() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let error_of = |options| match ControlPlane::open(options) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    };
    let error = error_of(options(dir.path()));
    assert!(
        error.contains("in use by another ringmesh process"),
        "{error}"
    );

    let other = scratch();
    let mut taken = options(other.path());
    taken.admin.as_mut().unwrap().listen = server.admin;
    let error = error_of(taken);
    assert!(
        error.starts_with(&format!("admin listener {}: ", server.admin)),
        "{error}"
    );

    let mut no_token = options(other.path());
    no_token.admin.as_mut().unwrap().token_file = other.path().join("no/such/dir");
    let error = error_of(no_token);
    assert!(error.starts_with("admin token "), "{error}");
    assert!(!error.contains('\n'));
    server.running.shutdown();
}

#[test]
fn a_stored_key_without_its_app_is_damage() {
    let dir = scratch();
    let server = Server::start(dir.path());
    server.handle.change(create("a")).wait().unwrap();
    server.running.shutdown();
    let options = options(dir.path());
    let mut opened = store::open(&options.data_dir, &options.master_key_file, None).unwrap();
    let record = crate::domain::record::KeyRecord {
        key_id: "pk_live_x".into(),
        app_id: "b".into(),
        key_type: crate::domain::record::KeyType::Publishable,
        name: String::new(),
        channel_patterns: vec!["*".into()],
        actions: vec!["subscribe".into()],
        allowed_origins: vec![],
        auto_inject_turn: true,
        created_at: 0,
    };
    let row = store::row::KeyRow {
        record,
        secrets: None,
    };
    opened.store.commit(&[store::Edit::PutKey(row)]).unwrap();
    drop(opened);
    let error = ControlPlane::open(options)
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("store.redb is damaged (key pk_live_x has no app)"),
        "{error}"
    );
}
