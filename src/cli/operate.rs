//! The operators' commands, carried out against a running server's admin API.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::app::{AppCommand, AppId};
use super::apps::{app_id, app_ids};
use super::arguments::ConfigCommand;
use super::client::{AdminClient, ClientError, Request, env_file, render};
use super::failure::Failure;
use super::key::KeyCommand;
use super::session::Session;
use super::table::{Column, Table, cell};
use super::terminal::{json, print, told};
use crate::events::kind::{Cause, Kind};
use crate::nearest::nearest;

/// Similarity (Jaro's, 0 to 1) from which an id counts as a misspelled one. Ids of keys begin
/// alike and are random behind that.
const KEYS_ALIKE_MIN: f64 = 0.92;
/// Apps whose keys are looked at for a misspelled one.
const APPS_SEARCHED_MAX: usize = 20;

/// Carries `ringmesh app …` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn app(command: &AppCommand, session: &Session) -> Result<String, Failure> {
    if let AppCommand::Update { .. } = command {
        // What is wrong with the arguments is told before anything is asked.
        Request::of_app(command, "")?;
    }
    let client = session.client()?;
    let app_id = |app: &AppId| app_id(app.given(), &client);
    let id = match command {
        AppCommand::List | AppCommand::Create { .. } => String::new(),
        AppCommand::Show(app) | AppCommand::Resume(app) => app_id(app)?,
        AppCommand::Update { app, fields, sure } => {
            let id = app_id(app)?;
            let suspends = fields.status.as_deref() == Some("suspended");
            confirm(sure.yes || !suspends, || suspension(&id, &client))?;
            id
        }
        AppCommand::Suspend { app, sure } => {
            let id = app_id(app)?;
            confirm(sure.yes, || suspension(&id, &client))?;
            id
        }
        AppCommand::Delete { app, sure } => {
            let id = app_id(app)?;
            confirm(sure.yes, || {
                let in_use = in_use(&id, &client)?;
                Ok(format!("Delete {id} with its keys and close {in_use}?"))
            })?;
            id
        }
    };
    let request = Request::of_app(command, &id)?;
    let answer = asked(&request, &client)?;
    let mut text = shown(&request, &answer, session);
    if matches!(command, AppCommand::Show(_)) && !session.terminal.json {
        let request = Request::of_usage(&id);
        let mut usage = asked(&request, &client)?;
        if let Some(fields) = usage.as_object_mut() {
            // Both are in the app itself.
            fields.retain(|name, _| name != "appId" && name != "plan");
        }
        text += &render(&request, &usage, &session.terminal);
    }
    Ok(text)
}

/// Carries `ringmesh key …` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn key(command: &KeyCommand, session: &Session) -> Result<String, Failure> {
    let client = session.client()?;
    let app = match command {
        KeyCommand::Create { app, .. } | KeyCommand::List(app) => app_id(app.given(), &client)?,
        KeyCommand::Rotate {
            key,
            grace: 0,
            sure,
            ..
        } => {
            let text = format!("End the secrets of {} at once?", key.id());
            confirm(sure.yes, || Ok(text))?;
            String::new()
        }
        KeyCommand::Revoke { key, sure } => {
            let id = key.id();
            let text = format!("Revoke {id} and close what was connected with it?");
            confirm(sure.yes, || Ok(text))?;
            String::new()
        }
        _ => String::new(),
    };
    let request = Request::of_key(command, &app)?;
    let answer = asked(&request, &client)?;
    match command {
        KeyCommand::Create { env: true, .. } | KeyCommand::Rotate { env: true, .. } => {
            Ok(env_file(&answer))
        }
        _ => Ok(shown(&request, &answer, session)),
    }
}

fn suspension(id: &str, client: &AdminClient) -> Result<String, Failure> {
    Ok(format!("Suspend {id} and close {}?", in_use(id, client)?))
}

/// The answer to a request. What is not there is looked for under a similar name.
pub(super) fn asked(request: &Request, client: &AdminClient) -> Result<Value, Failure> {
    client
        .run(request)
        .map_err(|error| explained(error, client))
}

/// Why a request was not answered, with what was probably meant.
pub(super) fn explained(error: ClientError, client: &AdminClient) -> Failure {
    let meant = match &error {
        ClientError::Refused(404, message) => meant(message, client),
        ClientError::Refused(400, message) => meant_word(message).map(str::to_owned),
        _ => None,
    };
    let mut failure = Failure::from(error);
    if let Some(meant) = meant {
        failure.message = format!("{}; did you mean {meant}?", failure.message);
    }
    failure
}

/// What a kind or a cause of events that there is not was probably meant to be.
fn meant_word(message: &str) -> Option<&'static str> {
    let unknown = message.split('"').nth(1)?;
    match message.split(':').next()? {
        "kind" => nearest(unknown, Kind::ALL.iter().map(|it| it.as_str())),
        "cause" => nearest(unknown, Cause::ALL.iter().map(|it| it.as_str())),
        _ => None,
    }
}

/// What a name that is not there was probably meant to be.
fn meant(message: &str, client: &AdminClient) -> Option<String> {
    let unknown = message.split('"').nth(1)?;
    let apps = app_ids(client).ok()?;
    if message.starts_with("there is no app ") {
        return nearest(unknown, apps.iter().map(String::as_str)).map(str::to_owned);
    }
    if !message.starts_with("there is no key ") {
        return None;
    }
    let is_alike = |id: &&String| {
        let cut_off = unknown.len() >= 12 && id.starts_with(unknown);
        cut_off || strsim::jaro(id, unknown) > KEYS_ALIKE_MIN
    };
    let apps = apps.iter().take(APPS_SEARCHED_MAX);
    let mut keys = apps.filter_map(|app| ids(&Request::of_keys(app), client, "keys", "keyId").ok());
    keys.find_map(|keys| keys.iter().find(is_alike).cloned())
}

/// The ids in a list that the server has.
fn ids(
    request: &Request,
    client: &AdminClient,
    list: &str,
    field: &str,
) -> Result<Vec<String>, ClientError> {
    let answer = client.run(request)?;
    let list = answer[list].as_array().map_or(&[][..], Vec::as_slice);
    let id = |object: &Value| object[field].as_str().map(str::to_owned);
    Ok(list.iter().filter_map(id).collect())
}

/// How many connections an app has, for people.
fn in_use(app: &str, client: &AdminClient) -> Result<String, Failure> {
    let usage = asked(&Request::of_usage(app), client)?;
    Ok(match usage["concurrentNow"].as_u64() {
        Some(number) => number_of(number, "connection"),
        None => "its connections".to_owned(),
    })
}

/// So many of something, for people.
pub(super) fn number_of(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Asks whoever sits at a terminal. Where nobody can be asked it must have been said before.
pub(super) fn confirm(
    is_sure: bool,
    question: impl FnOnce() -> Result<String, Failure>,
) -> Result<(), Failure> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(
            "nothing was changed: this cannot be taken back, and there is no terminal to ask at; \
             give --yes",
        ));
    }
    let question = told(&question()?);
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{question} [y/N] ")
        .and_then(|()| io::stdin().read_line(&mut answer));
    asked.map_err(Failure::failed)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed, as you did not say y")),
    }
}

/// Carries `ringmesh config show` out. Returns what to print.
///
/// # Errors
/// What the server or the way to it did not allow.
pub(crate) fn config(command: &ConfigCommand, session: &Session) -> Result<String, Failure> {
    let ConfigCommand::Show { origins } = command;
    let answer = asked(&Request::of_config(), &session.client()?)?;
    if session.terminal.json {
        return Ok(json(&answer));
    }
    let mut fields = vec![("KEY", "key"), ("VALUE", "value")];
    if *origins {
        fields.extend([("DEFAULT", "default"), ("ORIGIN", "origin")]);
    }
    let columns = fields.iter().map(|(head, _)| Column::text(*head));
    let settings = answer["settings"].as_array();
    let settings = settings.map_or(&[][..], Vec::as_slice);
    let row = |setting: &Value| {
        let cells = fields.iter().map(|(_, field)| cell(&setting[*field]));
        cells.collect()
    };
    let rows = settings.iter().map(row).collect();
    Ok(Table::new(columns, rows).render(&session.terminal))
}

/// Carries `ringmesh reload` out: prints what it did.
///
/// # Errors
/// A part of the configuration was not taken, which has been printed then; or what the server or
/// the way to it did not allow.
pub(crate) fn reload(session: &Session) -> Result<(), Failure> {
    let answer = asked(&Request::of_reload(), &session.client()?)?;
    let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    let errors = list("errors");
    if session.terminal.json {
        print(json(&answer))?;
    } else {
        let line = |what: &str, text: String| vec![what.to_owned(), text];
        let applied = list("applied");
        let applied = applied.iter().map(|key| line("applied", cell(key)));
        let restart = list("needsRestart");
        let restart = restart.iter().map(|key| {
            let place = cell(&key["place"]);
            line(
                "needs a restart",
                format!("{} ({place})", cell(&key["key"])),
            )
        });
        let failed = errors.iter().map(|error| line("not taken", cell(error)));
        let mut lines: Vec<_> = applied.chain(restart).chain(failed).collect();
        if lines.is_empty() {
            lines.push(line("reloaded", "nothing has changed".to_owned()));
        }
        print(Table::fields(lines).render(&session.terminal))?;
    }
    match errors.is_empty() {
        true => Ok(()),
        // It has been told.
        false => Err(Failure::failed("")),
    }
}

/// Carries `ringmesh upgrade` out. Returns what to print.
///
/// # Errors
/// The server was not upgraded and serves on, or what the way to it did not allow.
pub(crate) fn upgrade(session: &Session) -> Result<String, Failure> {
    let answer = asked(&Request::of_upgrade(), &session.client()?)?;
    if session.terminal.json {
        return Ok(json(&answer));
    }
    let line = |what: &str, text: String| vec![what.to_owned(), text];
    let lines = vec![
        line("upgraded", format!("process {}", cell(&answer["pid"]))),
        line("version", cell(&answer["version"])),
        line("connections", cell(&answer["connections"])),
        line("pause", format!("{} ms", cell(&answer["pauseMs"]))),
    ];
    Ok(Table::fields(lines).render(&session.terminal))
}

fn shown(request: &Request, answer: &Value, session: &Session) -> String {
    if session.terminal.json {
        return json(answer);
    }
    render(request, answer, &session.terminal)
}
