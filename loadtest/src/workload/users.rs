//! Users, rooms and stays: who must receive what, while everybody keeps moving.
//!
//! A *stay* is the time one user spends in one room; its messages form one stream. Whoever is a
//! member when a message is sent must get it. Around the edges of a membership the server has a
//! choice, and the rules here say exactly how far it goes: before its `ack` a subscriber may get
//! messages, from then on it must; after its `unsubscribe` it may until the `ack`, never later.

use crate::stamp::Stamp;
use crate::workload::ledger::{Faults, Ledger};

/// Room number of streams of direct messages.
const NO_ROOM: u32 = u32::MAX;

/// Where a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Without a usable connection.
    Offline,
    /// `subscribe` is sent.
    Joining(u32),
    /// A member.
    In(u32),
    /// `unsubscribe` is sent.
    Leaving(u32),
}

/// One user: one client.
#[derive(Debug)]
pub(crate) struct User {
    /// Where it is.
    pub place: Place,
    /// From its last `welcome`.
    pub peer_id: String,
    /// Its stay's stream.
    pub stream: u32,
    /// Its next message in that stream.
    pub sequence: u32,
    /// When its move or reconnect should have begun, ns.
    pub moved_ns: u64,
    /// Direct messages on their way to it.
    pub awaited_signals: u32,
    ledger: Ledger,
    expected: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    room: u32,
    /// No more messages follow.
    has_ended: bool,
    sent: u32,
}

/// All users and rooms of a load core.
#[derive(Debug, Default)]
pub(crate) struct Population {
    /// By client.
    pub users: Vec<User>,
    /// Members of each room that have their `ack`.
    pub members: Vec<Vec<u32>>,
    /// What went wrong.
    pub faults: Faults,
    streams: Vec<Stream>,
}

impl Population {
    /// Users that are offline, and empty rooms.
    pub(crate) fn new(user_count: u32, room_count: u32) -> Population {
        let offline = || User {
            place: Place::Offline,
            peer_id: String::new(),
            stream: 0,
            sequence: 0,
            moved_ns: 0,
            awaited_signals: 0,
            ledger: Ledger::default(),
            expected: Vec::new(),
        };
        Population {
            users: (0..user_count).map(|_| offline()).collect(),
            members: vec![Vec::new(); room_count as usize],
            faults: Faults::default(),
            streams: Vec::new(),
        }
    }

    /// The `ack` of a `subscribe`: `client` is a member, and its stay begins.
    pub(crate) fn joined(&mut self, client: u32, room: u32) {
        let stream = self.new_stream(room);
        let members = self.members[room as usize].clone();
        for other in members {
            let (theirs, sequence) = {
                let other = &self.users[other as usize];
                (other.stream, other.sequence)
            };
            self.expect(client, theirs, sequence);
            self.expect(other, stream, 0);
        }
        let user = &mut self.users[client as usize];
        user.place = Place::In(room);
        user.stream = stream;
        user.sequence = 0;
        self.members[room as usize].push(client);
    }

    /// The user sends its `unsubscribe` or its close: nothing new is expected of it or for it.
    pub(crate) fn leaves(&mut self, client: u32, room: u32) {
        self.members[room as usize].retain(|member| *member != client);
        let user = &mut self.users[client as usize];
        user.place = Place::Leaving(room);
        self.streams[user.stream as usize].has_ended = true;
    }

    /// The `ack` of the `unsubscribe`, or the end of the connection: nothing may arrive any more
    /// from the room; after the end of the connection, nothing at all.
    pub(crate) fn left(&mut self, client: u32, is_offline: bool) {
        let streams = &self.streams;
        let user = &mut self.users[client as usize];
        let stays = |stream: &u32| !is_offline && streams[*stream as usize].room == NO_ROOM;
        for stream in user.expected.iter().filter(|stream| !stays(stream)) {
            user.ledger.forget(*stream);
        }
        user.expected.retain(stays);
        if is_offline {
            user.place = Place::Offline;
        }
    }

    /// The next message of the user's stay.
    pub(crate) fn speak(&mut self, client: u32, room: u32, intended_ns: u64) -> Stamp {
        let user = &mut self.users[client as usize];
        let stamp = Stamp {
            stream: user.stream,
            sequence: user.sequence,
            intended_ns,
        };
        debug_assert_eq!(user.place, Place::In(room));
        user.sequence += 1;
        self.streams[stamp.stream as usize].sent = user.sequence;
        stamp
    }

    /// Announces a burst of `count` direct messages to `client`; returns its stream.
    pub(crate) fn signals(&mut self, client: u32, count: u32) -> u32 {
        let stream = self.new_stream(NO_ROOM);
        self.streams[stream as usize].sent = count;
        self.expect(client, stream, 0);
        self.users[client as usize].awaited_signals += count;
        stream
    }

    /// A publication reached `client`, in the room called `room`. Returns whether it counts.
    pub(crate) fn heard(&mut self, client: u32, room: Option<u32>, stamp: Stamp) -> bool {
        let Some(stream) = self.streams.get(stamp.stream as usize).copied() else {
            self.faults
                .misdirected(|| format!("user {client} got a stream of nobody: {stamp:?}"));
            return false;
        };
        if stream.room != room.unwrap_or(NO_ROOM) {
            self.faults
                .misdirected(|| format!("user {client} got {stamp:?} in a wrong channel"));
            return false;
        }
        if !self.users[client as usize].ledger.knows(stamp.stream)
            && self.may_be_early(client, &stream)
        {
            let user = &mut self.users[client as usize];
            user.ledger.accept_early(stamp);
            user.expected.push(stamp.stream);
        }
        let user = &mut self.users[client as usize];
        if !user.ledger.arrived(&mut self.faults, client, stamp) {
            return false;
        }
        if stream.room == NO_ROOM {
            user.awaited_signals -= 1;
        }
        true
    }

    /// Whether a first message of a stream may come although it is not expected: around the edges
    /// of the user's own membership, or from a stay that ended before the user's `ack`.
    fn may_be_early(&self, client: u32, stream: &Stream) -> bool {
        match self.users[client as usize].place {
            Place::Joining(room) | Place::Leaving(room) => room == stream.room,
            Place::In(room) => room == stream.room && stream.has_ended,
            Place::Offline => false,
        }
    }

    /// Whether all that members must get has arrived, and nobody is on the move.
    pub(crate) fn is_quiet(&self) -> bool {
        self.users.iter().all(|user| {
            matches!(user.place, Place::In(_))
                && user.awaited_signals == 0
                && user.expected.iter().all(|stream| {
                    user.ledger
                        .is_complete(*stream, self.streams[*stream as usize].sent)
                })
        })
    }

    /// Judges what is still missing.
    pub(crate) fn finish(&mut self) {
        for (client, user) in self.users.iter_mut().enumerate() {
            for stream in std::mem::take(&mut user.expected) {
                let end = self.streams[stream as usize].sent;
                user.ledger
                    .finish(&mut self.faults, client as u32, stream, end);
            }
        }
        let restless = self
            .users
            .iter()
            .filter(|user| !matches!(user.place, Place::In(_)))
            .count() as u64;
        self.faults.lost(restless, || {
            format!("{restless} users got no answer to their move")
        });
    }

    fn new_stream(&mut self, room: u32) -> u32 {
        self.streams.push(Stream {
            room,
            has_ended: false,
            sent: 0,
        });
        self.streams.len() as u32 - 1
    }

    fn expect(&mut self, client: u32, stream: u32, first: u32) {
        let user = &mut self.users[client as usize];
        if !user.ledger.knows(stream) {
            user.ledger.expect(stream, first);
            user.expected.push(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users 0 and 1 are members of room 0, user 2 is offline.
    fn two_of_three() -> Population {
        let mut population = Population::new(3, 2);
        population.joined(0, 0);
        population.joined(1, 0);
        population
    }

    #[test]
    fn members_get_everything_once() {
        let mut population = two_of_three();
        let stamp = population.speak(0, 0, 5);
        assert!(population.heard(1, Some(0), stamp));
        assert!(!population.heard(1, Some(0), stamp), "twice");
        assert!(!population.heard(0, Some(0), stamp), "its own");
        let verdict = population
            .faults
            .verdict()
            .expect_err("two faults")
            .to_string();
        assert!(
            verdict.contains("1 doubled") && verdict.contains("1 misdirected"),
            "{verdict}"
        );
    }

    #[test]
    fn a_wrong_channel_is_noticed() {
        let mut population = two_of_three();
        let stamp = population.speak(0, 0, 5);
        assert!(!population.heard(1, Some(1), stamp));
        assert!(population.faults.verdict().is_err());
    }

    #[test]
    fn a_joiner_may_get_early_messages_and_must_get_later_ones() {
        for (early, late, is_right) in [
            (true, true, true),
            (false, true, true),
            (true, false, false),
        ] {
            let mut population = two_of_three();
            population.users[2].place = Place::Joining(0);
            let first = population.speak(0, 0, 5);
            if early {
                assert!(population.heard(2, Some(0), first));
            }
            population.joined(2, 0);
            let second = population.speak(0, 0, 6);
            if late {
                assert!(population.heard(2, Some(0), second));
            }
            assert!(population.heard(1, Some(0), first) && population.heard(1, Some(0), second));
            assert_eq!(population.is_quiet(), is_right);
            population.finish();
            assert_eq!(
                population.faults.verdict().is_ok(),
                is_right,
                "{early} {late}"
            );
        }
    }

    #[test]
    fn a_stay_that_ended_must_still_be_heard_to_its_end() {
        let mut population = two_of_three();
        population.joined(2, 0);
        let stamp = population.speak(0, 0, 5);
        population.leaves(0, 0);
        population.left(0, false);
        population.joined(0, 1);
        assert!(!population.is_quiet());
        assert!(population.heard(1, Some(0), stamp) && population.heard(2, Some(0), stamp));
        assert!(population.is_quiet());
        population.finish();
        assert_eq!(population.faults.verdict(), Ok(()));
    }

    #[test]
    fn after_the_ack_of_unsubscribe_nothing_may_arrive() {
        let mut population = two_of_three();
        let (first, second) = (population.speak(0, 0, 5), population.speak(0, 0, 5));
        population.leaves(1, 0);
        assert!(population.heard(1, Some(0), first), "before the ack");
        population.left(1, false);
        assert!(population.is_quiet() || !matches!(population.users[1].place, Place::In(_)));
        population.joined(1, 1);
        assert!(!population.heard(1, Some(0), second), "after the ack");
        assert!(population.faults.verdict().is_err());
    }

    #[test]
    fn signals_are_awaited_across_rooms() {
        let mut population = two_of_three();
        let stream = population.signals(1, 2);
        population.users[2].place = Place::In(1);
        let stamp = |sequence| Stamp {
            stream,
            sequence,
            intended_ns: 0,
        };
        assert!(population.heard(1, None, stamp(0)));
        assert!(!population.is_quiet());
        assert!(population.heard(1, None, stamp(1)));
        assert_eq!(population.users[1].awaited_signals, 0);
        assert!(population.is_quiet());
        assert!(!population.heard(2, None, stamp(0)), "to somebody else");
    }
}
