//! A stream of server-sent events (the HTML standard, section 9.2), as far as the admin API has it.

use std::io::{BufRead, Read};

use crate::cli::failure::Failure;

/// Bytes of an event: it has names and texts, and no list.
const EVENT_BYTES_MAX: usize = 1_024 * 1_024;

/// One event of a stream.
pub(crate) struct Sent<'s> {
    /// What it is.
    pub name: &'s str,
    /// What it says, JSON.
    pub data: &'s str,
}

/// Reads a stream to its end, and shows each event. `last` is where to go on after it. Returns why
/// it has ended; `None`: nobody looks any more.
///
/// # Errors
/// An event cannot be shown.
pub(super) fn read_stream(
    mut stream: impl BufRead,
    last: &mut Option<String>,
    show: &mut dyn FnMut(Sent<'_>) -> Result<bool, Failure>,
) -> Result<Option<String>, Failure> {
    let (mut name, mut data) = (String::new(), String::new());
    let mut line = String::new();
    loop {
        line.clear();
        let room = EVENT_BYTES_MAX.saturating_sub(data.len());
        match stream.by_ref().take(room as u64).read_line(&mut line) {
            Ok(read) if read == room && !line.ends_with('\n') => {
                return Ok(Some("an event has no end".to_owned()));
            }
            Ok(0) => return Ok(Some("the server has ended the stream".to_owned())),
            Ok(_) => {}
            Err(error) => return Ok(Some(format!("the stream is lost: {error}"))),
        }
        let text = line.trim_end_matches(['\n', '\r']);
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data += value,
            "id" => *last = Some(value.to_owned()),
            // Its end.
            "" if text.is_empty() && !data.is_empty() => {
                let sent = Sent {
                    name: &name,
                    data: &data,
                };
                if !show(sent)? {
                    return Ok(None);
                }
                name.clear();
                data.clear();
            }
            // A comment is a sign of life.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ":\n\nevent: opened\ndata: {\"a\":1}\n\nevent: lost\ndata: {}\nid: c.2\n\n";

    #[test]
    fn events_are_shown_as_they_come_and_the_place_is_kept() {
        let mut seen = Vec::new();
        let mut last = None;
        let mut show = |sent: Sent<'_>| {
            seen.push(format!("{} {}", sent.name, sent.data));
            Ok(true)
        };
        let end = read_stream(STREAM.as_bytes(), &mut last, &mut show).unwrap();
        assert_eq!(end.as_deref(), Some("the server has ended the stream"));
        assert_eq!(seen, ["opened {\"a\":1}", "lost {}"]);
        assert_eq!(last.as_deref(), Some("c.2"));
    }

    #[test]
    fn an_event_without_an_end_ends_the_stream() {
        let endless = format!("data: {}", "x".repeat(3 * EVENT_BYTES_MAX));
        let lines = "data: 0123456789\n".repeat(EVENT_BYTES_MAX / 5);
        for text in [endless, lines] {
            let end = read_stream(text.as_bytes(), &mut None, &mut |_| Ok(true));
            assert_eq!(end.unwrap().as_deref(), Some("an event has no end"));
        }
    }

    #[test]
    fn nobody_who_looks_ends_it() {
        let end = read_stream(STREAM.as_bytes(), &mut None, &mut |_| Ok(false));
        assert_eq!(end.unwrap(), None);
    }
}
