//! What an app has used in its period, and the answer of `GET /v1/usage`.
//!
//! The control plane merges the shards' counts and publishes the sum into the app's gauges;
//! both APIs read it from there with [`UsageReport::of`], so they can only say the same.

use serde::{Deserialize, Serialize};

use crate::domain::rights::App;
use crate::ids::AppIndex;

/// What one shard has counted for an app since its last report, about a second ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageDelta {
    /// The app that used it.
    pub app: AppIndex,
    /// The period they belong to: the number of the app's [`QuotaGate`] when they were counted.
    ///
    /// [`QuotaGate`]: crate::domain::quota::QuotaGate
    pub period: u16,
    /// `publish` and `send` attempts that reached the quota check, dropped ones included.
    pub messages: u64,
    /// Those of them that passed over the limit.
    pub overage_messages: u64,
    /// Connections accepted over the limit.
    pub overage_connections: u64,
}

/// An app's counts in one period, as last merged. The store's rows have these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodUsage {
    /// The period's first second, Unix time.
    pub start_unix: u64,
    /// The first second after it.
    pub end_unix: u64,
    /// Most connections at the same time.
    pub peak_connections: u64,
    /// `publish` and `send` attempts that reached the quota check.
    pub messages: u64,
    /// Messages that passed over the limit.
    pub overage_messages: u64,
    /// Connections accepted over the limit.
    pub overage_connections: u64,
}

impl PeriodUsage {
    /// Adds what a shard has counted.
    pub fn add(&mut self, delta: &UsageDelta) {
        self.messages = self.messages.saturating_add(delta.messages);
        self.overage_messages = self.overage_messages.saturating_add(delta.overage_messages);
        self.overage_connections = self
            .overage_connections
            .saturating_add(delta.overage_connections);
    }

    /// Adds the counts of another stretch of the same period.
    pub fn join(&mut self, other: &Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.overage_messages = self.overage_messages.saturating_add(other.overage_messages);
        self.overage_connections = self
            .overage_connections
            .saturating_add(other.overage_connections);
        self.peak_connections = self.peak_connections.max(other.peak_connections);
    }
}

/// An app's plan, as shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanView {
    /// For people and invoices.
    pub name: Option<String>,
    /// Connections at the same time.
    pub max_concurrent_connections: Option<u64>,
    /// Messages in one period.
    pub max_messages_per_period: Option<u64>,
    /// Whether the plan lets traffic pass its limits.
    pub overages_allowed: bool,
    /// Whether the customer has switched that on.
    pub overages_enabled: bool,
}

/// The body of `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport<'a> {
    app_id: &'a str,
    period_start_unix: Option<u64>,
    period_end_unix: Option<u64>,
    concurrent_now: u64,
    peak_concurrent: u64,
    messages_used: u64,
    overage_messages: u64,
    overage_connections: u64,
    plan: &'a PlanView,
}

impl<'a> UsageReport<'a> {
    /// The report of an app at this moment: exact connections, the rest as last merged.
    #[must_use]
    pub fn of(app: &'a App) -> Self {
        let usage = app.gauges.usage();
        Self {
            app_id: &app.id,
            period_start_unix: usage.map(|usage| usage.start_unix),
            period_end_unix: usage.map(|usage| usage.end_unix),
            concurrent_now: app.gauges.connections(),
            peak_concurrent: usage
                .map_or(0, |usage| usage.peak_connections)
                .max(app.gauges.peak()),
            messages_used: usage.map_or(0, |usage| usage.messages),
            overage_messages: usage.map_or(0, |usage| usage.overage_messages),
            overage_connections: usage.map_or(0, |usage| usage.overage_connections),
            plan: &app.plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::quota::QuotaGate;
    use crate::domain::rights::AppGauges;

    fn app(plan: PlanView) -> App {
        App {
            index: AppIndex(0),
            id: "app_a".into(),
            suspended: false,
            connections_max: plan.max_concurrent_connections,
            messages_max: plan.max_messages_per_period,
            overages: plan.overages_allowed && plan.overages_enabled,
            plan,
            direct_needs_shared_channel: false,
            turn: None,
            message_limits: None,
            gauges: Arc::new(AppGauges::default()),
            quota: Arc::new(QuotaGate::default()),
        }
    }

    #[test]
    fn the_body_is_the_documented_one() {
        let app = app(PlanView {
            name: Some("pro".into()),
            max_concurrent_connections: Some(10),
            max_messages_per_period: None,
            overages_allowed: true,
            overages_enabled: false,
        });
        let mut expected = json!({
            "appId": "app_a",
            "periodStartUnix": null,
            "periodEndUnix": null,
            "concurrentNow": 0,
            "peakConcurrent": 0,
            "messagesUsed": 0,
            "overageMessages": 0,
            "overageConnections": 0,
            "plan": {
                "name": "pro",
                "maxConcurrentConnections": 10,
                "maxMessagesPerPeriod": null,
                "overagesAllowed": true,
                "overagesEnabled": false,
            },
        });
        assert_eq!(
            json!(UsageReport::of(&app)),
            expected,
            "before the first merge"
        );
        app.gauges.publish_usage(PeriodUsage {
            start_unix: 100,
            end_unix: 200,
            peak_connections: 1,
            messages: 7,
            overage_messages: 2,
            overage_connections: 3,
        });
        for _ in 0..2 {
            app.gauges.connect(None).unwrap();
        }
        app.gauges.disconnect();
        for (field, value) in [
            ("periodStartUnix", 100),
            ("periodEndUnix", 200),
            ("concurrentNow", 1),
            ("peakConcurrent", 2),
            ("messagesUsed", 7),
            ("overageMessages", 2),
            ("overageConnections", 3),
        ] {
            expected[field] = value.into();
        }
        assert_eq!(json!(UsageReport::of(&app)), expected);
    }
}
