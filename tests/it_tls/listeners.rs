//! One process that speaks TLS on some of its listeners and plain HTTP on others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rcgen::PKCS_ECDSA_P256_SHA256;
use rustix::process::Signal;
use rustls::{ClientConnection, HandshakeKind};
use serde_json::{Value, json};
use tungstenite::WebSocket;

use crate::support::{
    BOTH, HOST, PATIENCE, Server, Site, TLS, next, round_trip, send, until_end, upgraded,
};

fn both(site: &Site) -> Server {
    let server = site.serve(&TLS.replace("[tls]\n", "[tls]\nlisten = [\"127.0.0.1:0\"]\n"));
    assert_ne!(server.first, server.address);
    server
}

fn plain(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn message<S: Read + Write>(socket: &mut WebSocket<S>) -> Value {
    loop {
        let event = next(socket);
        if event["type"] == "message" {
            return event["data"].clone();
        }
    }
}

#[test]
fn clients_of_both_kinds_hear_each_other() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = both(&site);
    let config = site.client(&BOTH);
    for _ in 0..8 {
        let mut open = upgraded(plain(server.first));
        let mut sealed = server.websocket(&config);
        let subscribe = json!({"type": "subscribe", "channel": "a/b", "requestId": "1"});
        send(&mut open, &subscribe);
        while next(&mut open)["type"] != "ack" {}
        send(&mut sealed, &subscribe);
        while next(&mut sealed)["type"] != "ack" {}
        let publish = |data| json!({"type": "publish", "channel": "a/b", "data": data});
        send(&mut sealed, &publish("sealed"));
        assert_eq!(message(&mut open), "sealed");
        send(&mut open, &publish("open"));
        assert_eq!(message(&mut sealed), "open");
    }
}

#[test]
fn each_kind_is_refused_at_the_other_s_port() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = both(&site);
    let mut stream = plain(server.address);
    write!(stream, "GET /v1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").unwrap();
    let answer = String::from_utf8(until_end(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("https://"), "{answer}");

    let mut stream = plain(server.first);
    let name = HOST.try_into().unwrap();
    let mut connection = ClientConnection::new(site.client(&BOTH), name).unwrap();
    connection.write_tls(&mut stream).unwrap();
    let answer = String::from_utf8(until_end(&stream)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    round_trip(&mut upgraded(plain(server.first)));
}

#[test]
fn a_session_is_resumed_on_every_shard_and_a_reload_leaves_plain_alone() {
    let mut site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = both(&site);
    let mut open = upgraded(plain(server.first));
    let config = site.client(&BOTH);
    server.websocket(&config);
    for attempt in 0..16 {
        let socket = server.websocket(&config);
        let kind = socket.get_ref().conn.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed), "attempt {attempt}");
    }
    site.renew(&PKCS_ECDSA_P256_SHA256);
    server.signal(Signal::HUP);
    server.logged("new connections get the certificate");
    server.websocket(&site.client(&BOTH));
    round_trip(&mut open);
    round_trip(&mut upgraded(plain(server.first)));
}

#[test]
fn tls_is_spoken_over_ipv6() {
    let site = Site::new(&PKCS_ECDSA_P256_SHA256);
    let server = site.serve(&TLS.replace("127.0.0.1:0", "[::1]:0"));
    assert!(server.address.is_ipv6());
    for version in BOTH {
        round_trip(&mut server.websocket(&site.client(&[version])));
    }
}
