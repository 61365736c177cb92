//! TURN servers for `welcome`, with credentials that coturn checks by itself.
//!
//! coturn's `use-auth-secret`: the user name says until when the credential holds, and the
//! credential is the user name's HMAC under a secret that both servers know
//! (draft-uberti-behave-turn-rest-00, section 2.2).

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::domain::rights::{Key, TurnServers};
use crate::domain::time::Now;
use crate::proto::wire::json::for_each_member;

/// The member of `metadata` that WebRTC clients take their servers from.
const MEMBER: &str = "iceServers";

/// What `RTCPeerConnection` takes (W3C WebRTC, section 4.2.4).
#[derive(Serialize)]
struct IceServer<'a> {
    urls: &'a [String],
    username: &'a str,
    credential: &'a str,
}

/// The `metadata` of a `welcome`: the token's, with the app's TURN servers where the key wants
/// them and the token brings none of its own.
pub(in crate::shard) fn welcome_metadata(
    key: &Key,
    peer_id: &str,
    metadata: Option<Box<str>>,
    now: Now,
) -> Option<Box<str>> {
    let turn = key.app.turn.as_ref().filter(|_| key.auto_inject_turn);
    match turn.filter(|turn| !turn.urls.is_empty()) {
        Some(turn) => Some(inject(metadata.as_deref().unwrap_or("{}"), turn, peer_id, now).into()),
        None => metadata,
    }
}

fn inject(metadata: &str, turn: &TurnServers, peer_id: &str, now: Now) -> String {
    let (mut empty, mut has_own) = (true, false);
    let scanned = for_each_member(metadata, |name, _| {
        empty = false;
        has_own |= name.decode().is_some_and(|name| name == MEMBER);
    });
    // A token may nest its metadata deeper than can be scanned: then it is left as it is.
    if scanned.is_err() || has_own {
        return metadata.to_owned();
    }
    let open = metadata.trim_end().strip_suffix('}').unwrap_or(metadata);
    let comma = if empty { "" } else { "," };
    let servers = ice_servers(turn, peer_id, now);
    format!("{open}{comma}\"{MEMBER}\":{servers}}}")
}

#[expect(
    clippy::expect_used,
    reason = "strings have no part that could fail to serialize"
)]
fn ice_servers(turn: &TurnServers, peer_id: &str, now: Now) -> String {
    let username = format!("{}:{peer_id}", now.unix_sec() + turn.ttl_sec);
    let secret = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &turn.secret);
    let credential = STANDARD.encode(hmac::sign(&secret, username.as_bytes()));
    serde_json::to_string(&[IceServer {
        urls: &turn.urls,
        username: &username,
        credential: &credential,
    }])
    .expect("strings serialize")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Now = Now {
        mono_ms: 5,
        unix_ms: 1_700_000_000_999,
    };

    fn turn() -> TurnServers {
        TurnServers {
            urls: vec!["turn:a.example".into(), "turns:a.example:443".into()],
            secret: zeroize::Zeroizing::new(b"north".to_vec()),
            ttl_sec: 3_600,
        }
    }

    /// What becomes of a token's metadata; `servers` stands for those of the app.
    #[track_caller]
    fn check(metadata: &str, expected: &str) {
        let servers = ice_servers(&turn(), "ann", NOW);
        let injected = inject(metadata, &turn(), "ann", NOW);
        assert_eq!(injected, expected.replace("servers", &servers));
    }

    #[test]
    fn servers_join_the_tokens_metadata_as_it_was_written() {
        check("{}", r#"{"iceServers":servers}"#);
        check("{ \n}", "{ \n\"iceServers\":servers}");
        check(
            r#"{ "a" : 1e400}"#,
            r#"{ "a" : 1e400,"iceServers":servers}"#,
        );
        check(
            r#"{"a":{"iceServers":[]},"b":"}"}"#,
            r#"{"a":{"iceServers":[]},"b":"}","iceServers":servers}"#,
        );
    }

    #[test]
    fn servers_of_the_tokens_own_are_left_alone() {
        for own in [
            r#"{"iceServers":null}"#,
            r#"{"a":1,"iceServers":[{"urls":"turn:b"}]}"#,
            r#"{"\u0069ceServers":[]}"#,
        ] {
            check(own, own);
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        check(&deep, &deep);
    }

    #[test]
    fn credentials_are_those_of_coturn() {
        // Computed with: printf '1700003600:a"nn' | openssl dgst -sha1 -hmac north -binary | base64
        let servers: Value = serde_json::from_str(&ice_servers(&turn(), "a\"nn", NOW)).unwrap();
        let expected = json!([{
            "urls": ["turn:a.example", "turns:a.example:443"],
            "username": "1700003600:a\"nn",
            "credential": "JjVC4HJfxC3Fu0n2Pv1KxahbMlk=",
        }]);
        assert_eq!(servers, expected);
    }
}
