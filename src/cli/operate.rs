//! The operators' commands, carried out against a running server's admin API.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::admin::{AdminAccess, AppArgs, KeyArgs, StatsArgs};
use super::client::{AdminClient, ClientError, Request, render, render_stats};
use super::failure::Failure;
use crate::metrics::report::NodeReport;

/// How often `stats --watch` asks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Clears a terminal and puts the cursor home (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Carries `ringmesh app …` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn app(args: &AppArgs) -> Result<String, Failure> {
    run(&args.access, &Request::of_app(&args.command)?)
}

/// Carries `ringmesh key …` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn key(args: &KeyArgs) -> Result<String, Failure> {
    run(&args.access, &Request::of_key(&args.command))
}

/// Carries `ringmesh stats` out, printing to `out`; with `--watch` until it is interrupted.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub fn stats(args: &StatsArgs, out: &mut impl Write) -> Result<(), Failure> {
    let client = client(&args.access)?;
    let clear = args.watch && !args.access.json && io::stdout().is_terminal();
    let mut earlier: Option<NodeReport> = None;
    loop {
        let answer = match stats_of(&client) {
            Err(ClientError::Unreachable(cause)) if earlier.is_some() => Err(cause),
            answer => Ok(answer.map_err(failure)?),
        };
        let text = match &answer {
            Ok((answer, _)) if args.access.json => json(answer),
            Ok((_, report)) => render_stats(report, earlier.as_ref()),
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
        earlier = answer.ok().map(|(_, report)| report).or(earlier);
        thread::sleep(WATCH_EVERY);
    }
}

/// The node's report, as it was sent and as it is read.
fn stats_of(client: &AdminClient) -> Result<(Value, NodeReport), ClientError> {
    let answer = client.run(&Request::of_stats())?;
    let report = NodeReport::deserialize(&answer).map_err(|error| {
        ClientError::Unreachable(format!(
            "the answer is not that of a ringmesh of this version ({error}): check --admin-url"
        ))
    })?;
    Ok((answer, report))
}

fn run(access: &AdminAccess, request: &Request) -> Result<String, Failure> {
    let answer = client(access)?.run(request).map_err(failure)?;
    if access.json {
        return Ok(json(&answer));
    }
    Ok(render(request, &answer))
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
        ClientError::BadUsage(_) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}
