//! Tokens of the testing app.

use crate::proto::actions::Actions;
use crate::proto::claims::{MintRequest, Secret, mint};

/// A token of the key that may do everything, for that peer.
pub(in crate::shard) fn token(sub: &str, lifetime_sec: u64, peer_metadata: &str) -> String {
    let metadata = serde_json::value::RawValue::from_string(peer_metadata.into()).unwrap();
    signed(MintRequest {
        peer_metadata: Some(&metadata),
        ..asked(sub, lifetime_sec)
    })
}

/// A token for a peer that may subscribe and nothing else, so it hears of nobody's presence.
pub(in crate::shard) fn token_without_presence() -> String {
    let permissions = Some(Actions::parse(["subscribe"]).unwrap());
    signed(MintRequest {
        permissions,
        ..asked("deaf", 60)
    })
}

fn asked(sub: &str, lifetime_sec: u64) -> MintRequest<'_> {
    MintRequest {
        key_id: "sk_id_full",
        sub,
        issued_at_unix: 1_700_000_000,
        expires_at_unix: 1_700_000_000 + lifetime_sec,
        channels: None,
        permissions: None,
        metadata: None,
        peer_metadata: None,
    }
}

fn signed(request: MintRequest<'_>) -> String {
    let token = mint(&request, &Secret::new(b"sk_secret_full")).unwrap();
    format!("token={token}")
}
