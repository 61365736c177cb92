//! What must be true once nothing is on its way.

use std::collections::BTreeMap;

use ringmesh::shard::state::Shard;

use crate::ledger::{Direct, Epoch, Item};
use crate::permit::Action;
use crate::walk::{PAUSE_MS_MAX, Walk};

/// Messages that a shard may have leased of a quota and not used, where quotas are as small as
/// here.
const LEASED_MAX: u64 = 8;

impl Walk {
    /// Lets everything come to rest and looks at it.
    pub(crate) fn quiet(&mut self) {
        self.relax();
        self.come_to_rest();
        self.world.check_all_read();
        self.world.check_open_events();
        let shards = self.world.shards();
        shards.iter().for_each(|shard| shard.check_invariants());
        Shard::check_quiet(&shards);
        self.check_quiet();
        let is_excused = self.draining || self.is_lossy;
        self.hostiles.check_quiet(&self.world, is_excused);
        self.vandals.check_quiet(&mut self.world, is_excused);
        (self.is_lossy, self.is_tight) = (false, false);
    }

    /// Nothing is on its way any more, and nothing is due soon.
    pub(crate) fn come_to_rest(&mut self) {
        for socket in &mut self.world.sockets {
            socket.stalled = false;
        }
        for round in 0.. {
            assert!(round < 5_000, "never quiet");
            let mut any = self.world.settle();
            for client in 0..self.clients.len() {
                any |= self.receive(client);
            }
            any |= self.hostiles.read_all(&mut self.world);
            any |= self.vandals.read_all(&mut self.world);
            any |= self.read_backends();
            any |= self.take_answers();
            if any {
                continue;
            }
            // Snapshots and announcements wait for their time.
            match self.world.until_deadline() {
                Some(ms) if ms <= PAUSE_MS_MAX => self.world.advance(ms.max(1)),
                _ => break,
            }
        }
    }

    /// See the top of this file. What has been looked at is then forgotten.
    pub(crate) fn check_quiet(&mut self) {
        self.check_suspicions();
        self.check_answers();
        self.check_backends();
        self.check_revoked();
        self.check_kicks();
        self.check_expired();
        self.check_usage();
        self.check_nothing_lost();
        self.check_directs();
        self.check_order();
        self.check_rosters();
        self.check_gauges();
        self.check_looks();
        for epoch in &mut self.ledger.epochs {
            epoch.items.clear();
        }
        self.ledger.publications.clear();
        self.ledger.directs.clear();
        for at in 0..self.clients.len() {
            self.clients[at].seen.clear();
            self.clients[at].ends.clear();
            // A client that cannot know what it is subscribed to comes back.
            if std::mem::take(&mut self.clients[at].is_uncertain) && !self.clients[at].is_over() {
                self.over(at, None);
            }
        }
    }

    fn check_suspicions(&mut self) {
        for suspicion in self.ledger.suspicions.drain(..) {
            let epoch = &self.ledger.epochs[suspicion.epoch];
            assert!(epoch.over || self.is_lossy, "{}", suspicion.text);
        }
    }

    pub(crate) fn check_answers(&self) {
        let socket_closed = |socket| self.world.has_server_closed(socket);
        for client in &self.clients {
            if client.is_open() {
                assert!(
                    client.requests.is_empty(),
                    "unanswered: {:?}",
                    client.requests
                );
                let has_all = client.snapshots_due.is_empty() || client.is_uncertain;
                assert!(has_all, "a snapshot is missing");
                assert!(client.obligations.is_empty());
                let untold = client.ends.values().any(|is_leaving| !is_leaving);
                assert!(!untold || client.is_uncertain, "an end was not told");
            }
            if client.is_over() {
                let closed = socket_closed(client.socket)
                    || client.phase == crate::client::Phase::Closed(None);
                let (phase, socket) = (client.phase, &self.world.sockets[client.socket]);
                assert!(closed, "{phase:?}, and the socket is open: {socket:?}");
            }
        }
    }

    /// Nobody is there any more whose key is revoked, or whose app is suspended.
    fn check_revoked(&self) {
        for it in self.clients.iter().filter(|it| it.is_open()) {
            let is_revoked = self.changes.revoked && it.credential.is_revocable();
            let is_suspended = self.changes.suspended && Self::is_scoped(it.credential.app);
            assert!(!is_revoked, "{} is there, and its key is revoked", it.peer);
            assert!(!is_suspended, "{} is there in a suspended app", it.peer);
        }
    }

    /// Whoever was there before a kick was asked for is gone.
    fn check_kicks(&mut self) {
        for kick in self.kicks.drain(..) {
            let survives = self.clients.iter().any(|it| {
                let was_there = (1..kick.asked_step).contains(&it.welcome_step);
                it.is_open() && it.credential.app == kick.app && it.peer == kick.peer && was_there
            });
            assert!(!survives, "{} was kicked, and is there", kick.peer);
        }
    }

    /// Whoever came with a token that has expired is gone.
    fn check_expired(&self) {
        let now = self.world.now().unix_ms;
        for it in self.clients.iter().filter(|it| it.is_open()) {
            let expires_ms = it.credential.expires_unix.map(|at| at * 1_000);
            let is_good = expires_ms.is_none_or(|at| at - 250 >= now);
            assert!(is_good, "the token of {} has expired", it.peer);
        }
    }

    /// What shards have counted is what was asked for, and no quota was exceeded.
    fn check_usage(&mut self) {
        self.world.report_usage();
        for (at, it) in self.clients.iter_mut().enumerate() {
            let app = it.credential.app;
            if it.is_over() {
                // Nobody knows how far the last requests have come.
                let asked = std::mem::take(&mut it.requests);
                let asked = asked.values().filter(|request| request.is_counted());
                self.ledger.unknown[app] += asked.count() as u64;
            }
            let unsaid = self.ledger.publications.values().filter(|publication| {
                publication.client == Some(at)
                    && publication.accepted.is_none()
                    && !publication.has_id
            });
            let unsaid = unsaid.count() as u64;
            let may = it.actions.contains(Action::Publish);
            match it.is_open() {
                true if may => {
                    self.ledger.known[app] += unsaid;
                    self.ledger.accepted[app] += unsaid;
                }
                true => {}
                false => self.ledger.unknown[app] += unsaid,
            }
        }
        for (app, plan) in self.tenants.plans.iter().enumerate().take(2) {
            let (known, unknown) = (self.ledger.known[app], self.ledger.unknown[app]);
            let used = self.world.used[app];
            assert!(
                (known..=known + unknown).contains(&used),
                "{used} messages of app {app} were counted: {known} were sent, {unknown} perhaps"
            );
            let max = plan.messages_max.filter(|_| !plan.overages);
            let accepted = self.ledger.accepted[app];
            assert!(
                max.is_none_or(|max| accepted <= max),
                "{accepted} messages were accepted, and {max:?} may be"
            );
        }
    }

    /// A message was refused for the quota, which is used up but for what shards have leased.
    pub(crate) fn check_refused(&self, app: usize) {
        let plan = self.tenants.plans[app];
        let max = plan.messages_max.filter(|_| !plan.overages);
        let max = max.expect("refused for a quota that is none");
        let leased = LEASED_MAX * self.world.shard_count() as u64;
        let unanswered: usize = self.clients.iter().map(|it| it.requests.len()).sum();
        let perhaps = self.ledger.unknown[app] + unanswered as u64 + 16;
        let used = self.ledger.accepted[app] + perhaps + leased;
        assert!(used >= max, "{used} of {max} used, and refused");
    }

    /// Everything that was accepted after a subscriber's ack has come to it.
    fn check_nothing_lost(&self) {
        for epoch in self.ledger.epochs.iter().filter(|epoch| !epoch.over) {
            let subscriber = &self.clients[epoch.client];
            for (number, publication) in &self.ledger.publications {
                let publisher = publication.client.map(|client| &self.clients[client]);
                let unsaid = publication.accepted.is_none()
                    && !publication.has_id
                    && publisher
                        .is_some_and(|it| it.is_open() && it.actions.contains(Action::Publish));
                let due = (publication.accepted == Some(true) || unsaid)
                    && (publication.app, publication.channel) == (epoch.app, epoch.channel)
                    && publication.step > epoch.since_step
                    && publication.client != Some(epoch.client);
                assert!(
                    !due || subscriber.seen.contains(number),
                    "{} lost a message in room-{}",
                    subscriber.peer,
                    epoch.channel
                );
            }
        }
    }

    fn check_directs(&self) {
        for direct in self.ledger.directs.values() {
            self.check_direct(direct);
        }
    }

    fn check_direct(&self, direct: &Direct) {
        let connections = self.clients.iter().enumerate().filter(|(at, it)| {
            *at != direct.client && it.credential.app == direct.app && it.is_peer(&direct.to)
        });
        let lasting: Vec<usize> = connections
            .clone()
            .filter(|(_, it)| it.is_open() && it.welcome_step < direct.step)
            .map(|(at, _)| at)
            .collect();
        match direct.accepted {
            Some(true) => {
                let ended = connections.clone().any(|(_, it)| it.is_over());
                assert!(
                    ended || !direct.receivers.is_empty(),
                    "acked, and nobody got it"
                );
                for at in lasting {
                    assert!(direct.receivers.contains(&at), "a connection was left out");
                }
            }
            Some(false)
                if !direct.is_refused
                    && self.clients[direct.client].actions.contains(Action::Send) =>
            {
                let reachable = !Self::is_scoped(direct.app)
                    || lasting.iter().any(|at| self.shared_a_channel(direct, *at));
                assert!(lasting.is_empty() || !reachable, "{} was there", direct.to);
            }
            _ => {}
        }
        if Self::is_scoped(direct.app) && !direct.receivers.is_empty() {
            let sender = &self.clients[direct.client].ever_asked;
            let mut all = connections.map(|(_, it)| &it.ever_asked);
            assert!(
                all.any(|asked| !asked.is_disjoint(sender)),
                "no common channel"
            );
        }
    }

    /// Both were members of one channel all the time since before the message.
    fn shared_a_channel(&self, direct: &Direct, receiver: usize) -> bool {
        direct.epochs.iter().any(|(channel, epoch)| {
            let other = self.clients[receiver].settled(*channel);
            let since = other.map(|other| self.ledger.epochs[other].since_step);
            !self.ledger.epochs[*epoch].over && since.is_some_and(|since| since < direct.step)
        })
    }

    /// All members of a channel saw what they both saw in one order, without gaps.
    fn check_order(&self) {
        let epochs = self.ledger.epochs.iter().filter(|it| !it.items.is_empty());
        let epochs: Vec<&Epoch> = epochs.collect();
        for (at, one) in epochs.iter().enumerate() {
            for other in &epochs[at + 1..] {
                if (one.app, one.channel) == (other.app, other.channel) {
                    self.check_pair(one, other);
                }
            }
        }
    }

    fn check_pair(&self, one: &Epoch, other: &Epoch) {
        let place: BTreeMap<u64, usize> = numbered(&other.items).collect();
        let mut before: Option<(usize, usize)> = None;
        for (number, at) in numbered(&one.items) {
            let Some(place) = place.get(&number).copied() else {
                continue;
            };
            if let Some((at_before, place_before)) = before {
                assert!(place > place_before, "two members saw two orders");
                let presence = one.presence && other.presence && !self.world.asks_again;
                let ours = self.between(&one.items[at_before..at], other.client, presence);
                let theirs = self.between(&other.items[place_before..place], one.client, presence);
                assert_eq!(ours, theirs, "two members saw different things");
            }
            before = Some((at, place));
        }
    }

    /// What of this the other one should have seen, too.
    fn between<'a>(&self, items: &'a [Item], other: usize, presence: bool) -> Vec<&'a Item> {
        let shared = |item: &&Item| match item {
            Item::Publication(number) => self.ledger.publications[number].client != Some(other),
            Item::Presence(_) => presence,
        };
        items[1..].iter().filter(shared).collect()
    }

    fn check_rosters(&self) {
        for (app, peer) in &self.drained.returned {
            assert!(self.drained.has(*app, peer), "{peer} joined twice");
        }
        // Nobody knows where those are.
        if self
            .clients
            .iter()
            .any(|it| it.is_uncertain && it.is_open())
        {
            return;
        }
        for client in self.clients.iter().filter(|it| it.is_open()) {
            for (channel, subscription) in client.channels.iter().filter(|(_, it)| it.open) {
                let Some(roster) = &subscription.roster else {
                    continue;
                };
                let members = self.clients.iter().filter(|it| {
                    it.is_open()
                        && it.credential.app == client.credential.app
                        && it.peer != client.peer
                        && it.channels.get(channel).is_some_and(|it| it.open)
                });
                let members: BTreeMap<String, Option<String>> = members
                    .map(|it| (it.peer.clone(), it.credential.metadata.clone()))
                    .collect();
                let mut roster = roster.clone();
                let app = client.credential.app;
                let stay = self.drained.stay(app, *channel, subscription.roster_step);
                for peer in stay.filter(|peer| !self.has_other(app, peer)) {
                    let is_there = roster.contains_key(peer) || *peer == client.peer;
                    assert!(is_there, "{peer}, closed by the drain, is gone");
                }
                // The others are not told of those whom the drain has closed.
                roster.retain(|peer, _| members.contains_key(peer) || !self.drained.has(app, peer));
                assert_eq!(
                    roster, members,
                    "{}'s roster of room-{channel}",
                    client.peer
                );
            }
        }
    }

    /// Whether more than one connection of a peer has been there: one of them may have left.
    fn has_other(&self, app: usize, peer: &str) -> bool {
        let mut of_peer = self.clients.iter();
        let of_peer = of_peer.by_ref();
        let count = of_peer
            .filter(|it| it.credential.app == app && it.peer == peer)
            .count();
        count > 1
    }

    fn check_gauges(&self) {
        for (app, gauges) in self.tenants.gauges.iter().enumerate().take(2) {
            let open = self.clients.iter();
            let open = open.filter(|it| it.is_open() && it.credential.app == app);
            let open = open.count() as u64;
            assert_eq!(gauges.connections(), open, "connections of app {app}");
            let plan = self.tenants.plans[app];
            let max = plan.connections_max.filter(|_| !plan.overages);
            assert!(max.is_none_or(|max| open <= max), "{open} connections");
        }
    }
}

fn numbered(items: &[Item]) -> impl Iterator<Item = (u64, usize)> {
    let all = items.iter().enumerate();
    all.filter_map(|(at, item)| match item {
        Item::Publication(number) => Some((*number, at)),
        Item::Presence(_) => None,
    })
}
