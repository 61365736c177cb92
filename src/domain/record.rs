//! Apps and keys as operators see them: what the admin API takes and shows, what the store
//! keeps and what `[[apps]]` in the configuration declares, before it is compiled into a
//! [`Rights`](crate::domain::rights::Rights) snapshot.
//!
//! Field names are those of the admin API (camelCase); the configuration's snake_case is
//! translated where it is read. Secrets are never part of these types.

use serde::{Deserialize, Serialize};

use super::history::HistoryRule;

/// An app: a tenant with its own channels, peers and keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppRecord {
    /// The id: `[A-Za-z0-9_-]{1,64}`.
    pub app_id: String,
    /// A name for people; may be empty.
    pub name: String,
    /// Whether its clients may connect.
    pub status: AppStatus,
    /// What it may use.
    pub plan: PlanRecord,
    /// Which peers a `send` may reach.
    pub direct_scope: DirectScope,
    /// TURN servers injected into `welcome`; their secret lives beside the record.
    pub turn: Option<TurnRecord>,
    /// The app's own message rate, instead of the server's.
    pub limits: Option<MessageLimits>,
    /// What its backend can follow. Stores of earlier versions do not have it.
    #[serde(default)]
    pub feed: FeedRecord,
    /// What its channels keep; the first rule that matches holds. Stores of earlier versions do not
    /// have it.
    #[serde(default)]
    pub history: Vec<HistoryRule>,
    /// When it was made, in Unix seconds.
    pub created_at: u64,
}

/// Whether an app's clients may connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppStatus {
    /// Clients may connect.
    #[default]
    Active,
    /// Live connections are closed with 4012, new ones too.
    Suspended,
}

/// Which peers a `send` of this app may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectScope {
    /// Every peer of the app.
    #[default]
    App,
    /// Only peers that are in a channel with the sender.
    SharedChannel,
}

/// Which lifecycle events are kept for an app's backend to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FeedRecord {
    /// Who comes into channels and leaves them.
    pub presence: bool,
    /// Who connects, and who is gone.
    pub peers: bool,
}

/// What an app may use; `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PlanRecord {
    /// A name for people and invoices.
    pub name: Option<String>,
    /// Connections at the same time.
    pub max_concurrent_connections: Option<u64>,
    /// Messages in one period.
    pub max_messages_per_period: Option<u64>,
    /// Whether the plan lets traffic pass its limits.
    pub overages_allowed: bool,
    /// Whether the customer has switched that on.
    pub overages_enabled: bool,
    /// Start of some period, Unix seconds; with `period_days` the period is not a calendar month.
    pub period_start_unix: Option<u64>,
    /// Length of a period in days.
    pub period_days: Option<u32>,
}

/// TURN servers whose time-limited credentials are put into `welcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRecord {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// Lifetime of a credential, in seconds.
    pub ttl_sec: u64,
}

/// Message rate of one connection: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MessageLimits {
    /// Messages per second; 0 is unlimited.
    pub message_rate: u32,
    /// Messages that may come at once.
    pub message_burst: u32,
}

/// The two types of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// Signs tokens and drives REST; stays on the backend.
    Secret,
    /// Connects by itself; shipped to browsers.
    Publishable,
}

/// A key, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    /// The id: `pk_live_…` or `sk_id_…`.
    pub key_id: String,
    /// The app it belongs to.
    pub app_id: String,
    /// Whether it is secret or publishable.
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// A name for people; may be empty.
    pub name: String,
    /// Patterns of the channels that its holders may use.
    pub channel_patterns: Vec<String>,
    /// What they may do: `publish`, `subscribe`, `presence`, `send`.
    pub actions: Vec<String>,
    /// Origins that may connect with a publishable key; empty: any.
    pub allowed_origins: Vec<String>,
    /// Whether `welcome` gets the app's TURN servers.
    pub auto_inject_turn: bool,
    /// When it was made, in Unix seconds.
    pub created_at: u64,
}
