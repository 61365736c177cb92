//! `ringmesh token`: tokens that the server signs, and what is wrong with one.

use std::io::{self, Read};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::apps::signing_key;
use super::client::Request;
use super::failure::Failure;
use super::operate::asked;
use super::session::Session;
use super::table::{Table, cell};
use super::terminal::{BAD, GOOD, Terminal, json as json_text, print, printable};
use super::token::{CheckArgs, MintArgs, raw_json, signing_secret};
use crate::proto::actions::Actions;
use crate::proto::claims::{Claims, Secret, TokenError, UnverifiedToken};
use crate::proto::pattern::{CompiledPatterns, Pattern};

/// Bytes that are read of a token: more than any may have.
const TOKEN_BYTES_READ_MAX: u64 = 128 * 1_024;

/// Carries `ringmesh token mint` out. Returns what to print.
///
/// # Errors
/// Bad usage, or what the server or the way to it did not allow.
pub(crate) fn mint(args: &MintArgs, now_unix: u64, session: &Session) -> Result<String, Failure> {
    let terminal = &session.terminal;
    if args.key_id.is_some() {
        let token = args.mint(now_unix, &session.environment)?;
        return Ok(match terminal.json {
            true => json_text(&json!({ "token": token })),
            false => format!("{token}\n"),
        });
    }
    let body = body_of(args)?;
    let client = session.client()?;
    let key_id = match &args.key {
        Some(key) => key.clone(),
        None => signing_key(args.app.as_deref(), &client)?,
    };
    let answer = asked(&Request::of_token(&key_id, body), &client)?;
    if terminal.json {
        return Ok(json_text(&answer));
    }
    terminal.detail(&format!("signed with {key_id}"));
    Ok(format!(
        "{}\n",
        printable(answer["token"].as_str().unwrap_or_default())
    ))
}

fn body_of(args: &MintArgs) -> Result<Map<String, Value>, Failure> {
    args.permissions()?;
    let mut body = Map::new();
    body.insert("peerId".to_owned(), json!(args.peer()));
    body.insert("expiresInSec".to_owned(), json!(args.expires));
    if let Some(channels) = &args.channels {
        body.insert("channels".to_owned(), json!(channels));
    }
    if let Some(permissions) = &args.permissions {
        body.insert("permissions".to_owned(), json!(permissions));
    }
    for (argument, field, given) in [
        ("metadata", "metadata", &args.metadata),
        ("peer-metadata", "peerMetadata", &args.peer_metadata),
    ] {
        if let Some(value) = raw_json(argument, given.as_deref())? {
            body.insert(field.to_owned(), json!(value));
        }
    }
    Ok(body)
}

/// Carries `ringmesh token check` out: prints what there is to say.
///
/// # Errors
/// The token is refused, which has been printed then; bad usage, or what the server or the way to
/// it did not allow.
pub(crate) fn check(args: &CheckArgs, now_unix: u64, session: &Session) -> Result<(), Failure> {
    let token = token_of(args)?;
    let token = token.trim();
    if let Some(fault) = fault_around(token) {
        return Err(Failure::usage(fault));
    }
    let terminal = &session.terminal;
    let answer = match &args.secret_file {
        Some(file) => {
            let secret = signing_secret(None, Some(file), &session.environment)?;
            offline(token, &Secret::new(&secret), now_unix)
        }
        None => {
            let (channel, action) = (args.channel.as_deref(), args.action.as_deref());
            let request = Request::of_inspection(token, channel, action);
            asked(&request, &session.client()?)?
        }
    };
    let text = match terminal.json {
        true => json_text(&answer),
        false => shown(&answer, now_unix, terminal),
    };
    print(text)?;
    if answer["verdict"] != "good" || answer["may"] == false {
        // It has been told.
        return Err(Failure::failed(""));
    }
    Ok(())
}

/// What was copied with the token, or instead of it, and does not belong to it.
fn fault_around(token: &str) -> Option<&'static str> {
    let is_quote = |char| matches!(char, '"' | '\'' | '`');
    let start = token.get(..7).unwrap_or_default();
    if token.is_empty() {
        Some("the token is empty; give the whole token")
    } else if start.eq_ignore_ascii_case("bearer ") {
        Some("the token begins with \"Bearer \", which is of the header; give what is behind it")
    } else if token.starts_with(is_quote) || token.ends_with(is_quote) {
        Some("the token is in quotes; give it without them")
    } else if token.contains(['\n', '\r']) {
        Some("there is a line break in the token; give it on one line")
    } else if token.contains(char::is_whitespace) {
        Some("there is a blank in the token; give it without one")
    } else {
        None
    }
}

fn token_of(args: &CheckArgs) -> Result<Zeroizing<String>, Failure> {
    if args.token != "-" {
        return Ok(Zeroizing::new(args.token.clone()));
    }
    let mut token = Zeroizing::new(String::new());
    let mut input = io::stdin().lock().take(TOKEN_BYTES_READ_MAX);
    let read = input.read_to_string(&mut token);
    read.map_err(|error| Failure::failed(format_args!("standard input: {error}")))?;
    Ok(token)
}

/// What can be said of a token without its server: the rights of its key are not known.
fn offline(token: &str, secret: &Secret, now_unix: u64) -> Value {
    let verified = || -> Result<Claims, TokenError> {
        let unverified = UnverifiedToken::parse(token)?;
        let all = Pattern::parse("**").map_err(|_| TokenError::Malformed)?;
        let patterns = CompiledPatterns::from_iter([all]);
        let actions = ["publish", "subscribe", "presence", "send"];
        let actions = Actions::parse(actions).map_err(|_| TokenError::Malformed)?;
        unverified.verify([secret], &patterns, actions, now_unix * 1_000)
    };
    match verified() {
        Err(error) => json!({"verdict": "refused", "text": error.to_string()}),
        Ok(claims) => {
            let channels = claims.channels.as_ref();
            let channels = channels.map(|own| own.iter().map(Pattern::as_str).collect::<Vec<_>>());
            let actions = claims.permissions;
            let actions = actions.map(|own| own.names().collect::<Vec<_>>());
            json!({
                "verdict": "good",
                "text": "the token is good, as far as can be seen without a server",
                "claims": {"sub": claims.sub},
                "effective": {
                    "channels": channels, "actions": actions,
                    "expiresAt": claims.expires_at_unix_sec(),
                },
            })
        }
    }
}

fn shown(answer: &Value, now_unix: u64, terminal: &Terminal) -> String {
    let is_good = answer["verdict"] == "good";
    let style = if is_good { GOOD } else { BAD };
    let verdict = terminal.styled(style, if is_good { "good" } else { "refused" });
    let mut text = format!("{verdict}: {}\n", cell(&answer["text"]));
    let mut rows = Vec::new();
    let mut push = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Some(peer) = answer["claims"]["sub"].as_str() {
        push("peer", cell(&json!(peer)));
    }
    let key = &answer["key"];
    if key.is_object() {
        let parts = [&key["keyId"], &key["appId"], &key["status"]].map(cell);
        push("key", parts.join(", "));
    }
    let effective = &answer["effective"];
    if let Some(expires) = effective["expiresAt"].as_u64() {
        push("channels", of_key(&effective["channels"]));
        push("actions", of_key(&effective["actions"]));
        push("expires", when(expires, now_unix));
    }
    if let Some(may) = answer["may"].as_bool() {
        push("may it", if may { "yes" } else { "no" }.to_owned());
    }
    text += &Table::fields(rows).render(terminal);
    let checks = answer["checks"].as_array().map_or(&[][..], Vec::as_slice);
    for check in checks {
        let is_ok = check["ok"] == true;
        let mark = match is_ok {
            true => terminal.styled(GOOD, "ok  "),
            false => terminal.styled(BAD, "fail"),
        };
        text += &format!("{mark}  {}\n", cell(&check["text"]));
    }
    text
}

/// A list of the token; without one it has what its key has.
fn of_key(list: &Value) -> String {
    match list {
        Value::Null => "those of the key".to_owned(),
        list => cell(list),
    }
}

fn when(unix: u64, now_unix: u64) -> String {
    let at = i64::try_from(unix).ok();
    let at = at.and_then(|unix| jiff::Timestamp::from_second(unix).ok());
    let at = at.map_or_else(|| unix.to_string(), |at| at.to_string());
    match unix.checked_sub(now_unix) {
        Some(left) => format!("{at}, in {} min", left / 60),
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_to_a_token_is_named() {
        for (token, part) in [
            ("", "empty"),
            ("Bearer e.y.J", "Bearer"),
            ("bearer e.y.J", "Bearer"),
            ("\"e.y.J\"", "quotes"),
            ("'e.y.J", "quotes"),
            ("e.y\n.J", "line break"),
            ("e.y .J", "blank"),
        ] {
            let fault = fault_around(token);
            assert!(
                fault.is_some_and(|it| it.contains(part)),
                "{token:?}: {fault:?}"
            );
        }
        assert_eq!(fault_around("e.y.J"), None);
        assert_eq!(fault_around("é.y.J"), None);
    }
}
