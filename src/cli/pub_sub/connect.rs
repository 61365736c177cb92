//! Who connects, and where; and what the server says to that.

use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::wire::{ANSWER_TIME_MAX, Connection, check_url};
use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::cli::apps::signing_key;
use crate::cli::client::{Request, escaped};
use crate::cli::failure::Failure;
use crate::cli::operate::asked;
use crate::cli::session::Session;
use crate::cli::terminal::printable;
use crate::proto::wire::name::validate_peer_id;

/// Publishable keys begin so.
const PUBLISHABLE_PREFIX: &str = "pk_live_";
/// Who connects if nothing is said.
const PEER_DEFAULT: &str = "cli";

/// Who connects, and where.
#[derive(Args)]
pub(crate) struct ClientArgs {
    /// Connect as this peer [default: cli]
    #[arg(
        long = "as", value_name = "PEER", value_parser = NonEmptyStringValueParser::new()
    )]
    peer: Option<String>,
    /// The key: a secret one, sk_id_…, with which the server signs a token, or pk_live_…
    /// [default: the only secret one there is]
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// The app whose secret key signs, by its id or name [default: the only one there is]
    #[arg(
        long, value_name = "APP", conflicts_with = "key",
        value_parser = NonEmptyStringValueParser::new()
    )]
    app: Option<String>,
    /// File with a connect token to use instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "peer", "app"])]
    token_file: Option<PathBuf>,
    /// Where clients connect [default: that of the server that is found]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

impl ClientArgs {
    /// Connects with what was given, or with a token that the server signs.
    ///
    /// # Errors
    /// Bad usage, no server, or one that refuses.
    pub(super) fn connect(&self, session: &Session) -> Result<Connection, Failure> {
        self.url.as_deref().map(check_url).transpose()?;
        let query = self.credential(session)?;
        let (url, ca) = match (&self.url, session.found()) {
            (Some(url), Ok(found)) => (url.clone(), found.ca),
            (Some(url), Err(_)) => (url.clone(), session.common.ca.clone()),
            (None, found) => {
                let found = found?;
                let url = found.public_url.ok_or_else(|| {
                    Failure::usage("it is not known where clients connect; give --url")
                })?;
                (url, found.ca)
            }
        };
        session.terminal.detail(&format!("connects to {url}"));
        Connection::open(&url, &query, ca.as_deref())
    }

    /// The credential, as a query has it.
    fn credential(&self, session: &Session) -> Result<Zeroizing<String>, Failure> {
        let query = match (&self.token_file, self.key.as_deref()) {
            (Some(file), _) => {
                let token = bounded_file::read_text(file, SECRET_BYTES_MAX);
                let token = token.map_err(|error| {
                    Failure::usage(format_args!("--token-file: {}: {error}", file.display()))
                })?;
                format!("token={}", escaped(token.trim()))
            }
            (None, Some(key)) if key.starts_with(PUBLISHABLE_PREFIX) => {
                if self.peer.is_some() {
                    return Err(Failure::usage(
                        "a publishable key makes peers without a name; leave out --as, or give a \
                         secret key",
                    ));
                }
                format!("key={}", escaped(key))
            }
            (None, Some(key)) if key.starts_with("sk_live_") || key.starts_with("sk_secret_") => {
                return Err(Failure::usage(
                    "--key: that is a secret; give the id of its key, sk_id_…",
                ));
            }
            (None, key) => format!("token={}", escaped(&self.minted(key, session)?)),
        };
        Ok(Zeroizing::new(query))
    }

    /// A token that the server signs.
    fn minted(&self, key: Option<&str>, session: &Session) -> Result<Zeroizing<String>, Failure> {
        let peer = self.peer.as_deref().unwrap_or(PEER_DEFAULT);
        if validate_peer_id(peer).is_err() {
            return Err(Failure::usage(
                "--as: a peer id has 1 to 128 printable ASCII characters",
            ));
        }
        let client = session.client()?;
        let key = match key {
            Some(key) => key.to_owned(),
            None => signing_key(self.app.as_deref(), &client)?,
        };
        let body = Map::from_iter([("peerId".to_owned(), json!(peer))]);
        let answer = asked(&Request::of_token(&key, body), &client)?;
        let token = answer["token"].as_str().unwrap_or_default();
        Ok(Zeroizing::new(token.to_owned()))
    }

    /// Whether another connect may get another credential.
    pub(super) fn can_renew(&self) -> bool {
        let key = self.key.as_deref().unwrap_or_default();
        !key.starts_with(PUBLISHABLE_PREFIX)
    }
}

/// Waits for the answer to a request.
///
/// # Errors
/// The server refuses, or none comes.
pub(super) fn answer_to(connection: &mut Connection, id: &str) -> Result<(), Failure> {
    loop {
        let text = connection.next_within(ANSWER_TIME_MAX)?;
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        match frame["type"].as_str() {
            Some("error") if frame["requestId"] == id => return Err(refusal(&frame)),
            Some("ack") if frame["requestId"] == id => return Ok(()),
            _ => {}
        }
    }
}

/// What an error frame says.
pub(super) fn refusal(frame: &Value) -> Failure {
    let part = |field: &str| printable(frame[field].as_str().unwrap_or_default());
    let (code, message) = (part("code"), part("message"));
    let remedy = match code.as_str() {
        "action_not_permitted" => "; give another --key, or ringmesh key update --actions",
        "channel_not_authorized" => "; give another --key, or ringmesh key update --channels",
        _ => "",
    };
    Failure::refused(format_args!("{code}: {message}{remedy}"))
}
