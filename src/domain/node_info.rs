//! What a node is, as operators are shown it: which build, how it runs, and where it listens.

use serde::Serialize;

/// See the top of this file.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeInfo {
    /// The node's name.
    pub node: &'static str,
    /// The version of the server.
    pub version: &'static str,
    /// The commit; `None` where the build does not know it.
    pub commit: Option<&'static str>,
    /// `dev` or `serve`.
    pub mode: &'static str,
    /// When the process started, Unix time in milliseconds.
    pub started_at: u64,
    /// Number of shards.
    pub shards: u16,
    /// What listens, and for whom.
    pub listeners: Vec<ListenerInfo>,
    /// Where clients are told to connect.
    pub public_url: Option<String>,
    /// The certificate in use; `None` without TLS.
    pub certificate: Option<CertificateInfo>,
    /// Directory of the store.
    pub data_dir: String,
    /// The configuration; `None` where there is no file.
    pub config_file: Option<String>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListenerInfo {
    /// `public` or `admin`.
    pub role: &'static str,
    /// Address and port.
    pub address: String,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// A certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateInfo {
    /// The names that it is for.
    pub names: Vec<String>,
    /// Until when it is good, Unix time in seconds.
    pub not_after: i64,
}
