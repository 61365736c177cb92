//! New settings for connections that exist.

use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::settings::Settings;

/// Connections whose timers are set anew in one turn: about 0.1 ms of work.
const REARMS_PER_TURN_MAX: u32 = 1_000;

impl Connections {
    /// These hold from now on.
    pub(in crate::shard) fn switch_settings(&mut self, settings: &Settings, context: &mut Context) {
        let Settings {
            reject_with_close,
            explain,
            accept_bare_key_id,
            trusted_proxies,
            request_rates,
            connect_rates,
            limits,
        } = settings.clone();
        context.config.reject_with_close = reject_with_close;
        context.config.explain = explain;
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
