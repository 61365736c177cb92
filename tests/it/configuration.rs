//! `ringmesh config show` and `ringmesh reload`: what holds, where it comes from, and what a reload
//! did.

use std::process::Output;

use serde_json::{Value, json};

use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

fn run(server: &Server, words: &str) -> Output {
    let admin = server.admin();
    let mut command = ringmesh();
    command
        .args(words.split_whitespace())
        .arg("--admin-url")
        .arg(admin.address.to_string())
        .env("RINGMESH_ADMIN_TOKEN", admin.bearer);
    command.output().unwrap()
}

fn setting(server: &Server, key: &str) -> Value {
    let output = run(server, "config show --json");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = answer["settings"].as_array().unwrap();
    let mut found = settings.iter().filter(|setting| setting["key"] == key);
    let setting = found
        .next()
        .unwrap_or_else(|| panic!("no {key} in {answer}"));
    assert!(found.next().is_none(), "{key} is there twice");
    setting.clone()
}

#[test]
fn each_value_has_its_origin() {
    let setup = Setup::new(1).set("limits.message_burst", 7);
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    command.env("RINGMESH_LIMITS__MESSAGE_RATE", "5");
    let server = Server::start(command, setup);
    let expected = json!({
        "key": "limits.message_rate", "value": "5", "default": "100",
        "origin": "RINGMESH_LIMITS__MESSAGE_RATE",
    });
    assert_eq!(setting(&server, "limits.message_rate"), expected);
    let burst = setting(&server, "limits.message_burst");
    let origin = burst["origin"].as_str().unwrap();
    assert!(
        burst["value"] == "7" && origin.contains("ringmesh.toml:"),
        "{burst}"
    );
    let keep_alive = setting(&server, "rest.keep_alive_ms");
    assert_eq!(
        (&keep_alive["value"], &keep_alive["origin"]),
        (&json!("130000"), &json!("default"))
    );
    let text = String::from_utf8(run(&server, "config show --origins").stdout).unwrap();
    assert!(
        text.starts_with("KEY ") && text.contains("ORIGIN"),
        "{text}"
    );
}

#[test]
fn a_reload_says_what_it_did() {
    let mut server = Setup::new(1).start();
    let told = |server: &Server| -> (Value, i32) {
        let output = run(server, "reload --json");
        let answer = serde_json::from_slice(&output.stdout);
        let answer = answer.unwrap_or_else(|_| panic!("{output:?}"));
        (answer, output.status.code().unwrap())
    };
    let nothing = json!({"applied": [], "needsRestart": [], "errors": []});
    assert_eq!(told(&server), (nothing, 0));
    server.reconfigure(|setup| setup.set("limits.message_rate", 9).set("server.shards", 2));
    let (answer, code) = told(&server);
    assert_eq!(
        (&answer["applied"], code),
        (&json!(["limits.message_rate"]), 0),
        "{answer}"
    );
    let restart = &answer["needsRestart"][0];
    assert_eq!(restart["key"], "server.shards");
    assert!(
        restart["place"]
            .as_str()
            .unwrap()
            .contains("ringmesh.toml:"),
        "{restart}"
    );
    let app = "app_more\nfeed.presence = true";
    server.reconfigure(|setup| setup.app(app, &[]));
    let (answer, code) = told(&server);
    assert_eq!(
        (&answer["applied"], code),
        (&json!(["apps.app_more"]), 0),
        "{answer}"
    );
    // What holds is shown, not what stands in the file.
    assert_eq!(setting(&server, "server.shards")["value"], "1");
    assert_eq!(setting(&server, "limits.message_rate")["value"], "9");
    server.reconfigure(|setup| setup.set("limits.message_rate", "\"many\""));
    let (answer, code) = told(&server);
    let error = answer["errors"][0].as_str().unwrap();
    assert!(
        code == 1 && error.contains("limits.message_rate"),
        "{answer}"
    );
    let text = String::from_utf8(run(&server, "reload").stdout).unwrap();
    assert!(
        text.starts_with("not taken  nothing was reloaded"),
        "{text}"
    );
    assert_eq!(setting(&server, "limits.message_rate")["value"], "9");
}
