//! How commands find their server: beside a running one nothing has to be copied.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::command;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

/// A home without contexts, and a command that has it.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn command(&self, directory: &Path, words: &str) -> Command {
        let mut command = ringmesh();
        command
            .args(words.split_whitespace())
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .current_dir(directory);
        command
    }

    fn run(&self, directory: &Path, words: &str) -> Output {
        self.command(directory, words).output().unwrap()
    }

    /// What a command that succeeds prints.
    #[track_caller]
    fn told(&self, directory: &Path, words: &str) -> String {
        let output = self.run(directory, words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// The command failed with this code, and one line that has these parts.
#[track_caller]
fn check_failure(output: &Output, exit_code: i32, parts: &[&str]) {
    for part in parts {
        command::check_failure(output, exit_code, part);
    }
}

#[test]
fn beside_a_running_server_nothing_has_to_be_given() {
    let mut server = Server::dev();
    let user = User::new();
    let apps = user.told(server.dir(), "app list --json");
    let apps: Value = serde_json::from_str(&apps).unwrap();
    assert_eq!(apps["apps"][0]["appId"], "app_dev");
    let directory = server.dir().to_owned();
    let run: Value =
        serde_json::from_slice(&fs::read(directory.join("ringmesh-data/run.json")).unwrap())
            .unwrap();
    assert_eq!(run["pid"], server.pid().as_raw_nonzero().get());
    assert_eq!(run["mode"], "dev");
    assert_eq!(run["publicUrls"][0], format!("ws://{}", server.public));
    let mode = fs::metadata(directory.join("ringmesh-data/run.json")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    // Which one was asked is told on request.
    let output = user.run(&directory, "stats --verbose");
    let details = String::from_utf8_lossy(&output.stderr);
    assert!(
        details.contains("ringmesh-data/run.json, pid "),
        "{details}"
    );
    // A server that has ended leaves nothing to be found.
    server.signal(Signal::INT);
    assert!(server.exit_status().success());
    let nothing = ["no server found: looked in ./ringmesh-data (none), contexts (none), "];
    check_failure(&user.run(&directory, "stats"), 3, &nothing);
}

#[test]
fn a_server_that_was_killed_is_not_found() {
    let mut server = Server::dev();
    let user = User::new();
    server.signal(Signal::KILL);
    server.exit_status();
    let output = user.run(server.dir(), "stats");
    check_failure(&output, 3, &["ringmesh-data (its server has ended)"]);
}

#[test]
fn a_context_leads_to_its_server() {
    let server = Setup::new(1).start();
    let user = User::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = elsewhere.path();
    let token = server.dir().join("data/admin.token");
    let address = server.admin_address();
    let add = format!(
        "context add shop --admin-url {address} --admin-token-file {} --url ws://{}",
        token.display(),
        server.public
    );
    user.told(at, &add);
    assert!(user.told(at, "app list").contains("app_a"));
    assert!(user.told(at, "-C shop app list").contains("app_b"));
    let file = user.home.path().join(".config/ringmesh/contexts.toml");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let list: Value = serde_json::from_str(&user.told(at, "context list --json")).unwrap();
    assert_eq!(list["current"], "shop");
    assert_eq!(
        list["contexts"]["shop"]["admin_url"],
        format!("http://{address}")
    );
    assert!(user.told(at, "context show").contains("adminTokenFile"));

    check_failure(
        &user.run(at, &add),
        2,
        &["there is a context \"shop\" already"],
    );
    check_failure(&user.run(at, "-C shp stats"), 2, &["did you mean shop?"]);
    check_failure(
        &user.run(at, "context add b"),
        2,
        &["--admin-url is missing"],
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    check_failure(
        &user.run(at, "stats"),
        2,
        &["others may read it", "chmod 600"],
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    user.told(at, "context remove shop");
    check_failure(&user.run(at, "stats"), 3, &["contexts (none)"]);
}

/// The directory goes before the context in use, and what is typed before both.
#[test]
fn of_two_servers_the_nearer_one_is_asked() {
    let (near, far) = (Server::dev(), Setup::new(1).start());
    let user = User::new();
    let token = far.dir().join("data/admin.token");
    let add = format!(
        "context add far --admin-url {} --admin-token-file {}",
        far.admin_address(),
        token.display()
    );
    user.told(near.dir(), &add);
    let asked = |words: &str| user.told(near.dir(), &format!("app list {words}"));
    assert!(asked("").contains("app_dev"));
    assert!(asked("--context far").contains("app_a"));
    let by_address = format!("--admin-url {} --verbose", far.admin_address());
    assert!(asked(&by_address).contains("app_a"));
    let mut command = user.command(near.dir(), "app list");
    command.env("RINGMESH_CONTEXT", "far");
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("app_a"));
}

#[test]
fn without_a_token_the_address_is_tried_first() {
    let mut server = Setup::new(1).start();
    let user = User::new();
    let at = user.home.path();
    let address = server.admin_address();
    let words = format!("app list --admin-url {address}");
    let parts = ["there is no admin token: set RINGMESH_ADMIN_TOKEN"];
    check_failure(&user.run(at, &words), 2, &parts);
    server.signal(Signal::TERM);
    server.exit_status();
    let parts = [format!("no answer from http://{address}: ")];
    check_failure(&user.run(at, &words), 3, &[&parts[0]]);
}
