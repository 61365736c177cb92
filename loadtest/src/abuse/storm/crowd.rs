//! Clients that connect, subscribe, lose their connections, and come back as published clients do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::abuse::heard::Kind;
use crate::abuse::place::Place;
use crate::abuse::storm::town::{CHANNELS, Town, client_id};
use crate::abuse::swarm::{Opening, Swarm};
use crate::client::tls;
use crate::clock::{MS, now_ns};
use crate::failure::Failure;

/// The delay before the first attempt to come back, and the longest, ms: each is twice as long as
/// the one before, a fifth more or less.
const FIRST_DELAY_MS: u64 = 500;
const DELAY_MS_MAX: u64 = 30_000;
/// Connects between two looks at what has come.
const OPENS_PER_STEP: usize = 32;
/// Clients that are on their way at once when there is no storm.
const CALM: usize = 128;

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It waits until it may connect.
    Away,
    /// It has asked for a WebSocket.
    Connecting,
    /// It has subscribed.
    Joining,
    /// It has all acks and snapshots.
    Back,
}

struct Client {
    stage: Stage,
    /// Its connection, or its last one.
    peer: usize,
    attempts: u32,
}

/// See the top of this file.
pub(in crate::abuse) struct Crowd {
    town: Arc<Town>,
    requests: Vec<Vec<u8>>,
    /// The TLS sessions of each client, if it resumes them.
    sessions: Vec<Arc<ClientConfig>>,
    clients: Vec<Client>,
    /// When those who are away may connect.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whose each connection is.
    owners: Vec<Option<usize>>,
    on_their_way: usize,
    back: usize,
    /// Connections that were ended while their clients were on their way.
    pub cut_off: u64,
    /// Connects that nobody listened to.
    pub refused: u64,
    /// TLS handshakes that resumed a session.
    pub resumed: u64,
    /// When the last `welcome` and the last of all acks came.
    pub welcome_ns: u64,
    pub acked_ns: u64,
}

impl Crowd {
    /// Nobody has connected. With `resumes` each client resumes its own TLS sessions.
    ///
    /// # Errors
    /// Those of [`Place::as_peer`].
    pub(in crate::abuse) fn new(
        town: Arc<Town>,
        place: &Place,
        resumes: bool,
    ) -> Result<Crowd, Failure> {
        let ids = (0..town.clients).map(client_id);
        let requests: Result<Vec<_>, _> = ids.map(|id| place.as_peer(&id)).collect();
        let tls = place.target.tls.as_ref().filter(|_| resumes);
        let sessions = tls
            .into_iter()
            .flat_map(|tls| (0..town.clients).map(|_| tls::resuming(&tls.config)));
        let away = |_| Client {
            stage: Stage::Away,
            peer: usize::MAX,
            attempts: 0,
        };
        Ok(Crowd {
            requests: requests?,
            sessions: sessions.collect(),
            clients: (0..town.clients).map(away).collect(),
            due: (0..town.clients)
                .map(|client| Reverse((0, client)))
                .collect(),
            town,
            owners: Vec::new(),
            on_their_way: 0,
            back: 0,
            cut_off: 0,
            refused: 0,
            resumed: 0,
            welcome_ns: 0,
            acked_ns: 0,
        })
    }

    /// Everybody connects and subscribes, some at a time.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when somebody is not there after `wait`.
    pub(in crate::abuse) fn gather(
        &mut self,
        swarm: &mut Swarm,
        wait: Duration,
    ) -> Result<(), Failure> {
        swarm.keep_news(true);
        match self.until_back(swarm, wait, CALM)? {
            true => Ok(()),
            false => Err(Failure::Timeout(format!(
                "{} of {} clients have come and joined",
                self.back,
                self.clients.len()
            ))),
        }
    }

    /// Everybody is gone, by a reset.
    pub(in crate::abuse) fn drop_all(&mut self, swarm: &mut Swarm) {
        let began_ns = now_ns();
        for client in 0..self.clients.len() {
            swarm.leave(self.clients[client].peer, true);
            self.left(client, began_ns);
        }
    }

    /// Goes on until everybody is back, or until `wait` is over; says which.
    ///
    /// # Errors
    /// Those of [`Swarm::turn`], and connects that fail although somebody listens.
    pub(in crate::abuse) fn until_all_back(
        &mut self,
        swarm: &mut Swarm,
        wait: Duration,
    ) -> Result<bool, Failure> {
        self.until_back(swarm, wait, usize::MAX)
    }

    fn until_back(
        &mut self,
        swarm: &mut Swarm,
        wait: Duration,
        at_once: usize,
    ) -> Result<bool, Failure> {
        let mut failure = None;
        let all = swarm.until(wait, |swarm| {
            for peer in swarm.take_news() {
                self.heard(peer, swarm);
            }
            failure = self.connect(swarm, at_once).err();
            failure.is_some() || self.back == self.clients.len()
        })?;
        failure.map_or(Ok(all), Err)
    }

    /// Connects those who are due.
    fn connect(&mut self, swarm: &mut Swarm, at_once: usize) -> Result<(), Failure> {
        let now = now_ns();
        for _ in 0..OPENS_PER_STEP {
            let Some(Reverse((due_ns, client))) = self.due.peek().copied() else {
                break;
            };
            if due_ns > now || self.on_their_way >= at_once {
                break;
            }
            self.due.pop();
            let opening = Opening::new(self.requests[client].clone()).keeping_rosters();
            let opening = opening.resuming(self.sessions.get(client).cloned());
            match swarm.open(opening) {
                Ok(peer) => {
                    self.owners.resize(peer + 1, None);
                    self.owners[peer] = Some(client);
                    self.clients[client].peer = peer;
                    self.clients[client].stage = Stage::Connecting;
                    self.on_their_way += 1;
                }
                Err(Failure::Unreachable { .. }) => {
                    self.refused += 1;
                    self.wait_again(client, now);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// There is news of a connection.
    fn heard(&mut self, peer: usize, swarm: &mut Swarm) {
        let Some(client) = self.owners.get(peer).copied().flatten() else {
            return;
        };
        let Client {
            stage,
            peer: current,
            ..
        } = self.clients[client];
        if current != peer || stage == Stage::Away {
            return;
        }
        if !swarm.peer(peer).is_open() {
            self.cut_off += u64::from(stage != Stage::Back);
            self.left(client, now_ns());
            return;
        }
        let heard = &swarm.peer(peer).heard;
        match stage {
            Stage::Connecting if heard.count(Kind::Welcome) > 0 => {
                self.welcome_ns = now_ns();
                self.resumed += u64::from(swarm.peer(peer).is_resumed());
                self.clients[client].stage = Stage::Joining;
                self.clients[client].attempts = 0;
                swarm.send(peer, &self.town.subscribes(client));
                swarm.write_now(peer);
            }
            Stage::Joining if heard.count(Kind::Ack) >= CHANNELS as u64 => {
                self.acked_ns = now_ns();
                let snapshots = heard.rosters.as_ref().map_or(0, |it| it.count());
                if snapshots >= CHANNELS {
                    self.clients[client].stage = Stage::Back;
                    self.on_their_way -= 1;
                    self.back += 1;
                }
            }
            _ => {}
        }
    }

    /// A client has lost its connection.
    fn left(&mut self, client: usize, at_ns: u64) {
        match self.clients[client].stage {
            Stage::Away => return,
            Stage::Connecting | Stage::Joining => self.on_their_way -= 1,
            Stage::Back => self.back -= 1,
        }
        self.wait_again(client, at_ns);
    }

    fn wait_again(&mut self, client: usize, at_ns: u64) {
        let it = &mut self.clients[client];
        it.stage = Stage::Away;
        let delay_ms = delay_ms(client, it.attempts);
        it.attempts += 1;
        self.due.push(Reverse((at_ns + delay_ms * MS, client)));
    }

    /// Goes on until everybody knows who is in which channel, or until `wait` is over. Returns how
    /// many do not.
    ///
    /// # Errors
    /// Those of [`Swarm::turn`].
    pub(in crate::abuse) fn until_known(
        &mut self,
        swarm: &mut Swarm,
        wait: Duration,
    ) -> Result<usize, Failure> {
        let end_ns = now_ns() + wait.as_nanos() as u64;
        loop {
            let is_wrong = |(number, client): &(usize, &Client)| {
                let heard = swarm.peers().get(client.peer).map(|it| &it.heard);
                let rosters = heard.and_then(|it| it.rosters.as_ref());
                !rosters.is_some_and(|it| self.town.is_known_to(*number, it))
            };
            let wrong = self.clients.iter().enumerate().filter(is_wrong).count();
            if wrong == 0 || now_ns() > end_ns {
                return Ok(wrong);
            }
            swarm.run(Duration::from_millis(50))?;
        }
    }

    /// Bytes that the connections of all clients have received, each since it was opened.
    pub(in crate::abuse) fn bytes(&self, swarm: &Swarm) -> u64 {
        let peers = self
            .clients
            .iter()
            .filter_map(|it| swarm.peers().get(it.peer));
        peers.map(|it| it.heard.bytes).sum()
    }
}

/// How long a client waits before its next attempt, ms.
fn delay_ms(client: usize, attempts: u32) -> u64 {
    let base = FIRST_DELAY_MS << attempts.min(6);
    let base = base.min(DELAY_MS_MAX);
    let chance = (client as u64 + u64::from(attempts) * 7_919).wrapping_mul(2_654_435_761) >> 7;
    base * 4 / 5 + chance % (base * 2 / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_of_published_clients() {
        for (attempts, first, last) in [(0, 400, 600), (1, 800, 1_200), (9, 24_000, 36_000)] {
            let delays: Vec<_> = (0..2_000).map(|it| delay_ms(it, attempts)).collect();
            let (least, most) = (delays.iter().min(), delays.iter().max());
            assert!(least.is_some_and(|it| (first..first + first / 50).contains(it)));
            assert!(most.is_some_and(|it| (last - last / 50..last).contains(it)));
        }
    }
}
