//! What an app uses and may use, as both APIs show it.

use serde::Serialize;

use crate::domain::rights::App;
use crate::domain::usage::PlanView;

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
    use crate::domain::rights::{AppGauges, Feed};
    use crate::domain::usage::PeriodUsage;
    use crate::ids::AppIndex;

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
            feed: Feed::default(),
            history: Arc::default(),
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
