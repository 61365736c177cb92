//! `ringmesh events`, `why` and `kick`: what happened to whom, and who has to go.

use std::io::Write;
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::apps::{app_id, app_ids};
use super::arguments::{EventsArgs, KickArgs, TraceArgs, WhyArgs};
use super::client::{AdminClient, Request, Sent};
use super::event_line::event_lines;
use super::failure::Failure;
use super::operate::{asked, confirm, number_of};
use super::session::Session;
use super::table::cell;
use super::terminal::{BAD, GOOD, HEAD, Terminal, json, printable, printable_json, written};

/// Before a stream that ended is asked for again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Carries `ringmesh events` out, printing to `out`; with `--follow` until it is interrupted.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn events(
    args: &EventsArgs,
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let app = match args.app() {
        Some(given) => Some(app_id(Some(given), &session.client()?)?),
        None => None,
    };
    let parameters = args.parameters(app);
    if args.follow {
        return follow(&parameters, session, out);
    }
    let answer = asked(&Request::of_events(&parameters), &session.client()?)?;
    let terminal = &session.terminal;
    let text = match terminal.json {
        true => json(&answer),
        false => list(&answer["events"])
            .iter()
            .map(|it| event_lines(it, terminal))
            .collect(),
    };
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    if list(&answer["events"]).is_empty() {
        terminal.note("no such events; --since 1h looks back further than 15 minutes");
    }
    if answer["complete"] == false {
        terminal.note("the search took too long and was broken off; narrow it");
    }
    lost(&answer["lost"], terminal);
    Ok(())
}

/// Shows what comes. A stream that ends is asked for again, from where it ended.
fn follow(
    parameters: &[(&str, String)],
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let terminal = &session.terminal;
    let request = Request::of_events(parameters);
    let mut last = None;
    let mut is_first = true;
    loop {
        let followed = session.client().and_then(|client| {
            let mut show = |sent: Sent<'_>| shown(&sent, terminal, out);
            client.follow(&request, &mut last, &mut show)
        });
        let cause = match followed {
            Ok(None) => return Ok(()),
            Ok(Some(cause)) => {
                is_first = false;
                cause
            }
            // It may come back, or whatever stands before it.
            Err(failure) if matches!(failure.exit_code, 1 | 3) && !is_first => {
                terminal.detail(&failure.message);
                thread::sleep(RECONNECT_PAUSE);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        terminal.note(&format!("{cause}; connecting again"));
        thread::sleep(RECONNECT_PAUSE);
    }
}

/// Shows one event of a stream. Returns whether somebody still reads.
fn shown(sent: &Sent<'_>, terminal: &Terminal, out: &mut impl Write) -> Result<bool, Failure> {
    let event: Value = serde_json::from_str(sent.data).unwrap_or_default();
    if sent.name == "lost" {
        lost(&event["lost"], terminal);
        return Ok(true);
    }
    let text = match terminal.json {
        true => printable_json(&format!("{}\n", sent.data)),
        false => event_lines(&event, terminal),
    };
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn lost(number: &Value, terminal: &Terminal) {
    if let Some(number) = number.as_u64().filter(|number| *number > 0) {
        let text = "came faster than they were read; narrow what you ask for";
        terminal.note(&format!("{} {text}", number_of(number, "event")));
    }
}

/// Carries `ringmesh why` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn why(args: &WhyArgs, session: &Session) -> Result<String, Failure> {
    let client = session.client()?;
    let app = app_of_story(args.app.as_deref(), &client)?;
    let request = Request::of_why(app.as_deref(), &args.peer, args.since.as_deref());
    let answer = asked(&request, &client)?;
    if session.terminal.json {
        return Ok(json(&answer));
    }
    Ok(story(
        &answer,
        &args.peer,
        Timestamp::now(),
        &session.terminal,
    ))
}

/// The app that was named, or the only one there is; without one all are looked at.
fn app_of_story(app: Option<&str>, client: &AdminClient) -> Result<Option<String>, Failure> {
    if app.is_some() {
        return app_id(app, client).map(Some);
    }
    let mut apps = app_ids(client)?;
    Ok(apps.pop().filter(|_| apps.is_empty()))
}

/// The answer to "why was this peer disconnected?", in sentences.
fn story(answer: &Value, peer: &str, now: Timestamp, terminal: &Terminal) -> String {
    let peer = printable(peer);
    let mut text = match answer["connected"].as_u64() {
        None => String::new(),
        Some(0) => format!("{peer} is not connected.\n"),
        Some(number) => {
            let now = terminal.styled(GOOD, "is connected");
            format!("{peer} {now} now, {}.\n", number_of(number, "time"))
        }
    };
    let stories = list(&answer["stories"]);
    if stories.is_empty() {
        let since = answer["oldest"]["ends"].as_str();
        let since = since.map_or("since the server started".to_owned(), |time| {
            format!("since {}", ago(time, now))
        });
        text += &format!(
            "No end and no refusal of {peer} is known {since}.\nThose whose peer id is not known \
             are among: ringmesh events --kind refused\n"
        );
    }
    for story in stories {
        let end = &story["end"];
        let time = end["time"].as_str().unwrap_or_default();
        let what = terminal.styled(BAD, &cell(&end["text"]));
        text += &format!("\n{}: {what}.\n", capitalised(&ago(time, now)));
        text += &circumstances(end);
        if let Some(remedy) = end["remedy"].as_str() {
            let head = terminal.styled(HEAD, "What to do:");
            text += &format!("{head} {}.\n", printable(remedy));
        }
        let before = list(&story["before"]);
        if !before.is_empty() {
            text += "In the minute before:\n";
            text.extend(before.iter().map(|it| event_lines(it, terminal)));
        }
    }
    text
}

/// Where from, with what, for how long.
fn circumstances(end: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(ms) = end["durationMs"].as_u64() {
        parts.push(format!("for {}", span(ms / 1_000)));
    }
    for (word, field) in [("from", "address"), ("with", "key"), ("of", "app")] {
        if let Some(value) = end[field].as_str() {
            parts.push(format!("{word} {}", printable(value)));
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    let lead = match end["kind"].as_str() {
        Some("closed") => "It had been connected",
        _ => "It came",
    };
    let count = end["count"].as_u64().filter(|count| *count > 1);
    let count = count.map_or(String::new(), |count| {
        format!(", {}", number_of(count, "time"))
    });
    format!("{lead} {}{count}.\n", parts.join(" "))
}

/// How long ago, and when: `4 min ago (12:03:19)`.
fn ago(time: &str, now: Timestamp) -> String {
    let Ok(at) = time.parse::<Timestamp>() else {
        return printable(time);
    };
    let since: SignedDuration = now.duration_since(at);
    let since = u64::try_from(since.as_secs()).unwrap_or_default();
    let clock = time.get(11..19).unwrap_or(time);
    match since {
        0 => format!("just now ({clock})"),
        _ => format!("{} ago ({clock})", span(since)),
    }
}

/// A span of time in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|it| it.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// Carries `ringmesh kick` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow; or nobody of that id is there.
pub(crate) fn kick(args: &KickArgs, session: &Session) -> Result<String, Failure> {
    let client = session.client()?;
    let app = app_id(args.app.as_deref(), &client)?;
    let peer = &args.peer;
    let connection = args.connection.as_deref();
    let gone = || {
        let peer = printable(peer);
        match connection {
            None => Failure::refused(format_args!(
                "{peer} is not connected to {app}; ringmesh why {peer} says since when"
            )),
            Some(id) => Failure::refused(format_args!(
                "{peer} has no connection {} to {app}; ringmesh why {peer} says more",
                printable(id)
            )),
        }
    };
    confirm(args.sure.yes, || {
        if let Some(id) = connection {
            let (id, peer) = (printable(id), printable(peer));
            return Ok(format!("Close connection {id} of {peer} in {app}?"));
        }
        // Without events the server does not say it.
        let story = client.run(&Request::of_why(Some(&app), peer, None));
        let now = story.ok().and_then(|story| story["connected"].as_u64());
        match now {
            Some(0) => Err(gone()),
            Some(number) => {
                let number = number_of(number, "connection");
                Ok(format!("Close {number} of {} in {app}?", printable(peer)))
            }
            None => Ok(format!(
                "Close all connections of {} in {app}?",
                printable(peer)
            )),
        }
    })?;
    let answer = asked(&Request::of_kick(&app, peer, connection), &client)?;
    let closed = answer["closed"].as_u64().unwrap_or_default();
    if closed == 0 {
        return Err(gone());
    }
    Ok(match session.terminal.json {
        true => json(&answer),
        false => format!(
            "closed {} of {}\n",
            number_of(closed, "connection"),
            printable(peer)
        ),
    })
}

/// Carries `ringmesh trace` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn trace(args: &TraceArgs, session: &Session) -> Result<String, Failure> {
    let client = session.client()?;
    let app = app_id(args.app.as_deref(), &client)?;
    let answer = asked(&Request::of_trace(&app, args), &client)?;
    if session.terminal.json {
        return Ok(json(&answer));
    }
    let peer = args.peer.as_deref().map(printable).unwrap_or_default();
    let channel = args.channel.as_deref().map(printable).unwrap_or_default();
    Ok(match args.minutes {
        0 => format!("{peer}{channel} is not traced any more\n"),
        minutes => format!(
            "{peer}{channel} is traced for {}; see them come:\n  ringmesh events --kind traced \
             --follow\n",
            number_of(minutes, "minute"),
        ),
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
