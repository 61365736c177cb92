//! One event of the admin API as a line for people, fitted to their terminal.
//!
//! `12:03:19 closed       alice            1013 took too little of what it was sent  after 8.1 s`

use serde_json::Value;

use super::table::{at_the_end, in_the_middle};
use super::terminal::{BAD, DOUBTFUL, GOOD, Terminal, printable};
use anstyle::Style;

/// Columns of the kind: the longest is `unsubscribed`.
const KIND_COLUMNS: usize = 12;
/// Columns of whom it is about, at least and at most.
const WHO_COLUMNS: (usize, usize) = (12, 24);
/// Columns of the time.
const TIME_COLUMNS: usize = 8;
/// Narrower terminals are written to as if they had so many columns.
const COLUMNS_MIN: usize = 40;
/// Lines that a remedy takes at most.
const REMEDY_LINES_MAX: usize = 3;
/// What stands before a remedy on a line of its own.
const ARROW: &str = "→ ";
const DIM: Style = Style::new().dimmed();

/// Returns an event as lines, each with its end: what happened, and below it what to do, where both
/// do not fit on one line.
#[must_use]
pub(crate) fn event_lines(event: &Value, terminal: &Terminal) -> String {
    let kind = text(event, "kind");
    let width = terminal.width.map(|it| it.max(COLUMNS_MIN));
    let (least, most) = match width {
        // What happened has half of what is left of a narrow terminal.
        Some(width) => {
            let most = ((width - TIME_COLUMNS - KIND_COLUMNS - 2) / 2).min(WHO_COLUMNS.1);
            (WHO_COLUMNS.0.min(most), most)
        }
        None => WHO_COLUMNS,
    };
    let who = in_the_middle(&who(event), most);
    let time = text(event, "time").get(11..19).unwrap_or("--:--:--");
    let kind_shown = format!("{kind:<KIND_COLUMNS$}");
    let padding = least.saturating_sub(who.chars().count());
    let before = TIME_COLUMNS + 1 + KIND_COLUMNS + 1 + who.chars().count() + padding + 1;
    let mut what = what(event);
    if let Some(width) = width {
        what = at_the_end(&what, width.saturating_sub(before).max(1));
    }
    let used = before + what.chars().count();
    let mut lines = format!(
        "{time} {} {who}{} {what}",
        terminal.styled(style(event), &kind_shown),
        " ".repeat(padding),
    );
    let remedy = printable(remedy(event));
    let remedy_columns = remedy.chars().count();
    if remedy.is_empty() {
    } else if width.is_none_or(|width| used + 3 + remedy_columns <= width) {
        lines += "   ";
        lines += &terminal.styled(DIM, &remedy);
    } else if let Some(width) = width {
        let indent = TIME_COLUMNS + 1;
        let room = width - indent - ARROW.chars().count();
        for (at, part) in wrapped(&remedy, room).iter().enumerate() {
            let lead = if at == 0 { ARROW } else { "  " };
            lines += &format!("\n{}", " ".repeat(indent));
            lines += &terminal.styled(DIM, &format!("{lead}{part}"));
        }
    }
    // Spaces at the end of a line are nobody's.
    let mut ended = String::new();
    for line in lines.lines() {
        ended += line.trim_end();
        ended.push('\n');
    }
    ended
}

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

/// Whom it is about: of somebody who was refused, where that came from.
fn who(event: &Value) -> String {
    let names: &[&str] = match text(event, "kind") {
        "refused" => &["address", "peer"],
        "rights" => &["object", "app"],
        "quota" => &["app"],
        "certificate" => &["names"],
        _ => &["peer", "address", "app"],
    };
    let mut found = names.iter().map(|name| text(event, name));
    let found = found.find(|it| !it.is_empty());
    printable(found.unwrap_or("-"))
}

/// What happened, without whom it is about.
fn what(event: &Value) -> String {
    let said = text(event, "text");
    // The server's sentence: `alice closed 1013: took …`.
    let because = said.split_once(": ").map_or(said, |(_, because)| because);
    let what = match text(event, "kind") {
        "refused" => {
            let about = [text(event, "key"), text(event, "peer")];
            let about = about.iter().filter(|it| !it.is_empty());
            let about: Vec<_> = about.copied().collect();
            match about.is_empty() {
                true => because.to_owned(),
                false => format!("{because} ({})", about.join(", ")),
            }
        }
        "closed" => format!("{} {because}", event["code"]),
        "error" => {
            let about = [text(event, "channel"), text(event, "to")].concat();
            let space = if about.is_empty() { "" } else { " " };
            format!("{}{space}{about}: {because}", text(event, "code"))
        }
        "subscribed" | "unsubscribed" => text(event, "channel").to_owned(),
        "opened" => {
            let key = text(event, "key");
            format!(
                "{} {key} from {}",
                text(event, "credential"),
                text(event, "address")
            )
        }
        "held" => format!("{} ms: {because}", event["heldMs"]),
        _ => {
            let who = format!("{} ", who(event));
            said.strip_prefix(&who).unwrap_or(said).to_owned()
        }
    };
    let mut what = printable(&what);
    let number = |name: &str| event[name].as_u64();
    if let Some(count) = number("count").filter(|count| *count > 1) {
        what += &format!("  x{count}");
    }
    if let Some(took_us) = number("tookUs").or_else(|| number("handshakeUs")) {
        what += &format!("  after {}", span(took_us as f64 / 1e3));
    }
    if let Some(duration_ms) = number("durationMs") {
        what += &format!("  after {}", span(duration_ms as f64));
    }
    what
}

/// A span of time, given in milliseconds.
fn span(ms: f64) -> String {
    match ms {
        0.0..1_000.0 => format!("{ms:.1} ms"),
        1_000.0..60_000.0 => format!("{:.1} s", ms / 1e3),
        60_000.0..3_600_000.0 => format!("{:.1} min", ms / 60_000.0),
        _ => format!("{:.1} h", ms / 3_600_000.0),
    }
}

/// What to do; nothing where nothing is to be done.
fn remedy(event: &Value) -> &str {
    let remedy = text(event, "remedy");
    match remedy.starts_with("nothing") {
        true => "",
        false => remedy,
    }
}

/// Whether somebody should look at it.
fn style(event: &Value) -> Style {
    match text(event, "kind") {
        "opened" | "subscribed" | "refreshed" => GOOD,
        "unsubscribed" | "node" | "rights" => Style::new(),
        "closed" => match text(event, "cause") {
            "client_close" | "client_gone" | "drain" | "shutdown" => Style::new(),
            _ => BAD,
        },
        "refused" | "error" => BAD,
        _ => DOUBTFUL,
    }
}

/// The text in lines of so many columns, broken between words; what is too long for them ends with
/// an ellipsis.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if lines.len() + 1 == REMEDY_LINES_MAX || rest.chars().count() <= columns {
            lines.push(at_the_end(rest, columns));
            break;
        }
        // There is one more character than fits, so a space behind a whole word is seen.
        let end = rest.char_indices().nth(columns + 1);
        let end = end.map_or(rest.len(), |(at, _)| at);
        let at = rest[..end].rfind(' ').filter(|at| *at > 0);
        let Some(at) = at else {
            lines.push(at_the_end(rest, columns));
            break;
        };
        lines.push(rest[..at].to_owned());
        rest = rest[at..].trim_start();
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn terminal(width: Option<usize>) -> Terminal {
        Terminal {
            width,
            ..Terminal::default()
        }
    }

    fn closed() -> Value {
        json!({
            "time": "2026-03-01T12:03:19.114Z", "kind": "closed", "peer": "alice",
            "address": "203.0.113.9", "code": 4011, "by": "server", "cause": "message_rate",
            "durationMs": 8_100, "count": 1,
            "text": "alice closed 4011: more messages than the rate allows",
            "remedy": "send less often, or raise limits.message_rate and message_burst",
        })
    }

    #[test]
    fn an_event_is_a_line_and_its_remedy_stands_where_it_fits() {
        let what = "12:03:19 closed       alice        4011 more messages than the rate allows  \
                    after 8.1 s";
        let remedy = "send less often, or raise limits.message_rate and message_burst";
        let one = format!("{what}   {remedy}\n");
        assert_eq!(event_lines(&closed(), &terminal(None)), one);
        assert_eq!(event_lines(&closed(), &terminal(Some(200))), one);
        let two = format!("{what}\n         → {remedy}\n");
        assert_eq!(event_lines(&closed(), &terminal(Some(100))), two);
        assert_eq!(
            event_lines(&closed(), &terminal(Some(60))),
            "12:03:19 closed       alice        4011 more messages than …\n\
            \x20        → send less often, or raise limits.message_rate and\n\
            \x20          message_burst\n"
        );
    }

    #[test]
    fn each_kind_says_what_matters() {
        for (event, expected) in [
            (
                json!({"kind": "refused", "address": "203.0.113.9", "peer": "alice",
                    "key": "sk_id_Cqh", "status": 401, "count": 14,
                    "text": "alice refused 401: the token has expired",
                    "remedy": "mint a new one"}),
                "refused      203.0.113.9  the token has expired (sk_id_Cqh, alice)  x14   mint a \
                 new one",
            ),
            (
                json!({"kind": "subscribed", "peer": "alice", "channel": "room-42", "tookUs": 200,
                    "count": 1, "text": "alice subscribed to room-42"}),
                "subscribed   alice        room-42  after 0.2 ms",
            ),
            (
                json!({"kind": "opened", "peer": "alice", "address": "127.0.0.1", "count": 1,
                    "key": "pk_live_abcd…", "credential": "publishable", "handshakeUs": 1_500,
                    "text": "alice connected"}),
                "opened       alice        publishable pk_live_abcd… from 127.0.0.1  after 1.5 ms",
            ),
            (
                json!({"kind": "error", "peer": "alice", "channel": "hall", "count": 1,
                    "code": "channel_not_authorized",
                    "text": "alice got channel_not_authorized (hall): not allowed",
                    "remedy": "give the key a pattern"}),
                "error        alice        channel_not_authorized hall: not allowed   give the \
                 key a pattern",
            ),
            (
                json!({"kind": "closed", "peer": "alice", "code": 1000, "cause": "client_close",
                    "durationMs": 90_000, "count": 1,
                    "text": "alice closed 1000: the client said goodbye",
                    "remedy": "nothing, if the client wanted to leave"}),
                "closed       alice        1000 the client said goodbye  after 1.5 min",
            ),
            (
                json!({"kind": "kicked", "peer": "alice", "closed": 2, "count": 1,
                    "text": "alice kicked by the admin token: 2 connections closed"}),
                "kicked       alice        kicked by the admin token: 2 connections closed",
            ),
            (json!({}), "             -"),
        ] {
            let mut event = event;
            event["time"] = "2026-03-01T12:03:11.000Z".into();
            let expected = format!("12:03:11 {expected}\n");
            assert_eq!(event_lines(&event, &terminal(None)), expected);
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_breaks_it() {
        let mut event = closed();
        event["peer"] = format!("{}\u{1b}[2J\n", "p".repeat(120)).into();
        event["remedy"] = format!("{} {}", "word ".repeat(60), "w".repeat(200)).into();
        for width in [1, 40, 60, 80, 120, 200] {
            let lines = event_lines(&event, &terminal(Some(width)));
            assert!(!lines.contains('\u{1b}'), "{lines:?}");
            for line in lines.lines() {
                assert!(line.chars().count() <= width.max(40), "{width}: {line}");
            }
            assert!(lines.lines().count() <= 1 + REMEDY_LINES_MAX);
        }
        let coloured = Terminal {
            color: true,
            ..terminal(Some(100))
        };
        assert!(event_lines(&closed(), &coloured).contains("\u{1b}[1m\u{1b}[31mclosed"));
    }
}
