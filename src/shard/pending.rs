//! Questions whose answers are awaited from other shards.
//!
//! A question names the seats that have not answered yet. It ends when all of them have, when one
//! of them is lost, or when its time is over: nothing waits without an end. All questions are given
//! the same time, so that the one that was asked first ends first. Entries are linked in the order
//! in which they were asked: asking and answering need no search.
//!
//! This file does not know what is asked, nor what the end of a question means.
//!
//! Always true, see [`Pending::check`]: the list has every question once, in the order of their
//! ends, and a ticket is never used again.

use smallvec::SmallVec;

use crate::ids::{Seat, Ticket};

/// Seats that have not answered yet; there are no doubles.
pub(in crate::shard) type Missing = SmallVec<[Seat; 4]>;

/// No entry.
const NONE: u32 = u32::MAX;
/// Slots that are kept when no question is left.
const ROOM_MIN: usize = 1_024;

/// See the top of this file.
#[derive(Debug)]
pub(in crate::shard) struct Pending<Q> {
    slots: Vec<Slot<Q>>,
    /// The first of the free slots; each names the next one.
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
    /// The generation of the next ticket.
    generation: u32,
}

#[derive(Debug)]
struct Slot<Q> {
    generation: u32,
    previous: u32,
    next: u32,
    entry: Option<Entry<Q>>,
}

#[derive(Debug)]
struct Entry<Q> {
    question: Q,
    missing: Missing,
    until_ms: u64,
}

impl<Q> Default for Pending<Q> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            len: 0,
            generation: 0,
        }
    }
}

impl<Q> Pending<Q> {
    /// Keeps a question that those seats are asked, until that time, or for as
    /// long as the question before it.
    pub(in crate::shard) fn ask(
        &mut self,
        question: Q,
        missing: impl IntoIterator<Item = Seat>,
        until_ms: u64,
    ) -> Ticket {
        let newest = self.slots.get(self.newest as usize);
        let newest = newest.and_then(|slot| slot.entry.as_ref());
        let entry = Entry {
            question,
            missing: missing.into_iter().collect(),
            until_ms: newest.map_or(until_ms, |newest| newest.until_ms.max(until_ms)),
        };
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let slot = Slot {
            generation,
            previous: self.newest,
            next: NONE,
            entry: Some(entry),
        };
        let at = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = std::mem::replace(free, slot).next;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        match self.slots.get_mut(self.newest as usize) {
            Some(newest) => newest.next = at,
            None => self.oldest = at,
        }
        self.newest = at;
        self.len += 1;
        Ticket {
            slot: at,
            generation,
        }
    }

    /// A question, unless it has ended.
    pub(in crate::shard) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Q> {
        self.entry_mut(ticket).map(|entry| &mut entry.question)
    }

    /// A question, unless it has ended, and the seats that have not answered it.
    #[must_use]
    pub(in crate::shard) fn get(&self, ticket: Ticket) -> Option<(&Q, &Missing)> {
        let slot = self.slots.get(ticket.slot as usize)?;
        let entry = slot.entry.as_ref()?;
        (slot.generation == ticket.generation).then_some((&entry.question, &entry.missing))
    }

    /// Those seats have to answer a question, instead of all others.
    pub(in crate::shard) fn wait_for(
        &mut self,
        ticket: Ticket,
        seats: impl IntoIterator<Item = Seat>,
    ) {
        if let Some(entry) = self.entry_mut(ticket) {
            entry.missing = seats.into_iter().collect();
        }
    }

    /// A seat has answered a question. Returns how many have not; `None` if the question has
    /// ended.
    pub(in crate::shard) fn answered(&mut self, ticket: Ticket, by: Seat) -> Option<usize> {
        let missing = &mut self.entry_mut(ticket)?.missing;
        missing.retain(|seat| *seat != by);
        Some(missing.len())
    }

    /// Ends a question, unless it has ended.
    pub(in crate::shard) fn take(&mut self, ticket: Ticket) -> Option<Q> {
        self.entry_mut(ticket)?;
        self.remove(ticket.slot).map(|(_, question)| question)
    }

    /// When the time of the oldest question is over.
    #[must_use]
    pub(in crate::shard) fn next_end_ms(&self) -> Option<u64> {
        let slot = self.slots.get(self.oldest as usize)?;
        slot.entry.as_ref().map(|entry| entry.until_ms)
    }

    /// Ends the oldest question if its time is over.
    pub(in crate::shard) fn take_overdue(&mut self, now_ms: u64) -> Option<(Ticket, Q)> {
        self.next_end_ms().filter(|until_ms| *until_ms <= now_ms)?;
        self.remove(self.oldest)
    }

    /// Ends the questions that a seat has not answered and never will.
    pub(in crate::shard) fn take_lost(&mut self, lost: Seat) -> Vec<(Ticket, Q)> {
        let mut questions = Vec::new();
        let mut at = self.oldest;
        while let Some(slot) = self.slots.get(at as usize) {
            let next = slot.next;
            let entry = slot.entry.as_ref();
            if entry.is_some_and(|entry| entry.missing.contains(&lost)) {
                questions.extend(self.remove(at));
            }
            at = next;
        }
        questions
    }

    /// Whether there is none.
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All questions, the oldest first.
    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = &Q> {
        let slot = |at: u32| self.slots.get(at as usize);
        let slots = std::iter::successors(slot(self.oldest), move |it| slot(it.next));
        slots.filter_map(|slot| slot.entry.as_ref().map(|entry| &entry.question))
    }

    /// Panics unless what is said at the top of this file is true.
    pub(in crate::shard) fn check(&self) {
        let (mut previous, mut at, mut count, mut until_ms) = (NONE, self.oldest, 0, 0);
        while let Some(slot) = self.slots.get(at as usize) {
            assert_eq!(slot.previous, previous, "the list goes both ways");
            let entry = slot.entry.as_ref();
            let ends_ms = entry.map(|entry| entry.until_ms);
            assert!(ends_ms >= Some(until_ms), "questions end in order");
            until_ms = ends_ms.unwrap_or_default();
            (previous, at) = (at, slot.next);
            count += 1;
        }
        assert_eq!((previous, at), (self.newest, NONE), "the end of the list");
        let kept = self.slots.iter().filter(|slot| slot.entry.is_some());
        assert_eq!((kept.count(), self.len), (count, count), "every question");
    }

    fn entry_mut(&mut self, ticket: Ticket) -> Option<&mut Entry<Q>> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        let is_it = slot.generation == ticket.generation;
        slot.entry.as_mut().filter(|_| is_it)
    }

    pub(in crate::shard) fn remove(&mut self, at: u32) -> Option<(Ticket, Q)> {
        let free = self.free;
        let slot = self.slots.get_mut(at as usize)?;
        let entry = slot.entry.take()?;
        let (previous, next) = (slot.previous, slot.next);
        let ticket = Ticket {
            slot: at,
            generation: slot.generation,
        };
        slot.next = free;
        self.free = at;
        match self.slots.get_mut(previous as usize) {
            Some(slot) => slot.next = next,
            None => self.oldest = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.previous = previous,
            None => self.newest = previous,
        }
        self.len -= 1;
        if self.len == 0 && self.slots.len() > ROOM_MIN {
            self.slots = Vec::new();
            self.free = NONE;
        }
        Some((ticket, entry.question))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::ShardId;

    const SEATS: u16 = 4;

    fn seat(number: u16) -> Seat {
        ShardId(number).into()
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Bits of the seats that are asked, and milliseconds since the last step.
        Ask(u16, u64),
        /// Which of all tickets ever, and by whom.
        Answer(usize, u16),
        Take(usize),
        Lose(u16),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1u16..1 << SEATS, 0u64..5).prop_map(|(who, ms)| Step::Ask(who, ms)),
            4 => (any::<usize>(), 0..SEATS).prop_map(|(at, by)| Step::Answer(at, by)),
            2 => any::<usize>().prop_map(Step::Take),
            1 => (0..SEATS).prop_map(Step::Lose),
            1 => (0u64..60).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// Who has not answered a question, and when it ends; by its number.
    type Model = std::collections::BTreeMap<usize, (Vec<Seat>, u64)>;

    proptest! {
        /// Questions are numbers, in the order in which they are asked.
        #[test]
        fn questions_end_once_and_as_in_a_plain_map(steps in steps()) {
            const PATIENCE_MS: u64 = 50;
            let (mut pending, mut model) = (Pending::default(), Model::new());
            let (mut tickets, mut now_ms) = (Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Ask(bits, ms) => {
                        now_ms += ms;
                        let asked = (0..SEATS).filter(|it| bits & (1 << it) != 0).map(seat);
                        let until_ms = now_ms + PATIENCE_MS;
                        let number = tickets.len();
                        tickets.push(pending.ask(number, asked.clone(), until_ms));
                        model.insert(number, (asked.collect(), until_ms));
                    }
                    Step::Answer(at, by) if !tickets.is_empty() => {
                        let number = at % tickets.len();
                        let missing = model.get_mut(&number).map(|(missing, _)| {
                            missing.retain(|it| *it != seat(by));
                            missing.len()
                        });
                        prop_assert_eq!(pending.answered(tickets[number], seat(by)), missing);
                    }
                    Step::Take(at) if !tickets.is_empty() => {
                        let number = at % tickets.len();
                        let known = model.remove(&number).map(|_| number);
                        prop_assert_eq!(pending.take(tickets[number]), known);
                    }
                    Step::Lose(lost) => {
                        let is_lost = |(_, (missing, _)): &(&usize, &mut (Vec<Seat>, u64))| {
                            missing.contains(&seat(lost))
                        };
                        let lost_ones = model.iter_mut().filter(is_lost).map(|(number, _)| *number);
                        let lost_ones: Vec<usize> = lost_ones.collect();
                        model.retain(|number, _| !lost_ones.contains(number));
                        let lost_ones = lost_ones.into_iter().map(|it| (tickets[it], it));
                        prop_assert!(pending.take_lost(seat(lost)).into_iter().eq(lost_ones));
                    }
                    Step::Wait(ms) => {
                        now_ms += ms;
                        while let Some((ticket, number)) = pending.take_overdue(now_ms) {
                            prop_assert_eq!(ticket, tickets[number]);
                            let until_ms = model.remove(&number).map(|(_, until_ms)| until_ms);
                            prop_assert!(until_ms.is_some_and(|it| it <= now_ms));
                        }
                        prop_assert!(model.values().all(|(_, until_ms)| *until_ms > now_ms));
                    }
                    Step::Answer(..) | Step::Take(_) => {}
                }
                pending.check();
                prop_assert!(pending.iter().eq(model.keys()));
                let next_end_ms = model.values().next().map(|(_, until_ms)| *until_ms);
                prop_assert_eq!(pending.next_end_ms(), next_end_ms);
            }
        }
    }

    #[test]
    fn the_room_of_a_crowd_goes_with_it_and_its_tickets_name_nothing_else() {
        let mut pending = Pending::default();
        let count = 2 * ROOM_MIN;
        let ask = |pending: &mut Pending<usize>, it| pending.ask(it, [seat(1)], 10);
        let tickets: Vec<Ticket> = (0..count).map(|it| ask(&mut pending, it)).collect();
        for (number, ticket) in tickets.iter().enumerate() {
            assert_eq!(pending.take(*ticket), Some(number));
        }
        assert_eq!(pending.slots.capacity(), 0);
        pending.check();
        let again = ask(&mut pending, 7);
        assert!(tickets.iter().all(|ticket| pending.get(*ticket).is_none()));
        assert_eq!(pending.get(again).map(|(question, _)| *question), Some(7));
        pending.wait_for(again, [seat(2), seat(3)]);
        assert_eq!(pending.answered(again, seat(1)), Some(2));
        assert_eq!(pending.answered(again, seat(2)), Some(1));
    }
}
