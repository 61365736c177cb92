//! TLS that never comes about, and TLS that breaks: both are told with a remedy.

use std::io::Write;

use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::support::{BOTH, Server, Site, TLS, until_end};

/// A kind and cause of events.
type Caused = (&'static str, &'static str);

/// Waits for an event in the log, where each is a line of JSON.
fn check_logged(server: &Server, (kind, cause): Caused) {
    loop {
        let line = server.logged(&format!("\"kind\":\"{kind}\""));
        if line.contains(&format!("\"cause\":\"{cause}\"")) {
            assert!(line.contains("\"remedy\":\""), "{line}");
            return;
        }
        assert_ne!(kind, "closed", "{line}");
    }
}

#[test]
fn tls_that_fails_is_told_with_its_remedy() {
    const NEVER: Caused = ("refused", "tls");
    const BROKEN: Caused = ("closed", "tls");
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&format!("{TLS}[log]\nevents = \"all\"\n"));
    let mut stream = server.tcp();
    stream.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    until_end(&stream);
    check_logged(&server, NEVER);
    let live = server.websocket(&site.client(&BOTH));
    // A record that nobody who knows the keys has made.
    let mut record = vec![0x17, 3, 3, 0, 64];
    record.resize(5 + 64, 0x5a);
    (&live.get_ref().sock).write_all(&record).unwrap();
    until_end(&live.get_ref().sock);
    check_logged(&server, BROKEN);
}
