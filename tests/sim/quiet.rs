//! What must be true once nothing is on its way.

use std::collections::BTreeMap;

use ringmesh::proto::actions::Action;

use crate::ledger::{Direct, Epoch, Item};
use crate::walk::Walk;

impl Walk {
    /// See the top of this file. What has been looked at is then forgotten.
    pub fn check_quiet(&mut self) {
        self.check_suspicions();
        self.check_answers();
        self.check_nothing_lost();
        self.check_directs();
        self.check_order();
        self.check_rosters();
        self.check_gauges();
        for epoch in &mut self.ledger.epochs {
            epoch.items.clear();
        }
        self.ledger.publications.clear();
        self.ledger.directs.clear();
        for client in &mut self.clients {
            client.seen.clear();
        }
    }

    fn check_suspicions(&mut self) {
        for suspicion in self.ledger.suspicions.drain(..) {
            let epoch = &self.ledger.epochs[suspicion.epoch];
            assert!(epoch.over, "{}", suspicion.text);
        }
    }

    fn check_answers(&self) {
        let socket_closed = |socket| self.world.has_server_closed(socket);
        for client in &self.clients {
            if client.is_open() {
                assert!(
                    client.requests.is_empty(),
                    "unanswered: {:?}",
                    client.requests
                );
                assert!(client.snapshots_due.is_empty(), "a snapshot is missing");
                assert!(client.obligations.is_empty());
            }
            if client.is_over() {
                let closed = socket_closed(client.socket)
                    || client.phase == crate::client::Phase::Closed(None);
                assert!(closed, "the closing handshake is over, the socket is open");
            }
        }
    }

    /// Everything that was accepted after a subscriber's ack has come to it.
    fn check_nothing_lost(&self) {
        for epoch in self.ledger.epochs.iter().filter(|epoch| !epoch.over) {
            let subscriber = &self.clients[epoch.client];
            for (number, publication) in &self.ledger.publications {
                let publisher = &self.clients[publication.client];
                let unsaid = publication.accepted.is_none()
                    && publisher.is_open()
                    && publisher.actions.contains(Action::Publish);
                let due = (publication.accepted == Some(true) || unsaid)
                    && (publication.app, publication.channel) == (epoch.app, epoch.channel)
                    && publication.step > epoch.since_step
                    && publication.client != epoch.client;
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
            Some(false) if self.clients[direct.client].actions.contains(Action::Send) => {
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
            Item::Publication(number) => self.ledger.publications[number].client != other,
            Item::Presence(_) => presence,
        };
        items[1..].iter().filter(shared).collect()
    }

    fn check_rosters(&self) {
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
                assert_eq!(
                    *roster, members,
                    "{}'s roster of room-{channel}",
                    client.peer
                );
            }
        }
    }

    fn check_gauges(&self) {
        for (app, gauges) in self.tenants.gauges.iter().enumerate() {
            let open = self.clients.iter();
            let open = open.filter(|it| it.is_open() && it.credential.app == app);
            assert_eq!(
                gauges.connections(),
                open.count() as u64,
                "connections of app {app}"
            );
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
