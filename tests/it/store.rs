//! The store under a server at work: disks that fail, locks that last, declarations that clash.

use std::fs::File;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal};
use serde_json::json;

use crate::support::admin::Api;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::{ALL_ACTIONS, Setup, key};
use crate::support::until;

const APPS: &str = "/api/internal/v1/apps";

/// The largest file that the server may write, in bytes; `None`: any.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    rustix::process::prlimit(Some(server.pid()), Resource::Fsize, limit).unwrap();
}

#[test]
fn a_write_that_fails_is_told_and_passes_without_a_restart() {
    let server = Setup::new(2).start();
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_x"}));
    let body = json!({"type": "publishable", "channelPatterns": ["**"], "actions": ["publish"]});
    let keys = format!("{APPS}/app_x/keys");
    let made = admin.create(&keys, &body)["keyId"]
        .as_str()
        .unwrap()
        .to_owned();
    let leaked = format!("/api/internal/v1/signalling/keys/{made}");
    let mut client = server.connect(&format!("?key={made}"));

    limit_files(&server, Some(0));
    for _ in 0..2 {
        let refused = admin.call("DELETE", &leaked, None);
        assert_eq!(refused.status, 503, "{refused:?}");
        let text = refused.json()["message"].as_str().unwrap().to_owned();
        for part in [
            "store.redb",
            "raise the file size limit",
            "no restart is needed",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!(admin.call("GET", "/readyz", None).status, 503);
    assert_eq!(admin.call("GET", "/healthz", None).status, 200);
    client.publish("a", json!("messages go on"));

    limit_files(&server, None);
    until("the node is ready again by itself", || {
        admin.call("GET", "/readyz", None).status == 200
    });
    admin.delete(&leaked);
    client.expect_close(4001);
    let server = server.into_setup().start();
    assert_eq!(server.admin().get(&keys), json!({"keys": []}));
}

#[test]
fn a_lock_that_goes_in_a_moment_is_waited_for() {
    let setup = Setup::new(1);
    let data = setup.dir().join("data");
    std::fs::create_dir(&data).unwrap();
    let lock = File::open(&data).unwrap();
    lock.lock().unwrap();
    // A predecessor whose memory the kernel is still taking down.
    let unlocking = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(lock);
    });
    setup.start().anonymous();
    unlocking.join().unwrap();
}

#[test]
fn an_app_that_is_stored_and_declared_is_refused_with_the_way_out_by_reload_and_start() {
    let mut server = Setup::new(1).start();
    server.admin().create(APPS, &json!({"appId": "app_x"}));
    server.reconfigure(|setup| setup.app("app_x", &[key("pk_live_x", &["*"], ALL_ACTIONS)]));
    let says = |line: &str| {
        [
            "app_x",
            " is declared in ",
            "in the store as well",
            "no server starts or reloads with both",
            "ringmesh app delete",
        ]
        .iter()
        .all(|part| line.contains(part))
    };
    server.signal(Signal::HUP);
    server
        .log
        .find("why nothing was reloaded", |line| says(line).then_some(()));
    server.anonymous();

    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    let setup = server.into_setup();
    let mut serve = ringmesh();
    serve.arg("serve").arg("--config").arg(setup.config());
    let output = serve.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.lines().any(says), "{errors}");

    // The way out that it tells.
    let mut server = setup.no_apps().start();
    server.admin().delete(&format!("{APPS}/app_x"));
    server.reconfigure(|setup| setup.app("app_x", &[key("pk_live_x", &["*"], ALL_ACTIONS)]));
    server.signal(Signal::HUP);
    until("it is declared", || {
        server.attempt("/v1?key=pk_live_x", "").status == 101
    });
}

#[test]
fn the_admin_token_is_in_the_data_directory_and_one_beside_the_configuration_goes_on() {
    let server = Setup::new(1).start();
    assert!(server.dir().join("data/admin.token").exists());
    assert!(!server.dir().join("admin.token").exists());

    const OLD: &str = "adm_of_an_earlier_version_0123456789";
    let server = Setup::new(1).write("admin.token", OLD).start();
    assert!(!server.dir().join("data/admin.token").exists());
    server.log.find("the warning", |line| {
        line.contains("move it to").then_some(())
    });
    let admin = Api {
        address: server.admin_address(),
        bearer: OLD.into(),
    };
    admin.get(APPS);
}

#[test]
fn a_key_without_actions_kicks_and_reads_usage_and_no_more() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    admin.create(APPS, &json!({"appId": "app_x"}));
    let keys = format!("{APPS}/app_x/keys");
    let body = json!({"type": "publishable", "channelPatterns": ["**"], "actions": ["subscribe"]});
    let public = admin.create(&keys, &body);
    let mut client = server.connect(&format!("?key={}", public["keyId"].as_str().unwrap()));
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": []});
    let rest = Api {
        address: server.public,
        bearer: admin.create(&keys, &body)["apiSecret"]
            .as_str()
            .unwrap()
            .into(),
    };
    assert_eq!(rest.get("/v1/usage")["concurrentNow"], 1);
    let publish = rest.call("POST", "/v1/channels/a/publish", Some(&json!({"data": 1})));
    assert_eq!(publish.status, 403, "{publish:?}");
    assert_eq!(rest.call("GET", "/v1/channels/a/peers", None).status, 403);
    let kicked = rest.delete(&format!("/v1/peers/{}", client.peer_id));
    assert_eq!(kicked["closed"], 1);
    client.expect_close(4020);
}

#[test]
fn places_of_the_admin_listener_are_not_shut_by_the_idle() {
    let server = Setup::new(1).start();
    // Idle connections end after a while: a machine that is too busy has another try.
    until("an answer while they are there", || {
        let idle: Vec<_> = (0..140)
            .map(|_| TcpStream::connect(server.admin_address()).unwrap())
            .collect();
        assert_eq!(server.admin().call("GET", "/readyz", None).status, 200);
        let newest = idle.last().unwrap();
        newest.set_nonblocking(true).unwrap();
        let read = newest.peek(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
}
