//! What can be typed behind `ringmesh init` and `ringmesh check`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::address;

/// Arguments of `ringmesh init`.
#[derive(Args)]
pub struct InitArgs {
    /// Directory of the configuration and the data
    #[arg(value_name = "DIR", default_value = ".", conflicts_with = "system")]
    pub dir: PathBuf,
    /// Set this machine up: user, files in /etc and /var/lib, and a service of systemd
    #[arg(long)]
    pub system: bool,
    /// Address for clients and backends [default: 0.0.0.0:8080, with a certificate port 443 or
    /// 8443]
    #[arg(long, value_name = "ADDRESS", value_parser = in_full)]
    pub listen: Option<String>,
    /// Name that clients connect to; certbot's certificate of it is used, if there is one
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub domain: Option<String>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Id of the first app
    #[arg(long, value_name = "ID", default_value = "app_main")]
    pub app: String,
    /// Write the secrets into this file instead of showing them
    #[arg(long, value_name = "FILE")]
    pub env: Option<PathBuf>,
    /// Show what would be made, and make nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Move files that are there aside, and use a store that is there
    #[arg(long)]
    pub force: bool,
    /// Make the files of --system below this directory, without a user
    #[arg(long, value_name = "DIRECTORY", hide = true, requires = "system")]
    pub root: Option<PathBuf>,
}

/// An address as people type it, in full; what is wrong with it is said by the configuration.
fn in_full(text: &str) -> Result<String, String> {
    Ok(address::in_full(text.to_owned()))
}

/// Arguments of `ringmesh check`.
#[derive(Args)]
pub struct CheckFileArgs {
    /// The configuration [default: ./ringmesh.toml, or else /etc/ringmesh/ringmesh.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same as an option
    #[arg(long, value_name = "FILE", hide = true, conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Exit with 2 for warnings too
    #[arg(long)]
    pub strict: bool,
}

impl CheckFileArgs {
    /// The file, if one was named.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.file.as_deref().or(self.config.as_deref())
    }
}

/// Arguments of `ringmesh doctor`.
#[derive(Args, Default)]
pub struct DoctorArgs {
    /// The configuration [default: ./ringmesh.toml, or else /etc/ringmesh/ringmesh.toml, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Connections that the host is to carry
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub connections: Option<u64>,
    /// They come over TLS
    #[arg(long, requires = "connections")]
    pub tls: bool,
    /// Messages that are published, per second
    #[arg(long, value_name = "M", requires = "connections")]
    pub rate: Option<u32>,
    /// Connections that each of them goes to [default: 1]
    #[arg(long, value_name = "K", requires = "rate")]
    pub fan_out: Option<u32>,
    /// File with a connect token, to compare its times with the clock
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Exit with 1 for warnings too
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `ringmesh backup`.
#[derive(Args)]
pub struct BackupArgs {
    /// The file to write; it must not be there yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Copy the master key of a server on this machine too, to FILE.master-key
    #[arg(long)]
    pub with_master_key: bool,
}

/// Arguments of `ringmesh restore`.
#[derive(Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check the file, and make nothing
    #[arg(long, conflicts_with_all = ["data_dir", "force"])]
    pub check: bool,
    /// Directory of the store [default: that of the configuration]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Move a store that is there aside
    #[arg(long)]
    pub force: bool,
    /// The master key of the backup, which is put beside the store
    #[arg(long, value_name = "FILE")]
    pub with_master_key: Option<PathBuf>,
}
