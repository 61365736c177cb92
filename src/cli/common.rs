//! What every command takes: which server is meant, and how the answer is shown.

use std::path::PathBuf;

use clap::Args;

/// The heading of these arguments in every help.
const HEADING: &str = "Everywhere";

/// Arguments of every command. Not `Debug`: one of them is a secret.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = HEADING)]
pub struct Common {
    /// Use the server of this context
    #[arg(short = 'C', long, value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// The admin listener of the server [default: the server that is found]
    #[arg(long, value_name = "URL", global = true)]
    pub admin_url: Option<String>,
    /// Its token; other users see arguments, so rather name a file
    #[arg(long, value_name = "TOKEN", global = true, hide = true)]
    pub admin_token: Option<String>,
    /// File with its token [default: RINGMESH_ADMIN_TOKEN, or that of the server that is found]
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        conflicts_with = "admin_token"
    )]
    pub admin_token_file: Option<PathBuf>,
    /// Certificates to trust, PEM [default: those of the system]
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Use colour
    #[arg(
        long, value_name = "WHEN", global = true, default_value = "auto",
        value_parser = ["auto", "always", "never"]
    )]
    pub color: String,
    /// Print no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say which server is asked, and what
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
}
