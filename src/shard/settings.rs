//! What an operator may change while a shard runs: all of it at once, between two inputs.
//!
//! Live connections follow from the next thing that they do. A request that has begun keeps
//! the time that it was given.

use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use std::sync::Arc;

use crate::domain::connect_rate::ConnectRates;
use crate::domain::request_rate::RequestRates;
use crate::proto::forwarded::TrustedProxies;
use crate::shard::state::ShardLimits;

/// Connections whose timers are set anew in one turn: about 0.1 ms of work.
const REARMS_PER_TURN_MAX: u32 = 1_000;

/// See the top of this file. Fields are those of
/// [`ShardConfig`](crate::shard::state::ShardConfig).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented there")]
pub struct Settings {
    pub reject_with_close: bool,
    pub accept_bare_key_id: bool,
    pub trusted_proxies: TrustedProxies,
    pub request_rates: Arc<RequestRates>,
    pub connect_rates: Arc<ConnectRates>,
    pub limits: ShardLimits,
}

impl Connections {
    /// These hold from now on.
    pub(in crate::shard) fn switch_settings(&mut self, settings: &Settings, context: &mut Context) {
        let Settings {
            reject_with_close,
            accept_bare_key_id,
            trusted_proxies,
            request_rates,
            connect_rates,
            limits,
        } = settings.clone();
        context.config.reject_with_close = reject_with_close;
        context.config.accept_bare_key_id = accept_bare_key_id;
        context.config.trusted_proxies = trusted_proxies;
        context.config.request_rates = request_rates;
        context.connect_rates = connect_rates;
        let before = std::mem::replace(&mut context.config.limits, limits);
        let now = &context.config.limits;
        // A timer that is too early finds nothing to do, one that is too late would be.
        if now.ping_after_ms < before.ping_after_ms || now.drop_after_ms < before.drop_after_ms {
            self.to_rearm = self.slot_count();
        }
    }

    /// Sets the timers of some connections after their limits have become shorter.
    pub(in crate::shard) fn rearm_some(&mut self, context: &mut Context) {
        for _ in 0..self.to_rearm.min(REARMS_PER_TURN_MAX) {
            self.to_rearm -= 1;
            if let Some(id) = self.id_at(self.to_rearm) {
                self.arm(id, context);
            }
        }
    }
}
