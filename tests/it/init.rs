//! `ringmesh init`: from nothing to a server that somebody can connect to, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

fn init(directory: &Path, words: &str) -> Output {
    let mut command = ringmesh();
    let words = words.split_whitespace();
    command.arg("init").args(words).current_dir(directory);
    command.output().unwrap()
}

#[track_caller]
fn printed(directory: &Path, words: &str) -> String {
    let output = init(directory, words);
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(directory: &Path, words: &str, exit_code: i32, part: &str) {
    let output = init(directory, words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{words}: {text}");
    assert!(
        text.contains(part) && text.lines().count() == 1,
        "{words}: {text}"
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The names of all that is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn variable<'t>(text: &'t str, name: &str) -> &'t str {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn three_commands_lead_to_a_connection() {
    let setup = Setup::new(1);
    let dir = setup.dir().join("shop");
    let words = "shop --app app_shop --listen 127.0.0.1:0";
    let text = printed(setup.dir(), words);
    for part in [
        "made shop/ringmesh.toml",
        "made shop/ringmesh-data",
        "cd shop && ringmesh serve",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(mode(&dir.join("ringmesh-data")), 0o700);
    assert_eq!(variable(&text, "RINGMESH_APP_ID"), "app_shop");
    let publishable = variable(&text, "RINGMESH_KEY").to_owned();
    // `serve` finds its file, and commands find the server.
    let mut command = ringmesh();
    command
        .arg("serve")
        .env("RINGMESH_LOG__FORMAT", "json")
        .env("RINGMESH_ADMIN__LISTEN", "127.0.0.1:0")
        .env("RINGMESH_SERVER__SHARDS", "1")
        .current_dir(&dir);
    let server = Server::start(command, setup);
    server.connect(&format!("?key={publishable}"));
    let output = ringmesh()
        .args(["token", "mint", "alice"])
        .current_dir(&dir)
        .output()
        .unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    let client = server.connect(&format!("?token={}", token.trim_end()));
    assert_eq!(client.peer_id, "alice");
    // The usual port of the admin listener may be another server's here.
    let output = ringmesh()
        .arg("check")
        .env("RINGMESH_ADMIN__LISTEN", "127.0.0.1:0")
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn secrets_are_shown_once_or_written_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(dir.path(), "--env .env --json");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&answer["keys"], &answer["appId"]),
        (&Value::Null, &Value::from("app_main"))
    );
    let env = fs::read_to_string(dir.path().join(".env")).unwrap();
    assert_eq!(mode(&dir.path().join(".env")), 0o600);
    assert!(variable(&env, "RINGMESH_SECRET").starts_with("sk_secret_"));
    assert!(variable(&env, "RINGMESH_API_SECRET").starts_with("sk_live_"));
    assert!(!text.contains("sk_secret_"), "{text}");
    // The file says what is set, and shows the rest.
    let config = fs::read_to_string(dir.path().join("ringmesh.toml")).unwrap();
    assert!(
        config.contains("\ndata_dir = \"ringmesh-data\"\n"),
        "{config}"
    );
    assert!(config.contains("\n#message_rate = 100\n"), "{config}");
}

#[test]
fn nothing_that_exists_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    printed(dir.path(), "");
    let config = dir.path().join("ringmesh.toml");
    fs::write(&config, "# mine\n").unwrap();
    refused(dir.path(), "", 2, "./ringmesh.toml is there already");
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    // With --force the file is moved aside, and the store is kept.
    refused(dir.path(), "--force", 2, "give another --app");
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    printed(dir.path(), "--force --app app_b");
    let old = fs::read_to_string(dir.path().join("ringmesh.toml.old")).unwrap();
    assert_eq!(old, "# mine\n");
    assert!(
        fs::read_to_string(&config)
            .unwrap()
            .contains("ringmesh init")
    );
}

#[test]
fn secrets_take_no_files_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path(".env"), "PRECIOUS=1\n").unwrap();
    fs::create_dir(path("dir")).unwrap();
    std::os::unix::fs::symlink(".env", path("link")).unwrap();
    for (words, part) in [
        ("--env .env", "--env .env is there already"),
        ("--env dir --force", "--env dir: that is no file"),
        ("--env link --force", "--env link: that is no file"),
        ("--env ringmesh.toml", "that is a part of the server"),
        (
            "--env ringmesh-data/master.key",
            "that is a part of the server",
        ),
    ] {
        refused(dir.path(), words, 2, part);
        assert_eq!(names(dir.path()), [".env", "dir", "link"], "{words}");
    }
    // With --force both are kept.
    printed(dir.path(), "--env .env --force");
    printed(dir.path(), "--env .env --force --app app_b");
    let kept = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert_eq!(kept(".env.old"), "PRECIOUS=1\n");
    assert!(kept(".env.old.2").contains("RINGMESH_SECRET="));
}

#[test]
fn a_step_that_fails_takes_the_others_back() {
    let dir = tempfile::tempdir().unwrap();
    for (words, exit_code, part) in [
        ("--listen nowhere", 2, "server.listen"),
        ("--app a/b", 2, "--app: "),
        ("--cert c.pem", 2, "--key is missing"),
        ("--env /nonexistent/env", 1, "/nonexistent/env"),
    ] {
        refused(dir.path(), words, exit_code, part);
        assert_eq!(names(dir.path()), Vec::<String>::new(), "{words}");
    }
}

#[test]
fn a_dry_run_shows_everything_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(dir.path(), "--dry-run --listen 127.0.0.1:9");
    assert!(text.contains("\nlisten = [\"127.0.0.1:9\"]\n"), "{text}");
    let text = printed(dir.path(), "--system --dry-run");
    for part in [
        "# would make /etc/ringmesh/ringmesh.toml (mode 0640)",
        "# would make /etc/systemd/system/ringmesh.service",
        "# would make /var/lib/ringmesh (mode 0700)",
        "# would make the user ringmesh",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

/// As a package is built: below another root, without a user.
#[test]
fn a_whole_machine_is_set_up_below_another_root() {
    let dir = tempfile::tempdir().unwrap();
    let text = printed(dir.path(), "--system --root root --listen 0.0.0.0:80");
    let root = dir.path().join("root");
    assert!(text.contains("systemctl enable --now ringmesh"), "{text}");
    assert_eq!(mode(&root.join("etc/ringmesh/ringmesh.toml")), 0o640);
    assert_eq!(mode(&root.join("var/lib/ringmesh")), 0o700);
    let unit = fs::read_to_string(root.join("etc/systemd/system/ringmesh.service")).unwrap();
    let command = "ringmesh serve --config /etc/ringmesh/ringmesh.toml\n";
    assert!(unit.contains(command), "{unit}");
    assert!(root.join("var/lib/ringmesh/store.redb").exists());
}
