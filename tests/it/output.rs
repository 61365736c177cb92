//! What commands print, and how they end: for people on terminals of any width, and for scripts.

use std::io::Read;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

fn run(server: &Server, words: &str, variables: &[(&str, &str)]) -> Output {
    let admin = server.admin();
    let mut command = ringmesh();
    command
        .args(words.split_whitespace())
        .arg("--admin-url")
        .arg(admin.address.to_string())
        .env("RINGMESH_ADMIN_TOKEN", admin.bearer)
        .env_remove("NO_COLOR")
        .env_remove("COLUMNS")
        .envs(variables.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn printed(server: &Server, words: &str, variables: &[(&str, &str)]) -> String {
    let output = run(server, words, variables);
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tables_fit_the_terminal() {
    let server = Setup::new(2).start();
    for columns in ["40", "80"] {
        for words in ["app list", "key list app_a", "stats"] {
            let text = printed(&server, words, &[("COLUMNS", columns)]);
            let most: usize = columns.parse().unwrap();
            // The first line of stats is a sentence.
            for line in text.lines().skip(usize::from(words == "stats")) {
                assert!(line.chars().count() <= most, "{words} {columns}: {line}");
            }
        }
    }
    // Without a terminal everything is whole.
    let text = printed(&server, "key list app_a", &[]);
    assert!(text.contains("publish subscribe presence send"), "{text}");
}

#[test]
fn colour_is_used_as_it_was_asked_for() {
    let server = Setup::new(1).start();
    let is_coloured = |words: &str, variables: &[(&str, &str)]| {
        printed(&server, words, variables).contains('\u{1b}')
    };
    assert!(!is_coloured("app list", &[]));
    assert!(is_coloured("app list --color always", &[("NO_COLOR", "1")]));
    assert!(is_coloured("app list", &[("CLICOLOR_FORCE", "1")]));
    assert!(!is_coloured(
        "app list --color never",
        &[("CLICOLOR_FORCE", "1")]
    ));
    assert!(!is_coloured(
        "app list",
        &[("NO_COLOR", "1"), ("TERM", "xterm")]
    ));
    // JSON has none.
    assert!(!is_coloured("app list --json --color always", &[]));
}

#[test]
fn a_reader_who_goes_is_no_failure() {
    let server = Setup::new(1).start();
    let admin = server.admin();
    let mut command = ringmesh();
    command
        .args(["stats", "--watch", "--json", "--admin-url"])
        .arg(admin.address.to_string())
        .env("RINGMESH_ADMIN_TOKEN", &admin.bearer)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0; 1];
    out.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{");
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn what_was_misspelled_is_named() {
    let server = Setup::new(1).start();
    let key = printed(&server, "key list app_a --json", &[]);
    let key: Value = serde_json::from_str(&key).unwrap();
    assert_eq!(key["keys"].as_array().unwrap().len(), 2);
    for (words, exit_code, part) in [
        ("app show app_aa", 4, "did you mean app_a?"),
        ("app shw", 2, "a similar subcommand exists: 'show'"),
        ("app list --jsn", 2, "'--json'"),
        ("app create app_a", 4, "(HTTP 409)"),
        (
            "app show",
            2,
            "there are 2 apps; name one with --app: app_a, app_b",
        ),
        (
            "app list --admin-token wrong",
            4,
            "does not accept the admin token",
        ),
        ("key rotate sk_id_a --grace 2x", 2, "--grace <DURATION>"),
    ] {
        let output = run(&server, words, &[]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{words}: {text}");
        assert!(
            text.starts_with("ringmesh: ") && text.contains(part),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn help_and_version_need_no_server() {
    let told = |words: &str| {
        let output = ringmesh().args(words.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let help = told("");
    for place in [
        "\nRun:\n",
        "\nLook:\n",
        "\nAct:\n",
        "\nSet up:\n",
        "\nExamples:\n",
    ] {
        assert!(help.contains(place), "{help}");
    }
    assert_eq!(help, told("--help"));
    let version = told("version");
    let lines: Vec<_> = version.lines().collect();
    assert_eq!(lines[0], format!("ringmesh {}", env!("CARGO_PKG_VERSION")));
    assert!(
        lines[1].starts_with("commit ") && lines[2].contains("linux"),
        "{version}"
    );
    let version: Value = serde_json::from_str(&told("version --json")).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn scripts_and_pages_are_made_from_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ringmesh().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("rotate"),
            "{shell}"
        );
    }
    let output = ringmesh().args(["man", "key", "create"]).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(
        page.contains(".TH") && page.contains("Create a key"),
        "{page}"
    );
    let dir = tempfile::tempdir().unwrap();
    let status = ringmesh().args(["man", "--dir"]).arg(dir.path()).status();
    assert!(status.unwrap().success());
    for name in ["ringmesh.1", "ringmesh-key-create.1"] {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    let output = ringmesh().args(["man", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_app_goes_by_its_id_or_its_name() {
    let server = Setup::new(1).no_apps().start();
    let admin = server.admin();
    let mut keys = Vec::new();
    for (id, name) in [
        ("app_1", "Shop"),
        ("app_2", "L\u{e4}den"),
        ("app_3", "twin"),
        ("app_4", "twin"),
    ] {
        admin.create("/api/internal/v1/apps", &json!({"appId": id, "name": name}));
        let key = json!({"type": "secret", "channelPatterns": ["**"], "actions": ["publish"]});
        let key = admin.create(&format!("/api/internal/v1/apps/{id}/keys"), &key);
        keys.push(key["keyId"].as_str().unwrap().to_owned());
    }
    for (app, key) in [
        ("app_1", &keys[0]),
        ("Shop", &keys[0]),
        ("L\u{e4}den", &keys[1]),
    ] {
        let token = printed(
            &server,
            &format!("token mint alice --app {app} --json"),
            &[],
        );
        let token: Value = serde_json::from_str(&token).unwrap();
        let token = token["token"].as_str().unwrap();
        let told = printed(&server, &format!("token check {token} --json"), &[]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["key"]["keyId"], **key, "{app}: {told}");
        let listed = printed(&server, &format!("key list {app} --json"), &[]);
        assert!(listed.contains(&**key), "{app}: {listed}");
    }
    for (words, exit_code, part) in [
        ("token mint alice", 2, " of app_1 (Shop), sk_id_"),
        (
            "token mint alice",
            2,
            "name the app with --app, or the key that signs with --key",
        ),
        (
            "app show",
            2,
            "name one with --app: app_1 (Shop), app_2 (L\u{e4}den), ",
        ),
        (
            "app show twin",
            2,
            "several apps are called \"twin\"; name one by its id: app_3, app_4",
        ),
        ("app show Shopp", 4, "there is no app \"Shopp\""),
        ("key list L\u{e4}de", 4, "did you mean L\u{e4}den?"),
        (
            "token mint alice --app Shop --key sk_id_x",
            2,
            "cannot be used with",
        ),
    ] {
        let output = run(&server, words, &[]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit_code), "{words}: {text}");
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    let shown = printed(&server, "connections --app Shop --by address --json", &[]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["addresses"], json!([]), "{shown}");
    // A name in a list stands beside its id.
    let listed = printed(&server, "app list", &[]);
    assert!(listed.contains("app_2  L\u{e4}den"), "{listed}");
}
