//! The commands, and the requests that they are.

use serde_json::{Map, Value, json};
use ureq::http::Method;

use crate::control::merge::Object;
use crate::control::record::{AppStatus, DirectScope, KeyType};
use crate::control::secret::SecretText;

/// A command for the admin API.
#[derive(Clone, Debug)]
pub enum AdminCommand {
    /// All apps.
    ListApps,
    /// One app.
    ShowApp(String),
    /// A new app, with an id of its own choice or a generated one.
    CreateApp(Option<String>, AppChanges),
    /// Changes an app.
    UpdateApp(String, AppChanges),
    /// Ends an app.
    DeleteApp(String),
    /// What an app has used.
    ShowUsage(String),
    /// The keys of an app.
    ListKeys(String),
    /// One key.
    ShowKey(String),
    /// A new key of an app.
    CreateKey(String, KeyType, KeyChanges),
    /// Changes a key.
    UpdateKey(String, KeyChanges),
    /// New secrets for a key; the grace window in seconds, or the server's default.
    RotateKey(String, Option<u64>),
    /// Ends a key.
    RevokeKey(String),
    /// The node, live.
    Stats,
}

/// Fields of an app to set; `None` leaves them as they are.
#[derive(Clone, Debug, Default)]
pub struct AppChanges {
    /// For people.
    pub name: Option<String>,
    /// Whether its clients may connect.
    pub status: Option<AppStatus>,
    /// Whom `send` reaches.
    pub direct_scope: Option<DirectScope>,
    /// The plan's name.
    pub plan_name: Option<String>,
    /// Connections at the same time; 0 is unlimited.
    pub connections_max: Option<u64>,
    /// Messages in one period; 0 is unlimited.
    pub messages_max: Option<u64>,
    /// Whether the plan lets traffic pass its limits.
    pub overages_allowed: Option<bool>,
    /// Whether the customer has switched that on.
    pub overages_enabled: Option<bool>,
    /// Start of some period, Unix seconds.
    pub period_start_unix: Option<u64>,
    /// Length of a period in days.
    pub period_days: Option<u32>,
    /// TURN servers.
    pub turn: Option<TurnChanges>,
    /// The app's own message rate and burst; a rate of 0 is unlimited.
    pub message_limits: Option<(u32, u32)>,
}

/// What to do about an app's TURN servers.
#[derive(Clone, Debug)]
pub enum TurnChanges {
    /// No TURN servers.
    Remove,
    /// Sets what is given.
    Set {
        /// The URLs; empty leaves them as they are.
        urls: Vec<String>,
        /// The shared secret.
        secret: Option<SecretText>,
        /// Lifetime of a credential, in seconds.
        ttl_sec: Option<u64>,
    },
}

/// Fields of a key to set; `None` leaves them as they are.
#[derive(Clone, Debug, Default)]
pub struct KeyChanges {
    /// For people.
    pub name: Option<String>,
    /// Which channels its holders may use.
    pub channel_patterns: Option<Vec<String>>,
    /// What they may do.
    pub actions: Option<Vec<String>>,
    /// Origins that may connect with a publishable key.
    pub allowed_origins: Option<Vec<String>>,
    /// Whether `welcome` gets the app's TURN servers.
    pub auto_inject_turn: Option<bool>,
}

const BASE: &str = "/api/internal/v1";

impl AdminCommand {
    /// Method, path and body of the request.
    pub(super) fn request(&self) -> (Method, String, Option<Object>) {
        let app = |id: &str| format!("{BASE}/apps/{}", escaped(id));
        let keys_of = |id: &str| format!("{BASE}/apps/{}/keys", escaped(id));
        let key = |id: &str| format!("{BASE}/signalling/keys/{}", escaped(id));
        match self {
            Self::ListApps => (Method::GET, format!("{BASE}/apps"), None),
            Self::ShowApp(id) => (Method::GET, app(id), None),
            Self::CreateApp(id, changes) => {
                let mut body = changes.body();
                set(&mut body, "appId", id);
                (Method::POST, format!("{BASE}/apps"), Some(body))
            }
            Self::UpdateApp(id, changes) => (Method::PATCH, app(id), Some(changes.body())),
            Self::DeleteApp(id) => (Method::DELETE, app(id), None),
            Self::ShowUsage(id) => (Method::GET, app(id) + "/usage", None),
            Self::ListKeys(id) => (Method::GET, keys_of(id), None),
            Self::ShowKey(id) => (Method::GET, key(id), None),
            Self::CreateKey(id, key_type, changes) => {
                let mut body = changes.body();
                body.insert("type".into(), json!(key_type));
                (Method::POST, keys_of(id), Some(body))
            }
            Self::UpdateKey(id, changes) => (Method::PATCH, key(id), Some(changes.body())),
            Self::RotateKey(id, grace_seconds) => {
                let mut body = Map::new();
                set(&mut body, "graceSeconds", grace_seconds);
                (Method::POST, key(id) + "/rotate", Some(body))
            }
            Self::RevokeKey(id) => (Method::DELETE, key(id), None),
            Self::Stats => (Method::GET, format!("{BASE}/stats"), None),
        }
    }
}

impl AppChanges {
    fn body(&self) -> Object {
        let mut body = Map::new();
        set(&mut body, "name", &self.name);
        set(&mut body, "status", &self.status);
        set(&mut body, "directScope", &self.direct_scope);
        let mut plan = Map::new();
        set(&mut plan, "name", &self.plan_name);
        set(&mut plan, "maxConcurrentConnections", &self.connections_max);
        set(&mut plan, "maxMessagesPerPeriod", &self.messages_max);
        set(&mut plan, "overagesAllowed", &self.overages_allowed);
        set(&mut plan, "overagesEnabled", &self.overages_enabled);
        set(&mut plan, "periodStartUnix", &self.period_start_unix);
        set(&mut plan, "periodDays", &self.period_days);
        if !plan.is_empty() {
            body.insert("plan".into(), plan.into());
        }
        match &self.turn {
            None => {}
            Some(TurnChanges::Remove) => {
                body.insert("turn".into(), Value::Null);
            }
            Some(TurnChanges::Set {
                urls,
                secret,
                ttl_sec,
            }) => {
                let mut turn = Map::new();
                set(&mut turn, "urls", &(!urls.is_empty()).then_some(urls));
                set(&mut turn, "secret", secret);
                set(&mut turn, "ttlSec", ttl_sec);
                body.insert("turn".into(), turn.into());
            }
        }
        let limits = self.message_limits;
        let limits =
            limits.map(|(rate, burst)| json!({"messageRate": rate, "messageBurst": burst}));
        set(&mut body, "limits", &limits);
        body
    }
}

impl KeyChanges {
    fn body(&self) -> Object {
        let mut body = Map::new();
        set(&mut body, "name", &self.name);
        set(&mut body, "channelPatterns", &self.channel_patterns);
        set(&mut body, "actions", &self.actions);
        set(&mut body, "allowedOrigins", &self.allowed_origins);
        set(&mut body, "autoInjectTurn", &self.auto_inject_turn);
        body
    }
}

fn set(body: &mut Object, field: &str, value: &Option<impl serde::Serialize>) {
    if let Some(value) = value {
        body.insert(field.to_owned(), json!(value));
    }
}

/// An id as one path segment (RFC 3986, section 2.3: all but unreserved characters escaped).
fn escaped(id: &str) -> String {
    use std::fmt::Write;

    let mut escaped = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
