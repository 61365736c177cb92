//! Clients that do nothing wrong, over both versions and with both kinds of keys.

use std::io::Read;

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustix::process::Signal;
use rustls::HandshakeKind;
use serde_json::json;
use tungstenite::Message;

use crate::support::{BOTH, Site, TLS, next, send};

#[test]
fn clients_talk_over_both_versions_with_both_kinds_of_keys() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let site = Site::new(algorithm);
        let server = site.serve(TLS);
        for version in BOTH {
            let config = site.client(&[version]);
            let mut reader = server.websocket(&config);
            send(
                &mut reader,
                &json!({"type": "subscribe", "channel": "a/b", "requestId": "1"}),
            );
            while next(&mut reader)["type"] != "ack" {}
            let mut writer = server.websocket(&config);
            // Larger than a record, and than what is read at once.
            let data = "x".repeat(60_000);
            for _ in 0..10 {
                send(
                    &mut writer,
                    &json!({"type": "publish", "channel": "a/b", "data": data}),
                );
                assert_eq!(next(&mut reader)["data"], data);
            }
        }
    }
}

#[test]
fn sessions_are_resumed_on_every_shard() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    for version in BOTH {
        let config = site.client(&[version]);
        for attempt in 0..16 {
            let socket = server.websocket(&config);
            let kind = socket.get_ref().conn.handshake_kind();
            let expected = if attempt == 0 {
                HandshakeKind::Full
            } else {
                HandshakeKind::Resumed
            };
            assert_eq!(kind, Some(expected), "{version:?}, attempt {attempt}");
        }
    }
}

#[test]
fn a_drain_ends_the_stream_in_order() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let mut server = site.serve(TLS);
    let mut socket = server.websocket(&site.client(&BOTH));
    server.signal(Signal::TERM);
    assert_eq!(next(&mut socket)["type"], "going_away");
    let Message::Close(Some(close)) = socket.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(close.code), 1_001);
    let _ = socket.flush();
    // An end without `close_notify` would be an error here.
    assert_eq!(socket.get_mut().read(&mut [0]).unwrap(), 0);
    assert!(server.child.wait().unwrap().success());
}
