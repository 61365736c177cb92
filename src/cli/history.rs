//! `ringmesh history`: what a channel keeps of its publications, and forgetting it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::app::Sure;
use super::apps::app_id;
use super::client::{AdminClient, ClientError, Request};
use super::failure::Failure;
use super::history_page::{Kept, compact};
use super::operate::{asked, confirm, explained, number_of};
use super::session::Session;
use super::terminal::{Terminal, json, printable, printable_json, written};
use crate::proto::wire::name::validate_channel_name;

/// Between two looks for what was published, and before a server that does not answer is asked
/// again.
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `ringmesh history`.
#[derive(Args)]
pub struct HistoryArgs {
    /// The channel
    #[arg(value_name = "CHANNEL", value_parser = NonEmptyStringValueParser::new())]
    channel: String,
    /// Its app, by id or name [default: the only one there is]
    #[arg(long, value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    app: Option<String>,
    /// Only what follows this position: q7Zk2wAb:41, or 41 of the present epoch
    // An epoch may begin with a hyphen.
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    since: Option<String>,
    /// So many, 1 to 1000 [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    limit: Option<String>,
    /// The oldest first, or the newest [default: asc]
    #[arg(long, value_name = "ORDER", value_parser = ["asc", "desc"])]
    order: Option<String>,
    /// The newest first, as --order desc
    #[arg(short, long, conflicts_with = "order")]
    reverse: bool,
    /// Go on showing what is published, behind the newest that are kept
    #[arg(short, long, conflicts_with_all = ["order", "reverse"])]
    follow: bool,
    /// Forget all of it, and begin another numbering
    #[arg(long, conflicts_with_all = ["since", "limit", "order", "reverse", "follow"])]
    forget: bool,
    /// Whether to ask before it is forgotten.
    #[command(flatten)]
    sure: Sure,
}

/// A channel whose history is looked at.
struct Channel<'s> {
    client: AdminClient,
    terminal: &'s Terminal,
    app: String,
    name: &'s str,
}

type Parameters = Vec<(&'static str, String)>;

/// Carries `ringmesh history` out, printing to `out`; with `--follow` until it is interrupted.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow: it may keep nothing of the
/// channel, or not what was asked for.
pub(crate) fn history(
    args: &HistoryArgs,
    session: &Session,
    out: &mut impl Write,
) -> Result<(), Failure> {
    validate_channel_name(&args.channel).map_err(|_| {
        Failure::usage("CHANNEL: must have 1 to 256 bytes and no control characters")
    })?;
    let client = session.client()?;
    let channel = Channel {
        app: app_id(args.app.as_deref(), &client)?,
        client,
        terminal: &session.terminal,
        name: &args.channel,
    };
    match (args.forget, args.follow) {
        (true, _) => channel.forget(args.sure, out),
        (false, true) => channel.follow(args, out),
        (false, false) => channel.show(args, out),
    }
}

impl HistoryArgs {
    /// What was given, by the names of the admin API.
    fn parameters(&self) -> Parameters {
        let order = match self.reverse {
            true => Some("desc".to_owned()),
            false => self.order.clone(),
        };
        let all = [
            ("since", self.since.clone()),
            ("limit", self.limit.clone()),
            ("order", order),
        ];
        let given = all.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

impl Channel<'_> {
    fn page(&self, parameters: &Parameters) -> Result<String, ClientError> {
        let request = Request::of_history(&self.app, self.name, parameters);
        let body = self.client.download(&request)?;
        String::from_utf8(body).map_err(|_| ClientError::Failed("the answer is no text".to_owned()))
    }

    fn kept<'b>(&self, body: &'b str) -> Result<Kept<'b>, Failure> {
        Kept::read(body).map_err(|error| {
            Failure::failed(format_args!(
                "the answer is none that this version knows: {error}"
            ))
        })
    }

    fn show(&self, args: &HistoryArgs, out: &mut impl Write) -> Result<(), Failure> {
        let parameters = args.parameters();
        let body = self.page(&parameters);
        let body = body.map_err(|error| explained(error, &self.client))?;
        let kept = self.kept(&body)?;
        let text = match self.terminal.json {
            true => printable_json(&format!("{}\n", compact(&body))),
            false => kept.head(self.terminal) + &kept.rows(self.terminal, true),
        };
        print(&text, out)?;
        let is_newest_first = parameters.contains(&("order", "desc".to_owned()));
        match kept.next() {
            Some(next) if !is_newest_first => {
                self.terminal
                    .note(&format!("there is more: --since {next} goes on"));
            }
            Some(_) => self
                .terminal
                .note("there is more, and older; --limit takes up to 1000"),
            None => {}
        }
        Ok(())
    }

    /// Shows the newest, or what follows a position, and then what comes.
    fn follow(&self, args: &HistoryArgs, out: &mut impl Write) -> Result<(), Failure> {
        let mut parameters = args.parameters();
        if args.since.is_none() {
            parameters.push(("order", "desc".to_owned()));
        }
        let body = self.page(&parameters);
        let body = body.map_err(|error| explained(error, &self.client))?;
        let mut kept = self.kept(&body)?;
        if args.since.is_none() {
            kept.messages.reverse();
        }
        let head = match self.terminal.json {
            true => String::new(),
            false => kept.head(self.terminal),
        };
        let mut is_read = print(&(head + &self.lines(&kept, true)), out)?;
        let mut at = kept.end(args.since.is_none());
        let mut has_more = kept.more && args.since.is_some();
        while is_read {
            if !has_more {
                thread::sleep(PAUSE);
            }
            has_more = false;
            let body = match self.page(&vec![("since", at.clone())]) {
                Ok(body) => body,
                Err(error @ ClientError::Refused(404 | 410, _)) => {
                    at = self.behind_a_gap(&error)?;
                    continue;
                }
                // It may come back, or whatever stands before it.
                Err(ClientError::Unreachable(cause) | ClientError::Failed(cause)) => {
                    self.terminal.detail(&cause);
                    continue;
                }
                Err(error) => return Err(explained(error, &self.client)),
            };
            let kept = self.kept(&body)?;
            is_read = print(&self.lines(&kept, false), out)?;
            has_more = kept.more;
            at = kept.end(false);
        }
        Ok(())
    }

    fn lines(&self, kept: &Kept<'_>, with_heads: bool) -> String {
        match self.terminal.json {
            true => kept.lines(),
            false => kept.rows(self.terminal, with_heads),
        }
    }

    /// Tells that publications are missing. Returns the position before the oldest that is kept.
    fn behind_a_gap(&self, lost: &ClientError) -> Result<String, Failure> {
        self.terminal
            .note(&format!("here something is missing: {lost}"));
        loop {
            match self.page(&vec![("limit", "1".to_owned())]) {
                Ok(body) => return Ok(self.kept(&body)?.begin()),
                // Nothing is kept now: it may be again.
                Err(
                    ClientError::Refused(404, _)
                    | ClientError::Unreachable(_)
                    | ClientError::Failed(_),
                ) => thread::sleep(PAUSE),
                Err(error) => return Err(explained(error, &self.client)),
            }
        }
    }

    fn forget(&self, sure: Sure, out: &mut impl Write) -> Result<(), Failure> {
        confirm(sure.yes, || {
            let body = self.page(&vec![("limit", "1".to_owned())]);
            let body = body.map_err(|error| explained(error, &self.client))?;
            let count = number_of(self.kept(&body)?.count, "publication");
            let (app, name) = (&self.app, printable(self.name));
            Ok(format!("Forget {count} that {app} keeps of {name}?"))
        })?;
        let answer = asked(&Request::of_forgetting(&self.app, self.name), &self.client)?;
        let deleted = answer["deleted"].as_u64().unwrap_or_default();
        let text = match self.terminal.json {
            true => json(&answer),
            false => {
                let count = number_of(deleted, "publication");
                format!("forgot {count} of {}\n", printable(self.name))
            }
        };
        print(&text, out).map(|_| ())
    }
}

/// Returns whether somebody still reads.
fn print(text: &str, out: &mut impl Write) -> Result<bool, Failure> {
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

#[cfg(test)]
mod tests {
    use crate::cli::{CliCommand, parse};

    fn parameters(line: &str) -> Option<Vec<(&'static str, String)>> {
        let parsed = parse(line.split(' ').map(Into::into)).ok()?;
        match parsed.command {
            CliCommand::History(args) => Some(args.parameters()),
            _ => None,
        }
    }

    #[test]
    fn what_is_asked_for_is_what_was_typed() {
        for (words, expected) in [
            ("", &[][..]),
            ("--since 41 --limit 5", &[("since", "41"), ("limit", "5")]),
            ("--order desc", &[("order", "desc")]),
            (
                "-r --since q7Zk2wAb:41",
                &[("since", "q7Zk2wAb:41"), ("order", "desc")],
            ),
            ("--since -5ai2Cvu:6", &[("since", "-5ai2Cvu:6")]),
            ("--limit -1", &[("limit", "-1")]),
            ("--follow --limit 9", &[("limit", "9")]),
            ("--forget --yes", &[]),
        ] {
            let line = format!("ringmesh history room {words}");
            let got = parameters(line.trim_end()).unwrap();
            let got: Vec<_> = got.iter().map(|(name, value)| (*name, &**value)).collect();
            assert_eq!(got, expected, "{line}");
        }
        for words in [
            "",
            "room --order up",
            "room --order asc --reverse",
            "room --follow --reverse",
            "room --forget --limit 1",
            "room --forget --since 1",
            "room --forget --follow",
        ] {
            let line = format!("ringmesh history {words}");
            assert_eq!(parameters(line.trim_end()), None, "{line}");
        }
    }
}
