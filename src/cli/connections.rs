//! `ringmesh connections`: who is connected now, or from where most connections come.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use super::apps::app_id;
use super::client::Request;
use super::failure::Failure;
use super::operate::asked;
use super::session::Session;
use super::table::{Column, Table, cell};
use super::terminal::json;
use crate::events::text::bytes;

/// Orders of a list; without one the newest come first.
const ORDERS: [&str; 5] = ["newest", "oldest", "queue", "bytesOut", "messagesIn"];

/// Arguments of `ringmesh connections`.
#[derive(Args)]
pub struct ConnectionsArgs {
    /// Count them by where they come from, most first; of IPv6 the first 64 bits
    #[arg(long, value_name = "WHAT", value_parser = ["address"], conflicts_with = "sort")]
    by: Option<String>,
    /// Their app, by id or name [default: the only one there is]
    #[arg(long, value_name = "APP", value_parser = NonEmptyStringValueParser::new())]
    app: Option<String>,
    /// Of peers that match a pattern
    #[arg(long, value_name = "PATTERN")]
    peer: Option<String>,
    /// From this address, or a block such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// With this key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Which come first [default: newest]
    #[arg(long, value_name = "ORDER", value_parser = ORDERS)]
    sort: Option<String>,
    /// So many, 1 to 200 [default: 50]
    #[arg(long, value_name = "N")]
    limit: Option<String>,
}

impl ConnectionsArgs {
    /// What was given, by the names of the admin API.
    pub(super) fn parameters(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("group", &self.by),
            ("match", &self.peer),
            ("address", &self.address),
            ("key", &self.key),
            ("sort", &self.sort),
            ("limit", &self.limit),
        ];
        let given = all.into_iter();
        let given = given.filter_map(|(name, value)| Some((name, value.clone()?)));
        given.collect()
    }
}

/// Carries `ringmesh connections` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn connections(args: &ConnectionsArgs, session: &Session) -> Result<String, Failure> {
    let client = session.client()?;
    let app = app_id(args.app.as_deref(), &client)?;
    let request = Request::of_connections(&app, &args.parameters());
    let answer = asked(&request, &client)?;
    let terminal = &session.terminal;
    if terminal.json {
        return Ok(json(&answer));
    }
    let (table, shown) = match args.by {
        Some(_) => networks(&answer),
        None => list(&answer),
    };
    if answer["complete"] == false {
        terminal.note("not all connections were looked at; narrow it");
    }
    if shown == 0 {
        terminal.note("no such connections");
        return Ok(String::new());
    }
    Ok(table.render(terminal))
}

fn networks(answer: &Value) -> (Table, usize) {
    let columns = [Column::text("ADDRESS"), Column::number("CONNECTIONS")];
    let row = |row: &Value| vec![cell(&row["address"]), cell(&row["connections"])];
    let rows: Vec<_> = rows(&answer["addresses"]).iter().map(row).collect();
    let shown = rows.len();
    (Table::new(columns, rows), shown)
}

fn list(answer: &Value) -> (Table, usize) {
    let columns = [
        Column::id("PEER"),
        Column::text("CONNECTION"),
        Column::text("ADDRESS"),
        Column::id("KEY"),
        Column::number("WAITING"),
        Column::number("BYTES OUT"),
        Column::number("MESSAGES IN"),
        Column::number("CHANNELS"),
    ];
    let row = |row: &Value| {
        let of = |field: &str| cell(&row[field]);
        let size = |field: &str| bytes(row[field].as_u64().unwrap_or_default());
        vec![
            of("peerId"),
            of("connection"),
            of("address"),
            of("key"),
            size("queuedBytes"),
            size("bytesOut"),
            of("messagesIn"),
            of("channels"),
        ]
    };
    let rows: Vec<_> = rows(&answer["connections"]).iter().map(row).collect();
    let shown = rows.len();
    (Table::new(columns, rows), shown)
}

fn rows(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::terminal::Terminal;

    #[test]
    fn connections_and_where_they_come_from_are_tables() {
        let answer = json!({"addresses": [
            {"address": "10.0.0.1", "connections": 12},
            {"address": "2001:db8::/64", "connections": 3},
        ]});
        let (table, shown) = networks(&answer);
        assert_eq!(shown, 2);
        assert_eq!(
            table.render(&Terminal::default()),
            "ADDRESS        CONNECTIONS\n10.0.0.1                12\n\
             2001:db8::/64            3\n"
        );
        let answer = json!({"connections": [{"peerId": "ann", "connection": "0.1.1",
            "address": "10.0.0.1", "key": "sk_id_a", "queuedBytes": 0, "bytesOut": 2048,
            "messagesIn": 7, "channels": 2}]});
        let (table, shown) = list(&answer);
        assert_eq!(shown, 1);
        let text = table.render(&Terminal::default());
        assert!(text.contains("2.0 KiB") && text.contains("0.1.1"), "{text}");
    }
}
