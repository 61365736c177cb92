//! One event as JSON: names, times and texts, made when it is read.

use jiff::Timestamp;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Map, Value};

use super::cursor::event_id;
use super::names::Names;
use crate::events::kind::{Cause, Kind};
use crate::events::reader::Event;
use crate::events::record::{Detail, Read};
use crate::events::text;

/// The name of this node, until there are others.
pub(crate) const NODE: &str = "n1";

/// An event as the API shows it. Fields that it does not have are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventJson {
    /// Names the event while the process lives.
    pub id: String,
    /// When, RFC 3339 with milliseconds.
    pub time: String,
    /// What has happened.
    pub kind: &'static str,
    node: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    /// Fields that only some kinds have, under their names.
    #[serde(flatten)]
    more: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    count: u32,
    /// What it says, in one line.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl EventJson {
    /// An event of the process of that epoch, at that Unix time in milliseconds.
    pub(super) fn of(event: &Event, names: &Names, epoch: &str, unix_ms: u64) -> Self {
        let read = &event.read;
        let shard = event.place.shard.map(|shard| shard.0);
        let connection = read.connection.map(|it| {
            let shard = shard.unwrap_or_default();
            format!("{shard}.{}.{}", it.slot, it.generation)
        });
        let key = read.key.and_then(|it| names.key(it));
        Self {
            id: event_id(epoch, event.place),
            time: time(unix_ms),
            kind: read.kind.as_str(),
            node: NODE,
            shard,
            app: read.app.and_then(|it| names.app(it)).map(str::to_owned),
            more: more(read),
            connection,
            address: read.address.map(|it| it.to_string()),
            cause: (read.cause != Cause::None && read.kind != Kind::Error)
                .then(|| read.cause.as_str()),
            count: read.count,
            text: text::line(read, key.as_deref()),
            key,
            remedy: text::remedy(read),
        }
    }
}

fn more(read: &Read) -> Map<String, Value> {
    let mut more = Map::new();
    let (first, second) = read.kind.texts();
    for (name, text) in [(first, &read.first), (second, &read.second)] {
        if !text.is_empty() {
            let name = if name == second && read.is_to {
                "to"
            } else {
                name
            };
            more.insert(name.to_owned(), text.clone().into());
        }
    }
    match (read.kind, read.detail) {
        (Kind::Error | Kind::Warning, _) => {
            more.insert("code".to_owned(), read.cause.as_str().into());
        }
        (Kind::Closed, Detail::Closed(by, end)) => {
            more.insert("code".to_owned(), read.code.into());
            if !read.is_summary {
                more.insert("by".to_owned(), by.as_str().into());
            }
            if let Some(cause) = end.cause() {
                more.insert("socket".to_owned(), cause.as_str().into());
            }
        }
        (_, Detail::Done(author)) => {
            more.insert("by".to_owned(), author.as_str().into());
        }
        (_, Detail::Shown(door, shown, _)) => {
            if read.kind == Kind::Refused {
                more.insert("door".to_owned(), door.as_str().into());
                let name = if read.code >= 1_000 { "code" } else { "status" };
                if read.code > 0 {
                    more.insert(name.to_owned(), read.code.into());
                }
            }
            more.insert("credential".to_owned(), shown.as_str().into());
            if let Some(claim) = read.claim() {
                more.insert("claim".to_owned(), claim.into());
            }
        }
        _ => {}
    }
    if read.is_summary {
        more.insert("summary".to_owned(), true.into());
    }
    if read.errno > 0 {
        more.insert("errno".to_owned(), errno(read.errno).into());
    }
    for (name, number) in read.numbers() {
        let value = match name {
            "recovered" => (number == 1).into(),
            _ => number.into(),
        };
        more.insert(name.to_owned(), value);
    }
    more
}

/// The name of the system's error, as `errno.h` has it, for those that sockets have.
fn errno(number: u8) -> String {
    const NAMES: [(Errno, &str); 8] = [
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::PIPE, "EPIPE"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::HOSTUNREACH, "EHOSTUNREACH"),
        (Errno::NETUNREACH, "ENETUNREACH"),
        (Errno::CONNABORTED, "ECONNABORTED"),
        (Errno::NOBUFS, "ENOBUFS"),
        (Errno::NOMEM, "ENOMEM"),
    ];
    let is_it = |(errno, _): &&(Errno, &str)| errno.raw_os_error() == i32::from(number);
    let known = NAMES.iter().find(is_it);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

/// A Unix time in milliseconds, as RFC 3339 has it.
pub(super) fn time(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}
