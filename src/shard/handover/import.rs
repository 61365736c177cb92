//! How a new shard goes on with what others have handed over.
//!
//! Every shard reads all records: it takes over the connections that it is given, and knows of the
//! others who is in the channels and who are the peers that it owns. So the shards need not tell
//! each other anything, and it does not matter how many there were before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::app_id::{AppId, AppTag};
use crate::domain::channel::adopt::Past;
use crate::domain::peer::{ChannelKey, JsonName, SharedChannel, SharedPeer};
use crate::domain::rights::{App, Feed, Key, KeyKind, SigningMaterial};
use crate::domain::roster::Interest;
use crate::domain::time::Now;
use crate::domain::usage::PlanView;
use crate::ids::{AppIndex, ConnectionRef, KeyIndex, ShardId};
use crate::proto::actions::Actions;
use crate::shard::channel::channels::Channels;
use crate::shard::connection::connections::Connections;
use crate::shard::context::Context;
use crate::shard::handover::record::{
    ChannelRecord, ConnectionRecord, KeyRecord, SessionRecord, StageRecord,
};
use crate::shard::handover::state::{Handed, HandedShard, ImportError};
use crate::shard::history::history::History;
use crate::shard::portions::RightsWalk;
use crate::shard::state::Shard;

/// Times and counts, far above any that occur.
pub(super) const NUMBER_MAX: u64 = 1 << 60;

/// What the records of one shard refer to.
pub(super) struct Tables {
    keys: Vec<Arc<Key>>,
    channels: Vec<SharedChannel>,
}

/// A connection among all that were handed over.
pub(super) struct Place<'h> {
    pub(super) record: &'h ConnectionRecord,
    pub(super) peer: Option<&'h SharedPeer>,
    pub(super) tables: &'h Tables,
    /// The shard and the slot that it had.
    from: (u16, u32),
    /// Where it is from now on.
    pub(super) to: ConnectionRef,
}

impl Shard {
    /// Goes on with what the shards of another process have handed over: a new shard, before its
    /// first input. `places` says where each connection is from now on, in the order of
    /// [`Handed::connections`].
    ///
    /// # Errors
    /// What was handed over cannot be: this shard is of no use then.
    pub fn import(
        &mut self,
        handed: &Handed,
        places: &[ConnectionRef],
        now: Now,
    ) -> Result<(), ImportError> {
        self.context.now = now;
        let shards = handed.shards.iter();
        let tables: Vec<Tables> = shards
            .map(|shard| Tables::of(shard, &self.context))
            .collect();
        let mut placed = Vec::with_capacity(places.len());
        let mut places = places.iter();
        for (shard, tables) in handed.shards.iter().zip(&tables) {
            for connection in &shard.connections {
                placed.push(Place {
                    record: &connection.record,
                    peer: connection.peer.as_ref(),
                    tables,
                    from: (shard.shard.0, connection.record.slot),
                    to: *places.next().ok_or(ImportError::Wrong("no place"))?,
                });
            }
        }
        self.adopt_tabs(handed, &tables, &placed)?;
        for place in &placed {
            self.adopt(place)?;
        }
        for place in &placed {
            if place.to.home == self.context.id() {
                self.take_over(place)?;
            }
        }
        self.import_channels(handed, &tables)?;
        if self.context.id().shard() == ShardId(0) {
            let rates = handed.shards.iter().map(|shard| &shard.rates);
            rates.for_each(|it| self.context.take_rates_over(it));
        }
        self.begin_after_import();
        Ok(())
    }

    /// Who has several connections in a channel of this shard's: they come first, in their order.
    fn adopt_tabs(
        &mut self,
        handed: &Handed,
        tables: &[Tables],
        placed: &[Place<'_>],
    ) -> Result<(), ImportError> {
        let mut by_number = BTreeMap::new();
        for place in placed {
            if by_number.insert(place.from, place).is_some() {
                return Err(ImportError::Wrong("two connections with one number"));
            }
        }
        for (shard, tables) in handed.shards.iter().zip(tables) {
            for record in &shard.channels {
                let channel = tables.channel(record.channel)?;
                for tab in record.tabs.iter().flatten() {
                    let place = by_number.get(tab);
                    let place = place.ok_or(ImportError::Wrong("a tab of nobody"))?;
                    for membership in place.memberships() {
                        let (member_of, interest) = membership?;
                        if (member_of.app, &member_of.name) == (channel.app, &channel.name) {
                            self.adopt_member(member_of, place, interest)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes who a connection is and where, as far as this shard owns its peer and its channels.
    fn adopt(&mut self, place: &Place<'_>) -> Result<(), ImportError> {
        let (Some(session), Some(peer)) = (place.session(), place.peer) else {
            return Ok(());
        };
        let app = place.tables.key(session.key)?.app.id.tag();
        let owner = self.context.placement.peer_owner(app, peer.id.as_str());
        if owner == self.context.id() {
            self.peers.registry.register(app, peer, place.to);
        }
        for membership in place.memberships() {
            let (channel, interest) = membership?;
            self.adopt_member(channel, place, interest)?;
        }
        Ok(())
    }

    fn adopt_member(
        &mut self,
        channel: &SharedChannel,
        place: &Place<'_>,
        interest: Interest,
    ) -> Result<(), ImportError> {
        let placement = &self.context.placement;
        if placement.owner(channel.hash) != self.context.id() {
            return Ok(());
        }
        let peer = place
            .peer
            .ok_or(ImportError::Wrong("a member without a peer"))?;
        let slot = self.channels.find_or_insert(channel);
        if let Some(owned) = self.channels.own(slot, placement.hasher()) {
            owned.adopt(peer, place.to, interest);
        }
        Ok(())
    }

    /// What is known of channels beside who is in them.
    fn import_channels(&mut self, handed: &Handed, tables: &[Tables]) -> Result<(), ImportError> {
        let mut records = Vec::new();
        for (shard, tables) in handed.shards.iter().zip(tables) {
            for record in &shard.channels {
                let channel = tables.channel(record.channel)?;
                if self.context.placement.owner(channel.hash) == self.context.id() {
                    records.push((channel, record, shard));
                }
            }
        }
        let last_use = |record: &ChannelRecord| record.history.as_ref().map(|it| it.used);
        records.sort_by_key(|(_, record, _)| last_use(record));
        for (channel, record, shard) in records {
            let Self {
                channels, context, ..
            } = self;
            let slot = channels.find_or_insert(channel);
            let owned = channels.owned(slot);
            let homes = owned.iter().flat_map(|owned| owned.homes());
            if homes.map(|home| home.member_count).sum::<u32>() != record.members {
                return Err(ImportError::Wrong("members of a channel are missing"));
            }
            if let Some(owned) = owned {
                owned.set_past(Past {
                    announced_ms: record.announced_ms.min(NUMBER_MAX),
                    published: record.published.min(NUMBER_MAX),
                    window: record.window,
                    fed: record.fed.min(NUMBER_MAX),
                });
            }
            channels.import_history(channel, record, &shard.app_of(record), context)?;
            channels.release(slot);
        }
        Ok(())
    }

    /// What all that was taken over needs to go on.
    fn begin_after_import(&mut self) {
        let mut pauses: Vec<_> = self.channels.pauses.drain(..).collect();
        pauses.sort_unstable();
        self.channels.pauses = pauses.into();
        self.connections.sort_strangers();
        self.channels.suspect_blocked(&self.connections);
        self.channels
            .press_again(&self.connections, &mut self.context);
        self.advance_all_joins();
        // Keys that are gone since, and apps that are suspended, end connections as ever.
        self.portions.rights.list = Some(RightsWalk::from(0));
    }
}

impl Channels {
    /// What a channel keeps, if it has history.
    fn import_history(
        &mut self,
        key: &SharedChannel,
        record: &ChannelRecord,
        app: &str,
        context: &mut Context,
    ) -> Result<(), ImportError> {
        let Some(kept) = &record.history else {
            return Ok(());
        };
        let owner = context.rights.app_with_history(key.app).cloned();
        let found = owner.as_ref().and_then(|owner| {
            let rule = owner.history.for_channel(key.name.as_str())?;
            Some((owner.index, rule))
        });
        let Some((index, rule)) = found else {
            if kept.is_on_disk {
                context.record_forgotten(key, app);
            }
            return Ok(());
        };
        let (now_ms, hasher) = (context.now.mono_ms, context.placement.hasher());
        let history = History::take_over(kept, rule, app, now_ms, hasher);
        let history = history.ok_or(ImportError::Wrong("a history"))?;
        let due_ms = history.due_ms(context.ids_ms()).unwrap_or(u64::MAX);
        let version = context.rights.version;
        let slot = self.find_or_insert(key);
        if let Some((channel, table)) = self.with_histories(slot) {
            let until_ms = kept.until_ms.min(NUMBER_MAX);
            let mut listed = table.insert(slot, (index, history), until_ms);
            table.hurry(slot, &mut listed, due_ms);
            channel.history = Some(listed);
            channel.judged = version;
        }
        Ok(())
    }

    /// Channels of which somebody takes too little may lag.
    fn suspect_blocked(&mut self, connections: &Connections) {
        for connection in connections.iter().filter(|it| it.blocked.is_blocked()) {
            let memberships = connection.session().into_iter();
            let memberships = memberships.flat_map(|session| &session.memberships);
            self.pressure
                .lags
                .suspects
                .extend(memberships.map(|it| it.channel));
        }
    }
}

impl<'h> Place<'h> {
    fn session(&self) -> Option<&'h SessionRecord> {
        match &self.record.stage {
            StageRecord::Open(session) => Some(session),
            _ => None,
        }
    }

    /// The channels that it is in.
    fn memberships(
        &self,
    ) -> impl Iterator<Item = Result<(&'h SharedChannel, Interest), ImportError>> {
        let tables = self.tables;
        let memberships = self.session().into_iter().flat_map(|it| &it.memberships);
        memberships.map(move |it| {
            let interest = Interest {
                presence: it.presence,
                sender_metadata: it.sender_metadata,
            };
            Ok((tables.channel(it.channel)?, interest))
        })
    }
}

impl HandedShard {
    /// The id of the app of a channel.
    fn app_of(&self, record: &ChannelRecord) -> String {
        let name = self.names.get(record.channel as usize);
        name.map_or_else(String::new, |name| name.app.clone())
    }
}

impl Tables {
    fn of(shard: &HandedShard, context: &Context) -> Self {
        let channels = shard.names.iter().map(|name| {
            let app = AppTag::of(&name.app);
            Arc::new(ChannelKey {
                app,
                hash: context.placement.channel_hash(app, &name.name),
                name: JsonName::new(&name.name),
            })
        });
        Self {
            keys: shard.keys.iter().map(|key| key_of(key, context)).collect(),
            channels: channels.collect(),
        }
    }

    pub(super) fn key(&self, number: u32) -> Result<&Arc<Key>, ImportError> {
        let key = self.keys.get(number as usize);
        key.ok_or(ImportError::Wrong("an unknown key"))
    }

    pub(super) fn channel(&self, number: u32) -> Result<&SharedChannel, ImportError> {
        let channel = self.channels.get(number as usize);
        channel.ok_or(ImportError::Wrong("an unknown channel"))
    }
}

/// The key with its present rights. One that is gone allows nothing, and ends its connections.
fn key_of(record: &KeyRecord, context: &Context) -> Arc<Key> {
    let known = context.rights.key(&record.id);
    if let Some(key) = known.filter(|key| *key.app.id == *record.app) {
        return key.clone();
    }
    let mut apps = context.rights.apps();
    let app = apps.find(|app| *app.id == *record.app).cloned();
    Arc::new(Key {
        index: KeyIndex(u32::MAX),
        id: record.id.as_str().into(),
        app: app.unwrap_or_else(|| Arc::new(app_that_is_gone(&record.app))),
        patterns: std::iter::empty().collect(),
        actions: Actions::NONE,
        auto_inject_turn: false,
        kind: KeyKind::Secret(SigningMaterial::Unreadable),
    })
}

fn app_that_is_gone(id: &str) -> App {
    App {
        index: AppIndex(u32::MAX),
        id: AppId::from(id),
        suspended: false,
        connections_max: None,
        messages_max: None,
        overages: false,
        plan: PlanView::default(),
        direct_needs_shared_channel: false,
        turn: None,
        message_limits: None,
        feed: Feed::default(),
        history: Arc::default(),
        gauges: Arc::default(),
        quota: Arc::default(),
    }
}
