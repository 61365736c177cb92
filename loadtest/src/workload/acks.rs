//! Commands that await their answer: each exactly one.

use std::collections::{HashMap, VecDeque};

use crate::client::message::RequestId;
use crate::workload::ledger::Faults;

/// Outstanding commands, by the first number of their request id.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    outstanding: HashMap<u32, VecDeque<(RequestId, u64)>>,
    outstanding_count: u64,
    arrived_count: u64,
}

impl Acks {
    /// A command was due at `intended_ns`.
    pub(crate) fn sent(&mut self, id: RequestId, intended_ns: u64) {
        self.outstanding
            .entry(id.a)
            .or_default()
            .push_back((id, intended_ns));
        self.outstanding_count += 1;
    }

    /// Its answer came: when it was due. `None`, and a fault, when nobody awaits it.
    pub(crate) fn arrived(&mut self, id: RequestId, faults: &mut Faults) -> Option<u64> {
        let found = self.outstanding.get_mut(&id.a).and_then(|queue| {
            // Nearly always the first: answers come in the order of the commands.
            let at = queue.iter().position(|(awaited, _)| *awaited == id)?;
            queue.remove(at)
        });
        let Some((_, intended_ns)) = found else {
            faults.doubled(|| format!("an answer nobody awaits: {id:?}"));
            return None;
        };
        self.outstanding_count -= 1;
        self.arrived_count += 1;
        Some(intended_ns)
    }

    /// Whether none is outstanding.
    pub(crate) fn is_empty(&self) -> bool {
        self.outstanding_count == 0
    }

    /// How many were answered.
    pub(crate) fn arrived_count(&self) -> u64 {
        self.arrived_count
    }

    /// What is outstanding at the end is lost.
    pub(crate) fn finish(&self, faults: &mut Faults) {
        let count = self.outstanding_count;
        faults.lost(count, || format!("{count} commands got no answer"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_answered_once() {
        let id = |b| RequestId {
            kind: b'p',
            a: 1,
            b,
        };
        let (mut acks, mut faults) = (Acks::default(), Faults::default());
        acks.sent(id(0), 10);
        acks.sent(id(1), 20);
        assert_eq!(
            acks.arrived(id(1), &mut faults),
            Some(20),
            "out of order is allowed"
        );
        assert_eq!(acks.arrived(id(0), &mut faults), Some(10));
        assert!(acks.is_empty() && faults.verdict().is_ok());
        assert_eq!(acks.arrived(id(0), &mut faults), None);
        assert!(faults.verdict().is_err(), "twice");
    }

    #[test]
    fn a_missing_answer_is_a_fault() {
        let (mut acks, mut faults) = (Acks::default(), Faults::default());
        acks.sent(
            RequestId {
                kind: b'p',
                a: 1,
                b: 0,
            },
            10,
        );
        acks.finish(&mut faults);
        assert!(
            faults
                .verdict()
                .is_err_and(|f| f.to_string().contains("1 lost"))
        );
    }
}
