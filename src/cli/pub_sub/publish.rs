//! `ringmesh pub`: publishes, and says how long each ack took.

use std::io::{self, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::connect::{ClientArgs, answer_to};
use super::wire::{Connection, End};
use crate::cli::duration::duration_ms;
use crate::cli::failure::Failure;
use crate::cli::numbers::whole_number;
use crate::cli::session::Session;
use crate::cli::terminal::written;

/// Bytes of a message that is read from standard input: more than any server takes.
const DATA_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// Arguments of `ringmesh pub`.
#[derive(Args)]
pub struct PubArgs {
    /// The channel
    #[arg(value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    channel: String,
    /// JSON, or else a text; - reads standard input
    #[arg(
        value_name = "DATA",
        default_value = "-",
        allow_negative_numbers = true
    )]
    data: String,
    /// Publish a text, even where it is JSON
    #[arg(long)]
    raw: bool,
    /// Publish it so many times
    #[arg(long, value_name = "N", default_value = "1", value_parser = whole_number::<u64>)]
    count: u64,
    /// Pause between two of them: 100ms, 5s, 1m
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration_ms)]
    interval: u64,
    /// Who connects, and where.
    #[command(flatten)]
    client: ClientArgs,
}

/// A `publish`, with its data as it was given.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'f> {
    r#type: &'static str,
    channel: &'f str,
    data: &'f RawValue,
    request_id: &'f str,
}

/// Carries `ringmesh pub` out: prints how long each ack took.
///
/// # Errors
/// Bad usage, no server, or one that refuses.
pub(crate) fn publish(
    args: &PubArgs,
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let data = data_of(args, session)?;
    let mut connection = args.client.connect(session)?;
    for number in 0..args.count {
        if number > 0 {
            pause(&mut connection, Duration::from_millis(args.interval))?;
        }
        let id = number.to_string();
        let frame = Frame {
            r#type: "publish",
            channel: &args.channel,
            data: &data,
            request_id: &id,
        };
        let frame = serde_json::to_string(&frame).map_err(Failure::failed)?;
        let begun = Instant::now();
        connection.send(frame)?;
        answer_to(&mut connection, &id)?;
        let took_ms = begun.elapsed().as_secs_f64() * 1_000.0;
        let text = match session.terminal.json {
            true => format!("{}\n", json!({"channel": args.channel, "ackMs": took_ms})),
            false => format!("acked after {took_ms:.1} ms\n"),
        };
        if !written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))? {
            break;
        }
    }
    connection.close();
    Ok(())
}

fn data_of(args: &PubArgs, session: &Session) -> Result<Box<RawValue>, Failure> {
    let mut text = args.data.clone();
    if text == "-" {
        text.clear();
        if io::stdin().is_terminal() {
            session
                .terminal
                .note("the message is read from here; Ctrl-D ends it");
        }
        let mut input = io::stdin().lock().take(DATA_BYTES_MAX);
        let read = input.read_to_string(&mut text);
        read.map_err(|error| Failure::failed(format_args!("standard input: {error}")))?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
    }
    match serde_json::from_str(&text) {
        Ok(json) if !args.raw => Ok(json),
        _ => to_raw_value(&text).map_err(Failure::failed),
    }
}

/// Lets time pass, and answers the server's pings meanwhile.
fn pause(connection: &mut Connection, time: Duration) -> Result<(), End> {
    let begun = Instant::now();
    loop {
        match connection.next_within(time.saturating_sub(begun.elapsed())) {
            Ok(_) => {}
            Err(End::TimedOut) => return Ok(()),
            Err(end) => return Err(end),
        }
    }
}
