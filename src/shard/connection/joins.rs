//! Joins of a connection, seen from the connection.

use crate::shard::connection::connections::{Connection, Held, Phase};
use crate::shard::connection::joining::{Joining, State};
use crate::shard::effect::ChannelSlot;
use crate::shard::outbound::outbox::Piece;

impl Connection {
    fn joining_mut(&mut self) -> Option<&mut Joining> {
        match &mut self.phase {
            Phase::Open(session) => session.joining.as_deref_mut(),
            _ => None,
        }
    }

    /// Bytes of deliveries that wait for snapshots, outside the outbox.
    #[must_use]
    pub(in crate::shard) fn held_bytes(&self) -> usize {
        match &self.phase {
            Phase::Open(session) => session.joining.as_ref().map_or(0, |it| it.held_bytes()),
            _ => 0,
        }
    }

    /// Whether it is sent nothing of that channel before its snapshot.
    pub(in crate::shard) fn awaits(&self, slot: ChannelSlot) -> bool {
        let Phase::Open(session) = &self.phase else {
            return false;
        };
        let mut snapshots = session.joining.iter().flat_map(|it| &it.snapshots);
        snapshots.any(|it| it.slot == Some(slot))
    }

    /// Panics unless what is said of joins at the top of this file is true.
    pub(in crate::shard) fn check_joins(&self, snapshot_bytes_max: usize) {
        let Phase::Open(session) = &self.phase else {
            return;
        };
        let Some(joining) = &session.joining else {
            return;
        };
        assert!(!joining.is_over(), "nobody waits");
        assert_eq!(joining.parked.is_some(), self.held.has(Held::JOINS));
        assert!(joining.asked.is_sorted_by_key(|it| it.number));
        assert!(joining.directs.iter().map(|it| it.0).is_sorted());
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
        let waiting_bytes = self.queued_bytes() + self.held_bytes();
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
