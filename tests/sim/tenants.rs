//! The apps and keys of a run, and the credentials that clients connect with.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ringmesh::domain::history::HistoryRules;
use ringmesh::domain::quota::QuotaGate;
use ringmesh::domain::rights::{App, AppGauges, Feed, Key, KeyKind, Rights, SigningMaterial};
use ringmesh::domain::token_bucket::BucketLimits;
use ringmesh::domain::usage::PlanView;
use ringmesh::ids::{AppIndex, KeyIndex};
use ringmesh::proto::actions;
use ringmesh::proto::claims::{MintRequest, Secret, mint};
use ringmesh::proto::pattern::Pattern;
use serde_json::value::RawValue;

use crate::permit::{Action, Actions};
use crate::random::Random;

/// Those of the walk, and that of hostile clients.
pub(crate) const APPS: usize = 3;
/// The API secrets of the two apps of the walk.
pub(crate) const API_SECRETS: [&str; 2] = ["sk_live_a", "sk_live_b"];
/// The app whose direct messages need a common channel.
pub(crate) const SCOPED_APP: usize = 1;
const HOSTILE_APP: usize = 2;
const SECRET: &[u8] = b"a secret of thirty-two bytes, or";

/// What changes while a run goes on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes {
    /// The keys of app 0 have lost the `presence` action.
    pub without_presence: bool,
    /// App 1 is suspended.
    pub suspended: bool,
    /// `pk_live_r` is revoked.
    pub revoked: bool,
}

/// What outlives a rights snapshot.
pub(crate) struct Tenants {
    pub gauges: [Arc<AppGauges>; APPS],
    pub plans: [Plan; APPS],
    gates: [Arc<QuotaGate>; APPS],
    secret: Secret,
    hostile_rate: Option<BucketLimits>,
    /// What the channels of app 0 keep.
    history: Arc<HistoryRules>,
}

/// What an app may use, without overages unless it says so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    pub messages_max: Option<u64>,
    pub connections_max: Option<u64>,
    pub overages: bool,
}

/// How a client connects, and what the server will make of it.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub app: usize,
    /// `key=…` or `token=…`.
    pub query: String,
    /// The token's `sub`; a publishable key gets a random peer id.
    pub sub: Option<String>,
    pub metadata: Option<String>,
    /// What the token allows.
    pub permissions: Actions,
    pub expires_unix: Option<u64>,
}

impl Credential {
    /// Whether it is the key that is revoked at some time.
    pub(crate) fn is_revocable(&self) -> bool {
        self.query == "key=pk_live_r"
    }
}

impl Tenants {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, "tenants");
        let mut plans = [Plan::default(); APPS];
        for plan in &mut plans[..2] {
            if random.percent(25) {
                plan.messages_max = Some(20 + random.below(400) as u64);
            }
            if random.percent(20) {
                plan.connections_max = Some(3 + random.below(4) as u64);
            }
            plan.overages = random.percent(25);
        }
        let hostile_rate = random.percent(40).then_some(BucketLimits {
            rate_per_sec: 20,
            burst: 40,
        });
        Self {
            gauges: Default::default(),
            plans,
            gates: Default::default(),
            secret: Secret::new(SECRET),
            hostile_rate,
            history: Arc::default(),
        }
    }

    /// Apps without limits, and with rules for what the channels of the first one keep.
    pub(crate) fn with_history(seed: u64, history: Arc<HistoryRules>) -> Self {
        Self {
            plans: Default::default(),
            history,
            ..Self::new(seed)
        }
    }

    /// The channels of the first app keep what these rules say.
    pub(crate) fn set_history(&mut self, history: Arc<HistoryRules>) {
        self.history = history;
    }

    fn app(&self, at: usize, suspended: bool) -> Arc<App> {
        let plan = self.plans[at];
        Arc::new(App {
            index: AppIndex(at as u32),
            id: format!("app_{at}").into(),
            suspended,
            connections_max: plan.connections_max,
            messages_max: plan.messages_max,
            overages: plan.overages,
            plan: PlanView::default(),
            direct_needs_shared_channel: at == SCOPED_APP,
            turn: None,
            feed: Feed::default(),
            history: match at {
                0 => self.history.clone(),
                _ => Arc::default(),
            },
            message_limits: self.hostile_rate.filter(|_| at == HOSTILE_APP),
            gauges: self.gauges[at].clone(),
            quota: self.gates[at].clone(),
        })
    }

    pub(crate) fn rights(&self, version: u64, changes: Changes) -> Arc<Rights> {
        let mut rights = Rights::new(version);
        for (at, names) in [["pk_live_a", "sk_id_a"], ["pk_live_b", "sk_id_b"]]
            .iter()
            .enumerate()
        {
            let app = self.app(at, changes.suspended && at == SCOPED_APP);
            rights.insert_app(app.clone());
            let publishable = || KeyKind::Publishable {
                allowed_origins: Box::default(),
            };
            let secret = KeyKind::Secret(SigningMaterial::Ready {
                current: Arc::new(Secret::new(SECRET)),
                previous: None,
            });
            let mut insert = |id: &str, kind| {
                rights.insert_key(Arc::new(Key {
                    index: KeyIndex(app.index.0),
                    id: id.into(),
                    app: app.clone(),
                    patterns: Pattern::parse("room-*").into_iter().collect(),
                    actions: compiled(self.actions(at, changes)),
                    auto_inject_turn: false,
                    kind,
                }));
            };
            insert(names[0], publishable());
            insert(names[1], secret);
            if at == 0 && !changes.revoked {
                insert("pk_live_r", publishable());
            }
            let key = rights.key(names[1]).unwrap().clone();
            let hash = digest(&SHA256, API_SECRETS[at].as_bytes());
            rights.insert_api_secret(hash.as_ref().try_into().unwrap(), key, None);
        }
        self.insert_hostile(&mut rights);
        Arc::new(rights)
    }

    /// The app of those who mean harm: nothing that happens to the others changes it.
    fn insert_hostile(&self, rights: &mut Rights) {
        let app = self.app(HOSTILE_APP, false);
        rights.insert_app(app.clone());
        let secret = KeyKind::Secret(SigningMaterial::Ready {
            current: Arc::new(Secret::new(SECRET)),
            previous: None,
        });
        let publishable = KeyKind::Publishable {
            allowed_origins: Box::default(),
        };
        for (id, kind) in [("pk_live_h", publishable), ("sk_id_h", secret)] {
            let key = Arc::new(Key {
                index: KeyIndex(app.index.0),
                id: id.into(),
                app: app.clone(),
                patterns: Pattern::parse("hostile-*").into_iter().collect(),
                actions: compiled(Actions::ALL),
                auto_inject_turn: false,
                kind,
            });
            rights.insert_key(key.clone());
            if id == "sk_id_h" {
                let hash = digest(&SHA256, b"sk_live_h");
                rights.insert_api_secret(hash.as_ref().try_into().unwrap(), key, None);
            }
        }
    }

    /// What the keys of an app allow.
    pub(crate) fn actions(&self, app: usize, changes: Changes) -> Actions {
        match app == 0 && changes.without_presence {
            true => Actions::without(Action::Presence),
            false => Actions::ALL,
        }
    }

    pub(crate) fn publishable(&self, app: usize, revocable: bool) -> Credential {
        let key = match (app, revocable) {
            (0, true) => "pk_live_r",
            (0, false) => "pk_live_a",
            _ => "pk_live_b",
        };
        Credential {
            app,
            query: format!("key={key}"),
            sub: None,
            metadata: None,
            permissions: Actions::ALL,
            expires_unix: None,
        }
    }

    /// A token for the peer of that number: all tokens of a peer carry the same metadata.
    pub(crate) fn token(
        &self,
        app: usize,
        peer: usize,
        permissions: Actions,
        now_unix: u64,
        lifetime_sec: u64,
    ) -> Credential {
        let sub = format!("peer {peer}");
        let metadata = metadata_of(peer);
        let raw = metadata
            .clone()
            .map(|it| RawValue::from_string(it).unwrap());
        let request = MintRequest {
            key_id: ["sk_id_a", "sk_id_b"][app],
            sub: &sub,
            issued_at_unix: now_unix,
            expires_at_unix: now_unix + lifetime_sec,
            channels: None,
            permissions: Some(compiled(permissions)),
            metadata: None,
            peer_metadata: raw.as_deref(),
        };
        Credential {
            app,
            query: format!("token={}", mint(&request, &self.secret).unwrap()),
            sub: Some(sub),
            metadata,
            permissions,
            expires_unix: Some(now_unix + lifetime_sec),
        }
    }
}

/// What others see of the peer of that number, whatever its tokens say beside.
pub(crate) fn metadata_of(peer: usize) -> Option<String> {
    (!peer.is_multiple_of(3)).then(|| format!(r#"{{"name":"{peer}"}}"#))
}

/// As the server has them.
fn compiled(actions: Actions) -> actions::Actions {
    actions::Actions::parse(actions.names()).unwrap()
}
