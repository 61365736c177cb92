//! A rights snapshot: every app and key, immutable, shared by all shards.
//!
//! The control plane compiles one after each change and hands it to every shard; a shard
//! switches between two inputs, so a command sees one snapshot or the next, never a mixture.
//! Nothing in here does I/O or looks at a clock: expiries are compared with a given time.
//!
//! The only words that change inside a snapshot are the gauges of an app: they outlive
//! snapshots, are touched on connect and disconnect, or once for a block of messages.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;

use crate::domain::app_id::{AppId, AppTag};
use crate::domain::history::HistoryRules;
use crate::domain::quota::QuotaGate;
use crate::domain::token_bucket::BucketLimits;
use crate::domain::usage::{PeriodUsage, PlanView};
use crate::ids::{AppIndex, KeyIndex};
use crate::proto::actions::Actions;
use crate::proto::claims::Secret;
use crate::proto::origin::OriginPattern;
use crate::proto::pattern::CompiledPatterns;

/// Every app and key at one moment.
#[derive(Debug, Default)]
pub struct Rights {
    /// Rises with every change.
    pub version: u64,
    apps: AHashMap<AppIndex, Arc<App>>,
    keys: AHashMap<Box<str>, Arc<Key>>,
    api_secrets: AHashMap<SecretHash, (Arc<Key>, Option<u64>)>,
    /// Of the apps that have one.
    feeds: AHashMap<AppTag, Feed>,
    /// The apps whose channels keep something.
    histories: AHashMap<AppTag, Arc<App>>,
}

/// SHA-256 of an API secret. API secrets are random, so a plain hash suffices, and finding one
/// by its hash tells nothing through time.
pub type SecretHash = [u8; 32];

/// An app as the shards need it.
#[derive(Debug)]
pub struct App {
    /// The app's number in this process.
    pub index: AppIndex,
    /// The id that operators gave it.
    pub id: AppId,
    /// Suspended apps' connections are closed with 4012.
    pub suspended: bool,
    /// Connections at the same time; `None` is unlimited.
    pub connections_max: Option<u64>,
    /// Messages in one period; `None` is unlimited.
    pub messages_max: Option<u64>,
    /// Whether traffic over a limit passes (and is counted as overage).
    pub overages: bool,
    /// The plan as `GET /v1/usage` shows it.
    pub plan: PlanView,
    /// `send` reaches only peers that share a channel with the sender.
    pub direct_needs_shared_channel: bool,
    /// TURN servers for `welcome`.
    pub turn: Option<TurnServers>,
    /// The app's own message rate.
    pub message_limits: Option<BucketLimits>,
    /// What its backend can follow.
    pub feed: Feed,
    /// What its channels keep; empty for most apps.
    pub history: Arc<HistoryRules>,
    /// Shared by all shards and by all snapshots.
    pub gauges: Arc<AppGauges>,
    /// Grants `messages_max`; shared by all shards and by all snapshots.
    pub quota: Arc<QuotaGate>,
}

/// Which lifecycle events of an app are kept for its backend, and since which snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// Who comes into channels and leaves them.
    pub presence: bool,
    /// Who connects, and who is gone.
    pub peers: bool,
    /// The version of the rights that began to keep just these, or made the app: whoever has read
    /// before has missed some.
    pub since_version: u64,
}

impl Feed {
    /// Whether anything is kept.
    #[inline]
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.presence || self.peers
    }
}

/// An app's TURN servers, and what signs their credentials.
#[derive(Debug)]
pub struct TurnServers {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// The secret shared with coturn (`static-auth-secret`).
    pub secret: zeroize::Zeroizing<Vec<u8>>,
    /// Lifetime of a credential, in seconds.
    pub ttl_sec: u64,
}

/// What all shards count together for one app.
#[derive(Debug, Default)]
pub struct AppGauges {
    connections: AtomicU64,
    connections_peak: AtomicU64,
    /// Written once a second by the control plane, read by whoever asks for usage; held for
    /// the copy of six words.
    usage: Mutex<Option<PeriodUsage>>,
}

impl AppGauges {
    /// Counts a connection in, unless `max` are there already. Exact across shards.
    ///
    /// Returns the count with this one, or `None` when refused.
    #[must_use]
    pub fn connect(&self, max: Option<u64>) -> Option<u64> {
        let before = self
            .connections
            .try_update(Ordering::AcqRel, Ordering::Acquire, |now| match max {
                Some(max) if now >= max => None,
                _ => Some(now + 1),
            })
            .ok()?;
        self.connections_peak
            .fetch_max(before + 1, Ordering::AcqRel);
        Some(before + 1)
    }

    /// Counts a connection out. Call once for each `connect` that was not refused.
    pub fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns how many connections there are now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// Returns the most at the same time since [`take_peak`](Self::take_peak).
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.connections_peak.load(Ordering::Acquire)
    }

    /// Begins a new peak (a new period) at the present count. Returns the old one.
    pub fn take_peak(&self) -> u64 {
        self.connections_peak
            .swap(self.connections(), Ordering::AcqRel)
    }

    /// The counts of the present period as last merged; `None` before the first merge.
    #[must_use]
    pub fn usage(&self) -> Option<PeriodUsage> {
        // A copy of numbers cannot be left half done by a panic.
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes merged counts visible to all shards.
    pub fn publish_usage(&self, usage: PeriodUsage) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
    }
}

/// A key as the shards need it.
#[derive(Debug)]
pub struct Key {
    /// The key's number in this process.
    pub index: KeyIndex,
    /// The id: `pk_live_…` or `sk_id_…`.
    pub id: Box<str>,
    /// The app it belongs to.
    pub app: Arc<App>,
    /// Patterns of the channels that its holders may use.
    pub patterns: CompiledPatterns,
    /// What its holders may do.
    pub actions: Actions,
    /// Whether `welcome` gets the app's TURN servers.
    pub auto_inject_turn: bool,
    /// What the two types of key have for themselves.
    pub kind: KeyKind,
}

/// Characters of a publishable key that may be shown: all of it is a credential.
const PUBLISHABLE_SHOWN: usize = 12;

/// Returns what may be shown of the id of a publishable key: so much that others are told apart
/// from it, and of a short one not all.
#[must_use]
pub(crate) fn beginning(id: &str) -> String {
    let most = PUBLISHABLE_SHOWN.min(id.len() * 2 / 3);
    format!("{}…", &id[..id.floor_char_boundary(most)])
}

impl Key {
    /// Returns what may be shown of the id: the beginning of one that is a credential.
    #[must_use]
    pub fn shown_id(&self) -> String {
        match self.kind {
            KeyKind::Publishable { .. } => beginning(&self.id),
            KeyKind::Secret(_) => self.id.to_string(),
        }
    }
}

/// What the two types of key have for themselves.
#[derive(Debug)]
pub enum KeyKind {
    /// A publishable key: it connects by itself.
    Publishable {
        /// Pages that may use it; empty allows any page, and clients that are no pages.
        allowed_origins: Box<[OriginPattern]>,
    },
    /// A secret key: it signs tokens and calls REST.
    Secret(SigningMaterial),
}

/// The secrets that a token of a key may be signed with.
#[derive(Debug)]
pub enum SigningMaterial {
    /// The store could not decrypt it: requests that need it get 503.
    Unreadable,
    /// Good for signing and verifying.
    Ready {
        /// The secret that signs and verifies.
        current: Arc<Secret>,
        /// The secret before it, which verifies until a Unix time in milliseconds.
        previous: Option<(Arc<Secret>, u64)>,
    },
}

impl SigningMaterial {
    /// The previous secret, while its grace window lasts.
    #[must_use]
    pub fn previous_at(&self, now_unix_ms: u64) -> Option<&Secret> {
        match self {
            Self::Ready {
                previous: Some((secret, until_ms)),
                ..
            } if now_unix_ms < *until_ms => Some(secret),
            _ => None,
        }
    }
}

impl Rights {
    /// An empty snapshot, to be filled before it is shared.
    #[must_use]
    pub fn new(version: u64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }

    /// Adds an app, at the place of its number.
    pub fn insert_app(&mut self, app: Arc<App>) {
        if app.feed.is_on() {
            self.feeds.insert(app.id.tag(), app.feed);
        }
        if !app.history.is_empty() {
            self.histories.insert(app.id.tag(), app.clone());
        }
        self.apps.insert(app.index, app);
    }

    /// Adds an app that is not there any more, and whose channels keep what they have: nobody can
    /// be authorized for it.
    pub fn insert_undeclared(&mut self, app: Arc<App>) {
        self.histories.insert(app.id.tag(), app);
    }

    /// Adds a key. Its app must have been added.
    pub fn insert_key(&mut self, key: Arc<Key>) {
        self.keys.insert(key.id.clone(), key);
    }

    /// Adds an API secret of a key, valid until a Unix time in milliseconds if given.
    pub fn insert_api_secret(&mut self, hash: SecretHash, key: Arc<Key>, until_ms: Option<u64>) {
        self.api_secrets.insert(hash, (key, until_ms));
    }

    /// Returns the app of that number.
    #[must_use]
    pub fn app(&self, index: AppIndex) -> Option<&Arc<App>> {
        self.apps.get(&index)
    }

    /// Returns what is kept for the backend of an app.
    #[inline]
    #[must_use]
    pub fn feed(&self, app: AppTag) -> Feed {
        match self.feeds.is_empty() {
            true => Feed::default(),
            false => self.feeds.get(&app).copied().unwrap_or_default(),
        }
    }

    /// Returns what the channels of an app keep; `None` where none keeps anything.
    #[inline]
    #[must_use]
    pub fn history(&self, app: AppTag) -> Option<&Arc<HistoryRules>> {
        self.app_with_history(app).map(|app| &app.history)
    }

    /// Returns an app whose channels keep something; `None` where none does.
    #[inline]
    #[must_use]
    pub fn app_with_history(&self, app: AppTag) -> Option<&Arc<App>> {
        match self.histories.is_empty() {
            true => None,
            false => self.histories.get(&app),
        }
    }

    /// Returns whether a channel that keeps something may keep something else, or nothing, when
    /// those rights hold instead of these: its app has other rules or is gone, or another one has
    /// its id.
    #[must_use]
    pub fn keeps_otherwise(&self, next: &Self) -> bool {
        self.histories.iter().any(|(tag, app)| {
            let present = next.histories.get(tag);
            present.is_none_or(|it| it.index != app.index || it.history != app.history)
        })
    }

    /// Returns whether some channels are kept on disk.
    #[must_use]
    pub fn keep_on_disk(&self) -> bool {
        self.histories
            .values()
            .any(|app| app.history.keep_on_disk())
    }

    /// Returns the key of that id.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&Arc<Key>> {
        self.keys.get(id)
    }

    /// Returns the key whose API secret has that hash.
    #[must_use]
    pub fn key_by_api_secret(&self, hash: &SecretHash, now_unix_ms: u64) -> Option<&Arc<Key>> {
        let (key, until_ms) = self.api_secrets.get(hash)?;
        until_ms
            .is_none_or(|until_ms| now_unix_ms < until_ms)
            .then_some(key)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.values()
    }

    /// All apps, in no order.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_publishable_key_is_shown_whole() {
        for (id, shown) in [
            ("pk_live_0123456789abcdef", "pk_live_0123…"),
            ("pk_live_0123", "pk_live_…"),
            ("pk_live_1", "pk_liv…"),
            ("é", "…"),
        ] {
            assert_eq!(beginning(id), shown);
        }
    }
}
