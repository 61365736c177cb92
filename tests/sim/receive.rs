//! What a client makes of each frame, and what must be true of the frame at that moment.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::client::{Arrival, Obligation, Phase, Request};
use crate::ledger::{Epoch, Item, Suspicion};
use crate::permit::Action;
use crate::walk::Walk;
use crate::wire::PONG;

impl Walk {
    /// A client takes all that has come. Returns whether there was anything.
    pub(crate) fn receive(&mut self, client: usize) -> bool {
        let socket = self.clients[client].socket;
        let mut any = false;
        while let Some((ms, bytes)) = self.world.take(socket) {
            any = true;
            self.clients[client].feed(ms, &bytes);
        }
        while let Some(arrival) = self.clients[client].next_arrival() {
            self.arrived(client, arrival);
            self.check_obligations(client);
        }
        if self.world.sockets[socket].server_ended && !self.clients[client].is_over() {
            let ended = "the stream ended without a close frame";
            let it = &self.clients[client];
            // Who takes nothing is dropped in the end, without a word that he could take.
            let is_stuck = it.ever_stalled && self.is_lossy;
            assert!(it.phase != Phase::Open || is_stuck, "{ended}");
            self.over(client, None);
        }
        any
    }

    fn arrived(&mut self, client: usize, arrival: Arrival) {
        match arrival {
            Arrival::Http(response) => {
                self.world.note_response(&response);
                let it = &mut self.clients[client];
                let expires = it.credential.expires_unix.is_some();
                let may_be = match response.status {
                    101 => {
                        it.phase = Phase::Greeting;
                        return;
                    }
                    401 => self.changes.revoked || expires || self.exceeds_key(client),
                    429 => self.world.has_limited_connects,
                    503 => self.draining || self.is_tight,
                    _ => false,
                };
                assert!(may_be, "{}", response.head);
                self.over(client, None);
            }
            Arrival::Ping(payload) => self.send_frame(client, PONG, &payload),
            Arrival::Close(code) => self.closed(client, code),
            Arrival::Text {
                text,
                first_ms,
                last_ms,
            } => {
                let message = serde_json::from_str(&text).expect("JSON");
                self.check_apart(client, &message, first_ms);
                self.message(client, &text, &message, last_ms);
            }
        }
    }

    /// Whether a client's token grants more than its key may by now.
    fn exceeds_key(&self, client: usize) -> bool {
        let credential = &self.clients[client].credential;
        let key = self.tenants.actions(credential.app, self.changes);
        credential.sub.is_some() && !key.contains_all(credential.permissions)
    }

    fn closed(&mut self, client: usize, code: Option<u16>) {
        let now = self.world.now().unix_ms;
        self.world.note_close(code);
        let it = &self.clients[client];
        let app = it.credential.app;
        if it.phase == Phase::Leaving && code == Some(1000) {
            return self.over(client, code);
        }
        let allowed = match code {
            Some(1001) => self.draining && it.going_away,
            Some(1013) => it.ever_stalled || self.is_lossy,
            Some(4001) => {
                let is_revoked = self.changes.revoked && it.credential.is_revocable();
                is_revoked || self.exceeds_key(client)
            }
            Some(4002) => it
                .credential
                .expires_unix
                .is_some_and(|at| at * 1_000 - 250 <= now),
            Some(4010) => self.tenants.plans[app].connections_max.is_some(),
            Some(4012) => app == 1,
            Some(4020) => self.kicked.contains(&(app, it.peer.clone())),
            _ => false,
        };
        assert!(
            allowed,
            "closed with {code:?} in {:?}: {:?} at {now}",
            it.phase, it.credential
        );
        if it.phase != Phase::Leaving {
            self.send_close(client, code);
        }
        self.over(client, code);
    }

    /// Nothing of a channel comes between the ack and the snapshot, and that comes 15 ms later.
    fn check_apart(&self, client: usize, message: &Value, first_ms: u64) {
        let Some(channel) = message["channel"].as_str() else {
            return;
        };
        let channel = channel.strip_prefix("room-").unwrap().parse().unwrap();
        let it = &self.clients[client];
        if let Some(ack_ms) = it.snapshots_due.get(&channel).filter(|_| !it.is_uncertain) {
            assert_eq!(
                message["type"], "presence",
                "instead of a snapshot: {message}"
            );
            assert!(
                first_ms >= ack_ms + 15,
                "a snapshot {first_ms} after its ack at {ack_ms}"
            );
        }
    }

    fn message(&mut self, client: usize, text: &str, message: &Value, ms: u64) {
        let kind = message["type"].as_str().unwrap();
        if self.clients[client].is_uncertain && matches!(kind, "message" | "presence") {
            return;
        }
        if self.clients[client].phase == Phase::Greeting || kind == "welcome" {
            return self.welcome(client, kind, message);
        }
        match kind {
            "ack" | "pong" | "error" => self.answer(client, kind, message, ms),
            "message" => self.publication(client, message),
            "direct" => self.direct(client, message),
            "presence" => self.presence(client, text, message),
            "going_away" => self.clients[client].going_away = true,
            other => panic!("{other}"),
        }
    }

    fn welcome(&mut self, client: usize, kind: &str, message: &Value) {
        let step = self.step;
        let it = &mut self.clients[client];
        assert_eq!(kind, "welcome", "the first frame");
        assert!(it.peer.is_empty(), "a second welcome");
        it.peer = message["peerId"].as_str().unwrap().to_owned();
        if let Some(sub) = &it.credential.sub {
            assert_eq!(&it.peer, sub);
        }
        it.welcome_step = step;
        if it.phase == Phase::Greeting {
            it.phase = Phase::Open;
        }
    }

    fn answer(&mut self, client: usize, kind: &str, message: &Value, ms: u64) {
        let code = message["code"].as_str();
        if let Some(code) = code {
            self.world.meter.note("error", code);
        }
        if message["requestId"].is_null() && message["channel"].is_string() {
            return self.subscription_ended(client, message);
        }
        if message["requestId"].is_null() {
            // Only a `publish` goes without, and is answered only where it is refused.
            let may = self.clients[client].actions.contains(Action::Publish);
            return match code {
                Some("action_not_permitted") => assert!(!may),
                code => panic!("{code:?} without an id"),
            };
        }
        let number: u64 = message["requestId"].as_str().unwrap().parse().unwrap();
        let request = self.clients[client].requests.remove(&number);
        let request = request.unwrap_or_else(|| panic!("a second answer: {message}"));
        if code == Some("backend_error") {
            return self.unanswered(client, &request);
        }
        let app = self.clients[client].credential.app;
        if code == Some("over_message_quota") {
            assert!(request.is_counted(), "{message} for {request:?}");
            self.check_refused(app);
        }
        let actions = self.clients[client].actions;
        let refused = |action| match actions.contains(action) {
            true => None,
            false => Some("action_not_permitted"),
        };
        match request {
            Request::Ping => assert_eq!(kind, "pong"),
            Request::Refresh => self.refreshed(client, message, code, ms),
            Request::Bad("missing_data" | "channel_not_authorized")
                if code == Some("action_not_permitted") => {}
            Request::Bad(expected) => assert_eq!(code, Some(expected)),
            Request::Publish(publication) => {
                self.publication_answered(client, publication, refused(Action::Publish), code);
            }
            Request::Send(direct) => self.direct_answered(app, direct, refused(Action::Send), code),
            Request::Unsubscribe { .. } | Request::Subscribe { .. }
                if self.clients[client].is_uncertain => {}
            Request::Unsubscribe { channel } => {
                assert_eq!(code, None);
                let it = self.clients[client].channels.get_mut(&channel).unwrap();
                it.unsubscribes_out -= 1;
                it.open = false;
                it.roster = None;
                // It has not left before this, so that it is not sent at all.
                self.clients[client].snapshots_due.remove(&channel);
            }
            Request::Subscribe {
                channel,
                metadata,
                step,
            } => {
                let it = self.clients[client].channels.get_mut(&channel).unwrap();
                it.subscribes_out -= 1;
                match code {
                    None => self.subscribed(client, channel, metadata, step, ms),
                    Some("channel_limit_exceeded") => self.check_limit(client, channel),
                    code => assert_eq!(code, refused(Action::Subscribe)),
                }
            }
        }
    }

    fn publication_answered(
        &mut self,
        client: usize,
        publication: u64,
        refused: Option<&str>,
        code: Option<&str>,
    ) {
        let is_over = code == Some("over_message_quota");
        assert!(is_over || code == refused, "{code:?} for a publication");
        self.count(self.clients[client].credential.app, code);
        if code.is_none() {
            self.check_may_publish(client, publication);
        }
        self.accept(publication, Some(code.is_none()));
    }

    fn direct_answered(
        &mut self,
        app: usize,
        direct: u64,
        refused: Option<&str>,
        code: Option<&str>,
    ) {
        let is_over = code == Some("over_message_quota");
        match refused {
            None => assert!(is_over || matches!(code, None | Some("peer_not_found"))),
            refused => assert_eq!(code, refused),
        }
        self.count(app, code);
        let direct = self.ledger.directs.get_mut(&direct).unwrap();
        direct.is_refused = is_over;
        direct.accepted = Some(code.is_none());
    }

    fn check_limit(&self, client: usize, channel: usize) {
        let asked = self.clients[client].ever_asked.len();
        assert!(asked > self.channels_per_connection && !self.is_in(client, channel));
    }

    /// What an answer to a publication or a direct message tells of the quota.
    fn count(&mut self, app: usize, code: Option<&str>) {
        let is_checked = !matches!(code, Some("action_not_permitted"));
        let is_accepted = is_checked && code != Some("over_message_quota");
        self.ledger.known[app] += u64::from(is_checked);
        self.ledger.accepted[app] += u64::from(is_accepted);
    }

    /// A shard that was asked did not answer: whether it will do what it was asked for nobody can
    /// say.
    fn unanswered(&mut self, client: usize, request: &Request) {
        assert!(self.is_lossy, "{request:?} was not answered");
        let app = self.clients[client].credential.app;
        match request {
            Request::Publish(_) => self.count(app, None),
            Request::Send(number) => {
                self.count(app, None);
                self.ledger.directs.remove(number);
            }
            // Whether it is in the channel, now or later, it does not know.
            Request::Subscribe { .. } | Request::Unsubscribe { .. } => {
                self.end_epochs(client);
                self.clients[client].is_uncertain = true;
            }
            Request::Ping | Request::Refresh | Request::Bad(_) => {
                panic!("nobody is asked for {request:?}")
            }
        }
    }

    /// What was sent after its shard knew that the key is revoked, or the app suspended, is not
    /// accepted.
    fn check_may_publish(&self, client: usize, publication: u64) {
        let it = &self.clients[client];
        let Some(publication) = self.ledger.publications.get(&publication) else {
            return;
        };
        let [revoked, suspended] = self.ended[self.world.sockets[it.socket].shard];
        let ended = match it.credential.is_revocable() {
            true => revoked,
            false => suspended.filter(|_| Self::is_scoped(it.credential.app)),
        };
        assert!(
            ended.is_none_or(|ended| publication.step <= ended),
            "accepted at {} from {}, whose right ended at {ended:?}",
            publication.step,
            it.peer
        );
    }

    fn is_in(&self, client: usize, channel: usize) -> bool {
        self.clients[client].settled(channel).is_some()
    }

    fn subscribed(&mut self, client: usize, channel: usize, metadata: bool, asked: u64, ms: u64) {
        let presence = self.clients[client].actions.contains(Action::Presence);
        if presence {
            let before = self.clients[client].snapshots_due.insert(channel, ms);
            assert_eq!(before, None, "acked again before the snapshot");
        }
        let own = &self.clients[client];
        let leaving = own.phase == Phase::Leaving || !own.may_keep(Action::Subscribe);
        let told = presence && own.may_keep(Action::Presence);
        let app = self.clients[client].credential.app;
        let it = self.clients[client].channels.get_mut(&channel).unwrap();
        it.open = true;
        it.acked_step = self.step;
        it.metadata = metadata;
        it.is_muted &= !presence;
        if !presence {
            it.roster = None;
        }
        if let Some(epoch) = it.epoch {
            self.ledger.epochs[epoch].presence &= told;
        } else if it.unsubscribes_out == 0 && !leaving {
            it.epoch = Some(self.ledger.epochs.len());
            self.ledger.epochs.push(Epoch {
                client,
                app,
                channel,
                since_step: self.step,
                over: false,
                presence: told,
                items: Vec::new(),
            });
            self.oblige_members(client, channel, asked);
        }
    }

    /// All who were members with presence before this one asked have it announced in what is
    /// queued for them by now: at the front of it, where turns write all.
    fn oblige_members(&mut self, joiner: usize, channel: usize, asked: u64) {
        let Some(peer_epoch) = self.clients[joiner].settled(channel) else {
            return;
        };
        let (peer, app) = (
            self.clients[joiner].peer.clone(),
            self.clients[joiner].credential.app,
        );
        for at in 0..self.clients.len() {
            let it = &self.clients[at];
            let Some(epoch) = it.settled(channel) else {
                continue;
            };
            let known = &self.ledger.epochs[epoch];
            let concerned = it.credential.app == app
                && it.peer != peer
                && known.presence
                && known.since_step < asked
                && it.keeps_presence(channel)
                && it.channels[&channel].roster.is_some()
                && it.channels[&channel].subscribes_out == 0
                && !it.snapshots_due.contains_key(&channel);
            if concerned && !self.world.defers {
                let data_bytes = self.world.data_queued(it.socket);
                let peer = peer.clone();
                let obligation = Obligation {
                    data_bytes,
                    channel,
                    peer,
                    peer_epoch,
                    epoch,
                };
                self.clients[at].obligations.push(obligation);
                self.check_obligations(at);
            }
        }
    }

    fn check_obligations(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let read = it.data_bytes;
        let due = it
            .obligations
            .extract_if(.., |obligation| obligation.data_bytes <= read);
        for Obligation {
            channel,
            peer,
            peer_epoch,
            epoch,
            ..
        } in due.collect::<Vec<_>>()
        {
            let subscription = &self.clients[client].channels[&channel];
            let roster = subscription.roster.as_ref();
            if subscription.epoch == Some(epoch) && roster.is_some_and(|it| !it.contains_key(&peer))
            {
                let text = format!("{peer} was acked before it was announced in room-{channel}");
                self.ledger.suspicions.push(Suspicion {
                    epoch: peer_epoch,
                    text,
                });
            }
        }
    }

    fn publication(&mut self, client: usize, message: &Value) {
        let number = message["data"]["n"].as_u64().unwrap();
        let publication = &self.ledger.publications[&number];
        let (from, channel) = (publication.client, publication.channel);
        let (publisher, publication_step) = (publication.publisher, publication.step);
        let it = &mut self.clients[client];
        assert_ne!(from, Some(client), "a publisher got its own message");
        assert_ne!(
            publication.accepted,
            Some(false),
            "delivered, and refused: {message}"
        );
        assert_eq!(
            publication.app, it.credential.app,
            "a message of another app"
        );
        assert_eq!(message["channel"], format!("room-{channel}").as_str());
        assert!(it.seen.insert(number), "twice: {message}");
        let subscription = it.channels.get(&channel).filter(|it| it.open);
        let subscription = subscription.expect("a message of a channel that was not subscribed");
        let last = it.last_of.insert((channel, publisher), number);
        // A backend goes on with its next request when it is told that a shard did not answer.
        let may_overtake = from.is_none() && self.is_lossy;
        assert!(
            last < Some(number) || may_overtake,
            "messages of one publisher out of order"
        );
        let settled = subscription.subscribes_out == 0;
        let wanted = subscription.metadata;
        if let Some(epoch) = subscription.epoch {
            let item = Item::Publication(number);
            self.ledger.epochs[epoch].items.push(item);
        }
        let sender_epoch = publication.epoch.map(|epoch| (channel, epoch));
        let Some(from) = from else {
            assert_eq!(message["from"], "server");
            return assert!(message.get("fromMetadata").is_none());
        };
        self.check_sender(client, from, message, settled.then_some(wanted));
        let step = publication_step;
        self.check_announced(client, from, step, sender_epoch.as_slice());
    }

    fn check_sender(&self, client: usize, from: usize, message: &Value, metadata: Option<bool>) {
        let sender = &self.clients[from];
        assert_eq!(message["from"], sender.peer.as_str());
        let sent = message.get("fromMetadata").map(Value::to_string);
        if let Some(wanted) = metadata {
            let expected = sender.credential.metadata.clone().filter(|_| wanted);
            assert_eq!(
                sent, expected,
                "fromMetadata for {}",
                self.clients[client].peer
            );
        }
    }

    fn direct(&mut self, client: usize, message: &Value) {
        let number = message["data"]["n"].as_u64().unwrap();
        let it = &mut self.clients[client];
        assert!(it.seen.insert(number), "twice: {message}");
        let Some(direct) = self.ledger.directs.get_mut(&number) else {
            return assert!(
                self.is_lossy,
                "a direct message that nobody sent: {message}"
            );
        };
        let (from, step, epochs) = (direct.client, direct.step, direct.epochs.clone());
        assert_ne!(from, client, "a sender got its own message");
        assert_eq!((direct.app, &direct.to), (it.credential.app, &it.peer));
        assert_ne!(
            direct.accepted,
            Some(false),
            "delivered, and peer_not_found"
        );
        direct.receivers.push(client);
        self.check_sender(client, from, message, Some(true));
        self.check_announced(client, from, step, &epochs);
    }

    /// Whoever was acked in a channel before it said this, and is still there, is known to
    /// those who know the channel.
    fn check_announced(
        &mut self,
        client: usize,
        from: usize,
        step: u64,
        epochs: &[(usize, usize)],
    ) {
        let sender = self.clients[from].peer.clone();
        for (channel, sender_epoch) in epochs {
            let it = &self.clients[client];
            // What was said behind the receiver's ack waits for his snapshot.
            let own = it.settled(*channel).map(|_| &it.channels[channel]);
            if it.snapshots_due.contains_key(channel)
                && own.is_some_and(|own| own.acked_step < step && own.roster.is_none())
                && sender != it.peer
                && !self.ledger.epochs[*sender_epoch].over
            {
                let text = format!("a message of {sender} before the snapshot of room-{channel}");
                let epoch = *sender_epoch;
                self.ledger.suspicions.push(Suspicion { epoch, text });
            }
            let known = it.channels.get(channel).filter(|it| it.open);
            let roster = known.and_then(|it| it.roster.as_ref());
            let unknown = roster.is_some_and(|it| !it.contains_key(&sender));
            let settled = known.is_some_and(|it| it.unsubscribes_out == 0);
            let settled = settled && it.keeps_presence(*channel);
            if unknown && settled && sender != it.peer && !self.ledger.epochs[*sender_epoch].over {
                let text = format!("a message of {sender}, not announced in room-{channel}");
                let epoch = *sender_epoch;
                self.ledger.suspicions.push(Suspicion { epoch, text });
            }
        }
    }

    fn presence(&mut self, client: usize, text: &str, message: &Value) {
        let it = &mut self.clients[client];
        let channel = message["channel"].as_str().unwrap();
        let channel: usize = channel.strip_prefix("room-").unwrap().parse().unwrap();
        let (peer, app) = (it.peer.clone(), it.credential.app);
        let subscription = it.channels.get_mut(&channel).filter(|it| it.open);
        let subscription = subscription.expect("presence of a channel that was not subscribed");
        assert!(!subscription.is_muted, "presence without a right to it");
        let (joined, left) = (entries(&message["joined"]), entries(&message["left"]));
        assert!(
            !joined.contains_key(&peer) && !left.contains_key(&peer),
            "told of its own coming or going: {text}"
        );
        if it.snapshots_due.remove(&channel).is_some() {
            assert!(left.is_empty(), "a snapshot in which somebody leaves");
            subscription.roster = Some(joined);
            subscription.roster_step = self.step;
            return;
        }
        if let Some(epoch) = subscription.epoch {
            let item = Item::Presence(text.to_owned());
            self.ledger.epochs[epoch].items.push(item);
        }
        let roster = subscription
            .roster
            .as_mut()
            .expect("a change before the snapshot");
        for (peer, metadata) in left {
            let known = roster.remove(&peer);
            assert_eq!(
                known,
                Some(metadata),
                "{peer} left without being there: {text}"
            );
        }
        for (peer, metadata) in joined {
            let known = roster.insert(peer.clone(), metadata);
            if known.is_some() {
                assert!(self.draining, "joined, and was there: {text}");
                self.drained.returned.push((app, peer));
            }
        }
    }
}

fn entries(list: &Value) -> BTreeMap<String, Option<String>> {
    let list = list.as_array().unwrap();
    let entry = |it: &Value| {
        let peer = it["peerId"].as_str().unwrap().to_owned();
        (peer, it.get("metadata").map(Value::to_string))
    };
    let entries: BTreeMap<_, _> = list.iter().map(entry).collect();
    assert_eq!(entries.len(), list.len(), "a peer twice in one list");
    entries
}
