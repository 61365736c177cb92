//! Other tokens for open connections: what clients show, and what must follow.
//!
//! What a token may change is chosen so that the answers to what was asked before it stay what they
//! are: publishing and sending are allowed as before, subscribing and presence as it comes.

use serde_json::{Value, json};

use crate::client::{Refresh, Request, Subscription};
use crate::permit::{Action, Actions};
use crate::tenants::Credential;
use crate::walk::{PEERS, Walk};

impl Walk {
    /// A client shows another token, unless it has shown one that is not answered.
    pub(crate) fn refresh(&mut self, client: usize) {
        let it = &self.clients[client];
        if it.refresh.is_some() {
            return;
        }
        let (app, now) = (it.credential.app, self.world.now().unix_sec());
        let key = self.tenants.actions(app, self.changes);
        let sub = it.credential.sub.as_deref();
        let peer = sub.and_then(|sub| sub.strip_prefix("peer ")?.parse::<usize>().ok());
        let Some(peer) = peer else {
            let code = match sub {
                None => "action_not_permitted",
                Some(_) => return,
            };
            let token = self.tenants.token(app, 0, key, now, 3_600);
            return self.show(client, Some(&token), Err(code));
        };
        match self.workload.below(10) {
            0 => self.show(client, None, Err("invalid_token")),
            1 => {
                let stale = self.tenants.token(app, peer, key, now - 10, 10);
                self.show(client, Some(&stale), Err("invalid_token"));
            }
            2 => {
                let other = (peer + 1) % PEERS;
                let token = self.tenants.token(app, other, key, now, 3_600);
                self.show(client, Some(&token), Err("peer_mismatch"));
            }
            3 => {
                let key = self.tenants.actions(1 - app, self.changes);
                let token = self.tenants.token(1 - app, peer, key, now, 3_600);
                self.show(client, Some(&token), Err("peer_mismatch"));
            }
            _ => {
                let lacking = *self.workload.pick(&[
                    None,
                    Some(Action::Presence),
                    Some(Action::Subscribe),
                    None,
                ]);
                let wanted = lacking.map_or(Actions::ALL, Actions::without);
                let kept = [Action::Publish, Action::Send];
                let before = self.clients[client].credential.permissions;
                let wanted = wanted.with(kept, before);
                let lifetime_sec = if self.workload.percent(15) { 2 } else { 3_600 };
                let token = self.tenants.token(app, peer, wanted, now, lifetime_sec);
                let verdict = match key.contains_all(wanted) {
                    true => Ok(()),
                    false => Err("invalid_token"),
                };
                self.show(client, Some(&token), verdict);
            }
        }
    }

    fn show(
        &mut self,
        client: usize,
        credential: Option<&Credential>,
        verdict: Result<(), &'static str>,
    ) {
        let mut body = json!({"type": "refresh"});
        if let Some(credential) = credential {
            let token = credential.query.strip_prefix("token=");
            body["token"] = json!(token.expect("a token"));
        }
        match (credential, verdict) {
            (Some(credential), Ok(())) => {
                self.clients[client].refresh = Some(Refresh {
                    credential: credential.clone(),
                });
                self.forget_promises(client, credential.permissions);
                self.request(client, Request::Refresh, body, true);
            }
            (_, verdict) => {
                let code = verdict.expect_err("no token is good");
                self.request(client, Request::Bad(code), body, true);
            }
        }
    }

    /// From when a token is shown, nobody can say until when the old one holds: what only that
    /// allows is not relied upon.
    fn forget_promises(&mut self, client: usize, permissions: Actions) {
        for subscription in self.clients[client].channels.values_mut() {
            let Some(epoch) = subscription.epoch else {
                continue;
            };
            self.ledger.epochs[epoch].presence &= permissions.contains(Action::Presence);
            if !permissions.contains(Action::Subscribe) {
                self.ledger.epochs[epoch].over = true;
                subscription.epoch = None;
            }
        }
    }

    /// A token was judged.
    pub(crate) fn refreshed(
        &mut self,
        client: usize,
        message: &Value,
        code: Option<&str>,
        ms: u64,
    ) {
        let Refresh { credential } = self.clients[client].refresh.take().expect("a token");
        let expires_unix = credential.expires_unix.expect("a token ends");
        if let Some(code) = code {
            let is_late = expires_unix * 1_000 <= self.world.now().unix_ms;
            assert!(
                is_late && code == "invalid_token",
                "{code} for {credential:?}"
            );
            return;
        }
        self.world.meter.note("refresh", "taken");
        assert_eq!(message["expiresAt"], expires_unix, "{message}");
        let actions = self.tenants.actions(credential.app, self.changes);
        let actions = actions.intersection(credential.permissions);
        self.forget_promises(client, actions);
        let it = &mut self.clients[client];
        it.actions = actions;
        it.credential.permissions = credential.permissions;
        it.credential.expires_unix = credential.expires_unix;
        let mut due = it.snapshots_due.keys();
        // Of a channel that it is leaving none comes.
        let is_left = |channel: &usize| it.channels[channel].unsubscribes_out > 0;
        let waits = due.all(is_left) || it.is_uncertain;
        assert!(
            waits,
            "taken before the snapshots of what was asked for before"
        );
        for (channel, subscription) in &mut it.channels {
            if !subscription.open {
                continue;
            }
            if !actions.contains(Action::Presence) {
                subscription.roster = None;
                subscription.is_muted = true;
            }
            if !actions.contains(Action::Subscribe) {
                let is_leaving = subscription.unsubscribes_out > 0;
                it.ends.insert(*channel, is_leaving);
            }
        }
        self.shown_again(client, message["snapshots"].as_u64().unwrap_or(0), ms);
    }

    /// A token was taken that so many snapshots follow: of all channels, if it allows presence and
    /// there is one without.
    fn shown_again(&mut self, client: usize, snapshots: u64, ms: u64) {
        let it = &mut self.clients[client];
        let mut allowed = [Action::Subscribe, Action::Presence].into_iter();
        let is_allowed = allowed.all(|action| it.actions.contains(action));
        // One that it is leaving it may have left.
        let is_new = |it: &Subscription| it.open && it.roster.is_none() && it.unsubscribes_out == 0;
        let is_due = is_allowed && it.channels.values().any(is_new);
        if snapshots == 0 {
            return assert!(!is_due || it.is_uncertain, "not shown again");
        }
        self.world.meter.note("refresh", "shown");
        assert!(is_allowed, "shown without a right to it");
        let (mut shown, mut left) = (0, 0);
        for (channel, subscription) in it.channels.iter_mut().filter(|(_, it)| it.open) {
            (subscription.roster, subscription.is_muted) = (None, false);
            it.snapshots_due.insert(*channel, ms);
            match subscription.unsubscribes_out {
                0 => shown += 1,
                _ => left += 1,
            }
        }
        let is_right = (shown..=shown + left).contains(&snapshots) || it.is_uncertain;
        assert!(is_right, "{snapshots} snapshots, not {shown}");
    }

    /// A client is told that a subscription has ended.
    pub(crate) fn subscription_ended(&mut self, client: usize, message: &Value) {
        assert_eq!(message["code"], "channel_not_authorized", "{message}");
        self.world.meter.note("refresh", "ended");
        let channel = message["channel"].as_str().unwrap();
        let channel: usize = channel.strip_prefix("room-").unwrap().parse().unwrap();
        let it = &mut self.clients[client];
        let told = it.ends.remove(&channel);
        assert!(
            told.is_some() || it.is_uncertain,
            "ended for nothing: {message}"
        );
        if let Some(subscription) = it.channels.get_mut(&channel) {
            subscription.open = false;
            subscription.roster = None;
        }
    }
}
