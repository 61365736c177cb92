//! A page of what a channel keeps, as text for people.
//!
//! Data is what clients have published: it may have numbers and texts that are JSON and that no
//! value of this program can hold, so it stays the text that came.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::history_rule::{store_shown, ttl_shown};
use super::table::{Table, at_the_end, in_the_middle};
use super::terminal::{HEAD, Terminal, printable, printable_json};
use crate::domain::history::HistoryRule;

/// Columns of whom a publication is from, at most.
const FROM_COLUMNS_MAX: usize = 24;
/// Columns of the data, at least.
const DATA_COLUMNS_MIN: usize = 8;
/// Columns of the time: `2026-11-30 12:03:11`.
const TIME_COLUMNS: usize = 19;
const GAP: &str = "  ";

/// A page, as the admin API answers.
#[derive(Deserialize)]
pub(super) struct Kept<'a> {
    app: &'a str,
    rule: Value,
    channel: String,
    epoch: &'a str,
    first: u64,
    last: u64,
    pub count: u64,
    bytes: u64,
    #[serde(borrow)]
    pub messages: Vec<&'a RawValue>,
    pub more: bool,
}

/// A publication on it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Publication<'a> {
    seq: u64,
    time_ms: i64,
    from: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> Kept<'a> {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn read(body: &'a str) -> Result<Self, serde_json::Error> {
        let kept: Self = serde_json::from_str(body)?;
        for message in &kept.messages {
            serde_json::from_str::<Publication<'_>>(message.get())?;
        }
        Ok(kept)
    }

    fn publications(&self) -> impl Iterator<Item = Publication<'a>> {
        let messages = self.messages.iter();
        messages.filter_map(|message| serde_json::from_str(message.get()).ok())
    }

    /// What the channel is, and how much it keeps.
    pub(super) fn head(&self, terminal: &Terminal) -> String {
        let line = |name: &str, value: String| vec![name.to_owned(), value];
        let mut lines = vec![
            line("app", printable(self.app)),
            line("channel", printable(&self.channel)),
            line("epoch", printable(self.epoch)),
            line("seq", self.last.to_string()),
        ];
        let oldest = match self.count {
            0 => "-".to_owned(),
            _ => self.first.to_string(),
        };
        lines.push(line("oldest", oldest));
        let mut fields = self.rule.clone();
        let place = fields.as_object_mut().and_then(|it| it.remove("place"));
        let rule: Option<HistoryRule> = serde_json::from_value(fields).ok();
        match rule {
            Some(rule) => lines.extend([
                line("count", format!("{} of {}", self.count, rule.messages)),
                line("bytes", format!("{} of {}", self.bytes, rule.bytes)),
                line("ttl", ttl_shown(rule.ttl_sec)),
                line("store", store_shown(rule.store).to_owned()),
                line(
                    "rule",
                    format!(
                        "{} ({})",
                        printable(&rule.pattern),
                        place_shown(place.as_ref())
                    ),
                ),
            ]),
            // One of another version.
            None => lines.extend([
                line("count", self.count.to_string()),
                line("bytes", self.bytes.to_string()),
                line("rule", printable(&self.rule.to_string())),
            ]),
        }
        Table::fields(lines).render(terminal)
    }

    /// The publications, a line each, fitted to the terminal.
    pub(super) fn rows(&self, terminal: &Terminal, with_heads: bool) -> String {
        let rows: Vec<_> = self.publications().map(|it| cells(&it)).collect();
        if rows.is_empty() {
            return String::new();
        }
        let heads = ["TIME (UTC)", "SEQ", "FROM", "BYTES"];
        let width = |at: usize| {
            let cells = rows.iter().map(|(cells, _)| cells[at].chars().count());
            cells.chain([heads[at].len()]).max().unwrap_or_default()
        };
        let widths = [TIME_COLUMNS, width(1), width(2), width(3)];
        let line = |cells: [&str; 4], data: &str| {
            let [time, seq, from, bytes] = cells;
            let [time_columns, seq_columns, from_columns, bytes_columns] = widths;
            let line = format!(
                "{time:<time_columns$}{GAP}{seq:>seq_columns$}{GAP}{from:<from_columns$}{GAP}\
                 {bytes:>bytes_columns$}{GAP}{data}"
            );
            line.trim_end().to_owned()
        };
        let before = widths.iter().sum::<usize>() + widths.len() * GAP.len();
        let room = terminal
            .width
            .map(|it| it.saturating_sub(before).max(DATA_COLUMNS_MIN));
        let mut text = String::new();
        if with_heads {
            text += &format!("\n{}\n", terminal.styled(HEAD, &line(heads, "DATA")));
        }
        for (cells, data) in &rows {
            let data = room.map_or_else(|| data.clone(), |room| at_the_end(data, room));
            text += &line(cells.each_ref().map(String::as_str), &data);
            text.push('\n');
        }
        text
    }

    /// The publications as JSON, a line each.
    pub(super) fn lines(&self) -> String {
        let lines = self.messages.iter();
        lines
            .map(|message| printable_json(&format!("{}\n", compact(message.get()))))
            .collect()
    }

    /// The position to go on from, where there is more behind the page.
    pub(super) fn next(&self) -> Option<String> {
        self.more.then(|| self.end(false))
    }

    /// The position of the last publication; with `of_all`, of all that are kept.
    pub(super) fn end(&self, of_all: bool) -> String {
        let shown = self.publications().last().filter(|_| !of_all);
        let seq = shown.map_or(self.last, |it| it.seq);
        format!("{}:{seq}", self.epoch)
    }

    /// The position before the oldest that is kept.
    pub(super) fn begin(&self) -> String {
        format!("{}:{}", self.epoch, self.first.saturating_sub(1))
    }
}

fn place_shown(place: Option<&Value>) -> String {
    let place = place.and_then(Value::as_u64);
    place.map_or("a rule of the app".to_owned(), |place| {
        format!("rule {place} of the app")
    })
}

/// Time, number, sender and size; and the data.
fn cells(publication: &Publication<'_>) -> ([String; 4], String) {
    let time = Timestamp::from_millisecond(publication.time_ms);
    let time = time.map_or("-".to_owned(), |it| it.to_string());
    let time = time.get(..TIME_COLUMNS).unwrap_or(&time).replace('T', " ");
    let data = publication.data.get();
    let cells = [
        time,
        publication.seq.to_string(),
        in_the_middle(&printable(&publication.from), FROM_COLUMNS_MAX),
        data.len().to_string(),
    ];
    (cells, printable(&compact(data)))
}

/// Returns JSON without the spaces between its values, on one line so.
pub(super) fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let (mut is_in_string, mut is_escaped) = (false, false);
    for char in json.chars() {
        match char {
            ' ' | '\t' | '\n' | '\r' if !is_in_string => continue,
            '"' if !is_escaped => is_in_string = !is_in_string,
            _ => {}
        }
        is_escaped = char == '\\' && !is_escaped;
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [&str; 4] = [
        "{\"text\": \"a  b\",\n\t\"n\": 1}",
        "[1e999, \"\\ud800\"]",
        "\"\\\" \\\\\"",
        "\"\u{202e}txet\u{1f600}\"",
    ];

    fn body(data: &[&str], more: bool) -> String {
        let mut messages = Vec::new();
        for (at, data) in data.iter().enumerate() {
            let (seq, ms) = (at + 9, 1_700_000_000_000_u64 + at as u64 * 61_000);
            messages.push(format!(
                r#"{{"seq":{seq},"timeMs":{ms},"from":"alice","data":{data}}}"#
            ));
        }
        format!(
            r#"{{"app":"app_a","rule":{{"place":2,"pattern":"chat/**","messages":1000,"bytes":65536,
            "ttlSec":5400,"store":"disk"}},"channel":"chat/1","epoch":"q7Zk2wAb","first":3,
            "last":{},"count":{},"bytes":900,"messages":[{}],"more":{more}}}"#,
            data.len() + 8,
            data.len() + 6,
            messages.join(",")
        )
    }

    fn terminal(width: Option<usize>) -> Terminal {
        Terminal {
            width,
            ..Terminal::default()
        }
    }

    #[test]
    fn the_head_says_what_is_kept_and_by_which_rule() {
        let body = body(&DATA, false);
        let kept = Kept::read(&body).unwrap();
        let expected = "\
app      app_a
channel  chat/1
epoch    q7Zk2wAb
seq      12
oldest   3
count    10 of 1000
bytes    900 of 65536
ttl      90m
store    disk
rule     chat/** (rule 2 of the app)
";
        assert_eq!(kept.head(&terminal(None)), expected);
    }

    #[test]
    fn publications_are_lines_that_a_terminal_does_not_obey() {
        let body = body(&DATA, false);
        let kept = Kept::read(&body).unwrap();
        let expected = "
TIME (UTC)           SEQ  FROM   BYTES  DATA
2023-11-14 22:13:20    9  alice     25  {\"text\":\"a  b\",\"n\":1}
2023-11-14 22:14:21   10  alice     17  [1e999,\"\\ud800\"]
2023-11-14 22:15:22   11  alice      7  \"\\\" \\\\\"
2023-11-14 22:16:23   12  alice     13  \"\u{fffd}txet\u{1f600}\"
";
        assert_eq!(kept.rows(&terminal(None), true), expected);
        let narrow = kept.rows(&terminal(Some(52)), false);
        let lines: Vec<_> = narrow.lines().collect();
        assert_eq!(
            lines[0],
            "2023-11-14 22:13:20    9  alice     25  {\"text\":\"a …"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() <= 52),
            "{narrow}"
        );
    }

    #[test]
    fn lines_of_json_have_the_same_values() {
        let body = body(&DATA, true);
        let kept = Kept::read(&body).unwrap();
        let lines = kept.lines();
        assert_eq!(lines.lines().count(), DATA.len());
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first["data"], serde_json::json!({"text": "a  b", "n": 1}));
        assert!(lines.contains("\"data\":[1e999,\"\\ud800\"]"), "{lines}");
        assert!(lines.contains("\\u202etxet"), "{lines}");
    }

    #[test]
    fn a_page_says_where_it_goes_on() {
        let whole = body(&DATA, true);
        let kept = Kept::read(&whole).unwrap();
        assert_eq!(kept.next().as_deref(), Some("q7Zk2wAb:12"));
        assert_eq!(kept.begin(), "q7Zk2wAb:2");
        let empty = body(&[], false);
        let kept = Kept::read(&empty).unwrap();
        assert_eq!(
            (kept.next(), kept.end(false)),
            (None, "q7Zk2wAb:8".to_owned())
        );
        assert_eq!(kept.rows(&terminal(None), true), "");
        assert!(Kept::read("{}").is_err());
    }
}
