//! `ringmesh dev`: a working server with one command.
//!
//! Makes an app with two keys at its first start and remembers their secrets in `dev.json`
//! beside the store, so that the next start prints the same ones. Nothing here is for
//! production: there a secret is shown once, and nobody but its owner keeps it.

mod lines;
mod ports;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use lines::EventLines;
pub(crate) use ports::move_taken_ports;

use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::config::PublicUrl;
use crate::control::{Change, ControlError, ControlHandle, Object, Outcome};
use crate::demo;
use crate::private_file;
use crate::run_file::reachable;

/// The app that `dev` makes.
pub(crate) const APP_ID: &str = "app_dev";
const FILE: &str = "dev.json";
/// Channels of the development app that keep what was said: the demo's rooms.
const DEMO_CHANNELS: &str = "demo/**";

/// The keys of the development app.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DevKeys {
    /// `pk_live_…`
    pub publishable_key: String,
    /// `sk_id_…`
    pub key_id: String,
    /// `sk_secret_…`
    pub signing_secret: String,
    /// `sk_live_…`
    pub api_secret: String,
}

/// Why the development app cannot be had: one line that names cause and remedy.
#[derive(Debug)]
pub(crate) enum DevError {
    /// `dev.json` cannot be read or written.
    File(PathBuf, io::Error),
    /// `dev.json` is not what `dev` writes.
    Content(PathBuf),
    /// The store refused.
    Control(ControlError),
}

impl fmt::Display for DevError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => {
                write!(
                    f,
                    "{}: {error}; make its directory writable",
                    path.display()
                )
            }
            Self::Content(path) => write!(
                f,
                "{}: not a file that ringmesh dev wrote; remove it, and new keys are made",
                path.display()
            ),
            Self::Control(error) => write!(f, "the development app could not be made: {error}"),
        }
    }
}

/// The keys of an earlier start, or new ones.
///
/// # Errors
/// See [`DevError`].
pub(crate) fn keys(data_dir: &Path, control: &ControlHandle) -> Result<DevKeys, DevError> {
    let path = data_dir.join(FILE);
    match bounded_file::read(&path, SECRET_BYTES_MAX) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(keys) if is_good(&keys, control) => Ok(keys),
            Ok(_) => remember(&path, control),
            Err(_) => Err(DevError::Content(path)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => remember(&path, control),
        Err(error) => Err(DevError::File(path, error)),
    }
}

fn remember(path: &Path, control: &ControlHandle) -> Result<DevKeys, DevError> {
    let keys = make_keys(control)?;
    save(path, &keys).map_err(|error| DevError::File(path.to_owned(), error))?;
    Ok(keys)
}

/// Whether the store still has the keys: they may have been revoked, or the store removed. An
/// empty patch changes nothing and is refused for a key that is not there.
fn is_good(keys: &DevKeys, control: &ControlHandle) -> bool {
    [&keys.publishable_key, &keys.key_id]
        .into_iter()
        .all(|key_id| {
            let (key_id, patch) = (key_id.clone(), Object::new());
            control
                .change(Change::PatchKey { key_id, patch })
                .wait()
                .is_ok()
        })
}

fn make_keys(control: &ControlHandle) -> Result<DevKeys, DevError> {
    let app = object(json!({
        "appId": APP_ID,
        "name": "Development",
        "history": [{ "pattern": DEMO_CHANNELS }],
    }));
    match control.change(Change::CreateApp(app)).wait() {
        // It is there already when an earlier start ended between making and remembering.
        Ok(_) | Err(ControlError::Conflict(_)) => {}
        Err(error) => return Err(DevError::Control(error)),
    }
    let publishable = make_key(control, "publishable")?;
    let secret = make_key(control, "secret")?;
    let text = |key: &Value, field: &str| key[field].as_str().unwrap_or_default().to_owned();
    Ok(DevKeys {
        publishable_key: text(&publishable, "keyId"),
        key_id: text(&secret, "keyId"),
        signing_secret: text(&secret, "signingSecret"),
        api_secret: text(&secret, "apiSecret"),
    })
}

fn make_key(control: &ControlHandle, key_type: &str) -> Result<Value, DevError> {
    let body = object(json!({
        "type": key_type,
        "name": format!("Development, {key_type}"),
        "channelPatterns": ["**"],
        "actions": ["publish", "subscribe", "presence", "send"],
    }));
    let change = Change::CreateKey {
        app_id: APP_ID.into(),
        body,
    };
    let outcome: Outcome = control.change(change).wait().map_err(DevError::Control)?;
    // An answer of the admin API is JSON by its type.
    Ok(serde_json::to_value(&outcome).unwrap_or_default())
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

fn save(path: &Path, keys: &DevKeys) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(keys)?;
    text.push(b'\n');
    private_file::write(path, &text)
}

/// Returns what is printed at the start: addresses, keys, and lines to paste.
#[must_use]
pub(crate) fn welcome(
    address: SocketAddr,
    public_url: Option<&PublicUrl>,
    (admin, sign_in): (Option<SocketAddr>, Option<&str>),
    token_file: &Path,
    keys: &DevKeys,
) -> String {
    let token_file = token_file.display();
    let address = reachable(address);
    let own = || (format!("ws://{address}"), format!("http://{address}"));
    let told = public_url.map(|url| (url.clients(), url.rest()));
    let (clients, rest) = told.unwrap_or_else(own);
    let DevKeys {
        publishable_key,
        key_id,
        signing_secret,
        api_secret,
    } = keys;
    let demo = admin.map_or_else(
        || "off, as the admin listener is".to_owned(),
        |admin| format!("http://{}{}", reachable(admin), demo::PATH),
    );
    let console = match (admin, sign_in) {
        (Some(admin), Some(path)) => format!("http://{}{path}", reachable(admin)),
        _ => "off".to_owned(),
    };
    let admin = admin.map_or("off".to_owned(), |admin| {
        format!("http://{}", reachable(admin))
    });
    let hints = hints(&clients, &rest, keys);
    format!(
        r#"
ringmesh is running. Stop it with Ctrl-C.

  demo              {demo}
  console           {console}
  clients           {clients}/v1
  REST              {rest}/v1
  admin             {admin}
  admin token       in {token_file}

  publishable key   {publishable_key}
  secret key id     {key_id}
  signing secret    {signing_secret}
  API secret        {api_secret}

The publishable key is for browsers and apps. With the signing secret your backend signs tokens, and
with the API secret it calls REST: neither leaves it.
{hints}"#
    )
}

/// Lines to paste.
fn hints(clients: &str, rest: &str, keys: &DevKeys) -> String {
    let DevKeys {
        publishable_key,
        api_secret,
        ..
    } = keys;
    format!(
        r#"
A browser, or Node 22 (npm install @metered-ca/realtime):

  import {{ SignallingClient }} from "@metered-ca/realtime";
  const client = new SignallingClient({{ url: "{clients}", apiKey: "{publishable_key}" }});
  client.on("message", ({{ data }}) => console.log(data));
  await client.connect();
  await client.subscribe("room-42");

Node 20 has no WebSocket of its own (npm install ws). Put this before:

  import WebSocket from "ws";
  globalThis.WebSocket = WebSocket;

A backend:

  curl -X POST {rest}/v1/channels/room-42/publish \
    -H "Authorization: Bearer {api_secret}" \
    -H "Content-Type: application/json" -d '{{"data": {{"hello": "world"}}}}'

  curl -X POST {rest}/v1/tokens \
    -H "Authorization: Bearer {api_secret}" \
    -H "Content-Type: application/json" -d '{{"peerId": "alice", "channels": ["room-42"]}}'

Another terminal, in this directory:

  ringmesh sub room-42
  ringmesh pub room-42 'it works'
  ringmesh token mint alice
  ringmesh why alice

"#
    )
}
