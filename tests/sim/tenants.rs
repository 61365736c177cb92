//! The apps and keys of a run, and the credentials that clients connect with.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ringmesh::domain::quota::QuotaGate;
use ringmesh::domain::rights::{App, AppGauges, Key, KeyKind, Rights, SigningMaterial};
use ringmesh::domain::usage::PlanView;
use ringmesh::ids::AppIndex;
use ringmesh::proto::actions::{Action, Actions};
use ringmesh::proto::claims::{MintRequest, Secret, mint};
use ringmesh::proto::pattern::Pattern;
use serde_json::value::RawValue;

/// The app whose direct messages need a common channel.
pub const SCOPED_APP: usize = 1;
const SECRET: &[u8] = b"a secret of thirty-two bytes, or";

/// What changes while a run goes on.
#[derive(Clone, Copy, Default)]
pub struct Changes {
    /// The keys of app 0 have lost the `presence` action.
    pub without_presence: bool,
    /// App 1 is suspended.
    pub suspended: bool,
    /// `pk_live_r` is revoked.
    pub revoked: bool,
}

/// What outlives a rights snapshot.
pub struct Tenants {
    pub gauges: [Arc<AppGauges>; 2],
    hostile_gauges: Arc<AppGauges>,
    secret: Secret,
}

/// How a client connects, and what the server will make of it.
#[derive(Clone, Debug)]
pub struct Credential {
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

impl Tenants {
    pub fn new() -> Self {
        Self {
            gauges: [Arc::default(), Arc::default()],
            hostile_gauges: Arc::default(),
            secret: Secret::new(SECRET),
        }
    }

    pub fn rights(&self, version: u64, changes: Changes) -> Arc<Rights> {
        let mut rights = Rights::new(version);
        for (at, names) in [["pk_live_a", "sk_id_a"], ["pk_live_b", "sk_id_b"]]
            .iter()
            .enumerate()
        {
            let app = Arc::new(App {
                index: AppIndex(at as u32),
                id: format!("app_{at}").into(),
                suspended: changes.suspended && at == SCOPED_APP,
                connections_max: None,
                messages_max: None,
                overages: false,
                plan: PlanView::default(),
                direct_needs_shared_channel: at == SCOPED_APP,
                turn: None,
                message_limits: None,
                gauges: self.gauges[at].clone(),
                quota: Arc::new(QuotaGate::default()),
            });
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
                    id: id.into(),
                    app: app.clone(),
                    patterns: Pattern::parse("room-*").into_iter().collect(),
                    actions: self.actions(at, changes),
                    auto_inject_turn: false,
                    kind,
                }));
            };
            insert(names[0], publishable());
            insert(names[1], secret);
            if at == 0 && !changes.revoked {
                insert("pk_live_r", publishable());
            }
        }
        self.insert_hostile(&mut rights);
        Arc::new(rights)
    }

    /// The app of those who mean harm: nothing that happens to the others changes it.
    fn insert_hostile(&self, rights: &mut Rights) {
        let app = Arc::new(App {
            index: AppIndex(2),
            id: "app_2".into(),
            suspended: false,
            connections_max: None,
            messages_max: None,
            overages: false,
            plan: PlanView::default(),
            direct_needs_shared_channel: false,
            turn: None,
            message_limits: None,
            gauges: self.hostile_gauges.clone(),
            quota: Arc::new(QuotaGate::default()),
        });
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
                id: id.into(),
                app: app.clone(),
                patterns: Pattern::parse("hostile-*").into_iter().collect(),
                actions: Actions::ALL,
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
    pub fn actions(&self, app: usize, changes: Changes) -> Actions {
        match app == 0 && changes.without_presence {
            true => without(Action::Presence),
            false => Actions::ALL,
        }
    }

    pub fn publishable(&self, app: usize, revocable: bool) -> Credential {
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
    pub fn token(
        &self,
        app: usize,
        peer: usize,
        permissions: Actions,
        now_unix: u64,
        lifetime_sec: u64,
    ) -> Credential {
        let sub = format!("peer {peer}");
        let metadata = (!peer.is_multiple_of(3)).then(|| format!(r#"{{"name":"{peer}"}}"#));
        let raw = metadata
            .clone()
            .map(|it| RawValue::from_string(it).unwrap());
        let request = MintRequest {
            key_id: ["sk_id_a", "sk_id_b"][app],
            sub: &sub,
            issued_at_unix: now_unix,
            expires_at_unix: now_unix + lifetime_sec,
            channels: None,
            permissions: Some(permissions),
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

/// All actions but one.
pub fn without(action: Action) -> Actions {
    let names = Actions::ALL.names().filter(|name| *name != action.name());
    Actions::parse(names).unwrap()
}
