//! Deadlines of connections: noticed in time, and what follows from them.

use crate::domain::time::Now;
use crate::ids::ConnectionId;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::{Opcode, append_frame};
use crate::shard::connections::{Connection, Stage};
use crate::shard::effect::Effects;
use crate::shard::state::Shard;

impl Shard {
    /// The next moment at which something must be done about a connection.
    fn deadline(&self, connection: &Connection) -> u64 {
        let limits = &self.config.limits;
        match &connection.stage {
            Stage::Http(http) => http.deadline_ms,
            Stage::Registering(..) => u64::MAX,
            Stage::Closing { until_ms, .. } | Stage::Lingering { until_ms } => *until_ms,
            Stage::Open(session) => {
                let quiet_ms = if session.pinged {
                    limits.drop_after_ms
                } else {
                    limits.ping_after_ms
                };
                let expiry_ms = session
                    .grant
                    .as_ref()
                    .map_or(u64::MAX, |grant| grant.closes_ms);
                let drain_ms = session.drain_ms.unwrap_or(u64::MAX);
                (connection.received_ms + quiet_ms)
                    .min(expiry_ms)
                    .min(drain_ms)
            }
        }
    }

    /// Makes sure that the connection's next deadline is noticed.
    pub(in crate::shard) fn arm(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let deadline_ms = self.deadline(connection);
        if deadline_ms < connection.timer_ms {
            self.timers.insert(deadline_ms, id);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.timer_ms = deadline_ms;
            }
        }
    }

    pub(in crate::shard) fn time(&mut self, now: Now, effects: &mut Effects) {
        if self
            .usage
            .due_ms()
            .is_some_and(|due_ms| due_ms <= now.mono_ms)
        {
            self.usage.report(&mut effects.usage);
        }
        let mut due = Vec::new();
        self.timers.expire(now.mono_ms, |id| due.push(id));
        for id in due {
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            if now.mono_ms < connection.timer_ms {
                continue; // an earlier entry has dealt with it and set this one's successor
            }
            connection.timer_ms = u64::MAX;
            let deadline_ms = self
                .connections
                .get(id)
                .map_or(u64::MAX, |it| self.deadline(it));
            if deadline_ms <= now.mono_ms {
                self.due(id, now, effects);
            }
            self.arm(id);
        }
    }

    /// A connection's deadline has come.
    fn due(&mut self, id: ConnectionId, now: Now, effects: &mut Effects) {
        let limits = &self.config.limits;
        let (ping_after_ms, drop_after_ms) = (limits.ping_after_ms, limits.drop_after_ms);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let quiet_ms = now.mono_ms.saturating_sub(connection.received_ms);
        match &mut connection.stage {
            Stage::Http(_) => self.http_deadline(id, now, effects),
            Stage::Registering(..) => {}
            Stage::Closing { .. } | Stage::Lingering { .. } => effects.abort.push(id),
            Stage::Open(session) => {
                if session.drain_ms.is_some_and(|at| at <= now.mono_ms) {
                    let code = CloseCode::GOING_AWAY;
                    self.close(id, code, "server shutting down", now, effects);
                } else if session
                    .grant
                    .as_ref()
                    .is_some_and(|grant| grant.closes_ms <= now.mono_ms)
                {
                    let code = CloseCode::EXPIRED_TOKEN;
                    self.close(id, code, code.reason(), now, effects);
                } else if quiet_ms >= drop_after_ms {
                    self.end_session(id, effects);
                    effects.abort.push(id);
                } else if quiet_ms >= ping_after_ms && !session.pinged {
                    session.pinged = true;
                    let mut frame = Vec::with_capacity(2);
                    append_frame(&mut frame, Opcode::Ping, b"");
                    connection.outbox.push_control(&frame);
                    connection.mark_dirty(effects);
                }
            }
        }
    }
}
