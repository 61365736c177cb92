//! `ringmesh dev`: a working server with one command.
//!
//! Makes an app with two keys at its first start and remembers their secrets in `dev.json`
//! beside the store, so that the next start prints the same ones. Nothing here is for
//! production: there a secret is shown once, and nobody but its owner keeps it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::control::{Change, ControlError, ControlHandle, Object, Outcome};
use crate::demo;

/// The app that `dev` makes.
pub const APP_ID: &str = "app_dev";
const FILE: &str = "dev.json";

/// The keys of the development app.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevKeys {
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
pub enum DevError {
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
pub fn keys(data_dir: &Path, control: &ControlHandle) -> Result<DevKeys, DevError> {
    let path = data_dir.join(FILE);
    match fs::read(&path) {
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
    let app = object(json!({ "appId": APP_ID, "name": "Development" }));
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

/// Readable by its owner only from the first byte on, and whole or not there at all.
fn save(path: &Path, keys: &DevKeys) -> io::Result<()> {
    let unfinished = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    serde_json::to_writer_pretty(&mut file, keys)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

/// Returns what is printed at the start: addresses, keys, and lines to paste.
#[must_use]
pub fn welcome(address: SocketAddr, admin: Option<SocketAddr>, keys: &DevKeys) -> String {
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
    let admin = admin.map_or("off".to_owned(), |admin| format!("http://{admin}"));
    format!(
        r#"
ringmesh is running. Stop it with Ctrl-C.

  demo              {demo}
  clients           ws://{address}/v1
  REST              http://{address}/v1
  admin             {admin}

  publishable key   {publishable_key}
  secret key id     {key_id}
  signing secret    {signing_secret}
  API secret        {api_secret}

A browser or Node (npm install @metered-ca/realtime):

  const peer = new MeteredPeer({{ url: "ws://{address}", apiKey: "{publishable_key}" }});
  await peer.join("room-42");

A backend:

  curl -X POST http://{address}/v1/channels/room-42/publish \
    -H "Authorization: Bearer {api_secret}" \
    -H "Content-Type: application/json" -d '{{"data": {{"hello": "world"}}}}'

  curl -X POST http://{address}/v1/tokens \
    -H "Authorization: Bearer {api_secret}" \
    -H "Content-Type: application/json" -d '{{"peerId": "alice", "channels": ["room-42"]}}'
"#
    )
}

/// The address to type into a browser on this machine: none can open 0.0.0.0 reliably.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
