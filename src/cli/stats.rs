//! `ringmesh stats`: once, again and again, or as pages on a terminal.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::arguments::StatsArgs;
use super::client::{AdminClient, ClientError, Part, Request, render_stats};
use super::event_line::event_lines;
use super::failure::Failure;
use super::session::Session;
use super::terminal::{BAD, DOUBTFUL, Terminal, json, printable, printable_json, told, written};
use super::watch::{self, Page, State};
use crate::metrics::report::NodeReport;

/// Events that a page asks for: more than a screen has lines.
const EVENTS_ASKED: &str = "100";

/// Carries `ringmesh stats` out, printing to `out`; with `--watch` until it is interrupted.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn stats(
    args: &StatsArgs,
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let client = session.client()?;
    let terminal = &session.terminal;
    let is_seen = io::stdout().is_terminal() && io::stdin().is_terminal();
    if let Some(seconds) = args.watch
        && is_seen
        && !terminal.json
    {
        return pages(args, seconds, &client, terminal);
    }
    let parts = parts_of(args);
    for line in warnings_of(&client, terminal)? {
        terminal.note_in_colour(&line);
    }
    let mut earlier: Option<NodeReport> = None;
    loop {
        let answer = match stats_of(&client) {
            Err(ClientError::Unreachable(cause)) if earlier.is_some() => Err(cause),
            answer => Ok(answer?),
        };
        let text = match &answer {
            // One answer a line, for whoever reads a stream.
            Ok((answer, _)) if terminal.json && args.watch.is_some() => {
                printable_json(&format!("{answer}\n"))
            }
            Ok((answer, _)) if terminal.json => json(answer),
            Ok((_, report)) => render_stats(report, earlier.as_ref(), &parts, 0, terminal),
            // It may come back: who watches wants to see that.
            Err(cause) if terminal.json => {
                terminal.note(cause);
                String::new()
            }
            Err(cause) => format!("{}\n", told(cause)),
        };
        let reads = written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
        let Some(seconds) = args.watch.filter(|_| reads) else {
            return Ok(());
        };
        earlier = answer.ok().map(|(_, report)| report).or(earlier);
        thread::sleep(Duration::from_secs(seconds));
    }
}

/// What was asked for; without anything, what most want to see.
fn parts_of(args: &StatsArgs) -> Vec<Part> {
    let chosen = [
        (args.shards, Part::Shards),
        (args.latency, Part::Latency),
        (args.connections, Part::Connections),
    ];
    let chosen: Vec<_> = chosen.into_iter().filter(|(is_it, _)| *is_it).collect();
    let mut parts = vec![Part::Node];
    match chosen.is_empty() {
        true => parts.extend([Part::Shards, Part::Latency]),
        false => parts.extend(chosen.into_iter().map(|(_, part)| part)),
    }
    parts
}

/// What a page is made of.
#[derive(Default)]
struct Known {
    report: NodeReport,
    earlier: Option<NodeReport>,
    events: Vec<Value>,
    warnings: Vec<String>,
    /// Why there is nothing newer.
    fault: Option<String>,
}

fn pages(
    args: &StatsArgs,
    seconds: u64,
    client: &AdminClient,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let page = match (args.shards, args.connections) {
        (true, _) => Page::Shards,
        (_, true) => Page::Connections,
        _ => Page::Overview,
    };
    let mut last: Option<NodeReport> = None;
    let ask = |state: &State| -> Result<Known, Failure> {
        let (report, fault) = match stats_of(client) {
            Ok((_, report)) => (report, None),
            Err(ClientError::Unreachable(cause)) if last.is_some() => {
                (last.clone().unwrap_or_default(), Some(cause))
            }
            Err(error) => return Err(error.into()),
        };
        let mut known = Known {
            earlier: last.take(),
            fault,
            ..Known::default()
        };
        last = Some(report.clone());
        known.report = report;
        if state.page == Page::Overview && known.fault.is_none() {
            known.warnings = warnings_of(client, terminal).unwrap_or_default();
        }
        if state.page == Page::Events && known.fault.is_none() {
            let limit = [("limit", EVENTS_ASKED.to_owned())];
            match client.run(&Request::of_events(&limit)) {
                Ok(answer) => {
                    known.events = answer["events"].as_array().cloned().unwrap_or_default()
                }
                Err(error) => known.fault = Some(error.to_string()),
            }
        }
        Ok(known)
    };
    watch::run(Duration::from_secs(seconds), page, *terminal, ask, shown)
}

/// A page of what is known.
fn shown(known: &Known, state: &State, terminal: &Terminal) -> String {
    let parts = state.page.parts();
    let (report, earlier) = (&known.report, known.earlier.as_ref());
    let mut text = String::new();
    if let Some(fault) = &known.fault {
        text += &format!("{}\n\n", told(fault));
    }
    for line in &known.warnings {
        text += &format!("{line}\n");
    }
    if state.page != Page::Events {
        return text + &render_stats(report, earlier, parts, state.order, terminal);
    }
    let events = known.events.iter();
    text + &events
        .map(|event| event_lines(event, terminal))
        .collect::<String>()
}

/// What somebody should look at, a line each.
///
/// # Errors
/// `Unreachable`: there is nobody who would tell the figures either.
fn warnings_of(client: &AdminClient, terminal: &Terminal) -> Result<Vec<String>, ClientError> {
    let answer = match client.run(&Request::of_warnings()) {
        Ok(answer) => answer,
        Err(error @ ClientError::Unreachable(_)) => return Err(error),
        // Whoever asked for figures gets them, with or without these.
        Err(_) => return Ok(Vec::new()),
    };
    let warnings = answer["warnings"].as_array().into_iter().flatten();
    let line = |warning: &Value| {
        let of = |field: &str| printable(warning[field].as_str().unwrap_or_default());
        let style = if warning["severity"] == "critical" {
            BAD
        } else {
            DOUBTFUL
        };
        let head = terminal.styled(style, &of("severity"));
        format!("{head}: {}; {}", of("text"), of("remedy"))
    };
    Ok(warnings.map(line).collect())
}

/// The node's report, as it was sent and as it is read.
fn stats_of(client: &AdminClient) -> Result<(Value, NodeReport), ClientError> {
    let answer = client.run(&Request::of_stats())?;
    let report = NodeReport::deserialize(&answer).map_err(|error| {
        ClientError::Failed(format!(
            "the answer is not that of a ringmesh of this version ({error}): check --admin-url"
        ))
    })?;
    Ok((answer, report))
}
