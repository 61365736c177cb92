//! Certificates that change, and those that cannot be used.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::support::{BOTH, Site, TLS, round_trip};

#[test]
fn certificates_change_under_live_connections() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let first = site.client(&BOTH);
    let mut live = server.websocket(&first);

    site.renew(&PKCS_RSA_SHA256);
    server.signal(Signal::HUP);
    server.logged("new connections get the certificate");
    let second = site.client(&BOTH);
    server.websocket(&second);
    round_trip(&mut live);

    site.renew(&PKCS_ECDSA_P256_SHA256);
    server.logged("new connections get the certificate");
    let third = site.client(&BOTH);
    server.websocket(&third);

    site.write("key.pem", "not a key");
    server.logged("the certificate in use is kept");
    server.signal(Signal::HUP);
    server.logged("the certificate in use is kept");
    server.websocket(&third);
    round_trip(&mut live);
    // A session outlives the certificate that it was begun with.
    let resumed = server.websocket(&first);
    let kind = resumed.get_ref().conn.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.write("key.pem", "not a key");
    let output = site.command(TLS).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("key.pem holds no readable private key"),
        "{text}"
    );
}
