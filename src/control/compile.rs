//! Records and their secrets to what the shards use: patterns parsed, secrets opened.
//!
//! A secret that does not open never stops anything but its own key (`Unreadable`, answered
//! with 503) or its app's TURN injection; it is logged.

use std::sync::Arc;

use super::error::ControlError;
use super::store::row::{AppRow, KeyRow, SecretPair, SecretsRow};
use super::store::seal::{Sealed, Sealer};
use crate::domain::declared::{DeclaredApp, DeclaredKey};
use crate::domain::history::HistoryRules;
use crate::domain::quota::QuotaGate;
use crate::domain::record::{AppRecord, AppStatus, DirectScope, FeedRecord, KeyRecord, KeyType};
use crate::domain::rights::{App, AppGauges, Feed, Key, KeyKind, SigningMaterial, TurnServers};
use crate::domain::token_bucket::BucketLimits;
use crate::domain::usage::PlanView;
use crate::ids::{AppIndex, KeyIndex};
use crate::proto::actions::Actions;
use crate::proto::claims::Secret;
use crate::proto::origin::OriginPattern;
use crate::proto::pattern::Pattern;

/// What an app keeps through all its changes.
#[derive(Clone)]
pub(super) struct Slot {
    /// Its number in this process.
    pub index: AppIndex,
    /// Shared with the shards.
    pub gauges: Arc<AppGauges>,
    /// Shared with the shards.
    pub quota: Arc<QuotaGate>,
    /// What was kept for its backend before.
    pub feed: Feed,
}

impl Slot {
    /// The slot of a new app.
    #[must_use]
    pub(super) fn new(index: AppIndex, since_version: u64) -> Self {
        Self {
            index,
            gauges: Arc::default(),
            quota: Arc::default(),
            feed: Feed {
                since_version,
                ..Feed::default()
            },
        }
    }

    /// The slot that `app` has.
    #[must_use]
    pub(super) fn of(app: &App) -> Self {
        Self {
            index: app.index,
            gauges: Arc::clone(&app.gauges),
            quota: Arc::clone(&app.quota),
            feed: app.feed,
        }
    }
}

/// Turns rows into apps and keys. Has the master key, if there is a good one.
pub(super) struct Compiler {
    sealer: Option<Sealer>,
}

impl Compiler {
    /// With a good master key, or without one.
    #[must_use]
    pub(super) fn new(sealer: Option<Sealer>) -> Self {
        Self { sealer }
    }

    /// Encrypts an app's TURN secret.
    ///
    /// # Errors
    /// `Unavailable` without a master key.
    pub(super) fn seal_turn(&self, app_id: &str, secret: &[u8]) -> Result<Sealed, ControlError> {
        self.seal(&turn_context(app_id), secret)
    }

    /// Encrypts a key's signing secret.
    ///
    /// # Errors
    /// `Unavailable` without a master key.
    pub(super) fn seal_signing(&self, key_id: &str, secret: &[u8]) -> Result<Sealed, ControlError> {
        self.seal(&signing_context(key_id), secret)
    }

    fn seal(&self, context: &str, secret: &[u8]) -> Result<Sealed, ControlError> {
        let unavailable = |fault: &str| ControlError::Unavailable(fault.into());
        let Some(sealer) = &self.sealer else {
            return Err(unavailable(
                "the master key of the store is missing or wrong, so no secret can be stored: put \
                 the copy of it back and start again; the log names the file, and says what to do \
                 without a copy",
            ));
        };
        sealer
            .seal(context, secret)
            .map_err(|_| unavailable("the system has no random bytes"))
    }

    /// The app of a row, in the rights of that version.
    #[must_use]
    pub(super) fn app(&self, row: &AppRow, slot: Slot, version: u64) -> App {
        let secret = row.turn_secret.as_ref().and_then(|sealed| {
            let secret = self
                .sealer
                .as_ref()?
                .open(&turn_context(&row.record.app_id), sealed);
            if secret.is_none() {
                tracing::error!(
                    app = row.record.app_id,
                    "TURN secret cannot be decrypted: set turn.secret of the app anew"
                );
            }
            secret
        });
        app(&row.record, secret, (slot, version))
    }

    /// The key of a row.
    ///
    /// # Errors
    /// `Invalid` when its patterns, actions or origins are none.
    pub(super) fn key(
        &self,
        row: &KeyRow,
        index: KeyIndex,
        app: &Arc<App>,
    ) -> Result<Key, ControlError> {
        let material = match &row.secrets {
            Some(secrets) => self.material(&row.record.key_id, secrets),
            None => SigningMaterial::Unreadable,
        };
        key(&row.record, index, material, app)
    }

    fn material(&self, key_id: &str, secrets: &SecretsRow) -> SigningMaterial {
        let Some(sealer) = &self.sealer else {
            return SigningMaterial::Unreadable;
        };
        let open = |pair: &SecretPair| {
            let secret = sealer.open(&signing_context(key_id), &pair.signing);
            if secret.is_none() {
                tracing::error!(
                    key = key_id,
                    "signing secret cannot be decrypted: rotate the key, or restore a backup"
                );
            }
            secret.map(|secret| Arc::new(Secret::new(&secret)))
        };
        match open(&secrets.current) {
            Some(current) => {
                let previous = secrets.previous.as_ref();
                let previous = previous.and_then(|(pair, until)| Some((open(pair)?, *until)));
                SigningMaterial::Ready { current, previous }
            }
            None => SigningMaterial::Unreadable,
        }
    }
}

/// The app that the configuration declares, in the rights of that version.
#[must_use]
pub(super) fn declared_app(declared: &DeclaredApp, slot: Slot, version: u64) -> App {
    app(
        &declared.record,
        declared.turn_secret.clone(),
        (slot, version),
    )
}

/// The key that the configuration declares.
///
/// # Errors
/// `Invalid` when its patterns, actions or origins are none.
pub(super) fn declared_key(
    declared: &DeclaredKey,
    index: KeyIndex,
    app: &Arc<App>,
) -> Result<Key, ControlError> {
    let material = match &declared.signing_secret {
        Some(secret) => SigningMaterial::Ready {
            current: Arc::new(Secret::new(secret)),
            previous: None,
        },
        None => SigningMaterial::Unreadable,
    };
    key(&declared.record, index, material, app)
}

fn app(
    record: &AppRecord,
    turn_secret: Option<zeroize::Zeroizing<Vec<u8>>>,
    (slot, version): (Slot, u64),
) -> App {
    let plan = &record.plan;
    let turn = record.turn.as_ref().zip(turn_secret);
    App {
        index: slot.index,
        id: record.app_id.as_str().into(),
        suspended: record.status == AppStatus::Suspended,
        connections_max: plan.max_concurrent_connections,
        messages_max: plan.max_messages_per_period,
        overages: plan.overages_allowed && plan.overages_enabled,
        plan: PlanView {
            name: plan.name.clone(),
            max_concurrent_connections: plan.max_concurrent_connections,
            max_messages_per_period: plan.max_messages_per_period,
            overages_allowed: plan.overages_allowed,
            overages_enabled: plan.overages_enabled,
        },
        direct_needs_shared_channel: record.direct_scope == DirectScope::SharedChannel,
        turn: turn.map(|(turn, secret)| TurnServers {
            urls: turn.urls.clone(),
            secret,
            ttl_sec: turn.ttl_sec,
        }),
        message_limits: record.limits.map(|limits| BucketLimits {
            rate_per_sec: limits.message_rate,
            burst: limits.message_burst,
        }),
        feed: feed(record.feed, slot.feed, version),
        history: Arc::new(history(record)),
        gauges: slot.gauges,
        quota: slot.quota,
    }
}

/// What the channels keep. Rules were checked when they were set; where a store has others, of
/// another version, they keep nothing, and the log says so.
fn history(record: &AppRecord) -> HistoryRules {
    HistoryRules::new(&record.history).unwrap_or_else(|error| {
        tracing::error!(
            app = record.app_id,
            "no channel of the app has history: {error}; set history of the app anew"
        );
        HistoryRules::default()
    })
}

/// What is kept from that version on, where that was kept before.
fn feed(record: FeedRecord, before: Feed, version: u64) -> Feed {
    let is_same = (before.presence, before.peers) == (record.presence, record.peers);
    Feed {
        presence: record.presence,
        peers: record.peers,
        since_version: match is_same {
            true => before.since_version,
            false => version,
        },
    }
}

fn key(
    record: &KeyRecord,
    index: KeyIndex,
    material: SigningMaterial,
    app: &Arc<App>,
) -> Result<Key, ControlError> {
    let invalid = |error: String| ControlError::Invalid(format!("key {}: {error}", record.key_id));
    let patterns = record
        .channel_patterns
        .iter()
        .map(|pattern| Pattern::parse(pattern));
    let patterns = patterns
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    let actions = Actions::parse(record.actions.iter().map(String::as_str))
        .map_err(|error| invalid(error.to_string()))?;
    let origins = record
        .allowed_origins
        .iter()
        .map(|origin| OriginPattern::parse(origin));
    let allowed_origins = origins
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    Ok(Key {
        index,
        id: record.key_id.as_str().into(),
        app: Arc::clone(app),
        patterns,
        actions,
        auto_inject_turn: record.auto_inject_turn,
        kind: match record.key_type {
            KeyType::Publishable => KeyKind::Publishable { allowed_origins },
            KeyType::Secret => KeyKind::Secret(material),
        },
    })
}

fn turn_context(app_id: &str) -> String {
    format!("turn {app_id}")
}

fn signing_context(key_id: &str) -> String {
    format!("signing {key_id}")
}
