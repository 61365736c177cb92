//! What the node counts, sampled for everybody who looks, and for the warnings: each shard is asked
//! once.
//!
//! Every five seconds, and every second while somebody has looked within ten, the shards are asked
//! for their counters. Browsers that look are shown a sample of at most a second ago; a program
//! that shows the token is answered with one that was begun after its question, which it shares
//! with all that asked before. Samples of a quarter of an hour are kept, so that charts are full
//! when they are opened.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::engine::Engine;
use super::error::ControlError;
use crate::metrics::report::{LatencyReports, MemoryReport, NodeReport, RatesReport, ShardReport};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(5);
/// The same while somebody looks.
const EVERY_WATCHED: Duration = Duration::from_secs(1);
/// For how long somebody who looked once looks.
const WATCHED_FOR: Duration = Duration::from_secs(10);
/// What somebody who looks is shown is not older.
const AGE_MAX: Duration = Duration::from_secs(1);
/// For how long samples are kept, in seconds.
pub(super) const KEPT_SEC: u64 = 15 * 60;
/// Samples that are kept at most.
const KEPT_MAX: usize = 900;
/// How long the shards may take to tell about themselves.
pub(super) const SHARDS_TIME_MAX: Duration = Duration::from_secs(5);

/// What is kept of a report: the names are those of the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    /// When it was made, Unix time in milliseconds.
    pub at: u64,
    connections: u64,
    connections_unauthenticated: u64,
    connections_blocked: u64,
    channels: u64,
    peers: u64,
    subscriptions: u64,
    memory: MemoryReport,
    /// A second's, since the sample before; 0 in the first one.
    rates: RatesReport,
    /// Of the last minute, in microseconds.
    latencies: LatencyReports,
    /// Counts since the start.
    #[serde(skip)]
    totals: RatesReport,
}

impl Sample {
    fn of(report: &NodeReport, at: u64, before: Option<&Self>) -> Self {
        let sum = |count: fn(&ShardReport) -> u64| report.shards.iter().map(count).sum();
        let mut totals = RatesReport::default();
        for shard in &report.shards {
            totals.add(&shard.totals.counts());
        }
        let rates = before.map(|before| {
            let ms = at.saturating_sub(before.at).max(1);
            totals.since(&before.totals, ms as f64 / 1_000.0)
        });
        Self {
            at,
            connections: sum(|it| it.connections),
            connections_unauthenticated: sum(|it| it.connections_unauthenticated),
            connections_blocked: sum(|it| it.connections_blocked),
            channels: sum(|it| it.channels),
            peers: sum(|it| it.peers),
            subscriptions: report.subscriptions,
            memory: report.memory,
            rates: rates.unwrap_or_default(),
            latencies: report.latencies,
            totals,
        }
    }
}

/// See the top of this file.
#[derive(Default)]
pub(super) struct Sampler {
    state: Mutex<State>,
    /// Held while the shards are asked: who comes meanwhile shares the report.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The last report, and when it was asked for.
    last: Option<(Instant, Arc<NodeReport>)>,
    /// When somebody looked last.
    looked: Option<Instant>,
    kept: VecDeque<Sample>,
}

impl State {
    fn keep(&mut self, sample: Sample) {
        let oldest = sample.at.saturating_sub(KEPT_SEC * 1_000);
        while self.kept.front().is_some_and(|it| it.at < oldest) || self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(sample);
    }

    /// The last report, if it was not asked for before that.
    fn fresh(&self, since: Instant) -> Option<Arc<NodeReport>> {
        let (asked, report) = self.last.as_ref()?;
        (*asked >= since).then(|| Arc::clone(report))
    }

    /// Until when nothing is sampled.
    fn next(&self, now: Instant) -> Instant {
        let is_watched = self
            .looked
            .is_some_and(|it| now.duration_since(it) <= WATCHED_FOR);
        let pause = if is_watched { EVERY_WATCHED } else { EVERY };
        self.last.as_ref().map_or(now, |(asked, _)| *asked + pause)
    }
}

impl Sampler {
    /// Samples for as long as the sampler is there.
    pub(super) fn run(self: &Arc<Self>, engine: &Arc<Engine>) {
        let (sampler, engine) = (Arc::downgrade(self), Arc::downgrade(engine));
        tokio::spawn(async move {
            // Awake each second, so that whoever begins to look is not noticed late.
            loop {
                tokio::time::sleep(EVERY_WATCHED).await;
                let (Some(sampler), Some(engine)) = (sampler.upgrade(), engine.upgrade()) else {
                    return;
                };
                let now = Instant::now();
                if sampler.state().next(now) <= now {
                    // A shard that does not answer is told by whoever asks for stats.
                    let _ = sampler.sample(&engine, now).await;
                }
            }
        });
    }

    /// The report for somebody who looks; `is_shared`: it may be a second old.
    ///
    /// # Errors
    /// A shard does not answer.
    pub(super) async fn report(
        &self,
        engine: &Engine,
        is_shared: bool,
    ) -> Result<Arc<NodeReport>, ControlError> {
        let now = Instant::now();
        self.state().looked = Some(now);
        let age_max = if is_shared { AGE_MAX } else { Duration::ZERO };
        self.sample(engine, now.checked_sub(age_max).unwrap_or(now))
            .await
    }

    /// What is kept of the last seconds, the oldest first.
    pub(super) fn history(&self, seconds: u64, now_unix_ms: u64) -> Vec<Sample> {
        let mut state = self.state();
        state.looked = Some(Instant::now());
        let since = now_unix_ms.saturating_sub(seconds.saturating_mul(1_000));
        let kept = state.kept.iter().filter(|sample| sample.at >= since);
        kept.cloned().collect()
    }

    /// A report that was asked for since then. Whoever waits for those who asked before waits no
    /// longer than they do.
    async fn sample(
        &self,
        engine: &Engine,
        since: Instant,
    ) -> Result<Arc<NodeReport>, ControlError> {
        let report = timeout(SHARDS_TIME_MAX, self.ask(engine, since)).await;
        report.map_err(|_| ControlError::Unavailable("a shard did not answer in time".into()))
    }

    async fn ask(&self, engine: &Engine, since: Instant) -> Arc<NodeReport> {
        let _asking = self.asking.lock().await;
        if let Some(report) = self.state().fresh(since) {
            return report;
        }
        let asked = Instant::now();
        let report = Arc::new(engine.shards().stats().await);
        engine.shards().events().observe(&report);
        let mut state = self.state();
        state.last = Some((asked, Arc::clone(&report)));
        let sample = Sample::of(&report, engine.now_unix_ms(), state.kept.back());
        state.keep(sample);
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::report::TotalsReport;

    #[test]
    fn a_quarter_of_an_hour_is_kept_and_no_more_than_900() {
        let mut state = State::default();
        let sample = |at| Sample::of(&NodeReport::default(), at, None);
        for at in (0..2_000).map(|at| 1_000 * at) {
            state.keep(sample(at));
        }
        assert_eq!(state.kept.len(), KEPT_MAX);
        let ages = state.kept.iter().map(|it| 1_999_000 - it.at);
        assert!(ages.max() <= Some(KEPT_SEC * 1_000));
        state.keep(sample(10_000_000));
        assert_eq!(state.kept.len(), 1);
    }

    #[test]
    fn rates_are_of_a_second_since_the_sample_before() {
        let report = |deliveries| {
            let totals = TotalsReport {
                deliveries,
                ..TotalsReport::default()
            };
            let shard = ShardReport {
                totals,
                ..ShardReport::default()
            };
            NodeReport {
                shards: vec![shard.clone(), shard],
                ..NodeReport::default()
            }
        };
        let first = Sample::of(&report(100), 1_000, None);
        assert_eq!(first.rates, RatesReport::default());
        let next = Sample::of(&report(350), 6_000, Some(&first));
        assert_eq!(next.rates.deliveries, 100.0);
        // Of a server that has begun anew, or of a clock that has gone back.
        let odd = Sample::of(&report(1), 5_000, Some(&next));
        assert_eq!(odd.rates.deliveries, 0.0);
    }

    #[test]
    fn it_samples_every_five_seconds_and_every_second_while_somebody_looks() {
        let mut state = State::default();
        let start = Instant::now();
        assert_eq!(state.next(start), start, "there is none yet");
        state.last = Some((start, Arc::new(NodeReport::default())));
        assert_eq!(state.next(start), start + EVERY);
        state.looked = Some(start);
        assert_eq!(state.next(start), start + EVERY_WATCHED);
        let later = start + WATCHED_FOR + Duration::from_millis(1);
        assert_eq!(state.next(later), start + EVERY);
        assert!(state.fresh(start).is_some() && state.fresh(later).is_none());
    }
}
