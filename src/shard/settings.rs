//! What an operator may change while a shard runs: all of it at once, between two inputs.
//!
//! Live connections follow from the next thing that they do. A request that has begun keeps
//! the time that it was given.

use std::sync::Arc;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::request_rate::RequestRates;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::config::ShardLimits;

/// See the top of this file. Fields are those of
/// [`ShardConfig`](crate::shard::config::ShardConfig).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented there")]
pub struct Settings {
    pub reject_with_close: bool,
    pub explain: bool,
    pub accept_bare_key_id: bool,
    pub trusted_proxies: TrustedProxies,
    pub request_rates: Arc<RequestRates>,
    pub connect_rates: Arc<ConnectRates>,
    pub limits: ShardLimits,
}
