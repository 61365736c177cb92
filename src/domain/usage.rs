//! What an app has used in its period, and what it may use.
//!
//! The control plane merges the shards' counts and publishes the sum into the app's gauges; both
//! APIs read it from there as a [`UsageReport`], so they can only say the same.
//!
//! [`UsageReport`]: super::usage_report::UsageReport

use serde::{Deserialize, Serialize};

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
