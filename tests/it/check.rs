//! `ringmesh check`: everything that is wrong, in one run, and nothing changed by it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::server::ringmesh;
use crate::support::setup::Setup;

fn check(directory: &Path, words: &[&str]) -> Output {
    let mut command = ringmesh();
    command.arg("check").args(words).current_dir(directory);
    command.output().unwrap()
}

/// What was found, as level, place or name of the check, and text.
fn found(directory: &Path, words: &[&str]) -> (Vec<[String; 3]>, i32) {
    let output = check(directory, &[words, &["--json"]].concat());
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.map(|finding| {
        let place = match &finding["place"] {
            Value::Null => &finding["check"],
            place => place,
        };
        [text(&finding["level"]), text(place), text(&finding["text"])]
    });
    (findings.collect(), output.status.code().unwrap())
}

#[track_caller]
fn has(findings: &[[String; 3]], level: &str, place: &str, text: &str) {
    let is_it = |finding: &&[String; 3]| {
        finding[0] == level && finding[1].contains(place) && finding[2].contains(text)
    };
    assert!(
        findings.iter().any(|it| is_it(&it)),
        "{level} {place} {text}: {findings:#?}"
    );
}

#[test]
fn a_good_configuration_is_good() {
    let setup = Setup::new(1);
    setup.config();
    fs::create_dir(setup.dir().join("data")).unwrap();
    fs::set_permissions(setup.dir().join("data"), fs::Permissions::from_mode(0o700)).unwrap();
    let (findings, code) = found(setup.dir(), &[]);
    has(&findings, "ok", "configuration", "ringmesh.toml");
    has(&findings, "ok", "data directory", "its owner's only");
    let failed = findings.iter().any(|it| it[0] == "fail");
    assert!(code == 0 && !failed, "{findings:#?}");
    // It is read as `serve` would, wherever it is.
    let path = setup.dir().join("ringmesh.toml");
    let (again, code) = found(Path::new("/"), &[path.to_str().unwrap()]);
    assert_eq!((again.len(), code), (findings.len(), 0));
    let before = fs::read_dir(setup.dir().join("data")).unwrap().count();
    assert_eq!(before, 0, "something was made");
}

#[test]
fn all_faults_are_found_in_one_run() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\n[limits]\nmessage_rat = 1\nping_after_ms = \
         30000\n  head_bytes = \"big\"\n[admin]\nlisten = \"0.0.0.0:1\"\n[store]\ndata_dir = \
         \"wide\"\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[rest]\nkeep_alive_ms = 5000\n"
    );
    fs::write(dir.path().join("ringmesh.toml"), text).unwrap();
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    fs::write(dir.path().join("key.pem"), "nothing").unwrap();
    fs::create_dir(dir.path().join("wide")).unwrap();
    fs::set_permissions(dir.path().join("wide"), fs::Permissions::from_mode(0o777)).unwrap();
    let (findings, code) = found(dir.path(), &[]);
    assert_eq!(code, 2, "{findings:#?}");
    let file = "ringmesh.toml";
    for (level, place, text) in [
        (
            "fail",
            format!("{file}:4:1"),
            "limits.message_rat: unknown key; did you mean",
        ),
        (
            "fail",
            format!("{file}:6:16"),
            "limits.head_bytes: expected",
        ),
        ("warn", format!("{file}:5"), "limits.ping_after_ms: "),
        (
            "warn",
            format!("{file}:8"),
            "admin.listen: the admin API is reached from",
        ),
        ("warn", format!("{file}:15"), "rest.keep_alive_ms: "),
        ("fail", "port".to_owned(), "another program listens there"),
        ("fail", "certificate".to_owned(), "cert.pem"),
        (
            "warn",
            "certificate".to_owned(),
            "others may read it; run chmod 600",
        ),
        (
            "fail",
            "data directory".to_owned(),
            "everybody may write there",
        ),
    ] {
        has(&findings, level, &place, text);
    }
    // For people each is a line, with its place in front.
    let output = check(dir.path(), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), findings.len(), "{text}");
    assert!(
        text.contains("fail  ./ringmesh.toml:4:1: limits.message_rat"),
        "{text}"
    );
}

#[test]
fn warnings_count_on_request() {
    let setup = Setup::new(1).set("limits.ping_after_ms", 40_000);
    let config = setup.config();
    let config = config.to_str().unwrap();
    assert_eq!(found(setup.dir(), &[config]).1, 0);
    assert_eq!(found(setup.dir(), &[config, "--strict"]).1, 2);
    let (findings, code) = found(setup.dir(), &["--config", "/nonexistent/r.toml"]);
    has(&findings, "fail", "/nonexistent/r.toml", "cannot be read");
    assert_eq!(code, 2);
    let empty = tempfile::tempdir().unwrap();
    let output = check(empty.path(), &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    if !Path::new("/etc/ringmesh/ringmesh.toml").exists() {
        assert!(
            output.status.code() == Some(2) && text.contains("ringmesh init"),
            "{text}"
        );
    }
}

#[test]
fn beside_a_running_server_it_says_what_differs() {
    let mut server = Setup::new(1).start();
    let (findings, code) = found(server.dir(), &[]);
    has(&findings, "ok", "server", "runs with these settings");
    has(&findings, "ok", "store", "a running server has it open");
    assert_eq!(code, 0, "{findings:#?}");
    server.reconfigure(|setup| setup.set("server.shards", 2).set("limits.message_rate", 9));
    let (findings, _) = found(server.dir(), &[]);
    has(
        &findings,
        "warn",
        "ringmesh.toml:",
        "server.shards: the running server has 1; restart",
    );
    let reload = "limits.message_rate: the running server has 0; run ringmesh reload";
    has(&findings, "warn", "ringmesh.toml:", reload);
    // Its own ports are no fault.
    let public = server.public;
    server.reconfigure(|setup| setup.set("server.listen", format!("[\"{public}\"]")));
    let (findings, _) = found(server.dir(), &[]);
    has(
        &findings,
        "ok",
        "port",
        "is this server's, which runs as pid",
    );
}

#[test]
fn a_store_and_its_master_key_are_looked_at_and_left_alone() {
    let mut server = Setup::new(1).start();
    server.admin().create(
        "/api/internal/v1/apps",
        &serde_json::json!({"appId": "app_m"}),
    );
    server.signal(rustix::process::Signal::TERM);
    server.exit_status();
    let dir = server.dir().to_owned();
    let store = dir.join("data/store.redb");
    let before = fs::read(&store).unwrap();
    let (findings, code) = found(&dir, &[]);
    has(&findings, "ok", "store", "1 apps and 0 keys");
    assert_eq!(code, 0, "{findings:#?}");
    let key = dir.join("data/master.key");
    fs::write(&key, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let (findings, code) = found(&dir, &[]);
    has(
        &findings,
        "fail",
        "master key",
        "not the key that this store was made with",
    );
    assert_eq!(code, 2);
    fs::write(&store, "damage").unwrap();
    let (findings, _) = found(&dir, &[]);
    has(&findings, "fail", "store", "is damaged");
    fs::write(&store, &before).unwrap();
    found(&dir, &[]);
    assert_eq!(fs::read(&store).unwrap(), before);
}
