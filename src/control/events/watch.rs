//! Finds out what somebody should look at: from what is recorded, from the clocks, and from what
//! the node reports of itself.

use std::collections::BTreeSet;

use super::book::{Events, NS_PER_MS};
use crate::events::kind::{Cause, Keep, Kind};
use crate::events::reader::Event;
use crate::limits::descriptors_used_max;
use crate::metrics::report::NodeReport;

/// The ring of ends is to reach back so far, in seconds.
const RETAINED_SEC_MIN: f64 = 60.0;
/// A shard whose turns take longer lags: the 99th percentile, in microseconds.
const LAG_US_MAX: f64 = 20_000.0;
/// So many of ten descriptors that may be in use before nobody is accepted are many.
const DESCRIPTORS_TENTHS: u64 = 8;
/// A wall clock that moves otherwise than the monotonic one by more has jumped, in milliseconds.
const STEP_MS: u64 = 10_000;

/// What is known from earlier looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Links that are over their limits: from a shard, to a shard.
    over_limit: BTreeSet<(Option<u16>, u64)>,
    /// Unix time less the monotonic one, in milliseconds.
    clocks_apart_ms: Option<i128>,
}

impl Watch {
    /// Takes in what was recorded.
    pub(super) fn see(&mut self, event: &Event, events: &Events) {
        let read = &event.read;
        let count = u64::from(read.count);
        match (read.kind, read.cause) {
            // What it stands for is seen one by one.
            (Kind::Closed, Cause::SlowConsumer) if !read.is_summary => {
                events.warn(Cause::SlowConsumers, "", count);
            }
            (Kind::Accept, Cause::GaveWay | Cause::Resumed) => {}
            (Kind::Accept, cause) => {
                if cause == Cause::Descriptors {
                    events.warn(Cause::DescriptorsLow, "all are in use", count);
                }
                events.warn(Cause::AcceptPaused, cause.as_str(), count);
            }
            (Kind::Refused, Cause::ProxyHeader) => {
                let of = read.address.map(|it| it.to_string());
                events.warn(Cause::ProxyHeaderMissing, &of.unwrap_or_default(), count);
            }
            (Kind::Link, cause) => {
                let from = event.place.shard.map(|shard| shard.0);
                let link = (from, read.number("to").unwrap_or_default());
                match cause {
                    Cause::OverLimit => self.over_limit.insert(link),
                    _ => self.over_limit.remove(&link),
                };
                let links = self.over_limit.len();
                let detail = (links > 0).then(|| format!("{links} links"));
                events.hold(Cause::LinkOverLimit, detail.as_deref());
            }
            (Kind::Quota, _) => {
                let app = read
                    .app
                    .and_then(|it| events.names().app(it).map(str::to_owned));
                let [used, allowed] = ["used", "allowed"].map(|name| read.number(name));
                let detail = format!(
                    "{}: {} of {} {}",
                    app.unwrap_or_default(),
                    used.unwrap_or_default(),
                    allowed.unwrap_or_default(),
                    read.first
                );
                events.warn(Cause::QuotaNear, &detail, count);
            }
            // The process's own are there already.
            (Kind::Warning, cause) if event.place.shard.is_some() => {
                let of = read.address.map(|it| it.to_string());
                events.warn(cause, &of.unwrap_or_default(), count);
            }
            _ => {}
        }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self, events: &Events) {
        let now = (events.clock)();
        let apart_ms = i128::from(now.unix_ms) - i128::from(now.mono_ns / NS_PER_MS);
        let before_ms = self.clocks_apart_ms.replace(apart_ms).unwrap_or(apart_ms);
        if apart_ms.abs_diff(before_ms) > u128::from(STEP_MS) {
            let seconds = (apart_ms - before_ms) / 1_000;
            events.warn(Cause::ClockStepped, &format!("by {seconds} s"), 1);
        }
        let is_short = events.is_on()
            && events.reader.oldest_ns(Keep::Ends) > 0
            && events.retained_sec(Keep::Ends) < RETAINED_SEC_MIN;
        let detail = is_short.then(|| format!("{:.0} s", events.retained_sec(Keep::Ends)));
        events.hold(Cause::EventsShort, detail.as_deref());
        events.tick_warnings();
    }
}

impl Events {
    /// Takes in what the node reports of itself.
    pub(crate) fn observe(&self, report: &NodeReport) {
        let lag_us = |at: usize| {
            report.shards[at]
                .latencies
                .loop_lag
                .p99_us
                .unwrap_or_default()
        };
        let worst =
            (0..report.shards.len()).max_by(|one, other| lag_us(*one).total_cmp(&lag_us(*other)));
        let lagging = worst.filter(|at| lag_us(*at) > LAG_US_MAX);
        let detail = lagging.map(|at| {
            let ms = lag_us(at) / 1_000.0;
            format!("shard {}: {ms:.0} ms", report.shards[at].shard)
        });
        self.hold(Cause::ShardLag, detail.as_deref());
        let process = &report.process;
        let used = process.open_files;
        let max = process.open_files_max;
        let max = max.filter(|max| {
            let many = descriptors_used_max(*max).saturating_mul(DESCRIPTORS_TENTHS);
            used.saturating_mul(10) >= many
        });
        let detail = max.map(|max| {
            let stop = descriptors_used_max(max);
            format!("{used} of {max} are in use; from {stop} on, nobody is accepted")
        });
        self.hold(Cause::DescriptorsLow, detail.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::tests::Scene;
    use crate::events::reader::Place;
    use crate::events::record::{Read, Record};
    use crate::ids::ShardId;
    use crate::metrics::report::ShardReport;

    /// The detail of a warning, if there is one.
    fn detail(events: &Events, code: Cause) -> Option<String> {
        let warnings = serde_json::to_value(events.warnings()).unwrap();
        let mut warnings = warnings.as_array().unwrap().iter();
        let warning = warnings.find(|it| it["code"] == code.as_str())?;
        assert!(!warning["remedy"].as_str().unwrap().is_empty());
        Some(warning["detail"].as_str().unwrap_or_default().to_owned())
    }

    fn report(p99_us: [f64; 2], open_files: u64) -> NodeReport {
        let shards = (0..).zip(p99_us).map(|(shard, p99_us)| {
            let mut report = ShardReport {
                shard,
                ..ShardReport::default()
            };
            report.latencies.loop_lag.p99_us = Some(p99_us);
            report
        });
        let mut report = NodeReport {
            shards: shards.collect(),
            ..NodeReport::default()
        };
        report.process.open_files = open_files;
        report.process.open_files_max = Some(1_000);
        report
    }

    #[test]
    fn a_shard_with_long_turns_lags_until_they_are_short() {
        let events = Scene::new(1 << 20).events;
        events.observe(&report([100.0, 19_999.0], 0));
        assert_eq!(detail(&events, Cause::ShardLag), None);
        events.observe(&report([100.0, 31_400.0], 0));
        let told = detail(&events, Cause::ShardLag);
        assert_eq!(told.as_deref(), Some("shard 1: 31 ms"));
        events.observe(&report([100.0, 100.0], 0));
        assert_eq!(detail(&events, Cause::ShardLag), None);
    }

    #[test]
    fn few_descriptors_are_told_of_before_nobody_is_accepted() {
        for (limit, many, told) in [
            (
                1_000,
                724,
                "724 of 1000 are in use; from 904 on, nobody is accepted",
            ),
            (
                64,
                39,
                "39 of 64 are in use; from 48 on, nobody is accepted",
            ),
        ] {
            let events = Scene::new(1 << 20).events;
            let observe = |used| {
                let mut report = report([0.0; 2], used);
                report.process.open_files_max = Some(limit);
                events.observe(&report);
                detail(&events, Cause::DescriptorsLow)
            };
            assert_eq!(observe(many - 1), None);
            assert_eq!(observe(many).as_deref(), Some(told));
            assert_eq!(observe(20), None);
        }
    }

    #[test]
    fn links_over_their_limits_are_counted() {
        let events = Scene::new(1 << 20).events;
        let mut watch = Watch::default();
        let mut see = |cause, to| {
            let numbers = [0, to, 20 << 20, 7];
            let record = Record {
                numbers: &numbers,
                ..Record::new(Kind::Link, cause)
            };
            let event = Event {
                place: Place {
                    shard: Some(ShardId(0)),
                    keep: Keep::Ends,
                    number: to,
                },
                read: Read::parse(&record.to_words(1)).unwrap(),
            };
            watch.see(&event, &events);
            detail(&events, Cause::LinkOverLimit)
        };
        assert_eq!(see(Cause::OverLimit, 1).as_deref(), Some("1 links"));
        assert_eq!(see(Cause::OverLimit, 2).as_deref(), Some("2 links"));
        assert_eq!(see(Cause::UnderLimit, 1).as_deref(), Some("1 links"));
        assert_eq!(see(Cause::UnderLimit, 2), None);
    }

    #[test]
    fn ends_that_reach_back_less_than_a_minute_are_short() {
        let mut scene = Scene::new(64 << 10);
        let mut watch = Watch::default();
        let events = std::sync::Arc::clone(&scene.events);
        let mut fill = |each_ms| {
            for _ in 0..2_000 {
                scene.pass_ms(each_ms);
                scene.record(0, &Record::new(Kind::Slow, Cause::None));
            }
        };
        watch.tick(&events);
        assert_eq!(detail(&events, Cause::EventsShort), None);
        fill(1);
        watch.tick(&events);
        let told = detail(&events, Cause::EventsShort).unwrap();
        assert!(told.ends_with(" s"), "{told}");
        fill(1_000);
        watch.tick(&events);
        assert_eq!(detail(&events, Cause::EventsShort), None);
    }

    #[test]
    fn a_wall_clock_that_jumps_has_stepped() {
        let scene = Scene::new(1 << 20);
        let mut watch = Watch::default();
        for _ in 0..3 {
            scene.pass_ms(60_000);
            scene.step_ms(9_000);
            watch.tick(&scene.events);
        }
        assert_eq!(detail(&scene.events, Cause::ClockStepped), None);
        scene.step_ms(11_000);
        watch.tick(&scene.events);
        let told = detail(&scene.events, Cause::ClockStepped);
        assert_eq!(told.as_deref(), Some("by 11 s"));
    }
}
