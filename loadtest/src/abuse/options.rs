//! What may be typed behind `abuse`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::abuse::rows::ROWS;

/// Options of `abuse`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AbuseOptions {
    /// What to try: names of rows, `all`, or `list` to see what each of them shows
    #[arg(value_name = "ROW", value_parser = names())]
    pub rows: Vec<String>,
    /// Start this executable for each row, with the configuration that the row needs, and stop it
    #[arg(long, value_name = "PATH_TO_RINGMESH")]
    pub spawn: Option<PathBuf>,
    /// Attack a server that is not on this machine
    #[arg(long)]
    pub target_is_mine: bool,
    /// Admin listener of the server, for its metrics and its API
    #[arg(long, value_name = "HOST:PORT")]
    pub admin: Option<String>,
    /// Token of the admin API
    #[arg(
        long,
        env = "RINGMESH_ADMIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub admin_token: Option<String>,
    /// Multiplies the counts of connections
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub scale: f64,
    /// Judge by what does not depend on how fast the machine is; times are shown all the same
    #[arg(long)]
    pub by_counts: bool,
    /// Clients of storms [default: 4000 times the scale]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub clients: Option<u32>,
}

/// More than there are ports for connections to one address.
const CLIENTS_MAX: i64 = 60_000;

fn names() -> PossibleValuesParser {
    let rows = ROWS
        .iter()
        .map(|row| PossibleValue::new(row.name).help(row.shows));
    let more = [
        PossibleValue::new("all").help("every row, and a table"),
        PossibleValue::new("list").help("what each row shows, and what it needs"),
    ];
    PossibleValuesParser::new(rows.chain(more))
}
