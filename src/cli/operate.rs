//! The operators' commands, carried out against a running server's admin API.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::admin::{
    AdminAccess, AppArgs, AppCommand, AppFields, KeyArgs, KeyCommand, KeyFields, StatsArgs,
};
use super::failure::Failure;
use crate::control::SecretText;
use crate::control::client::{
    AdminClient, AdminCommand, AppChanges, ClientError, KeyChanges, TurnChanges, render,
    render_stats,
};
use crate::control::record::{AppStatus, DirectScope, KeyType};

/// How often `stats --watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and puts the cursor home (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Carries `ringmesh app …` out. Answers what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn app(args: AppArgs) -> Result<String, Failure> {
    let command = match args.command {
        AppCommand::Create { app, fields } => AdminCommand::CreateApp(app, changes(*fields)?),
        AppCommand::List => AdminCommand::ListApps,
        AppCommand::Show(id) => AdminCommand::ShowApp(id.app),
        AppCommand::Update { app, fields } => AdminCommand::UpdateApp(app.app, changes(*fields)?),
        AppCommand::Delete(id) => AdminCommand::DeleteApp(id.app),
    };
    run(&args.access, &command)
}

/// Carries `ringmesh key …` out. Answers what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn key(args: KeyArgs) -> Result<String, Failure> {
    let command = match args.command {
        KeyCommand::Create {
            app,
            key_type,
            fields,
        } => {
            let key_type = match key_type.as_str() {
                "secret" => KeyType::Secret,
                _ => KeyType::Publishable,
            };
            AdminCommand::CreateKey(app.app, key_type, key_changes(fields))
        }
        KeyCommand::List(app) => AdminCommand::ListKeys(app.app),
        KeyCommand::Show(id) => AdminCommand::ShowKey(id.key),
        KeyCommand::Update { key, fields } => AdminCommand::UpdateKey(key.key, key_changes(fields)),
        KeyCommand::Rotate { key, grace } => AdminCommand::RotateKey(key.key, Some(grace)),
        KeyCommand::Revoke(id) => AdminCommand::RevokeKey(id.key),
    };
    run(&args.access, &command)
}

/// Carries `ringmesh stats` out, printing to `out`; with `--watch` until it is interrupted.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn stats(args: &StatsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let client = client(&args.access)?;
    let clear = args.watch && !args.access.json && io::stdout().is_terminal();
    let mut earlier: Option<Value> = None;
    loop {
        let answer = match client.run(&AdminCommand::Stats) {
            Err(ClientError::Unreachable(cause)) if earlier.is_some() => Err(cause),
            answer => Ok(answer.map_err(failure)?),
        };
        let text = match &answer {
            Ok(answer) if args.access.json => json(answer),
            Ok(answer) => render_stats(answer, earlier.as_ref()),
            // It may come back: who watches wants to see that.
            Err(cause) => format!("{cause}\n"),
        };
        let text = if clear {
            format!("{CLEAR}{text}")
        } else {
            text
        };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read us has had enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome.map_err(Failure::failed)?,
        }
        if !args.watch {
            return Ok(());
        }
        earlier = answer.ok().or(earlier);
        thread::sleep(WATCH_EVERY);
    }
}

fn run(access: &AdminAccess, command: &AdminCommand) -> Result<String, Failure> {
    let answer = client(access)?.run(command).map_err(failure)?;
    if access.json {
        return Ok(json(&answer));
    }
    Ok(render(command, &answer))
}

fn client(access: &AdminAccess) -> Result<AdminClient, Failure> {
    let token = access.admin_token.as_deref().ok_or_else(|| {
        Failure::usage(
            "no admin token: set RINGMESH_ADMIN_TOKEN to what is in the server's admin.token, or \
             give --admin-token",
        )
    })?;
    AdminClient::new(&access.admin_url, token).map_err(failure)
}

fn json(answer: &Value) -> String {
    format!("{answer:#}\n")
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Usage(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

fn changes(fields: AppFields) -> Result<AppChanges, Failure> {
    Ok(AppChanges {
        turn: turn(&fields)?,
        name: fields.name,
        // The parser lets nothing else through.
        status: fields.status.map(|text| match text.as_str() {
            "suspended" => AppStatus::Suspended,
            _ => AppStatus::Active,
        }),
        direct_scope: fields.direct_scope.map(|text| match text.as_str() {
            "shared-channel" => DirectScope::SharedChannel,
            _ => DirectScope::App,
        }),
        plan_name: fields.plan_name,
        connections_max: fields.max_connections,
        messages_max: fields.max_messages,
        overages_allowed: fields.overages_allowed,
        overages_enabled: fields.overages_enabled,
        period_start_unix: fields.period_start,
        period_days: fields.period_days,
        message_limits: fields.message_rate.zip(fields.message_burst),
    })
}

/// An empty list of URLs takes the TURN servers away.
fn turn(fields: &AppFields) -> Result<Option<TurnChanges>, Failure> {
    let secret = fields
        .turn_secret_file
        .as_deref()
        .map(secret_file)
        .transpose()?;
    let urls = fields.turn_urls.as_ref();
    if urls.is_some_and(|urls| urls.iter().all(String::is_empty)) {
        return Ok(Some(TurnChanges::Remove));
    }
    if urls.is_none() && secret.is_none() && fields.turn_ttl.is_none() {
        return Ok(None);
    }
    let urls = urls.cloned().unwrap_or_default();
    Ok(Some(TurnChanges::Set {
        urls,
        secret,
        ttl_sec: fields.turn_ttl,
    }))
}

fn secret_file(path: &Path) -> Result<SecretText, Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format_args!(
            "--turn-secret-file: {}: {error}; name a readable file",
            path.display()
        ))
    })?;
    Ok(SecretText::new(text.trim_end().to_owned()))
}

fn key_changes(fields: KeyFields) -> KeyChanges {
    KeyChanges {
        name: fields.name,
        channel_patterns: fields.channels,
        actions: fields.actions,
        allowed_origins: fields.origins,
        auto_inject_turn: fields.auto_inject_turn,
    }
}
