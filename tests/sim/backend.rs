//! Backends: what they ask over REST, and what must be true of the answers.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use crate::ledger::{Publication, Suspicion};
use crate::permit::{Action, Actions};
use crate::tenants::{API_SECRETS, Credential, metadata_of};
use crate::walk::{PEERS, Walk};
use crate::wire::{Response, response};

const BACKENDS_MAX: usize = 3;
/// Requests of one connection that are under way.
const PIPELINED_MAX: usize = 4;
/// Publishers that are connections of backends are numbered from here.
pub(crate) const BACKEND_PUBLISHERS: usize = 1_000_000;

/// What was asked, and when.
#[derive(Clone, Debug)]
enum Asked {
    Publish(u64),
    Peers { channel: usize, step: u64 },
    Kick { peer: String, step: u64 },
    Usage,
    Mint { peer: usize, lifetime_sec: u64 },
    Open,
}

/// One connection of a backend.
pub(crate) struct Backend {
    socket: usize,
    app: usize,
    asked: VecDeque<Asked>,
    received: Vec<u8>,
    is_over: bool,
}

/// A kick that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Kick {
    /// The backend's connection.
    pub by: usize,
    pub app: usize,
    pub peer: String,
    /// How many connections the answer says.
    pub closed: u64,
    pub asked_step: u64,
    pub answered_step: u64,
}

impl Walk {
    /// Now and then one of them does something.
    pub(crate) fn step_backends(&mut self) {
        if self.backend_random.percent(6) {
            let open = (0..self.backends.len()).filter(|at| !self.backends[*at].is_over);
            let open: Vec<usize> = open.collect();
            match open.len() < BACKENDS_MAX && self.backend_random.percent(30) || open.is_empty() {
                true => self.connect_backend(),
                false => {
                    let at = *self.backend_random.pick(&open);
                    self.ask(at);
                }
            }
        }
        self.read_backends();
    }

    fn connect_backend(&mut self) {
        let shard = self.backend_random.below(self.world.shard_count());
        if let Some(socket) = self.world.connect(shard) {
            self.backends.push(Backend {
                socket,
                app: self.backend_random.below(2),
                asked: VecDeque::new(),
                received: Vec::new(),
                is_over: false,
            });
        }
    }

    /// All of them read what has come. Returns whether there was anything.
    pub(crate) fn read_backends(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.backends.len() {
            let it = &mut self.backends[at];
            if it.is_over {
                continue;
            }
            while let Some((_, bytes)) = self.world.take(it.socket) {
                it.received.extend_from_slice(&bytes);
                any = true;
            }
            while let Some(response) = response(&self.backends[at].received) {
                self.backends[at].received.drain(..response.count);
                self.world.note_response(&response);
                self.answered(at, &response);
            }
            let socket = self.backends[at].socket;
            if self.world.sockets[socket].server_ended {
                self.end_backend(at);
            }
        }
        any
    }

    /// Requests behind the end of a connection are not answered; nobody knows what became of
    /// them.
    fn end_backend(&mut self, at: usize) {
        let it = &mut self.backends[at];
        it.is_over = true;
        let unanswered = it.asked.drain(..);
        let publications = unanswered.filter(|it| matches!(it, Asked::Publish(_)));
        self.ledger.unknown[it.app] += publications.count() as u64;
        self.world.end(self.backends[at].socket);
    }

    /// Everybody goes, or those whose shard is lost.
    pub(crate) fn leave_backends(&mut self, of: Option<usize>) {
        for at in 0..self.backends.len() {
            let socket = self.backends[at].socket;
            let concerned = of.is_none_or(|lost| self.world.sockets[socket].shard == lost);
            if concerned && !self.backends[at].is_over {
                self.end_backend(at);
            }
        }
    }

    /// Whether a backend waits for an answer.
    pub(crate) fn has_asked(&self) -> bool {
        let mut open = self.backends.iter().filter(|it| !it.is_over);
        open.any(|it| !it.asked.is_empty())
    }

    /// Nothing is on its way any more: all that was asked has been answered.
    pub(crate) fn check_backends(&self) {
        for it in self.backends.iter().filter(|it| !it.is_over) {
            assert!(it.asked.is_empty(), "unanswered requests: {:?}", it.asked);
        }
    }

    fn ask(&mut self, at: usize) {
        if self.backends[at].asked.len() >= PIPELINED_MAX {
            return;
        }
        let random = &mut self.backend_random;
        let kind = random.below(20);
        let channel = random.below(self.channel_count);
        let number = random.below(PEERS);
        let app = self.backends[at].app;
        match kind {
            0..9 => self.ask_to_publish(at, channel),
            9..13 => self.ask_for_peers(at, channel),
            13..16 => {
                let peers = self.clients.iter().rev().take(20);
                let peers = peers.filter(|it| it.credential.app == app && !it.peer.is_empty());
                let peers: Vec<String> = peers.map(|it| it.peer.clone()).collect();
                let peer = match peers.is_empty() {
                    true => format!("peer {number}"),
                    false => self.backend_random.pick(&peers).clone(),
                };
                let step = self.step;
                self.kicked.insert((app, peer.clone()));
                let path = format!("DELETE /v1/peers/{}", peer.replace(' ', "%20"));
                self.request_rest(at, &path, "", Asked::Kick { peer, step });
                // Whoever is out must not be seen behind the answer.
                self.ask_for_peers(at, channel);
            }
            16 => self.request_rest(at, "GET /v1/usage", "", Asked::Usage),
            17..19 => {
                let lifetime_sec = *self.backend_random.pick(&[3, 3_600]);
                let mut body =
                    json!({"peerId": format!("peer {number}"), "expiresInSec": lifetime_sec});
                if let Some(metadata) = metadata_of(number) {
                    body["peerMetadata"] = serde_json::from_str(&metadata).unwrap();
                }
                let asked = Asked::Mint {
                    peer: number,
                    lifetime_sec,
                };
                self.request_rest(at, "POST /v1/tokens", &body.to_string(), asked);
            }
            _ => self.request_rest(at, "GET /healthz", "", Asked::Open),
        }
    }

    fn ask_to_publish(&mut self, at: usize, channel: usize) {
        let number = self.ledger.number();
        let it = &self.backends[at];
        let publication = Publication {
            client: None,
            publisher: BACKEND_PUBLISHERS + at,
            app: it.app,
            channel,
            step: self.step,
            epoch: None,
            has_id: true,
            accepted: None,
        };
        self.ledger.publications.insert(number, publication);
        let fill = "y".repeat(*self.backend_random.pick(&[0, 0, 0, 1_500]));
        let body = json!({"data": {"n": number, "fill": fill}}).to_string();
        let path = format!("POST /v1/channels/room-{channel}/publish");
        self.request_rest(at, &path, &body, Asked::Publish(number));
    }

    fn ask_for_peers(&mut self, at: usize, channel: usize) {
        let path = format!("GET /v1/channels/room-{channel}/peers");
        let step = self.step;
        self.request_rest(at, &path, "", Asked::Peers { channel, step });
    }

    fn request_rest(&mut self, at: usize, path: &str, body: &str, asked: Asked) {
        let it = &mut self.backends[at];
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("Content-Length: {}\r\n", body.len()),
        };
        let request = format!(
            "{path} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer {}\r\n{length}\r\n{body}",
            API_SECRETS[it.app]
        );
        it.asked.push_back(asked);
        self.world.write(it.socket, request.as_bytes());
    }

    fn answered(&mut self, at: usize, response: &Response) {
        let app = self.backends[at].app;
        let body: Value = serde_json::from_str(&response.body).expect("JSON");
        let code = body["error"].as_str().unwrap_or_default();
        let asked = self.backends[at].asked.pop_front();
        let Some(asked) = asked else {
            let is_timeout = response.status == 408;
            return assert!(is_timeout, "an answer to nothing: {body}");
        };
        let is_limited = self.world.has_limited_keys && code == "rate_limited";
        match (response.status, &asked) {
            (200, Asked::Publish(number)) => {
                self.ledger.known[app] += 1;
                self.ledger.accepted[app] += 1;
                self.accept(*number, Some(true));
            }
            (200, Asked::Peers { channel, step }) => self.check_peers(at, *channel, *step, &body),
            (200, Asked::Kick { peer, step }) => self.kicks.push(Kick {
                by: at,
                app,
                peer: peer.clone(),
                closed: body["closed"].as_u64().unwrap(),
                asked_step: *step,
                answered_step: self.step,
            }),
            (200, Asked::Mint { peer, lifetime_sec }) => {
                let token = body["token"].as_str().unwrap();
                let expires_unix = body["expiresAt"].as_u64().unwrap();
                let now = self.world.now().unix_sec();
                assert!(expires_unix <= now + lifetime_sec, "lives too long: {body}");
                self.minted.push(Credential {
                    app,
                    query: format!("token={token}"),
                    sub: Some(format!("peer {peer}")),
                    metadata: metadata_of(*peer),
                    permissions: Actions::ALL,
                    expires_unix: Some(expires_unix),
                });
            }
            (200, Asked::Usage) => {
                let plan = self.tenants.plans[app];
                let max = plan.connections_max.filter(|_| !plan.overages);
                let now = body["concurrentNow"].as_u64().unwrap();
                assert!(max.is_none_or(|max| now <= max), "{body}");
            }
            (200, Asked::Open) => {}
            (429, Asked::Publish(number)) if code == "over_message_quota" => {
                self.ledger.known[app] += 1;
                self.accept(*number, Some(false));
                self.check_refused(app);
            }
            (429, Asked::Publish(number)) if is_limited => self.accept(*number, Some(false)),
            (429, _) if is_limited => {}
            (403, Asked::Peers { .. }) => {
                let may = self.tenants.actions(app, self.changes);
                assert!(!may.contains(Action::Presence), "{body}");
            }
            // Whether it was published before the answer was lost nobody can say.
            (503, Asked::Publish(_)) if self.is_lossy => {
                self.ledger.unknown[app] += 1;
            }
            (503, Asked::Open) if self.is_ending => {}
            (503, _) if self.is_lossy => {}
            _ => panic!("{} {body} for {asked:?}", response.status),
        }
    }

    pub(crate) fn accept(&mut self, number: u64, accepted: Option<bool>) {
        if let Some(publication) = self.ledger.publications.get_mut(&number) {
            publication.accepted = accepted;
        }
    }

    /// A list of peers has each of them once and in order, all who are there, nobody who never
    /// was, and nobody who was kicked before it was asked for.
    fn check_peers(&mut self, at: usize, channel: usize, asked: u64, body: &Value) {
        let app = self.backends[at].app;
        let listed = body["peers"]
            .as_array()
            .expect("the answer to this request");
        let listed = listed.iter();
        let listed = listed.map(|it| {
            let id = it["peerId"].as_str().unwrap().to_owned();
            (id, it.get("metadata").map(Value::to_string))
        });
        let listed: Vec<(String, Option<String>)> = listed.collect();
        assert!(listed.is_sorted_by(|one, other| one.0 < other.0), "{body}");
        let listed: BTreeMap<String, Option<String>> = listed.into_iter().collect();
        for it in &self.clients {
            let Some(epoch) = it.settled(channel).filter(|_| it.credential.app == app) else {
                continue;
            };
            if self.ledger.epochs[epoch].since_step < asked && !listed.contains_key(&it.peer) {
                let text = format!("{} is not listed in room-{channel}", it.peer);
                self.ledger.suspicions.push(Suspicion { epoch, text });
            }
        }
        for (peer, metadata) in &listed {
            let of_peer = self.clients.iter();
            let mut of_peer = of_peer.filter(|it| it.credential.app == app && it.is_peer(peer));
            let was_there = of_peer
                .clone()
                .any(|it| it.ever_asked.contains(&channel) && it.credential.metadata == *metadata);
            assert!(was_there, "{peer} was never in room-{channel}: {body}");
            // A connection's requests are served one after the other.
            let kicks = self.kicks.iter().filter(|kick| {
                let is_before = kick.by == at || kick.answered_step < asked;
                // A connection that ended by itself is none that the kick closed: the news of it
                // may still be on its way.
                let of_peer = of_peer.clone();
                let earlier = of_peer
                    .filter(|it| it.welcome_step < kick.asked_step)
                    .count();
                let is_of_all = kick.closed >= earlier.max(1) as u64;
                kick.app == app && kick.peer == *peer && is_before && is_of_all
            });
            let kicked = kicks.map(|kick| kick.asked_step).max();
            let is_new = kicked.is_none_or(|kicked| {
                of_peer.any(|it| it.welcome_step == 0 || it.welcome_step >= kicked)
            });
            assert!(is_new || self.is_lossy, "{peer} was kicked, and is listed");
        }
    }
}
