//! `ringmesh backup` of a running server, and `ringmesh restore`: what is in the copy, who gets
//! one, and what is refused with nothing changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;
use crate::support::until;

const BASE: &str = "/api/internal/v1";

fn run(directory: &Path, words: &[&str]) -> Output {
    let mut command = ringmesh();
    command.args(words).current_dir(directory).output().unwrap()
}

/// Runs `ringmesh` with these words for the server.
fn run_for(server: &Server, words: &[&str]) -> Output {
    let admin = server.admin();
    let mut command = ringmesh();
    let url = format!("http://{}", admin.address);
    let command = command.args(words).args(["--admin-url", &url]);
    let command = command.env("RINGMESH_ADMIN_TOKEN", admin.bearer);
    command.current_dir(server.dir()).output().unwrap()
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn refused(output: &Output, part: &str) {
    refused_with(1, output, part);
}

#[track_caller]
fn refused_with(exit_code: i32, output: &Output, part: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{output:?}");
    assert!(text.contains(part) && text.lines().count() == 1, "{text}");
}

/// A server with an app and a key in its store, and the key.
fn with_a_key() -> (Server, String) {
    let server = Setup::new(2).start();
    let admin = server.admin();
    admin.create(&format!("{BASE}/apps"), &json!({"appId": "app_x"}));
    let body = json!({"type": "publishable", "channelPatterns": ["**"], "actions": ["publish"]});
    let made = admin.create(&format!("{BASE}/apps/app_x/keys"), &body);
    let key = made["keyId"].as_str().unwrap().to_owned();
    (server, key)
}

#[test]
fn a_restored_copy_takes_the_place_of_the_lost_one() {
    let (mut server, key) = with_a_key();
    server.connect(&format!("?key={key}"));
    let taken = good(&run_for(&server, &["backup", "copy", "--with-master-key"]));
    assert!(taken.contains("1 apps and 1 keys"), "{taken}");
    for file in ["copy", "copy.master-key"] {
        let mode = fs::metadata(server.dir().join(file)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{file}");
    }
    let checked = good(&run(server.dir(), &["restore", "copy", "--check"]));
    assert_eq!(checked, taken);
    // Never where a server runs.
    let data = server.dir().join("data");
    let words = [
        "restore",
        "copy",
        "--force",
        "--data-dir",
        data.to_str().unwrap(),
    ];
    refused(&run(server.dir(), &words), "a server runs with");

    server.signal(rustix::process::Signal::TERM);
    assert!(server.exit_status().success());
    let setup = server.into_setup();
    fs::rename(&data, setup.dir().join("lost")).unwrap();
    let words = ["restore", "copy", "--data-dir", data.to_str().unwrap()];
    let with_key = [&words[..], &["--with-master-key", "copy.master-key"]].concat();
    good(&run(setup.dir(), &with_key));
    refused(&run(setup.dir(), &words), "there is a store already");
    let server = setup.start();
    server.connect(&format!("?key={key}"));
    assert!(data.join("master.key").exists());
}

#[test]
fn a_copy_is_whole_or_not_there() {
    let (server, _) = with_a_key();
    good(&run_for(&server, &["backup", "copy"]));
    let whole = fs::read(server.dir().join("copy")).unwrap();
    refused_with(
        2,
        &run_for(&server, &["backup", "copy"]),
        "is there already",
    );
    let nowhere = run_for(&server, &["backup", "no/such/copy"]);
    refused(&nowhere, "No such file");
    for (content, part) in [
        (&whole[..whole.len() / 2], "ends before its manifest"),
        (&b"something else"[..], "no backup of ringmesh"),
    ] {
        fs::write(server.dir().join("bad"), content).unwrap();
        refused(&run(server.dir(), &["restore", "bad", "--check"]), part);
        refused(
            &run(server.dir(), &["restore", "bad", "--data-dir", "new"]),
            part,
        );
        assert!(!server.dir().join("new").exists());
    }
    let other = server.dir().join("other.key");
    fs::write(&other, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n").unwrap();
    let words = [
        "restore",
        "copy",
        "--data-dir",
        "new",
        "--with-master-key",
        "other.key",
    ];
    refused(
        &run(server.dir(), &words),
        "not the key that this store was made with",
    );
    assert!(!server.dir().join("new").exists());
}

#[test]
fn only_operators_get_one_and_it_is_an_event() {
    let (server, _) = with_a_key();
    let mut admin = server.admin();
    let path = format!("{BASE}/backup");
    let answer = admin.call("GET", &path, None);
    assert_eq!(answer.status, 200);
    until("the event of the backup", || {
        let events = admin.get(&format!("{BASE}/events?kind=admin"));
        let events = events["events"].as_array().unwrap();
        events.iter().any(|event| event["cause"] == "backup")
    });
    admin.bearer = "wrong".into();
    assert_eq!(admin.call("GET", &path, None).status, 401);
}
