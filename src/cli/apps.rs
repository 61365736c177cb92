//! Which app a command is about, and which key signs for it. People know an app by its name, the
//! server by its id: both will do.

use serde_json::Value;

use super::client::{AdminClient, ClientError, Request};
use super::failure::Failure;
use super::printable::printable;
use crate::nearest::nearest;

/// Apps that an error lists.
const APPS_SHOWN_MAX: usize = 8;
/// Secret keys that an error lists.
const KEYS_SHOWN_MAX: usize = 8;
/// Characters of an id of an app.
const ID_CHARS_MAX: usize = 64;

/// An app that the server has.
#[derive(Debug)]
struct App {
    id: String,
    /// Empty where it has none.
    name: String,
}

impl App {
    /// The id, with the name where there is one that says more.
    fn shown(&self) -> String {
        match self.name.is_empty() || self.name == self.id {
            true => self.id.clone(),
            false => format!("{} ({})", self.id, printable(&self.name)),
        }
    }
}

/// The id of the app that is meant: the one with that id or else that name, or the only one there
/// is. An id that nobody has is left to the request that needs it.
///
/// # Errors
/// There is none, or more than one; or what the server or the way to it did not allow.
pub(super) fn app_id(given: Option<&str>, client: &AdminClient) -> Result<String, Failure> {
    if let Some(given) = given {
        return named(given, client);
    }
    let mut apps = all(client)?;
    match apps.len() {
        0 => Err(Failure::usage(
            "there is no app yet; make one with ringmesh app create",
        )),
        1 => Ok(apps.remove(0).id),
        number => Err(Failure::usage(format_args!(
            "there are {number} apps; name one with --app: {}",
            listed(apps.iter().map(App::shown), APPS_SHOWN_MAX)
        ))),
    }
}

fn named(given: &str, client: &AdminClient) -> Result<String, Failure> {
    let is_id_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let may_be_id = given.len() <= ID_CHARS_MAX && given.bytes().all(is_id_byte);
    if may_be_id {
        match client.run(&Request::of_app_named(given)) {
            Ok(_) => return Ok(given.to_owned()),
            Err(ClientError::Refused(404, _)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let apps = all(client)?;
    let mut found = apps.iter().filter(|app| app.name == given);
    match (found.next(), found.next()) {
        (Some(app), None) => Ok(app.id.clone()),
        (Some(_), Some(_)) => {
            let ids = apps.iter().filter(|app| app.name == given);
            Err(Failure::usage(format_args!(
                "several apps are called {given:?}; name one by its id: {}",
                listed(ids.map(|app| app.id.clone()), APPS_SHOWN_MAX)
            )))
        }
        (None, _) if may_be_id => Ok(given.to_owned()),
        (None, _) => {
            let known = apps.iter().flat_map(|app| [&*app.id, &*app.name]);
            let meant = nearest(given, known.filter(|it| !it.is_empty()));
            let meant = meant.map_or_else(
                || "; ringmesh app list shows all".to_owned(),
                |it| format!("; did you mean {it}?"),
            );
            Err(Failure::refused(format_args!(
                "there is no app {given:?}{meant}"
            )))
        }
    }
}

/// The secret key that signs: the only one of an app, or of all where none is named.
///
/// # Errors
/// There is none, or more than one; or what the server or the way to it did not allow.
pub(super) fn signing_key(app: Option<&str>, client: &AdminClient) -> Result<String, Failure> {
    let apps = match app {
        Some(given) => {
            let id = named(given, client)?;
            let name = String::new();
            vec![App { id, name }]
        }
        None => all(client)?,
    };
    let mut keys = Vec::new();
    for app in &apps {
        for key in secret_keys(&app.id, client)? {
            keys.push((key, app));
        }
    }
    match keys.len() {
        0 => Err(Failure::usage(
            "there is no secret key to sign with; make one with ringmesh key create --type secret",
        )),
        1 => Ok(keys.remove(0).0),
        number => {
            let shown = keys.iter().map(|(key, app)| match apps.len() {
                1 => key.clone(),
                _ => format!("{key} of {}", app.shown()),
            });
            let shown = listed(shown, KEYS_SHOWN_MAX);
            let how = match apps.len() {
                1 => "the one that signs with --key",
                _ => "the app with --app, or the key that signs with --key",
            };
            Err(Failure::usage(format_args!(
                "there are {number} secret keys: {shown}; name {how}"
            )))
        }
    }
}

/// The ids of all apps.
///
/// # Errors
/// What the server or the way to it did not allow.
pub(super) fn app_ids(client: &AdminClient) -> Result<Vec<String>, ClientError> {
    Ok(all(client)?.into_iter().map(|app| app.id).collect())
}

fn all(client: &AdminClient) -> Result<Vec<App>, ClientError> {
    let answer = client.run(&Request::of_apps())?;
    let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let apps = answer["apps"].as_array().map_or(&[][..], Vec::as_slice);
    let app = |object| App {
        id: text(object, "appId"),
        name: text(object, "name"),
    };
    Ok(apps.iter().map(app).collect())
}

fn secret_keys(app: &str, client: &AdminClient) -> Result<Vec<String>, Failure> {
    let answer = client.run(&Request::of_keys(app))?;
    let keys = answer["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let keys = keys.iter().filter(|key| key["type"] == "secret");
    let ids = keys.filter_map(|key| key["keyId"].as_str().map(str::to_owned));
    Ok(ids.collect())
}

/// So many of them, and a sign that there are more.
fn listed(mut shown: impl Iterator<Item = String>, most: usize) -> String {
    let first: Vec<_> = shown.by_ref().take(most).collect();
    let more = if shown.next().is_some() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}
