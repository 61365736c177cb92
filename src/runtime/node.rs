//! What this node is, for operators.

use std::path::{self, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::control::events::NODE;
use crate::domain::node_info::{CertificateInfo, ListenerInfo, NodeInfo};
use crate::run_file::reachable;
use crate::runtime::clock::unix_ms;
use crate::runtime::listener::Endpoint;
use crate::tls::Validity;

const COMMIT: Option<&str> = option_env!("RINGMESH_BUILD_COMMIT");

/// The certificate that new connections get; shared by whoever changes it and whoever shows it.
pub(super) type InUse = Arc<Mutex<Option<Validity>>>;

/// What this node is. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Node {
    info: Arc<NodeInfo>,
    certificate: InUse,
}

impl Node {
    /// A node that starts now.
    pub(super) fn new(
        config: &Config,
        endpoints: &[Endpoint],
        admin: Option<std::net::SocketAddr>,
        shards: u16,
        certificate: InUse,
    ) -> Self {
        let public = endpoints.iter().map(|it| ("public", it.address, it.tls));
        let admin = admin.map(|address| ("admin", address, false));
        let listeners = public
            .chain(admin)
            .map(|(role, address, tls)| ListenerInfo {
                role,
                address: address.to_string(),
                tls,
            });
        let own_url = endpoints.first().map(|it| {
            let scheme = if it.tls { "wss" } else { "ws" };
            format!("{scheme}://{}", reachable(it.address))
        });
        let configured = config.server.public_url.as_ref();
        let public_url = configured.map(|url| url.clients()).or(own_url);
        let absolute = |path: &Path| {
            let path = path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.display().to_string()
        };
        let info = NodeInfo {
            node: NODE,
            version: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            mode: if config.file.is_some() {
                "serve"
            } else {
                "dev"
            },
            started_at: unix_ms(),
            shards,
            listeners: listeners.collect(),
            public_url,
            certificate: None,
            data_dir: absolute(&config.store.data_dir),
            config_file: config.file.as_deref().map(absolute),
        };
        Self {
            info: Arc::new(info),
            certificate,
        }
    }

    /// Returns up to when the certificate in use is good, in seconds since 1970; `None`: there is
    /// none.
    pub(super) fn certificate_end_unix(&self) -> Option<i64> {
        self.certificate().as_ref().map(|it| it.not_after_unix)
    }

    fn certificate(&self) -> MutexGuard<'_, Option<Validity>> {
        let certificate = self.certificate.lock();
        certificate.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what it is now.
    pub(super) fn info(&self) -> NodeInfo {
        let certificate = self.certificate();
        NodeInfo {
            certificate: certificate.as_ref().map(|it| CertificateInfo {
                names: it.names.clone(),
                not_after: it.not_after_unix,
            }),
            ..(*self.info).clone()
        }
    }
}
