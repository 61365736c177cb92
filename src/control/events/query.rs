//! What is asked of the events: filters, a span of time, a cursor; and what was found.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::book::{Events, Moment, mono_ns, unix_ms};
use super::cursor::{Position, parse_event_id};
use super::json::{EventJson, time};
use super::names::Names;
use crate::events::kind::{Cause, Keep, Kind};
use crate::events::reader::{Cursor, Event, Place, Range, Scanned};
use crate::events::record::Read;
use crate::proto::cidr::Cidr;
use crate::proto::pattern::{CompiledPatterns, Pattern};

/// How far back is looked if nothing is said, in milliseconds.
const SINCE_MS: u64 = 15 * 60 * 1_000;
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// How long one reading may take.
const SCAN_TIME_MAX: Duration = Duration::from_secs(2);

/// A name, or a pattern of names.
#[derive(Clone, Debug)]
enum Named {
    Exact(String),
    Like(Arc<CompiledPatterns>),
}

impl Named {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains('*') {
            return Ok(Self::Exact(text.to_owned()));
        }
        let pattern = Pattern::parse(text).map_err(|error| error.to_string())?;
        Ok(Self::Like(Arc::new([pattern].into_iter().collect())))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == name,
            Self::Like(patterns) => patterns.any_matches(name),
        }
    }
}

/// Values that are wanted, if any are named, and values that are not.
#[derive(Clone, Debug)]
struct Among<T> {
    wanted: Vec<T>,
    unwanted: Vec<T>,
}

impl<T: PartialEq> Among<T> {
    fn parse(text: &str, value: impl Fn(&str) -> Option<T>) -> Result<Self, String> {
        let mut among = Self {
            wanted: Vec::new(),
            unwanted: Vec::new(),
        };
        for item in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (list, name) = match item.strip_prefix('-') {
                Some(name) => (&mut among.unwanted, name),
                None => (&mut among.wanted, item),
            };
            list.push(value(name).ok_or_else(|| format!("there is no {name:?}"))?);
        }
        Ok(among)
    }

    fn matches(&self, is_it: impl Fn(&T) -> bool) -> bool {
        (self.wanted.is_empty() || self.wanted.iter().any(&is_it))
            && !self.unwanted.iter().any(is_it)
    }
}

/// A close code, HTTP status, or code of an error or warning.
#[derive(Clone, Debug, PartialEq)]
enum Code {
    Number(u16),
    Error(Cause),
}

impl Code {
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(number) => Some(Self::Number(number)),
            Err(_) => Cause::of_text(text).map(Self::Error),
        }
    }

    fn is_of(&self, read: &Read) -> bool {
        match self {
            Self::Number(number) => *number == read.code,
            Self::Error(cause) => {
                matches!(read.kind, Kind::Error | Kind::Warning) && read.cause == *cause
            }
        }
    }
}

/// From where on, or up to where.
#[derive(Clone, Debug)]
enum Bound {
    Position(Option<Cursor>),
    Event(Place),
}

/// A question about events. Without any parameter: the newest 100 of the last 15 minutes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    app: Option<String>,
    peer: Option<Named>,
    channel: Option<Named>,
    connection: Option<String>,
    key: Option<String>,
    address: Option<Cidr>,
    kinds: Option<Among<Kind>>,
    causes: Option<Among<Cause>>,
    codes: Option<Among<Code>>,
    since_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
    limit: Option<usize>,
    after: Option<Bound>,
    before: Option<Bound>,
    /// The cursor of the answer is to lead further back.
    goes_back: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Found {
    /// The oldest first.
    pub events: Vec<EventJson>,
    /// To go on from.
    pub cursor: String,
    oldest: Oldest,
    /// `false`: the time was over before everything had been looked at.
    pub complete: bool,
    /// Events behind the cursor that were overwritten.
    pub lost: u64,
}

/// From when on everything is there; `None`: since the start.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Oldest {
    ends: Option<String>,
    routine: Option<String>,
}

impl Query {
    /// Reads the parameters of a request.
    ///
    /// # Errors
    /// What is wrong with the first one that is.
    pub(crate) fn parse<'q>(
        parameters: impl Iterator<Item = (&'q str, &'q str)>,
        events: &Events,
    ) -> Result<Self, String> {
        let now = (events.clock)();
        let mut query = Self::default();
        for (name, value) in parameters {
            query
                .set(name, value, events, now)
                .map_err(|fault| format!("{name}: {fault}"))?;
        }
        Ok(query)
    }

    /// The question for the last `closed` of a peer of an app, however long ago.
    pub(crate) fn last_closed(app: &str, peer: &str, events: &Events) -> Self {
        Self {
            app: Some(app.to_owned()),
            peer: Some(Named::Exact(events.privacy.peer(peer))),
            kinds: Some(Among {
                wanted: vec![Kind::Closed],
                unwanted: Vec::new(),
            }),
            since_unix_ms: Some(0),
            limit: Some(1),
            ..Self::default()
        }
    }

    fn set(&mut self, name: &str, value: &str, events: &Events, now: Moment) -> Result<(), String> {
        match name {
            "app" => self.app = Some(value.to_owned()),
            "peer" => {
                self.peer = Some(match Named::parse(value)? {
                    Named::Exact(id) => Named::Exact(events.privacy.peer(&id)),
                    like => like,
                });
            }
            "channel" => self.channel = Some(Named::parse(value)?),
            "connection" => self.connection = Some(value.to_owned()),
            "key" => self.key = Some(value.to_owned()),
            "address" => {
                let block = value.parse().or_else(|_| single(value).ok_or(()));
                self.address = Some(block.map_err(|()| "no address and no CIDR".to_owned())?);
            }
            "kind" => self.kinds = Some(Among::parse(value, Kind::of_text)?),
            "cause" => self.causes = Some(Among::parse(value, Cause::of_text)?),
            "code" => self.codes = Some(Among::parse(value, Code::parse)?),
            "since" => self.since_unix_ms = Some(moment(value, now)?),
            "until" => self.until_unix_ms = Some(moment(value, now)?),
            "limit" => {
                let limit = value.parse().ok().filter(|it| (1..=LIMIT_MAX).contains(it));
                let fault = || format!("a number from 1 to {LIMIT_MAX}");
                self.limit = Some(limit.ok_or_else(fault)?);
            }
            "after" => self.after = Some(bound(value, events)?),
            "before" => self.before = Some(bound(value, events)?),
            _ => return Err("there is no such parameter".to_owned()),
        }
        Ok(())
    }

    /// Goes on from a position: what comes after it.
    pub(crate) fn go_on_from(&mut self, position: &Position, events: &Events) {
        self.after = Some(Bound::Position(position.cursor(&events.epoch)));
        self.since_unix_ms = Some(0);
    }

    /// Only what came before a position is wanted.
    pub(crate) fn until(&mut self, position: &Position, events: &Events) {
        self.before = Some(Bound::Position(position.cursor(&events.epoch)));
        self.since_unix_ms = Some(0);
    }

    /// What comes next is wanted, so many at a time.
    pub(crate) fn follow_on(&mut self, limit: usize) {
        self.before = None;
        self.limit = Some(limit);
    }

    /// Of a page that ends before something, the cursor is where it begins: the page before it is
    /// asked for with that.
    pub(crate) fn page(&mut self) {
        self.goes_back = self.before.is_some() && self.after.is_none();
    }

    /// Everything that is there is wanted.
    pub(crate) fn go_back_to_the_start(&mut self) {
        self.since_unix_ms = Some(0);
    }

    fn matches(&self, event: &Event, names: &Names) -> bool {
        let read = &event.read;
        let is_app = |wanted: &String| read.app.and_then(|it| names.app(it)) == Some(wanted);
        let is_key = |wanted: &String| read.key.is_some_and(|it| names.is_key(it, wanted));
        let is_connection = |wanted: &String| {
            let shard = event.place.shard.map_or(0, |it| it.0);
            let text =
                |it: crate::ids::ConnectionId| format!("{shard}.{}.{}", it.slot, it.generation);
            read.connection.map(text).as_ref() == Some(wanted)
        };
        let in_block = |block: &Cidr| read.address.is_some_and(|it| block.contains(it));
        let is_peer = |wanted: &Named| read.kind.has_peer() && wanted.matches(&read.first);
        let has_channel = read.kind.has_channel() && !read.is_to;
        let is_channel = |wanted: &Named| has_channel && wanted.matches(&read.second);
        let is_cause = |it: &Cause| read.cause == *it || read.socket_cause() == Some(*it);
        self.kinds
            .as_ref()
            .is_none_or(|it| it.matches(|kind| *kind == read.kind))
            && self.causes.as_ref().is_none_or(|it| it.matches(is_cause))
            && self
                .codes
                .as_ref()
                .is_none_or(|it| it.matches(|code| code.is_of(read)))
            && self.app.as_ref().is_none_or(is_app)
            && self.peer.as_ref().is_none_or(is_peer)
            && self.channel.as_ref().is_none_or(is_channel)
            && self.key.as_ref().is_none_or(is_key)
            && self.connection.as_ref().is_none_or(is_connection)
            && self.address.as_ref().is_none_or(in_block)
    }
}

impl Events {
    /// Looks for events: the newest, or those that come next after where the query goes on. Takes
    /// as long as 2 s: not on the control thread.
    #[must_use]
    pub(crate) fn find(&self, query: &Query) -> Found {
        let (names, now) = (self.names(), (self.clock)());
        let limit = query.limit.unwrap_or(LIMIT);
        let mut kept = BTreeMap::new();
        let mut put_off = Vec::new();
        let mut scanned = self.scan(query, &names, now, |event| {
            kept.insert(event.key(), event);
            if kept.len() > limit {
                match query.after {
                    Some(_) => put_off.extend(kept.pop_last().map(|(_, event)| event.place)),
                    None => drop(kept.pop_first()),
                }
            }
        });
        // Whoever goes on from there finds them next.
        for place in put_off {
            self.reader.rewind(&mut scanned.cursor, place);
        }
        if query.goes_back {
            for event in kept.values() {
                self.reader.rewind(&mut scanned.cursor, event.place);
            }
        }
        let events = kept.values().map(|it| self.json(it, &names, now));
        Found {
            events: events.collect(),
            cursor: Position::of(&self.epoch, &scanned.cursor).text(),
            oldest: self.oldest(now),
            complete: scanned.is_complete,
            lost: scanned.lost,
        }
    }

    /// Hands out the events that a query is about, in no order over shards.
    pub(super) fn scan(
        &self,
        query: &Query,
        names: &Names,
        now: Moment,
        mut visit: impl FnMut(Event),
    ) -> Scanned {
        let began = Instant::now();
        // Whoever pages has said where to begin.
        let is_page = query.after.is_some() || query.before.is_some();
        let since_unix_ms = match query.since_unix_ms {
            Some(since_unix_ms) => since_unix_ms,
            None if is_page => 0,
            None => now.unix_ms.saturating_sub(SINCE_MS),
        };
        let until_ns = query.until_unix_ms.map_or(u64::MAX, |it| mono_ns(it, now));
        let mut range = Range {
            after: None,
            since_ns: mono_ns(since_unix_ms, now),
        };
        let mut after_key = None;
        match &query.after {
            Some(Bound::Position(cursor)) => range.after.clone_from(cursor),
            Some(Bound::Event(place)) => after_key = Some((self.time_of(*place), *place)),
            None => {}
        }
        let before_key = match &query.before {
            Some(Bound::Event(place)) => Some((self.time_of(*place), *place)),
            _ => None,
        };
        let is_before = |event: &Event| match &query.before {
            Some(Bound::Position(Some(cursor))) => self.reader.is_before(event.place, cursor),
            // Of another process: nothing that is here came before it.
            Some(Bound::Position(None)) => false,
            Some(Bound::Event(_)) | None => before_key.is_none_or(|key| event.key() < key),
        };
        let goes_on = || began.elapsed() < SCAN_TIME_MAX;
        // Where each ring has the first event that is too late.
        let mut late: Vec<Place> = Vec::new();
        let mut scanned = self.reader.scan(&range, goes_on, |event| {
            if !is_before(&event) {
                let ring = |it: &Place| (it.shard, it.keep);
                if late.last().map(ring) != Some(ring(&event.place)) {
                    late.push(event.place);
                }
                return;
            }
            let is_meant =
                event.read.time_ns <= until_ns && after_key.is_none_or(|key| event.key() > key);
            if is_meant && query.matches(&event, names) {
                visit(event);
            }
        });
        if query.goes_back {
            if !scanned.is_complete {
                // Rings that were not looked at have everything before the cursor still.
                scanned.cursor = self.reader.end();
            }
            for place in late {
                self.reader.rewind(&mut scanned.cursor, place);
            }
        }
        scanned
    }

    /// When an event happened; of one that is overwritten, before everything that is there.
    fn time_of(&self, place: Place) -> u64 {
        self.reader.find(place).map_or(0, |read| read.time_ns)
    }

    pub(super) fn oldest(&self, now: Moment) -> Oldest {
        let of = |keep| match self.reader.oldest_ns(keep) {
            0 => None,
            oldest_ns => Some(time(unix_ms(oldest_ns, now))),
        };
        Oldest {
            ends: of(Keep::Ends),
            routine: of(Keep::Routine),
        }
    }
}

/// The block that holds one address.
fn single(text: &str) -> Option<Cidr> {
    let address: IpAddr = text.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{bits}").parse().ok()
}

fn bound(text: &str, events: &Events) -> Result<Bound, String> {
    const FAULT: &str = "neither a cursor nor the id of an event";
    if let Some(place) = parse_event_id(&events.epoch, text) {
        let has_ring = events.reader.has_ring(place);
        return has_ring
            .then_some(Bound::Event(place))
            .ok_or(FAULT.to_owned());
    }
    let cursor = Position::parse(text).ok_or(FAULT)?.cursor(&events.epoch);
    // Of this process it names each ring.
    let is_whole = cursor
        .as_ref()
        .is_none_or(|it| it.0.len() == events.reader.end().0.len());
    is_whole
        .then_some(Bound::Position(cursor))
        .ok_or(FAULT.to_owned())
}

/// A moment: so long ago (`10m`), RFC 3339, or Unix seconds. Returns Unix milliseconds.
fn moment(text: &str, now: Moment) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds.saturating_mul(1_000));
    }
    for (unit, ms) in UNITS {
        if let Some(count) = text.strip_suffix(unit)
            && let Ok(count) = count.parse::<u64>()
        {
            return Ok(now.unix_ms.saturating_sub(count.saturating_mul(ms)));
        }
    }
    let timestamp: Timestamp = text
        .parse()
        .map_err(|_| "a span such as 10m, a time such as 2026-03-01T12:00:00Z, or Unix seconds")?;
    Ok(u64::try_from(timestamp.as_millisecond()).unwrap_or_default())
}
