//! Events in the log: a line a minute and kind with sums, or a line for each.

use std::collections::BTreeMap;

use super::book::Events;
use super::cursor::Position;
use super::query::Query;
use super::watch::Watch;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Read;

/// Between two summaries, in ticks of a second.
const SUMMARY_EVERY: u32 = 60;
/// Causes that a line names.
const CAUSES_MAX: usize = 4;
/// Addresses of one cause that are counted between two summaries.
const ADDRESSES_MAX: usize = 1_024;

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogEvents {
    /// A line a minute and kind, with sums.
    #[default]
    Summary,
    /// A line for each.
    All,
    /// None.
    Off,
}

/// What the log has been told of, and what it is to be told.
pub(crate) struct LogTail {
    mode: LogEvents,
    query: Query,
    ticks: u32,
    sums: Sums,
    watch: Watch,
}

/// For how many events of a kind and cause records stood, and whose most of them were.
#[derive(Debug, Default)]
struct Sums(BTreeMap<Kind, BTreeMap<Cause, Sum>>);

#[derive(Debug, Default)]
struct Sum {
    count: u64,
    by_address: BTreeMap<String, u64>,
}

impl LogTail {
    /// Begins with what is recorded from now on.
    pub(crate) fn new(mode: LogEvents, events: &Events) -> Self {
        let mut query = Query::default();
        query.go_on_from(&events.end(), events);
        query.follow_on(usize::MAX);
        Self {
            mode,
            query,
            ticks: 0,
            sums: Sums::default(),
            watch: Watch::default(),
        }
    }

    /// A second has passed.
    pub(crate) fn tick(&mut self, events: &Events) {
        self.watch.tick(events);
        if !events.is_on() {
            return;
        }
        let names = events.names();
        let now = (events.clock)();
        let mut read = Vec::new();
        let is_all = self.mode == LogEvents::All;
        let scanned = events.scan(&self.query, &names, now, |event| {
            if is_all || is_looked_at(event.read.kind) {
                read.push(event);
            }
        });
        self.query
            .go_on_from(&Position::of(&events.epoch, &scanned.cursor), events);
        read.iter().for_each(|event| self.watch.see(event, events));
        match self.mode {
            LogEvents::All => {
                read.sort_by_key(crate::events::reader::Event::key);
                for event in &read {
                    let json = serde_json::to_string(&events.json(event, &names, now));
                    let (json, kind) = (json.unwrap_or_default(), event.read.kind.as_str());
                    tracing::info!(event = %json, "{kind}");
                }
                if scanned.lost > 0 {
                    tracing::warn!(
                        lost = scanned.lost,
                        "events were overwritten before the log"
                    );
                }
            }
            LogEvents::Summary => {
                read.iter().for_each(|event| self.sums.add(&event.read));
                self.ticks += 1;
                if self.ticks >= SUMMARY_EVERY {
                    self.ticks = 0;
                    std::mem::take(&mut self.sums)
                        .lines()
                        .for_each(|line| tracing::info!("{line}"));
                }
            }
            LogEvents::Off => {}
        }
    }
}

/// Whether sums or warnings may follow from it. What goes on all the time, of which there may be
/// very many, is in the metrics.
fn is_looked_at(kind: Kind) -> bool {
    is_summed(kind)
        || matches!(
            kind,
            Kind::Accept | Kind::Link | Kind::Quota | Kind::Warning
        )
}

/// Whether a summary has a line for it.
fn is_summed(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Refused | Kind::Closed | Kind::Error | Kind::Slow | Kind::Kicked | Kind::Held
    )
}

impl Sums {
    fn add(&mut self, read: &Read) {
        if !is_summed(read.kind) || read.is_summary {
            return;
        }
        let sum = self.0.entry(read.kind).or_default();
        let sum = sum.entry(read.cause).or_default();
        sum.count += u64::from(read.count);
        if read.kind == Kind::Refused
            && let Some(address) = read.address
            && sum.by_address.len() < ADDRESSES_MAX
        {
            *sum.by_address.entry(address.to_string()).or_default() += u64::from(read.count);
        }
    }

    fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(kind, causes)| line(kind, causes))
    }
}

fn line(kind: Kind, causes: BTreeMap<Cause, Sum>) -> String {
    let all: u64 = causes.values().map(|sum| sum.count).sum();
    let what = match kind {
        Kind::Refused => "connects",
        Kind::Closed | Kind::Slow => "connections",
        Kind::Error => "answers",
        Kind::Held => "holds",
        _ => "peers",
    };
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.count));
    let told = causes.iter().take(CAUSES_MAX).map(|(cause, sum)| {
        let most = sum.by_address.iter().max_by_key(|(_, count)| **count);
        match most.filter(|(_, count)| **count * 2 > sum.count) {
            Some((address, count)) => {
                format!("{} {} ({count} from {address})", cause.as_str(), sum.count)
            }
            None => format!("{} {}", cause.as_str(), sum.count),
        }
    });
    let told: Vec<_> = told.collect();
    let rest = causes.len().saturating_sub(CAUSES_MAX);
    let more = match rest {
        0 => String::new(),
        rest => format!(", {rest} more causes"),
    };
    let causes = match &causes[..] {
        [(Cause::None, _)] => String::new(),
        _ => format!(": {}{more}", told.join(", ")),
    };
    format!(
        "{} {all} {what} in {SUMMARY_EVERY} s{causes}",
        kind.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::record::Record;

    fn read(record: &Record<'_>) -> Read {
        Read::parse(&record.to_words(1)).unwrap()
    }

    #[test]
    fn a_summary_is_a_line_for_each_kind_and_names_who_did_most() {
        let mut sums = Sums::default();
        let refused = |cause, address: &str, count| {
            read(&Record {
                address: Some(address.parse().unwrap()),
                count,
                ..Record::new(Kind::Refused, cause)
            })
        };
        sums.add(&refused(Cause::ConnectRate, "10.0.0.5", 1_180));
        sums.add(&refused(Cause::ConnectRate, "10.0.0.6", 20));
        for host in 0..40 {
            sums.add(&refused(Cause::TokenExpired, &format!("10.0.1.{host}"), 1));
        }
        sums.add(&read(&Record::new(Kind::Slow, Cause::None)));
        sums.add(&read(&Record::new(Kind::Opened, Cause::None)));
        sums.add(&read(&Record {
            is_summary: true,
            count: 90,
            ..Record::new(Kind::Closed, Cause::Drain)
        }));
        assert_eq!(
            sums.lines().collect::<Vec<_>>(),
            [
                "refused 1240 connects in 60 s: connect_rate 1200 (1180 from 10.0.0.5), \
                 token_expired 40",
                "slow 1 connections in 60 s",
            ]
        );
    }
}
