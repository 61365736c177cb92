//! Minted tokens, byte by byte and through verification.

use std::collections::HashMap;

use super::*;
use crate::proto::claims::{MintRequest, mint};

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[test]
fn a_minted_token_says_what_was_asked_for() {
    let channels = [
        Pattern::parse("room-*").unwrap(),
        Pattern::parse(r"a\*").unwrap(),
    ];
    let (metadata, peer_metadata) = (raw("{ \"a\":1.0 }"), raw("{}"));
    let full = MintRequest {
        key_id: "sk_id_\"1\"",
        sub: "ada \"l\"",
        issued_at_unix: NOW_SEC,
        expires_at_unix: NOW_SEC + 60,
        channels: Some(&channels),
        permissions: Some(Actions::parse(["send", "publish"]).unwrap()),
        metadata: Some(&metadata),
        peer_metadata: Some(&peer_metadata),
    };
    let token = mint(&full, &Secret::new(SECRET)).unwrap();
    assert_eq!(
        UnverifiedToken::parse(&token).map(|token| token.key_id),
        Ok("sk_id_\"1\"".into())
    );
    let claims = verify(&token).unwrap();
    assert_eq!(&*claims.sub, full.sub);
    assert_eq!(claims.expires_at_unix_ms, NOW_MS + 60_000);
    assert_eq!(claims.channels.as_deref(), full.channels);
    assert_eq!(claims.permissions, full.permissions);
    assert_eq!(claims.metadata.as_deref(), Some("{ \"a\":1.0 }"));
    assert_eq!(claims.peer_metadata.as_deref(), Some("{}"));

    let parts: Vec<Vec<u8>> = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    let header: HashMap<String, String> = serde_json::from_slice(&parts[0]).unwrap();
    let expected = [("alg", "HS256"), ("typ", "JWT"), ("kid", full.key_id)];
    assert_eq!(
        header,
        expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    );
    assert_eq!(
        String::from_utf8(parts[1].clone()).unwrap(),
        r#"{"sub":"ada \"l\"","iat":1800000000,"exp":1800000060,"iss":"ringmesh","#.to_owned()
            + r#""channels":["room-*","a\\*"],"permissions":["publish","send"],"#
            + r#""metadata":{ "a":1.0 },"peerMetadata":{}}"#
    );

    let bare = MintRequest {
        channels: None,
        permissions: None,
        metadata: None,
        peer_metadata: None,
        ..full
    };
    let claims = verify(&mint(&bare, &Secret::new(SECRET)).unwrap()).unwrap();
    let left_out = (
        claims.channels,
        claims.permissions,
        claims.metadata,
        claims.peer_metadata,
    );
    assert_eq!(left_out, (None, None, None, None));
}

#[test]
fn nothing_is_minted_that_would_be_refused() {
    let object = |bytes: usize| raw(&format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)));
    let pattern = Pattern::parse(&"x".repeat(256)).unwrap();
    let channels = vec![pattern; 101];
    let (metadata, peer_metadata) = (object(8_192), object(4_096));
    let sub = "x".repeat(129);
    let greatest = MintRequest {
        key_id: "sk_id_1",
        sub: &sub[1..],
        issued_at_unix: NOW_SEC,
        expires_at_unix: NOW_SEC + 60,
        channels: Some(&channels[1..]),
        permissions: Some(Actions::ALL),
        metadata: Some(&metadata),
        peer_metadata: Some(&peer_metadata),
    };
    let mint = |request: MintRequest<'_>| mint(&request, &Secret::new(SECRET));
    assert!(verify(&mint(greatest).unwrap()).is_ok());

    let refused = |claim| Err(TokenError::Invalid(claim));
    assert_eq!(
        mint(MintRequest {
            sub: &sub,
            ..greatest
        }),
        refused(Claim::Sub)
    );
    assert_eq!(
        mint(MintRequest {
            sub: "",
            ..greatest
        }),
        refused(Claim::Sub)
    );
    let many = MintRequest {
        channels: Some(&channels),
        ..greatest
    };
    assert_eq!(mint(many), refused(Claim::Channels));
    for value in [object(8_193), raw("[]"), raw("null")] {
        let request = MintRequest {
            metadata: Some(&value),
            ..greatest
        };
        assert_eq!(mint(request), refused(Claim::Metadata));
        let request = MintRequest {
            peer_metadata: Some(&value),
            ..greatest
        };
        assert_eq!(mint(request), refused(Claim::PeerMetadata));
    }
}
