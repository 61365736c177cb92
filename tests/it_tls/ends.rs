//! The end of an encrypted stream is an input like any other, as that of a plain one is.

use std::io::Write;
use std::net::Shutdown;

use rcgen::PKCS_ECDSA_P256_SHA256;
use serde_json::json;

use crate::support::{BOTH, Site, TLS, TlsStream, next, send, until_end};

const API_SECRET: &str = "sk_live_declared_0123456789";
const REST_APP: &str = "[[apps]]\nid = \"rest\"\n[[apps.keys]]\nid = \"sk_id_rest\"\n\
    channel_patterns = [\"**\"]\nactions = [\"publish\"]\n\
    signing_secret_file = \"signing.secret\"\napi_secret_file = \"api.secret\"\n";

/// Sends these bytes and `close_notify` together, as Go's `tls.Conn.Close` and Node's `end` do;
/// then ends the TCP stream as well, or not. Returns what still comes.
fn send_and_end(mut stream: TlsStream, bytes: &[u8], with_fin: bool) -> Vec<u8> {
    stream.conn.writer().write_all(bytes).unwrap();
    stream.conn.send_close_notify();
    let mut records = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut records).unwrap();
    }
    stream.sock.write_all(&records).unwrap();
    if with_fin {
        stream.sock.shutdown(Shutdown::Write).unwrap();
    }
    until_end(stream)
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[test]
fn messages_before_close_notify_are_delivered() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(TLS);
    let config = site.client(&BOTH);
    let mut reader = server.websocket(&config);
    for channel in 0..4 {
        let join =
            json!({"type": "subscribe", "channel": format!("ch{channel}"), "requestId": "1"});
        send(&mut reader, &join);
        while next(&mut reader)["type"] != "ack" {}
    }
    let joins = (0..16).map(|at| json!({"type": "subscribe", "channel": format!("z{at}")}));
    let publishes = (0..50).map(|at| {
        json!({"type": "publish", "channel": format!("ch{}", at % 4), "data": at, "requestId": "1"})
    });
    let mut bytes: Vec<u8> = joins
        .chain(publishes)
        .flat_map(|it| masked(0x81, it.to_string().as_bytes()))
        .collect();
    bytes.extend(masked(0x88, &[0x03, 0xE8]));
    for round in 0..6 {
        let stream = server.websocket(&config).into_inner();
        let answers = send_and_end(stream, &bytes, round % 2 == 0);
        let text = String::from_utf8_lossy(&answers);
        assert_eq!(
            text.matches(r#"{"type":"ack""#).count(),
            50,
            "round {round}"
        );
        assert!(answers.ends_with(&[0x88, 2, 0x03, 0xE8]), "round {round}");
        for _ in 0..50 {
            assert_eq!(next(&mut reader)["type"], "message");
        }
    }
}

#[test]
fn requests_before_close_notify_are_answered() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    site.write(
        "signing.secret",
        "a signing secret of thirty-two bytes, or more",
    );
    site.write("api.secret", API_SECRET);
    let server = site.serve(&format!("{TLS}{REST_APP}"));
    let config = site.client(&BOTH);
    let requests = (0..16).map(|at| {
        format!(
            "POST /v1/channels/ch{at}/publish HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {API_SECRET}\r\nContent-Type: application/json\r\n\
             Content-Length: 10\r\n\r\n{{\"data\":1}}"
        )
    });
    let requests: String = requests.collect();
    for with_fin in [false, true] {
        let answers = send_and_end(server.tls(&config), requests.as_bytes(), with_fin);
        let text = String::from_utf8_lossy(&answers);
        assert_eq!(
            text.matches("HTTP/1.1 200 OK").count(),
            16,
            "FIN: {with_fin}"
        );
    }
}
