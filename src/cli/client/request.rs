//! What the commands of operators ask of the admin API.
//!
//! Fields that were not given are not sent: they stay as they are, or get the server's defaults.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};
use ureq::http::Method;
use zeroize::Zeroizing;

use crate::cli::admin::{AppCommand, AppFields, KeyCommand, KeyFields};
use crate::cli::failure::Failure;

const BASE: &str = "/api/internal/v1";

/// A request to the admin API. Not `Debug`: a body may have a secret in it.
pub struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<Map<String, Value>>,
    /// What a good answer has in it.
    pub(super) answer: Answer,
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
    /// The request that `ringmesh app …` is.
    ///
    /// # Errors
    /// The file of a TURN secret cannot be read.
    pub fn of_app(command: &AppCommand) -> Result<Self, Failure> {
        let apps = || format!("{BASE}/apps");
        let app = |id: &str| format!("{BASE}/apps/{}", escaped(id));
        Ok(match command {
            AppCommand::List => Self::new(Method::GET, apps(), None).with_answer(Answer::Apps),
            AppCommand::Show(id) => Self::new(Method::GET, app(&id.app), None),
            AppCommand::Create { app, fields } => {
                let mut body = app_body(fields)?;
                set(&mut body, "appId", app.as_ref());
                Self::new(Method::POST, apps(), Some(body))
            }
            AppCommand::Update { app: id, fields } => {
                Self::new(Method::PATCH, app(&id.app), Some(app_body(fields)?))
            }
            AppCommand::Delete(id) => Self::new(Method::DELETE, app(&id.app), None),
        })
    }

    /// The request that `ringmesh key …` is.
    #[must_use]
    pub fn of_key(command: &KeyCommand) -> Self {
        let keys_of = |app: &str| format!("{BASE}/apps/{}/keys", escaped(app));
        let key = |id: &str| format!("{BASE}/signalling/keys/{}", escaped(id));
        match command {
            KeyCommand::List(of) => {
                Self::new(Method::GET, keys_of(&of.app), None).with_answer(Answer::Keys)
            }
            KeyCommand::Show(id) => Self::new(Method::GET, key(&id.key), None),
            KeyCommand::Create {
                app,
                key_type,
                fields,
            } => {
                let mut body = key_body(fields);
                set(&mut body, "type", Some(key_type));
                Self::new(Method::POST, keys_of(&app.app), Some(body))
            }
            KeyCommand::Update { key: id, fields } => {
                Self::new(Method::PATCH, key(&id.key), Some(key_body(fields)))
            }
            KeyCommand::Rotate { key: id, grace } => {
                let mut body = Map::new();
                set(&mut body, "graceSeconds", Some(grace));
                Self::new(Method::POST, key(&id.key) + "/rotate", Some(body))
            }
            KeyCommand::Revoke(id) => Self::new(Method::DELETE, key(&id.key), None),
        }
    }

    /// The request that `ringmesh stats` is.
    #[must_use]
    pub fn of_stats() -> Self {
        Self::new(Method::GET, format!("{BASE}/stats"), None)
    }

    fn new(method: Method, path: String, body: Option<Map<String, Value>>) -> Self {
        Self {
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
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format_args!(
            "--turn-secret-file: {}: {error}; name a readable file",
            path.display()
        ))
    })?;
    Ok(Zeroizing::new(text))
}

fn key_body(fields: &KeyFields) -> Map<String, Value> {
    let mut body = Map::new();
    set(&mut body, "name", fields.name.as_ref());
    set(&mut body, "channelPatterns", fields.channels.as_ref());
    set(&mut body, "actions", fields.actions.as_ref());
    set(&mut body, "allowedOrigins", fields.origins.as_ref());
    set(&mut body, "autoInjectTurn", fields.auto_inject_turn);
    body
}

fn set(body: &mut Map<String, Value>, field: &str, value: Option<impl Serialize>) {
    if let Some(value) = value {
        body.insert(field.to_owned(), json!(value));
    }
}

/// An id as one path segment (RFC 3986, section 2.3: all but unreserved characters escaped).
fn escaped(id: &str) -> String {
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
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::admin::OperatorCommand;

    #[derive(Parser)]
    struct OnlyOperators {
        #[command(subcommand)]
        command: OperatorCommand,
    }

    /// The line asks for this, with this body.
    #[track_caller]
    fn check(line: &str, expected: &str, body: Value) {
        let parsed = OnlyOperators::try_parse_from(line.split_whitespace());
        let request = match parsed.map(|parsed| parsed.command) {
            Ok(OperatorCommand::App(args)) => Request::of_app(&args.command).unwrap(),
            Ok(OperatorCommand::Key(args)) => Request::of_key(&args.command),
            Ok(OperatorCommand::Stats(_)) => Request::of_stats(),
            Ok(OperatorCommand::Openapi) => panic!("{line}"),
            Err(error) => panic!("{error}"),
        };
        let asked = format!("{} {}", request.method, request.path);
        assert_eq!(
            asked,
            expected.replace(" /", " /api/internal/v1/"),
            "{line}"
        );
        let sent = request.body.map_or(Value::Null, Value::Object);
        assert_eq!(sent, body, "{line}");
    }

    #[test]
    fn apps_are_asked_for_with_what_was_given() {
        check("ringmesh app list", "GET /apps", Value::Null);
        check(
            "ringmesh app show --app a/b",
            "GET /apps/a%2Fb",
            Value::Null,
        );
        check("ringmesh app delete --app a", "DELETE /apps/a", Value::Null);
        check("ringmesh app create", "POST /apps", json!({}));
        check(
            "ringmesh app create --app a --name A --max-connections 9 --message-rate 5 \
             --message-burst 6",
            "POST /apps",
            json!({
                "appId": "a", "name": "A", "plan": {"maxConcurrentConnections": 9},
                "limits": {"messageRate": 5, "messageBurst": 6},
            }),
        );
        check(
            "ringmesh app update --app a --status suspended --direct-scope shared-channel \
             --plan-name pro --max-messages 0 --overages-allowed true --overages-enabled false \
             --period-start 1 --period-days 30",
            "PATCH /apps/a",
            json!({
                "status": "suspended", "directScope": "shared-channel",
                "plan": {
                    "name": "pro", "maxMessagesPerPeriod": 0, "overagesAllowed": true,
                    "overagesEnabled": false, "periodStartUnix": 1, "periodDays": 30,
                },
            }),
        );
    }

    #[test]
    fn turn_servers_are_set_kept_or_taken_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "hush\n").unwrap();
        let update = "ringmesh app update --app a --turn-ttl 1h --turn-urls turn:a,turn:b";
        let line = format!("{update} --turn-secret-file {}", file.path().display());
        let turn = json!({"urls": ["turn:a", "turn:b"], "secret": "hush", "ttlSec": 3_600});
        check(&line, "PATCH /apps/a", json!({ "turn": turn }));
        check(
            "ringmesh app update --app a --turn-urls=",
            "PATCH /apps/a",
            json!({"turn": null}),
        );
        check(
            "ringmesh app update --app a --turn-ttl 5",
            "PATCH /apps/a",
            json!({"turn": {"ttlSec": 5}}),
        );
    }

    #[test]
    fn keys_are_asked_for_with_what_was_given() {
        check("ringmesh key list --app a", "GET /apps/a/keys", Value::Null);
        check("ringmesh key show k", "GET /signalling/keys/k", Value::Null);
        check(
            "ringmesh key revoke k",
            "DELETE /signalling/keys/k",
            Value::Null,
        );
        check(
            "ringmesh key rotate k --grace 60",
            "POST /signalling/keys/k/rotate",
            json!({"graceSeconds": 60}),
        );
        check(
            "ringmesh key create --app a --type publishable --channels a/*,b --actions send \
             --origins https://a.example --auto-inject-turn false --name n",
            "POST /apps/a/keys",
            json!({
                "type": "publishable", "name": "n", "channelPatterns": ["a/*", "b"],
                "actions": ["send"], "allowedOrigins": ["https://a.example"],
                "autoInjectTurn": false,
            }),
        );
        check(
            "ringmesh key update k --actions send",
            "PATCH /signalling/keys/k",
            json!({"actions": ["send"]}),
        );
        check("ringmesh stats", "GET /stats", Value::Null);
    }
}
