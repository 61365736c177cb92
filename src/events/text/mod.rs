//! What an event says to people, and what to do about it: one table for every kind and cause.
//!
//! Made when an event is read, never where it happens.

mod refused;
mod table;

use std::fmt::Write as _;

use crate::events::kind::{AuthorKind, By, Cause, Kind};
use crate::events::record::{Detail, Read};

/// What may be said of a kind: each cause, with what is said of it and what to do.
fn table(kind: Kind) -> table::Table {
    match kind {
        Kind::Refused => refused::REFUSED,
        Kind::Opened => table::OPENED,
        Kind::Subscribed => table::SUBSCRIBED,
        Kind::Unsubscribed => table::UNSUBSCRIBED,
        Kind::Refreshed => table::REFRESHED,
        Kind::Error => table::ERROR,
        Kind::Held => table::HELD,
        Kind::Traced => table::TRACED,
        Kind::Slow => table::SLOW,
        Kind::Closed => table::CLOSED,
        Kind::Kicked => table::KICKED,
        Kind::Quota => table::QUOTA,
        Kind::Rights => table::RIGHTS,
        Kind::Admin => table::ADMIN,
        Kind::Certificate => table::CERTIFICATE,
        Kind::Link => table::LINK,
        Kind::Accept => table::ACCEPT,
        Kind::Warning => table::WARNING,
        Kind::Node => table::NODE,
    }
}

/// Every cause that records of a kind may have.
#[cfg(test)]
pub(crate) fn causes(kind: Kind) -> impl Iterator<Item = Cause> {
    table(kind).iter().map(|(cause, ..)| *cause)
}

/// Returns what is said of a kind and cause, and what to do; `None` where a kind has no such cause.
#[must_use]
pub(crate) fn said(kind: Kind, cause: Cause) -> Option<(&'static str, &'static str)> {
    // A `refresh` is refused for what is wrong with its token, as a connect is.
    let more: table::Table = match kind {
        Kind::Error => refused::REFUSED,
        _ => &[],
    };
    let mut rows = table(kind).iter().chain(more);
    let (_, what, remedy) = rows.find(|(it, ..)| *it == cause)?;
    Some((what, remedy))
}

/// Returns what an event says, in one line: who, what, why, and the numbers that matter. `key` is
/// what is shown of the key of the event, where it has one.
#[must_use]
pub(crate) fn line(read: &Read, key: Option<&str>) -> String {
    let (what, _) = said(read.kind, read.cause).unwrap_or_default();
    let mut line = String::new();
    let who = who(read);
    // Writing into a string cannot fail.
    let _ = match read.kind {
        Kind::Refused => write!(line, "{who} refused{}: {what}{}", code(read), claim(read)),
        Kind::Closed if read.is_summary => {
            let closed = closed(read.count.into());
            write!(line, "{closed}{}: {what}", code(read))
        }
        Kind::Closed => write!(line, "{who} closed{}: {what}{}", code(read), waited(read)),
        Kind::Error => {
            let about = match read.second.is_empty() {
                true => String::new(),
                false => format!(" ({})", read.second),
            };
            write!(line, "{who} got {}{about}: {what}", read.cause.as_str())
        }
        Kind::Subscribed | Kind::Unsubscribed => {
            let from = if read.kind == Kind::Subscribed {
                "to"
            } else {
                "from"
            };
            write!(line, "{who} {what} {from} {}", read.second)
        }
        Kind::Held => {
            let held_ms = read.number("heldMs").unwrap_or_default();
            write!(line, "{who} was held back for {held_ms} ms: {what}")
        }
        Kind::Traced => write!(line, "{who} {what}{}", traced(read)),
        Kind::Refreshed => write!(line, "{who} {what}"),
        Kind::Opened | Kind::Slow => write!(line, "{who} {what}{}", waited(read)),
        Kind::Kicked if read.cause == Cause::PeerNotFound => {
            write!(line, "a kick{} {what}", author(read, key))
        }
        Kind::Kicked => {
            let closed = closed(read.number("closed").unwrap_or_default());
            write!(line, "{who} {what}{}: {closed}", author(read, key))
        }
        Kind::Quota => {
            let number = |name| read.number(name).unwrap_or_default();
            let (used, allowed) = (number("used"), number("allowed"));
            write!(line, "{what}: {used} of {allowed} {}", read.first)
        }
        Kind::Rights | Kind::Admin | Kind::Certificate | Kind::Warning => {
            write!(line, "{what}{}", about(read))
        }
        Kind::Link => {
            let number = |name| read.number(name).unwrap_or_default();
            let backlog = bytes(number("backlogBytes"));
            let (from, to) = (number("from"), number("to"));
            write!(line, "{what}: {backlog} from shard {from} to {to}")
        }
        Kind::Node => {
            let left = read.number("connections");
            let left = left.map_or_else(String::new, |left| format!(": {left} connections"));
            write!(line, "{what}{left}")
        }
        Kind::Accept => write!(line, "{what}"),
    };
    line
}

/// How many connections were closed.
fn closed(count: u64) -> String {
    let noun = if count == 1 {
        "connection"
    } else {
        "connections"
    };
    format!("{count} {noun} closed")
}

/// Who has done it. `key` is what is shown of the key of the event.
fn author(read: &Read, key: Option<&str>) -> String {
    let Detail::Done(author) = read.detail else {
        return String::new();
    };
    let name = match (author, key) {
        (AuthorKind::Key, Some(key)) => return format!(" by key {key}"),
        (AuthorKind::Key, None) => "a key",
        (AuthorKind::AdminToken, _) => "the admin token",
        (AuthorKind::Session, _) => "a console session",
        (AuthorKind::Signal, _) => "a signal",
        (AuthorKind::Configuration, _) => "the configuration",
        (AuthorKind::Server, _) => "the server",
    };
    format!(" by {name}")
}

/// What it is about, and how many connections it has closed, in brackets.
fn about(read: &Read) -> String {
    let closed = read.number("closed").filter(|closed| *closed > 0);
    let closed = closed.map(self::closed);
    let closed = closed.as_deref().unwrap_or_default();
    let parts = [&*read.first, &*read.second, closed];
    let parts: Vec<_> = parts.into_iter().filter(|it| !it.is_empty()).collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!(" ({})", parts.join(", ")),
    }
}

/// Returns what to do about an event; `None` where there is nothing to be done.
#[must_use]
pub(crate) fn remedy(read: &Read) -> Option<&'static str> {
    let (_, remedy) = said(read.kind, read.cause)?;
    Some(remedy).filter(|it| !it.is_empty())
}

/// Whom it is about, as far as that is known.
#[must_use]
pub(crate) fn who(read: &Read) -> String {
    match (read.first.is_empty(), read.address) {
        (false, _) => read.first.clone(),
        (true, Some(address)) => address.to_string(),
        (true, None) => "somebody".to_owned(),
    }
}

/// To whom or where, and how much.
fn traced(read: &Read) -> String {
    let bytes = read.number("bytes").unwrap_or_default();
    match read.number("members") {
        Some(members) => format!(" to {}: {bytes} bytes for {members} members", read.second),
        None => format!(" to {}: {bytes} bytes", read.second),
    }
}

fn code(read: &Read) -> String {
    match read.code {
        0 => String::new(),
        code => format!(" {code}"),
    }
}

fn claim(read: &Read) -> String {
    let claim = read.claim();
    claim.map_or_else(String::new, |claim| format!(" ({claim})"))
}

/// How much waited, and what ended the socket, where that says more.
fn waited(read: &Read) -> String {
    let queued = read.number("queuedBytes").filter(|bytes| *bytes > 0);
    let mut more = queued.map_or_else(String::new, |queued| format!(" ({} queued)", bytes(queued)));
    if let Detail::Closed(by, _) = read.detail
        && by == By::Server
        && let Some(cause) = read.socket_cause()
        && let Some((what, _)) = said(Kind::Closed, cause)
    {
        let _ = write!(more, "; {what}");
    }
    more
}

/// Returns a number of bytes with its unit.
#[must_use]
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} bytes");
    }
    let mut scaled = count as f64 / 1_024.0;
    let mut unit = 0;
    while scaled >= 1_024.0 && unit + 1 < UNITS.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::record::{Record, SocketEnd};

    #[test]
    fn every_cause_of_every_kind_is_said_and_has_a_remedy() {
        for kind in Kind::ALL {
            for cause in causes(*kind) {
                let said = said(*kind, cause);
                let (what, remedy) = said.unwrap_or_else(|| panic!("{kind:?} {cause:?}"));
                assert!(
                    !what.is_empty() && !what.ends_with('.'),
                    "{kind:?} {cause:?}"
                );
                let is_bad = matches!(kind, Kind::Refused | Kind::Closed | Kind::Error)
                    || matches!(kind, Kind::Held | Kind::Slow | Kind::Warning | Kind::Quota);
                assert!(
                    !is_bad || !remedy.is_empty(),
                    "{kind:?} {cause:?}: no remedy"
                );
            }
            let mut once = std::collections::BTreeSet::new();
            assert!(causes(*kind).all(|cause| once.insert(cause)), "{kind:?}");
        }
        for cause in Cause::ALL {
            let has = |kind: &&Kind| said(**kind, *cause).is_some();
            assert!(
                Kind::ALL.iter().any(|kind| has(&kind)),
                "{cause:?} is of no kind"
            );
        }
    }

    /// The causes that the manual has for a kind, in its order.
    fn in_the_manual(kind: Kind) -> Vec<&'static str> {
        let manual = include_str!("../../docs/admin-api.md");
        let (head, at) = match kind {
            Kind::Warning => ("| `code` | when |", 0),
            _ => ("| kind | causes |", 1),
        };
        let (_, section) = manual.split_once(head).unwrap();
        let rows = section
            .lines()
            .skip(1)
            .take_while(|line| line.starts_with('|'));
        let rows =
            rows.filter(|line| at == 0 || line.starts_with(&format!("| `{}` |", kind.as_str())));
        let cells = rows.filter_map(|line| line.split(" | ").nth(at));
        cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .collect()
    }

    #[test]
    fn the_manual_has_every_cause_of_every_kind() {
        for kind in Kind::ALL {
            let mut all: Vec<_> = causes(*kind).map(Cause::as_str).collect();
            all.retain(|cause| *cause != Cause::None.as_str());
            let mut told = in_the_manual(*kind);
            all.sort_unstable();
            told.sort_unstable();
            assert_eq!(told, all, "{kind:?}");
        }
    }

    fn read(record: &Record<'_>) -> Read {
        Read::parse(&record.to_words(1)).unwrap()
    }

    #[test]
    fn a_line_says_who_what_and_why() {
        let closed = Record {
            detail: Detail::Closed(By::Server, SocketEnd::CloseTimeout),
            code: 1_013,
            numbers: &[1_049_102, 81_233],
            first: "alice",
            ..Record::new(Kind::Closed, Cause::SlowConsumer)
        };
        assert_eq!(
            line(&read(&closed), None),
            "alice closed 1013: took too little of what it was sent (1.0 MiB queued); the client \
             did not answer the close frame"
        );
        let error = Record {
            first: "alice",
            second: "room-42",
            ..Record::new(Kind::Error, Cause::ChannelNotAuthorized)
        };
        assert_eq!(
            line(&read(&error), None),
            "alice got channel_not_authorized (room-42): the credential does not allow this channel"
        );
        let refused = Record {
            address: Some("203.0.113.9".parse().unwrap()),
            code: 401,
            ..Record::new(Kind::Refused, Cause::TokenExpired)
        };
        let refused = read(&refused);
        assert_eq!(
            line(&refused, None),
            "203.0.113.9 refused 401: the token has expired"
        );
        assert!(remedy(&refused).unwrap().contains("token mint"));
        for kind in Kind::ALL {
            for cause in causes(*kind) {
                assert!(!line(&read(&Record::new(*kind, cause)), None).is_empty());
            }
        }
    }

    #[test]
    fn a_line_says_who_has_disconnected_a_peer_and_how_often() {
        let kicked = |by, closed| {
            read(&Record {
                detail: Detail::Done(by),
                numbers: &[closed],
                first: "alice",
                ..Record::new(Kind::Kicked, Cause::None)
            })
        };
        for (by, key, closed, expected) in [
            (
                AuthorKind::Key,
                Some("sk_id_1"),
                1,
                "by key sk_id_1: 1 connection closed",
            ),
            (AuthorKind::Key, None, 0, "by a key: 0 connections closed"),
            (
                AuthorKind::AdminToken,
                None,
                2,
                "by the admin token: 2 connections closed",
            ),
            (
                AuthorKind::Session,
                None,
                1,
                "by a console session: 1 connection closed",
            ),
        ] {
            let expected = format!("alice kicked {expected}");
            assert_eq!(line(&kicked(by, closed), key), expected);
        }
    }
}
