//! The end of the server. Whom the drain closes has not left for the others.

use std::collections::{BTreeMap, BTreeSet};

use ringmesh::shard::input::Input;

use crate::client::Client;
use crate::world::World;

#[derive(Default)]
pub(crate) struct Drained {
    /// When the drain began.
    pub began_step: u64,
    /// Who joined although they were there for the others, by app and peer: the drain must have
    /// closed them before, which they may have read after.
    pub returned: Vec<(usize, String)>,
    /// By app and peer: the channels in which a connection was when it was closed.
    channels: BTreeMap<(usize, String), BTreeSet<usize>>,
}

impl Drained {
    /// That client has been closed by the drain.
    pub(crate) fn note(&mut self, client: &Client) {
        let channels = client.channels.iter();
        let settled = channels.filter(|(_, it)| {
            it.open && it.epoch.is_some() && it.subscribes_out == 0 && it.unsubscribes_out == 0
        });
        let peer = (client.credential.app, client.peer.clone());
        let all = self.channels.entry(peer).or_default();
        all.extend(settled.map(|(channel, _)| *channel));
    }

    /// That client has ended its stream during the drain: which of the two came first it does not
    /// know.
    pub(crate) fn note_cut_off(&mut self, client: &Client) {
        let peer = (client.credential.app, client.peer.clone());
        self.channels.entry(peer).or_default();
    }

    /// Whether the drain has closed a connection of that peer, or may have.
    pub(crate) fn has(&self, app: usize, peer: &str) -> bool {
        self.channels.contains_key(&(app, peer.to_owned()))
    }

    /// The peers that a member of a channel must still see whose snapshot came in that step.
    pub(crate) fn stay(
        &self,
        app: usize,
        channel: usize,
        snapshot_step: u64,
    ) -> impl Iterator<Item = &String> {
        let is_older = snapshot_step < self.began_step;
        let drained = self.channels.iter();
        drained
            .filter(move |((of, _), channels)| {
                is_older && *of == app && channels.contains(&channel)
            })
            .map(|((_, peer), _)| peer)
    }
}

impl World {
    /// Load balancers are told that the server is about to end.
    pub(crate) fn announce_shutdown(&mut self) {
        for at in 0..self.shard_count() {
            self.handle(at, Input::ShutdownAnnounced);
        }
    }

    /// Nobody is accepted any more.
    pub(crate) fn end_idle(&mut self) {
        for at in 0..self.shard_count() {
            assert!(
                self.shards()[at].is_drained(),
                "WebSockets behind the drain"
            );
            self.handle(at, Input::EndIdle);
        }
    }

    pub(crate) fn drain(&mut self, at: usize, window_ms: u64) {
        self.draining = true;
        let retry_after_ms = 500;
        self.handle(
            at,
            Input::Drain {
                window_ms,
                retry_after_ms,
            },
        );
    }
}
