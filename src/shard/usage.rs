//! What the apps use on this shard: messages against their quota, and the counts that the
//! control plane merges.
//!
//! Counts are kept only between two reports, about a second apart: a report hands them out and
//! gives back what is left of the leases, so that an idle shard keeps nothing from the others.
//! A count belongs to the period in which it was made, which the app's gate numbers. This file
//! does not know plans; an app brings its limit along.

use std::sync::Arc;

use ahash::{AHashMap, RandomState};

use crate::domain::quota::{QuotaGate, QuotaLease};
use crate::domain::rights::App;
use crate::domain::time::Now;
use crate::domain::usage::UsageDelta;
use crate::ids::AppIndex;
use crate::planted::{Bug, planted};

/// From the first count after a report to the next report, in milliseconds.
const REPORT_AFTER_MS: u64 = 1_000;

/// What has been counted since the last report.
#[derive(Debug)]
pub(in crate::shard) struct UsageMeter {
    apps: AHashMap<AppIndex, AppUsage>,
    /// Counts of periods that have ended since the last report.
    ended: Vec<UsageDelta>,
    due_ms: Option<u64>,
}

#[derive(Debug)]
struct AppUsage {
    gate: Arc<QuotaGate>,
    lease: QuotaLease,
    delta: UsageDelta,
}

impl UsageMeter {
    /// Nothing has been counted. The keys of the hashes decide the order of reports.
    pub(in crate::shard) fn new(hasher: RandomState) -> Self {
        Self {
            apps: AHashMap::with_hasher(hasher),
            ended: Vec::new(),
            due_ms: None,
        }
    }

    /// Counts a `publish` or `send` that is valid and authorized. `false`: it is over the quota
    /// and must be dropped.
    #[must_use]
    pub(in crate::shard) fn message(&mut self, app: &App, shard_count: u16, now: Now) -> bool {
        let usage = self.of(app, now);
        usage.delta.messages += 1;
        if usage.lease.take(&app.quota, app.messages_max, shard_count) {
            return true;
        }
        usage.delta.messages += u64::from(planted(Bug::QuotaCountedTwice));
        usage.delta.overage_messages += u64::from(app.overages);
        app.overages
    }

    /// Counts a connection that was accepted over the limit.
    pub(in crate::shard) fn overage_connection(&mut self, app: &App, now: Now) {
        self.of(app, now).delta.overage_connections += 1;
    }

    /// When the next report is due, on the monotonic clock.
    pub(in crate::shard) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Hands out what has been counted and gives the leases back.
    pub(in crate::shard) fn report(&mut self, deltas: &mut Vec<UsageDelta>) {
        self.due_ms = None;
        deltas.append(&mut self.ended);
        deltas.extend(self.apps.drain().map(|(_, mut usage)| {
            usage.lease.give_back(&usage.gate);
            usage.delta
        }));
    }

    /// The counts of an app in its present period.
    fn of(&mut self, app: &App, now: Now) -> &mut AppUsage {
        let period = app.quota.period();
        let usage = self.apps.entry(app.index).or_insert_with(|| {
            self.due_ms.get_or_insert(now.mono_ms + REPORT_AFTER_MS);
            AppUsage {
                gate: app.quota.clone(),
                lease: QuotaLease::default(),
                delta: nothing(app.index, period),
            }
        });
        if usage.delta.period != period {
            let ended = std::mem::replace(&mut usage.delta, nothing(app.index, period));
            self.ended.push(ended);
        }
        usage
    }
}

fn nothing(app: AppIndex, period: u16) -> UsageDelta {
    UsageDelta {
        app,
        period,
        messages: 0,
        overage_messages: 0,
        overage_connections: 0,
    }
}
