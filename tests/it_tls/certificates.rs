//! Certificates that change, and those that cannot be used.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustix::process::Signal;
use rustls::HandshakeKind;

use crate::support::{BOTH, Server, Site, TLS, round_trip};

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
    server.logged("not reloaded: tls; the rest holds");
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

#[test]
fn what_becomes_of_certificates_is_an_event() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&format!("{TLS}[log]\nevents = \"all\"\n"));
    site.renew(&PKCS_ECDSA_P256_SHA256);
    let line = server.logged("taken_up");
    assert!(
        line.contains("ringmesh.test") && line.contains("notAfter"),
        "{line}"
    );
    site.renew_for_days(10, &PKCS_ECDSA_P256_SHA256);
    server.logged("\"code\":\"certificate_expires\"");
    site.write("key.pem", "not a key");
    let line = server.logged("\"cause\":\"certificate_refused\"");
    assert!(line.contains("key.pem"), "{line}");
    server.logged("\"code\":\"certificate_refused\"");
}

#[test]
fn a_metric_tells_the_end_of_the_certificate_in_use() {
    const NAME: &str = "ringmesh_certificate_not_after_seconds";
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.renew_until(2100, &PKCS_ECDSA_P256_SHA256);
    let mut command = site.command(TLS);
    command.env("RINGMESH_ADMIN__LISTEN", "127.0.0.1:0");
    let server = Server::start(command);
    assert_eq!(server.metric(NAME), 4_102_444_800.0);
    site.renew_until(2101, &PKCS_ECDSA_P256_SHA256);
    server.logged("new connections get the certificate");
    assert_eq!(server.metric(NAME), 4_133_980_800.0);
    // One that is not taken up changes nothing.
    site.renew_until(2102, &PKCS_ECDSA_P256_SHA256);
    server.logged("new connections get the certificate");
    site.write("key.pem", "not a key");
    server.logged("the certificate in use is kept");
    assert_eq!(server.metric(NAME), 4_165_516_800.0);
}
