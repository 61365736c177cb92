//! What a server tells that was found by its data directory.

use std::path::Path;

use serde_json::Value;

use super::client::{AdminClient, Request};
use super::failure::Failure;
use super::find::of_live;
use super::session::Session;
use crate::run_file::Live;

/// The settings that hold in the server that was found by its data directory.
///
/// # Errors
/// What the server or the way to it did not allow.
pub(crate) fn live_settings(live: &Live, session: &Session) -> Result<Vec<Value>, Failure> {
    let found = of_live(live, Path::new("run.json")).map_err(Failure::no_server)?;
    let client = AdminClient::new(&found, session.terminal)?;
    let mut answer = client.run(&Request::of_config())?;
    match answer["settings"].take() {
        Value::Array(settings) => Ok(settings),
        _ => Ok(Vec::new()),
    }
}

/// A backup as it came from a server.
pub(crate) struct TakenBackup {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// The value of the setting that was asked for.
    pub setting: Option<String>,
}

/// Takes a backup of the server that is found, and asks for one of its settings.
///
/// # Errors
/// What the server or the way to it did not allow.
pub(crate) fn backup_of_server(
    session: &Session,
    setting: Option<&str>,
) -> Result<TakenBackup, Failure> {
    let client = session.client()?;
    let bytes = client.download(&Request::of_backup())?;
    let Some(key) = setting else {
        return Ok(TakenBackup {
            bytes,
            setting: None,
        });
    };
    let settings = client.run(&Request::of_config())?;
    let settings = settings["settings"].as_array();
    let mut settings = settings.into_iter().flatten();
    let found = settings.find(|it| it["key"] == key);
    let value = found.and_then(|it| it["value"].as_str());
    // Texts stand there as a configuration has them, in quotes.
    let text = |value: &str| serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
    Ok(TakenBackup {
        bytes,
        setting: value.map(text),
    })
}
