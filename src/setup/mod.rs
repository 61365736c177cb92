//! `ringmesh init`: a configuration, a store, an app and its first keys. Nothing that exists is
//! touched without `--force`, and a step that fails takes the others back.

mod plan;
mod system;
mod undo;

use std::path::Path;

use serde_json::{Value, json};

use crate::bounded_file::{self, PEM_BYTES_MAX};
use crate::cli::{Failure, InitArgs, Session, env_file, print};
use crate::config::Config;
use crate::control::{Change, Object, OfflineStore};
use plan::Plan;
use system::System;
use undo::Undo;

/// Carries `ringmesh init` out. `now_unix_ms` is when app and keys are made.
///
/// # Errors
/// Something is there already, cannot be made, or is bad usage.
pub(crate) fn run(args: &InitArgs, now_unix_ms: u64, session: &Session) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    if args.dry_run {
        return print(plan.described());
    }
    plan.check_free(args.force)?;
    if let Some(path) = &args.env {
        plan.check_env(path, args.force)?;
    }
    let mut undo = Undo::default();
    let system = args.system.then(|| System::prepare(&plan, &mut undo));
    let system = system.transpose()?;
    undo.directory(&plan.config_dir(), 0o755)?;
    for (path, mode, content) in plan.files() {
        if let Some(parent) = path.parent() {
            undo.directory(parent, 0o755)?;
        }
        undo.file(path, *mode, content)?;
    }
    if let Some((from, to)) = plan.certificate() {
        copy_certificate(from, to, &mut undo)?;
    }
    // What would be refused later is refused now.
    Config::load(&plan.config, &session.environment).map_err(Failure::usage)?;
    if undo.directory(&plan.data_dir, 0o700)? {
        session
            .terminal
            .detail(&format!("made {}", plan.data_dir.display()));
    }
    let keys = first_keys(&plan, now_unix_ms)?;
    let env = keys.iter().map(env_file).collect::<String>();
    let env = plan
        .url()
        .map_or(env.clone(), |url| format!("RINGMESH_URL={url}\n{env}"));
    let env = without_repetitions(&env);
    if let Some(path) = &args.env {
        undo.file(path, 0o600, &env)?;
    }
    if let Some(system) = system {
        system.hand_over(&plan)?;
    }
    undo.keep();
    report(&plan, &keys, &env, args, session)
}

fn copy_certificate(from: [&Path; 2], to: [&Path; 2], undo: &mut Undo) -> Result<(), Failure> {
    for (from, to) in from.into_iter().zip(to) {
        let content = bounded_file::read_text(from, PEM_BYTES_MAX)
            .map_err(|error| undo::failure(from, &error))?;
        if let Some(parent) = to.parent() {
            undo.directory(parent, 0o755)?;
        }
        undo.file(to, 0o640, &content)?;
    }
    Ok(())
}

/// The app, a publishable key and a secret one, as the admin API shows them.
fn first_keys(plan: &Plan, now_unix_ms: u64) -> Result<Vec<Value>, Failure> {
    let bad = |error: crate::control::ControlError| match error {
        crate::control::ControlError::Conflict(text) => {
            Failure::usage(format_args!("{text}; give another --app"))
        }
        crate::control::ControlError::Invalid(text) => {
            Failure::usage(format_args!("--app: {text}"))
        }
        error => Failure::failed(error),
    };
    let master_key = plan.data_dir.join("master.key");
    let mut store = OfflineStore::open(&plan.data_dir, &master_key).map_err(bad)?;
    let app = object(json!({"appId": plan.app, "name": plan.app}));
    store
        .change(Change::CreateApp(app), now_unix_ms)
        .map_err(bad)?;
    let mut keys = Vec::new();
    for (kind, actions) in [
        ("publishable", &["subscribe", "publish", "presence"][..]),
        ("secret", &["publish", "subscribe", "presence", "send"]),
    ] {
        let body = object(json!({
            "type": kind, "name": kind, "channelPatterns": ["**"], "actions": actions,
        }));
        let app_id = plan.app.clone();
        let change = Change::CreateKey { app_id, body };
        let made = store.change(change, now_unix_ms).map_err(bad)?;
        // An answer of the admin API is JSON by its type.
        keys.push(serde_json::to_value(&made).unwrap_or_default());
    }
    Ok(keys)
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

/// Both keys are of one app: it is named once.
fn without_repetitions(env: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in env.lines() {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n") + "\n"
}

fn report(
    plan: &Plan,
    keys: &[Value],
    env: &str,
    args: &InitArgs,
    session: &Session,
) -> Result<(), Failure> {
    let next = plan.next_commands();
    if session.terminal.json {
        let shown = args.env.is_none().then_some(keys);
        let answer = json!({
            "config": plan.config, "dataDir": plan.data_dir, "appId": plan.app, "keys": shown,
            "env": args.env, "next": next,
        });
        return print(format!("{answer:#}\n"));
    }
    let mut text = format!(
        "made {}\nmade {}\n",
        plan.config.display(),
        plan.data_dir.display()
    );
    for (path, ..) in plan.files().iter().skip(1) {
        text += &format!("made {}\n", path.display());
    }
    match &args.env {
        Some(path) => text += &format!("made {}, with the secrets\n", path.display()),
        None => text += &format!("\n{env}\nThe secrets are not shown again.\n"),
    }
    text += &format!(
        "Keep a copy of {} elsewhere.\n\nNext:\n",
        plan.data_dir.join("master.key").display()
    );
    for command in next {
        text += &format!("  {command}\n");
    }
    print(text)
}
