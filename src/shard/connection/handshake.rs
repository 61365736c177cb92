//! What comes before the first request, as far as time is concerned.
//!
//! A peer has a while to send its request head. In a storm of TLS handshakes the server may come
//! to one only long after the peer has sent its part: that time is not the peer's. So the clock
//! stands while bytes wait for the server, and begins anew with each word of the server's, which
//! are few; it goes on where it stood when a peer that dribbles has brought nothing to an end.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Awaited, Connections, Phase};
use crate::shard::connection::progress::NEVER_MS;
use crate::shard::context::Context;
use crate::shard::input::HandshakeStep;

impl Connections {
    pub(in crate::shard) fn handshake(
        &mut self,
        id: ConnectionId,
        step: HandshakeStep,
        context: &mut Context,
    ) {
        let head_timeout_ms = context.config.limits.head_timeout_ms;
        let now_ms = self.peer_ms(context);
        let Some(connection) = self.get_mut(id) else {
            return; // It is gone, see `Input`.
        };
        let Phase::Http(http) = &mut connection.phase else {
            return; // It was closed in its handshake.
        };
        match (step, connection.awaited) {
            (HandshakeStep::Due, Awaited::Since(_)) => {
                let left_ms = http.deadline_ms.saturating_sub(now_ms);
                connection.awaited = Awaited::NotNow(left_ms);
                http.deadline_ms = NEVER_MS;
            }
            (HandshakeStep::Taken { answered }, Awaited::NotNow(left_ms)) => {
                let left_ms = if answered { head_timeout_ms } else { left_ms };
                connection.awaited = Awaited::Since(now_ms);
                http.deadline_ms = now_ms + left_ms;
                self.arm(id, context);
            }
            (HandshakeStep::Due, Awaited::NotNow(_))
            | (HandshakeStep::Taken { .. }, Awaited::Since(_)) => {}
        }
    }
}
