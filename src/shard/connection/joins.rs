//! Joins of a connection, seen from the connection.

use crate::ids::ConnectionId;
use crate::shard::connection::connections::{Connection, Connections, Held};
use crate::shard::connection::joining::{Joining, State};
use crate::shard::context::Context;
use crate::shard::effect::ChannelSlot;
use crate::shard::outbound::outbox::Piece;

/// Direct messages that wait, up to which all of them are checked.
const CHECKED_DIRECTS_MAX: usize = 64;

impl Connections {
    /// Checks the joins of a connection after a change, in debug builds.
    #[inline]
    pub(in crate::shard) fn debug_check_joins(&self, id: ConnectionId, context: &Context) {
        if cfg!(debug_assertions) {
            self[id].check_joins(context.tuning.snapshot_bytes_max);
        }
    }
}

impl Connection {
    fn joining_mut(&mut self) -> Option<&mut Joining> {
        self.session_mut()?.joining.as_deref_mut()
    }

    /// Bytes of deliveries that wait for snapshots, outside the outbox.
    #[must_use]
    pub(in crate::shard) fn held_bytes(&self) -> usize {
        let joining = self.session().and_then(|it| it.joining.as_ref());
        joining.map_or(0, |it| it.held_bytes())
    }

    /// Bytes of frames of channels that wait for snapshots.
    #[must_use]
    pub(in crate::shard) fn paused_bytes(&self) -> usize {
        let joining = self.session().and_then(|it| it.joining.as_ref());
        joining.map_or(0, |it| it.paused_bytes())
    }

    /// Whether it is sent nothing of that channel before its snapshot.
    pub(in crate::shard) fn awaits(&self, slot: ChannelSlot) -> bool {
        let joining = self.session().and_then(|it| it.joining.as_ref());
        let mut snapshots = joining.into_iter().flat_map(|it| &it.snapshots);
        snapshots.any(|it| it.slot == Some(slot))
    }

    /// Panics unless what `connection/joining.rs` says at its top is true.
    pub(in crate::shard) fn check_joins(&self, snapshot_bytes_max: usize) {
        let Some(joining) = self.session().and_then(|it| it.joining.as_ref()) else {
            return;
        };
        assert!(!joining.is_over(), "nobody waits");
        assert_eq!(joining.parked.is_some(), self.held.has(Held::JOINS));
        assert!(joining.refresh.is_some() || !self.held.has(Held::REFRESH));
        assert!(joining.asked.is_sorted_by_key(|it| it.number));
        // It is looked at whenever one is added.
        let newest = joining.directs.iter().rev().take(CHECKED_DIRECTS_MAX);
        assert!(newest.map(|it| it.0).rev().is_sorted());
        for it in &joining.snapshots {
            let is_queued = matches!(it.state, State::Queued { .. });
            assert!(!is_queued || it.slot.is_none() && it.snapshot.is_none());
        }
        let kept = joining.snapshots.iter().filter(|it| it.snapshot.is_some());
        assert!(kept.count() <= 1 || joining.snapshot_bytes() <= snapshot_bytes_max);
    }

    /// Keeps frames of a channel for a member that waits for its snapshot. Returns `false` if the
    /// connection has too much to take already.
    pub(in crate::shard) fn hold(
        &mut self,
        slot: ChannelSlot,
        frames: &[Piece<'_>],
        limit: usize,
    ) -> bool {
        let waiting_bytes = self.delivery_bytes_waiting();
        let limit = limit.saturating_add(self.pardoned_bytes());
        let Some(joining) = self.joining_mut() else {
            return true;
        };
        let mut snapshots = joining.snapshots.iter_mut();
        let Some(awaited) = snapshots.find(|it| it.slot == Some(slot)) else {
            // The membership is being given up.
            return true;
        };
        let count: usize = frames.iter().map(Piece::len).sum();
        let fits = waiting_bytes + count <= limit;
        if fits {
            for frame in frames {
                awaited.held.extend_from_slice(frame.bytes());
            }
        }
        fits
    }
}
