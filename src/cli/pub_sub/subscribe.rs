//! `ringmesh sub`: prints what is published. A connection that is lost is made again.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};

use super::connect::{ClientArgs, refusal};
use super::wire::{ANSWER_TIME_MAX, Connection, End};
use crate::cli::duration::duration_ms;
use crate::cli::failure::Failure;
use crate::cli::numbers::whole_number;
use crate::cli::session::Session;
use crate::cli::table::cell;
use crate::cli::terminal::printable;
use crate::cli::terminal::written;

/// Pause before a lost connection is tried again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// The token's time is over: a new one is good.
const TOKEN_EXPIRED: u16 = 4_002;

/// Arguments of `ringmesh sub`.
#[derive(Args)]
pub struct SubArgs {
    /// The channels
    #[arg(
        value_name = "CHANNEL", required = true, value_parser = NonEmptyStringValueParser::new()
    )]
    channels: Vec<String>,
    /// Show who is there, comes and goes
    #[arg(long)]
    presence: bool,
    /// Show the sender's metadata
    #[arg(long)]
    metadata: bool,
    /// Show all frames as they are; as JSON those that come
    #[arg(long)]
    frames: bool,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>)]
    count: Option<u64>,
    /// Fail when nothing came for so long: 500ms, 30s, 5m
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
    /// Who connects, and where.
    #[command(flatten)]
    client: ClientArgs,
}

/// Carries `ringmesh sub` out: prints what comes.
///
/// # Errors
/// Bad usage, no server at the start, or one that refuses.
pub(crate) fn subscribe(
    args: &SubArgs,
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut follower = Follower {
        args,
        session,
        out,
        left: args.count,
        heard: Instant::now(),
    };
    let mut connection = args.client.connect(session)?;
    loop {
        let end = match follower.follow(&mut connection)? {
            None => {
                connection.close();
                return Ok(());
            }
            Some(end) => end,
        };
        let is_final = match &end {
            End::TimedOut => true,
            End::Closed(TOKEN_EXPIRED, _) => !args.client.can_renew(),
            // Shutting down, and too slow: the protocol says to come back. What else has a code
            // would find the same again.
            End::Closed(code, _) => !matches!(code, 1_001 | 1_005 | 1_013),
            End::Lost(_) => false,
        };
        if is_final {
            return Err(end.into());
        }
        let text = match &end {
            End::Closed(code, reason) => {
                format!(
                    "the server closed the connection: {code} {}",
                    printable(reason)
                )
            }
            _ => Failure::from(end).message,
        };
        session.terminal.note(&format!("{text}; connecting again"));
        connection = follower.connect_again()?;
    }
}

/// What goes from one connection to the next.
struct Follower<'f, W> {
    args: &'f SubArgs,
    session: &'f Session,
    out: &'f mut W,
    /// Messages that are still wanted.
    left: Option<u64>,
    /// When something came.
    heard: Instant,
}

impl<W: Write> Follower<'_, W> {
    fn connect_again(&self) -> Result<Connection, Failure> {
        let mut pause = PAUSE_MIN;
        loop {
            let left = self.time_left();
            if left.is_some_and(|left| left.is_zero()) {
                return Err(End::TimedOut.into());
            }
            thread::sleep(left.map_or(pause, |left| left.min(pause)));
            match self.args.client.connect(self.session) {
                // It may come back, or whatever stands before it.
                Err(failure) if matches!(failure.exit_code, 1 | 3) => {
                    self.session.terminal.detail(&failure.message);
                }
                outcome => return outcome,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Until nothing may have come for too long.
    fn time_left(&self) -> Option<Duration> {
        let time = Duration::from_millis(self.args.timeout?);
        Some(time.saturating_sub(self.heard.elapsed()))
    }

    /// Prints what comes, until enough has come, which is `None`, or nothing more does.
    fn follow(&mut self, connection: &mut Connection) -> Result<Option<End>, Failure> {
        let welcome = std::mem::take(&mut connection.welcome);
        if self.args.frames && !self.shown(&welcome, '<')? {
            return Ok(None);
        }
        match self.subscribe(connection) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Stop::Failure(failure)) => return Err(failure),
            Err(Stop::End(end)) => return Ok(Some(end)),
        }
        let channels = self.args.channels.join(", ");
        self.session
            .terminal
            .note(&format!("subscribed to {channels}"));
        self.heard = Instant::now();
        while self.left != Some(0) {
            let next = match self.time_left() {
                Some(left) => connection.next_within(left),
                None => connection.next(),
            };
            match next {
                Err(end) => return Ok(Some(end)),
                Ok(text) if !self.take(&text)? => return Ok(None),
                Ok(_) => {}
            }
        }
        Ok(None)
    }

    /// Subscribes to all channels. Returns whether somebody still reads.
    fn subscribe(&mut self, connection: &mut Connection) -> Result<bool, Stop> {
        let args = self.args;
        for (at, channel) in args.channels.iter().enumerate() {
            let mut frame = json!({
                "type": "subscribe", "channel": channel, "requestId": at.to_string(),
            });
            if args.metadata {
                frame["includeSenderMetadata"] = true.into();
            }
            let frame = frame.to_string();
            if args.frames && !self.shown(&frame, '>')? {
                return Ok(false);
            }
            connection.send(frame)?;
        }
        let mut awaited = args.channels.len();
        while awaited > 0 {
            let text = connection.next_within(ANSWER_TIME_MAX)?;
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            awaited -= usize::from(frame["type"] == "ack");
            if !self.take(&text)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes one frame, and shows it if it is wanted. Returns whether somebody still reads.
    fn take(&mut self, text: &str) -> Result<bool, Failure> {
        self.heard = Instant::now();
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        let is_message = frame["type"] == "message";
        if is_message && self.left == Some(0) {
            return Ok(true);
        }
        let is_presence = self.args.presence && frame["type"] == "presence";
        let reads = if self.args.frames {
            self.shown(text, '<')?
        } else if !is_message && !is_presence {
            true
        } else if self.session.terminal.json {
            self.line(text)?
        } else {
            self.line(&line_of(&frame))?
        };
        if frame["type"] == "error" {
            return Err(refusal(&frame));
        }
        if is_message {
            self.left = self.left.map(|left| left - 1);
        }
        Ok(reads)
    }

    /// Shows a frame as it is. Those that are sent are no JSON of the server's.
    fn shown(&mut self, text: &str, direction: char) -> Result<bool, Failure> {
        match (self.session.terminal.json, direction) {
            (true, '>') => Ok(true),
            (true, _) => self.line(text),
            (false, _) => self.line(&format!("{direction} {}", printable(text))),
        }
    }

    fn line(&mut self, line: &str) -> Result<bool, Failure> {
        let out = &mut self.out;
        written(writeln!(out, "{line}").and_then(|()| out.flush()))
    }
}

/// Why there is no subscription.
enum Stop {
    Failure(Failure),
    End(End),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

/// A frame for people.
fn line_of(frame: &Value) -> String {
    let channel = cell(&frame["channel"]);
    if frame["type"] == "message" {
        let from = cell(&frame["from"]);
        let data = printable(&frame["data"].to_string());
        let metadata = frame.get("fromMetadata");
        let metadata = metadata.map_or(String::new(), |it| format!(" {}", cell(it)));
        return format!("{channel}  {from}{metadata}  {data}");
    }
    let part = |list: &str, word: &str| {
        let peers = frame[list].as_array().map_or(&[][..], Vec::as_slice);
        let peers: Vec<_> = peers.iter().map(|peer| cell(&peer["peerId"])).collect();
        (!peers.is_empty()).then(|| format!("  {word}: {}", peers.join(" ")))
    };
    let parts = [part("joined", "here"), part("left", "gone")];
    let parts: String = parts.into_iter().flatten().collect();
    match parts.is_empty() {
        true => format!("{channel}  nobody else is here"),
        false => channel + &parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_in_a_line() {
        for (frame, expected) in [
            (
                json!({"type": "message", "channel": "a", "from": "bob", "data": {"x": "\u{1b}"}}),
                r#"a  bob  {"x":"\u001b"}"#,
            ),
            (
                json!({"type": "message", "channel": "a", "from": "bob", "data": 1,
                    "fromMetadata": {"name": "Bob"}}),
                r#"a  bob {"name":"Bob"}  1"#,
            ),
            (
                json!({"type": "message", "channel": "a", "data": null}),
                "a  -  null",
            ),
            (
                json!({"type": "presence", "channel": "a", "joined": [{"peerId": "b"},
                    {"peerId": "c"}], "left": [{"peerId": "d"}]}),
                "a  here: b c  gone: d",
            ),
            (
                json!({"type": "presence", "channel": "a", "joined": [], "left": []}),
                "a  nobody else is here",
            ),
        ] {
            assert_eq!(line_of(&frame), expected);
        }
    }
}
