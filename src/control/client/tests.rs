//! The operators' client against a running admin API.

use serde_json::json;

use super::*;
use crate::control::record::{AppStatus, DirectScope, KeyType};
use crate::control::secret::SecretText;
use crate::control::testing::{Server, scratch};

fn client(server: &Server) -> AdminClient {
    AdminClient::new(&format!("http://{}/", server.admin), &server.token).unwrap()
}

fn text(answer: &Value, field: &str) -> String {
    answer[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {answer}"))
        .to_owned()
}

#[test]
fn every_command_does_what_it_says() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let client = client(&server);
    let run = |command: AdminCommand| client.run(&command).unwrap();

    let changes = AppChanges {
        name: Some("Shop".into()),
        connections_max: Some(9),
        turn: Some(TurnChanges::Set {
            urls: vec!["turn:a".into()],
            secret: Some(SecretText::new("hush".into())),
            ttl_sec: None,
        }),
        ..AppChanges::default()
    };
    let app = run(AdminCommand::CreateApp(Some("shop".into()), changes));
    assert_eq!(
        (&app["appId"], &app["turn"]["ttlSec"]),
        (&json!("shop"), &json!(86_400))
    );
    assert_eq!(run(AdminCommand::ListApps), json!({"apps": [app]}));
    let changes = AppChanges {
        status: Some(AppStatus::Suspended),
        direct_scope: Some(DirectScope::SharedChannel),
        plan_name: Some("pro".into()),
        connections_max: Some(0),
        messages_max: Some(7),
        overages_allowed: Some(true),
        overages_enabled: Some(true),
        period_start_unix: Some(1),
        period_days: Some(30),
        turn: Some(TurnChanges::Remove),
        message_limits: Some((5, 6)),
        name: None,
    };
    let app = run(AdminCommand::UpdateApp("shop".into(), changes));
    assert_eq!(
        app,
        json!({
            "appId": "shop", "name": "Shop", "status": "suspended",
            "plan": {
                "name": "pro", "maxConcurrentConnections": null, "maxMessagesPerPeriod": 7,
                "overagesAllowed": true, "overagesEnabled": true,
                "periodStartUnix": 1, "periodDays": 30,
            },
            "directScope": "shared-channel", "turn": null,
            "limits": {"messageRate": 5, "messageBurst": 6}, "createdAt": app["createdAt"],
        })
    );
    assert_eq!(run(AdminCommand::ShowApp("shop".into())), app);
    assert_eq!(run(AdminCommand::ShowUsage("shop".into()))["appId"], "shop");

    let changes = KeyChanges {
        name: Some("k".into()),
        channel_patterns: Some(vec!["a/*".into()]),
        actions: Some(vec!["publish".into()]),
        allowed_origins: Some(vec!["https://a.example".into()]),
        auto_inject_turn: Some(false),
    };
    let key = run(AdminCommand::CreateKey(
        "shop".into(),
        KeyType::Publishable,
        changes,
    ));
    assert_eq!(run(AdminCommand::ShowKey(text(&key, "keyId"))), key);
    let fewer = KeyChanges {
        allowed_origins: Some(vec![]),
        ..KeyChanges::default()
    };
    let changed = run(AdminCommand::UpdateKey(text(&key, "keyId"), fewer));
    assert_eq!(
        (&changed["allowedOrigins"], &changed["name"]),
        (&json!([]), &json!("k"))
    );
    assert_eq!(run(AdminCommand::RevokeKey(text(&key, "keyId"))), changed);

    let changes = KeyChanges {
        channel_patterns: Some(vec!["**".into()]),
        actions: Some(vec!["publish".into()]),
        ..KeyChanges::default()
    };
    let key = run(AdminCommand::CreateKey(
        "shop".into(),
        KeyType::Secret,
        changes,
    ));
    for grace in [None, Some(60)] {
        let rotated = run(AdminCommand::RotateKey(text(&key, "keyId"), grace));
        assert_ne!(rotated["signingSecret"], key["signingSecret"]);
    }
    assert_eq!(
        run(AdminCommand::ListKeys("shop".into()))["keys"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(run(AdminCommand::Stats)["shards"][0]["connections"], 3);
    assert_eq!(run(AdminCommand::DeleteApp("shop".into())), app);
    server.running.shutdown();
}

fn check_error(result: Result<Value, ClientError>, expected: &str) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn refusals_are_one_line_with_the_servers_reason() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let show = AdminCommand::ShowApp("no/such app".into());
    check_error(
        client(&server).run(&show),
        "there is no app \"no/such app\" (HTTP 404)",
    );
    let stranger = AdminClient::new(&format!("http://{}", server.admin), "wrong").unwrap();
    check_error(
        stranger.run(&AdminCommand::ListApps),
        "RINGMESH_ADMIN_TOKEN",
    );
    let address = server.admin;
    server.running.shutdown();
    let gone = AdminClient::new(&format!("http://{address}"), "token").unwrap();
    check_error(
        gone.run(&AdminCommand::Stats),
        &format!("no answer from http://{address}: "),
    );
}

#[test]
fn a_bad_url_or_token_is_bad_usage() {
    for (url, token) in [
        ("", "t"),
        ("127.0.0.1:7464", "t"),
        ("https://127.0.0.1:7464", "t"),
        ("http://", "t"),
        ("http://a/b", "t"),
        ("http://a b", "t"),
        ("http://a", ""),
        ("http://a", "t\r\nx: y"),
    ] {
        let error = AdminClient::new(url, token).err();
        assert!(
            matches!(error, Some(ClientError::Usage(_))),
            "{url} {token}"
        );
    }
    assert!(AdminClient::new("http://[::1]:7464/", "t\n").is_ok());
}
