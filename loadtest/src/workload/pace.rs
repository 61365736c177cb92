//! The open-loop schedule: when each message should be sent, whatever the server does.

use crate::clock::SECOND;

/// A steady schedule over several senders that take turns.
///
/// The k-th message is due at `start + offset + k * period` and belongs to sender `k % senders`.
/// A harness that is late sends everything overdue at once and charges the delay to the server's
/// latency, since the schedule does not move.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    start_ns: Option<u64>,
    offsets_ns: Vec<f64>,
    cycle_ns: f64,
    sent: u64,
}

impl Pace {
    /// `rate_per_second` messages over `total` senders, of which this core has those with the
    /// given places (ascending, below `total`).
    pub(crate) fn new(rate_per_second: f64, total: usize, places: &[usize]) -> Pace {
        let period_ns = SECOND as f64 / rate_per_second;
        Pace {
            start_ns: None,
            offsets_ns: places
                .iter()
                .map(|place| *place as f64 * period_ns)
                .collect(),
            cycle_ns: period_ns * total as f64,
            sent: 0,
        }
    }

    /// Sets the time at which the schedule begins; only the first call counts.
    pub(crate) fn start(&mut self, start_ns: u64) {
        self.start_ns.get_or_insert(start_ns);
    }

    /// When the next message is due, and which of this core's senders it belongs to. `None`
    /// without senders or before the start.
    pub(crate) fn next(&self) -> Option<(u64, usize)> {
        let start_ns = self.start_ns?;
        let senders = self.offsets_ns.len() as u64;
        let sender = self.sent.checked_rem(senders)? as usize;
        let cycle = (self.sent / senders) as f64;
        let due_ns = start_ns + (cycle * self.cycle_ns + self.offsets_ns[sender]) as u64;
        Some((due_ns, sender))
    }

    /// Takes the next message if it is due at `now_ns` and before `to_ns`.
    pub(crate) fn take_due(&mut self, now_ns: u64, to_ns: u64) -> Option<(u64, usize)> {
        let (due_ns, sender) = self.next()?;
        if due_ns > now_ns || due_ns >= to_ns {
            return None;
        }
        self.sent += 1;
        Some((due_ns, sender))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_take_turns_at_the_stated_rate() {
        let mut pace = Pace::new(10.0, 4, &[0, 1, 2, 3]);
        assert_eq!(pace.next(), None);
        pace.start(1_000);
        let mut taken = Vec::new();
        while let Some(due) = pace.take_due(SECOND + 1_000, u64::MAX) {
            taken.push(due);
        }
        let expected: Vec<_> = (0..11)
            .map(|k: u64| (1_000 + k * SECOND / 10, (k % 4) as usize))
            .collect();
        assert_eq!(taken, expected);
    }

    #[test]
    fn cores_share_one_schedule() {
        let mut all = Vec::new();
        for places in [[0, 2], [1, 3]] {
            let mut pace = Pace::new(8.0, 4, &places);
            pace.start(0);
            while let Some((due_ns, _)) = pace.take_due(u64::MAX, SECOND) {
                all.push(due_ns);
            }
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..8).map(|k| k * SECOND / 8).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_core_without_senders_has_nothing_due() {
        let mut pace = Pace::new(1.0, 2, &[]);
        pace.start(0);
        assert_eq!(pace.take_due(u64::MAX, u64::MAX), None);
    }
}
