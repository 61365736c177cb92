//! What the commands of operators ask of the admin API.
//!
//! Fields that were not given are not sent: they stay as they are, or get the server's defaults.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use ureq::http::Method;
use zeroize::Zeroizing;

use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::cli::app::{AppCommand, AppFields};
use crate::cli::arguments::TraceArgs;
use crate::cli::failure::Failure;
use crate::cli::key::{KeyCommand, KeyFields};

const BASE: &str = "/api/internal/v1";
/// What has the server hand over.
const UPGRADE: &str = "upgrade";

/// A request to the admin API. Not `Debug`: a body may have a secret in it.
pub(crate) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Map<String, Value>>,
    /// What a good answer has in it.
    pub(super) answer: Answer,
    /// Whether it changes something.
    changes: bool,
}

/// What a good answer has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A list of apps, under `apps`.
    Apps,
    /// A list of keys, under `keys`.
    Keys,
    /// The fields of one object.
    Object,
}

impl Request {
    /// The request that `ringmesh app …` is, about this app.
    ///
    /// # Errors
    /// The file of a TURN secret cannot be read, or there is nothing to change.
    pub(crate) fn of_app(command: &AppCommand, id: &str) -> Result<Self, Failure> {
        let app = || format!("{BASE}/apps/{}", escaped(id));
        let status = |status: &str| {
            let mut body = Map::new();
            set(&mut body, "status", Some(status));
            Self::new(Method::PATCH, app(), Some(body))
        };
        Ok(match command {
            AppCommand::List => Self::of_apps(),
            AppCommand::Show(_) => Self::new(Method::GET, app(), None),
            AppCommand::Create { app, fields } => {
                let mut body = app_body(fields)?;
                set(&mut body, "appId", app.given());
                Self::new(Method::POST, format!("{BASE}/apps"), Some(body))
            }
            AppCommand::Update { fields, .. } => {
                let body = change("app", app_body(fields)?)?;
                Self::new(Method::PATCH, app(), Some(body))
            }
            AppCommand::Suspend { .. } => status("suspended"),
            AppCommand::Resume(_) => status("active"),
            AppCommand::Delete { .. } => Self::new(Method::DELETE, app(), None),
        })
    }

    /// The request that `ringmesh key …` is; `app` is that of a key that is made, or of keys that
    /// are listed.
    ///
    /// # Errors
    /// There is nothing to change.
    pub(crate) fn of_key(command: &KeyCommand, app: &str) -> Result<Self, Failure> {
        let key = |id: &str| format!("{BASE}/signalling/keys/{}", escaped(id));
        Ok(match command {
            KeyCommand::List(_) => Self::of_keys(app),
            KeyCommand::Show(of) => Self::new(Method::GET, key(of.id()), None),
            KeyCommand::Create {
                key_type,
                channels,
                actions,
                fields,
                ..
            } => {
                let by_default: &[&str] = match key_type.as_str() {
                    "publishable" => &["subscribe", "publish", "presence"],
                    _ => &["publish", "subscribe", "presence", "send"],
                };
                let mut body = key_body(fields);
                set(&mut body, "type", Some(key_type));
                set(&mut body, "channelPatterns", Some(channels));
                match actions {
                    Some(actions) => set(&mut body, "actions", Some(named(actions))),
                    None => set(&mut body, "actions", Some(by_default)),
                }
                Self::new(Method::POST, keys_of(app), Some(body))
            }
            KeyCommand::Update {
                key: of,
                channels,
                actions,
                fields,
            } => {
                let mut body = key_body(fields);
                set(&mut body, "channelPatterns", channels.as_ref());
                set(&mut body, "actions", actions.as_deref().map(named));
                Self::new(Method::PATCH, key(of.id()), Some(change("key", body)?))
            }
            KeyCommand::Rotate { key: of, grace, .. } => {
                let mut body = Map::new();
                set(&mut body, "graceSeconds", Some(grace));
                Self::new(Method::POST, key(of.id()) + "/rotate", Some(body))
            }
            KeyCommand::Revoke { key: of, .. } => Self::new(Method::DELETE, key(of.id()), None),
        })
    }

    /// The request for all apps.
    #[must_use]
    pub(crate) fn of_apps() -> Self {
        Self::new(Method::GET, format!("{BASE}/apps"), None).with_answer(Answer::Apps)
    }

    /// The request for one app.
    #[must_use]
    pub(crate) fn of_app_named(id: &str) -> Self {
        Self::new(Method::GET, format!("{BASE}/apps/{}", escaped(id)), None)
    }

    /// The request for all keys of an app.
    #[must_use]
    pub(crate) fn of_keys(app: &str) -> Self {
        Self::new(Method::GET, keys_of(app), None).with_answer(Answer::Keys)
    }

    /// The request for what an app uses.
    #[must_use]
    pub(crate) fn of_usage(app: &str) -> Self {
        let path = format!("{BASE}/apps/{}/usage", escaped(app));
        Self::new(Method::GET, path, None)
    }

    /// The request for a token of a key, with the fields of `POST /v1/tokens`.
    #[must_use]
    pub(crate) fn of_token(key_id: &str, body: Map<String, Value>) -> Self {
        let path = format!("{BASE}/signalling/keys/{}/tokens", escaped(key_id));
        Self::new(Method::POST, path, Some(body))
    }

    /// The request to judge a token, and what it may.
    #[must_use]
    pub(crate) fn of_inspection(token: &str, channel: Option<&str>, action: Option<&str>) -> Self {
        let mut body = Map::new();
        set(&mut body, "token", Some(token));
        set(&mut body, "channel", channel);
        set(&mut body, "action", action);
        let path = format!("{BASE}/tokens/inspect");
        Self {
            changes: false,
            ..Self::new(Method::POST, path, Some(body))
        }
    }

    /// The request for each key of the configuration.
    #[must_use]
    pub(crate) fn of_config() -> Self {
        Self::new(Method::GET, format!("{BASE}/config"), None)
    }

    /// The request to read the configuration again.
    #[must_use]
    pub(crate) fn of_reload() -> Self {
        Self::new(Method::POST, format!("{BASE}/reload"), None)
    }

    /// The request to hand over to a new process.
    #[must_use]
    pub(crate) fn of_upgrade() -> Self {
        Self::new(Method::POST, format!("{BASE}/{UPGRADE}"), None)
    }

    /// Whether it is that.
    #[must_use]
    pub(super) fn is_upgrade(&self) -> bool {
        self.path.ends_with(UPGRADE) && self.method == Method::POST
    }

    /// The request for events; parameters and their values.
    #[must_use]
    pub(crate) fn of_events(parameters: &[(&str, String)]) -> Self {
        Self::new(
            Method::GET,
            format!("{BASE}/events{}", query(parameters)),
            None,
        )
    }

    /// The request for the story of a peer.
    #[must_use]
    pub(crate) fn of_why(app: Option<&str>, peer: &str, since: Option<&str>) -> Self {
        let all = [("app", app), ("peer", Some(peer)), ("since", since)];
        let given = all.into_iter();
        let given = given.filter_map(|(name, value)| Some((name, value?.to_owned())));
        let parameters: Vec<_> = given.collect();
        Self::new(
            Method::GET,
            format!("{BASE}/why{}", query(&parameters)),
            None,
        )
    }

    /// The request for the connections of an app.
    #[must_use]
    pub(crate) fn of_connections(app: &str, parameters: &[(&str, String)]) -> Self {
        let (app, query) = (escaped(app), query(parameters));
        Self::new(
            Method::GET,
            format!("{BASE}/apps/{app}/connections{query}"),
            None,
        )
    }

    /// The request that closes all connections of a peer, or that one.
    #[must_use]
    pub(crate) fn of_kick(app: &str, peer: &str, connection: Option<&str>) -> Self {
        let (app, peer) = (escaped(app), escaped(peer));
        let path = match connection {
            None => format!("{BASE}/apps/{app}/peer?id={peer}"),
            Some(id) => {
                let id = escaped(id);
                format!("{BASE}/apps/{app}/connection?id={id}&peer={peer}")
            }
        };
        Self::new(Method::DELETE, path, None)
    }

    /// The request for what a channel keeps; parameters and their values.
    #[must_use]
    pub(crate) fn of_history(app: &str, channel: &str, given: &[(&str, String)]) -> Self {
        let mut parameters = vec![("name", channel.to_owned())];
        parameters.extend_from_slice(given);
        Self::new(Method::GET, history_of(app, &parameters), None)
    }

    /// The request to forget what a channel keeps.
    #[must_use]
    pub(crate) fn of_forgetting(app: &str, channel: &str) -> Self {
        let parameters = [("name", channel.to_owned())];
        Self::new(Method::DELETE, history_of(app, &parameters), None)
    }

    /// The request that records what a peer or a channel publishes and sends.
    #[must_use]
    pub(crate) fn of_trace(app: &str, args: &TraceArgs) -> Self {
        let mut body = Map::new();
        set(&mut body, "app", Some(app));
        set(&mut body, "peer", args.peer.as_ref());
        set(&mut body, "channel", args.channel.as_ref());
        set(&mut body, "minutes", Some(args.minutes));
        Self::new(Method::POST, format!("{BASE}/trace"), Some(body))
    }

    /// The request for a code that signs in to the console.
    #[must_use]
    pub(crate) fn of_sign_in_code() -> Self {
        let path = format!("{BASE}/session/code");
        Self {
            changes: false,
            ..Self::new(Method::POST, path, None)
        }
    }

    /// Whether it changes something.
    #[must_use]
    pub(super) fn is_change(&self) -> bool {
        self.changes
    }

    /// The request for a copy of the store.
    #[must_use]
    pub(crate) fn of_backup() -> Self {
        Self::new(Method::GET, format!("{BASE}/backup"), None)
    }

    /// The request for what somebody should look at.
    #[must_use]
    pub(crate) fn of_warnings() -> Self {
        Self::new(Method::GET, format!("{BASE}/warnings"), None)
    }

    /// The request that `ringmesh stats` is.
    #[must_use]
    pub(crate) fn of_stats() -> Self {
        Self::new(Method::GET, format!("{BASE}/stats"), None)
    }

    fn new(method: Method, path: String, body: Option<Map<String, Value>>) -> Self {
        Self {
            changes: method != Method::GET,
            method,
            path,
            body,
            answer: Answer::Object,
        }
    }

    fn with_answer(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }
}

/// Parameters as the query of a URL, with its question mark.
fn query(parameters: &[(&str, String)]) -> String {
    let pairs = parameters.iter();
    let pairs = pairs.map(|(name, value)| format!("{name}={}", escaped(value)));
    let pairs: Vec<_> = pairs.collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

fn keys_of(app: &str) -> String {
    format!("{BASE}/apps/{}/keys", escaped(app))
}

fn history_of(app: &str, parameters: &[(&str, String)]) -> String {
    let app = escaped(app);
    format!("{BASE}/apps/{app}/channel/history{}", query(parameters))
}

fn app_body(fields: &AppFields) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    set(&mut body, "name", fields.name.as_ref());
    set(&mut body, "status", fields.status.as_ref());
    set(&mut body, "directScope", fields.direct_scope.as_ref());
    let plan = plan_body(fields);
    set(&mut body, "plan", (!plan.is_empty()).then_some(plan));
    if let Some(turn) = turn_body(fields)? {
        body.insert("turn".into(), turn);
    }
    let limits = fields.message_rate.zip(fields.message_burst);
    let limits = limits.map(|(rate, burst)| json!({"messageRate": rate, "messageBurst": burst}));
    set(&mut body, "limits", limits);
    let mut feed = Map::new();
    set(&mut feed, "presence", fields.feed_presence);
    set(&mut feed, "peers", fields.feed_peers);
    set(&mut body, "feed", (!feed.is_empty()).then_some(feed));
    set(&mut body, "history", fields.history.as_ref());
    if fields.no_history {
        set(&mut body, "history", Some(json!([])));
    }
    Ok(body)
}

fn plan_body(fields: &AppFields) -> Map<String, Value> {
    let mut plan = Map::new();
    set(&mut plan, "name", fields.plan_name.as_ref());
    set(
        &mut plan,
        "maxConcurrentConnections",
        fields.max_connections,
    );
    set(&mut plan, "maxMessagesPerPeriod", fields.max_messages);
    set(&mut plan, "overagesAllowed", fields.overages_allowed);
    set(&mut plan, "overagesEnabled", fields.overages_enabled);
    set(&mut plan, "periodStartUnix", fields.period_start);
    set(&mut plan, "periodDays", fields.period_days);
    plan
}

/// An empty list of URLs takes the TURN servers away: `null`.
fn turn_body(fields: &AppFields) -> Result<Option<Value>, Failure> {
    let secret = fields.turn_secret_file.as_deref();
    let secret = secret.map(secret_file).transpose()?;
    let urls = fields.turn_urls.as_ref();
    if urls.is_some_and(|urls| urls.iter().all(String::is_empty)) {
        return Ok(Some(Value::Null));
    }
    let mut turn = Map::new();
    set(&mut turn, "urls", urls);
    set(
        &mut turn,
        "secret",
        secret.as_deref().map(|it| it.trim_end()),
    );
    set(&mut turn, "ttlSec", fields.turn_ttl);
    Ok((!turn.is_empty()).then_some(Value::Object(turn)))
}

fn secret_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    bounded_file::read_text(path, SECRET_BYTES_MAX).map_err(|error| {
        Failure::usage(format_args!(
            "--turn-secret-file: {}: {error}; name a readable file",
            path.display()
        ))
    })
}

fn key_body(fields: &KeyFields) -> Map<String, Value> {
    let mut body = Map::new();
    set(&mut body, "name", fields.name.as_ref());
    set(&mut body, "allowedOrigins", fields.origins.as_ref());
    set(&mut body, "autoInjectTurn", fields.auto_inject_turn);
    body
}

/// A patch, which has something in it.
fn change(what: &str, body: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    if body.is_empty() {
        return Err(Failure::usage(format_args!(
            "there is nothing to change: say what, with at least one option of \
             'ringmesh {what} update --help'"
        )));
    }
    Ok(body)
}

/// The actions that are named; `--actions ''` names none.
pub(crate) fn named(actions: &[String]) -> Vec<&str> {
    let actions = actions.iter().map(String::as_str);
    actions.filter(|action| !action.is_empty()).collect()
}

fn set(body: &mut Map<String, Value>, field: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        body.insert(field.to_owned(), json!(value));
    }
}

/// An id as one path segment (RFC 3986, section 2.3: all but unreserved characters escaped).
pub(crate) fn escaped(id: &str) -> String {
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

#[cfg(test)]
mod tests;
