//! What a server is started with: a directory of its own, and a configuration in it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::server::Server;
use super::token::SECRET;

pub(crate) const ALL_ACTIONS: &[&str] = &["publish", "subscribe", "presence", "send"];

/// A configuration in the making. The defaults listen on loopback ports that the system
/// chooses, have no limit on rates, and declare two apps with all rights.
pub(crate) struct Setup {
    dir: TempDir,
    settings: BTreeMap<String, String>,
    apps: String,
}

impl Setup {
    pub(crate) fn new(shards: u16) -> Self {
        let setup = Self {
            dir: tempfile::tempdir().unwrap(),
            settings: BTreeMap::new(),
            apps: String::new(),
        };
        setup
            .write("signing.secret", SECRET)
            .write("api.secret", "sk_live_declared_0123456789")
            .set("server.listen", r#"["127.0.0.1:0"]"#)
            .set("server.shards", shards)
            .set("admin.listen", r#""127.0.0.1:0""#)
            .set("store.data_dir", r#""data""#)
            .set("limits.connects_per_address", 0)
            .set("limits.message_rate", 0)
            .set("rest.rate_per_key", 0)
            .set("rest.unauthenticated_rate_per_address", 0)
            .set("shutdown.drain_ms", 200)
            .set("log.level", r#""debug""#)
            .set("log.format", r#""json""#)
            .app(
                "app_a",
                &[key("pk_live_a", &["**"], ALL_ACTIONS), signer("sk_id_a")],
            )
            .app(
                "app_b",
                &[key("pk_live_b", &["**"], ALL_ACTIONS), signer("sk_id_b")],
            )
    }

    /// Sets a key to a TOML value.
    pub(crate) fn set(mut self, key: &str, value: impl Display) -> Self {
        self.settings.insert(key.into(), value.to_string());
        self
    }

    /// Declares one more app; its first line may go on with settings of the app.
    pub(crate) fn app(mut self, id: &str, keys: &[String]) -> Self {
        let (id, settings) = id.split_once('\n').unwrap_or((id, ""));
        self.apps += &format!("[[apps]]\nid = {id:?}\n{settings}\n{}\n", keys.join("\n"));
        self
    }

    /// Declares no apps.
    pub(crate) fn no_apps(mut self) -> Self {
        self.apps.clear();
        self
    }

    /// Puts a file into the directory.
    pub(crate) fn write(self, name: &str, content: &str) -> Self {
        std::fs::write(self.dir.path().join(name), content).unwrap();
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the configuration and says where.
    pub(crate) fn config(&self) -> PathBuf {
        let path = self.dir.path().join("ringmesh.toml");
        let settings = self.settings.iter();
        let settings: String = settings
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        std::fs::write(&path, settings + &self.apps).unwrap();
        path
    }

    /// Starts `serve` and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        Server::serve(self)
    }
}

/// A declared publishable key.
pub(crate) fn key(id: &str, patterns: &[&str], actions: &[&str]) -> String {
    format!("[[apps.keys]]\nid = {id:?}\nchannel_patterns = {patterns:?}\nactions = {actions:?}\n")
}

/// A declared secret key with all rights.
pub(crate) fn signer(id: &str) -> String {
    secret_key(id, &["**"], ALL_ACTIONS)
}

/// A declared secret key; all of them have the same secrets.
pub(crate) fn secret_key(id: &str, patterns: &[&str], actions: &[&str]) -> String {
    key(id, patterns, actions) + "signing_secret_file = \"signing.secret\"\n"
}
