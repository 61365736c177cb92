//! RFC 6455 from the bytes up: what is taken, and which close code each violation gets.

use tungstenite::Message;

use crate::support::raw::{Raw, frame, handshake, header, text_frame};
use crate::support::server::Server;
use crate::support::setup::Setup;

const PING: &str = r#"{"type":"ping"}"#;
const PONG: &str = r#"{"type":"pong"}"#;
/// A message may be as long as advertised, and its envelope.
const MESSAGE_BYTES_MAX: usize = 65_536 + 1_024;

/// A connection that has read its `welcome`.
fn open(server: &Server) -> Raw {
    let mut raw = server.raw();
    raw.write(handshake("/v1?key=pk_live_a", ""));
    assert_eq!(raw.response().status, 101);
    let (opcode, welcome) = raw.frame();
    assert_eq!(opcode, 1);
    assert!(welcome.starts_with(br#"{"type":"welcome""#));
    raw
}

/// The next frame is a close with this code; the server ends the stream once it is answered.
#[track_caller]
fn check_closed(mut raw: Raw, code: u16, what: &str) {
    let (opcode, payload) = raw.frame();
    assert_eq!(
        (opcode, &payload[..2]),
        (8, &code.to_be_bytes()[..]),
        "{what}: {payload:?}"
    );
    let reason = std::str::from_utf8(&payload[2..]).unwrap();
    assert!(
        reason.is_ascii() && !reason.is_empty(),
        "{what}: {reason:?}"
    );
    raw.write_while_taken(frame(0x88, &code.to_be_bytes()));
    raw.ends();
}

fn message_of(bytes: usize) -> String {
    let envelope = r#"{"type":"ping","data":""}"#;
    envelope.replace(
        r#""""#,
        &format!("\"{}\"", "x".repeat(bytes - envelope.len())),
    )
}

#[test]
fn each_violation_has_its_close_code() {
    let server = Setup::new(1).start();
    let mut unmasked = vec![0x81, PING.len() as u8];
    unmasked.extend(PING.as_bytes());
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", unmasked, 1002),
        ("RSV1", frame(0xC1, b"{}"), 1002),
        ("RSV3", frame(0x91, b"{}"), 1002),
        ("opcode 3", frame(0x83, b""), 1002),
        ("opcode 11", frame(0x8B, b""), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        ("a long close", frame(0x88, &[3; 126]), 1002),
        ("a close payload of one byte", frame(0x88, &[3]), 1002),
        (
            "close code 1005",
            frame(0x88, &1005_u16.to_be_bytes()),
            1002,
        ),
        ("close code 999", frame(0x88, &999_u16.to_be_bytes()), 1002),
        (
            "close code 5000",
            frame(0x88, &5000_u16.to_be_bytes()),
            1002,
        ),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        (
            "a message within a message",
            [frame(0x01, b"{"), frame(0x81, b"}")].concat(),
            1002,
        ),
        (
            "a length not minimal",
            vec![0x81, 0xFE, 0, 5, 0, 0, 0, 0],
            1002,
        ),
        (
            "a length beyond 63 bits",
            [&[0x81, 0xFF, 0x80], &[0; 11][..]].concat(),
            1002,
        ),
        ("binary", frame(0x82, b"{}"), 1003),
        ("binary in fragments", frame(0x02, b"{}"), 1003),
        ("not UTF-8", frame(0x81, b"{\"type\":\"\xFF\"}"), 1007),
        ("half a character at the end", frame(0x81, b"\"\xC3"), 1007),
        (
            "a surrogate in UTF-8",
            frame(0x81, b"\"\xED\xA0\x80\""),
            1007,
        ),
        (
            "a close reason not UTF-8",
            frame(0x88, b"\x03\xE8\xFF"),
            1007,
        ),
        (
            "an announced long message",
            header(0x81, MESSAGE_BYTES_MAX as u64 + 1),
            1009,
        ),
        ("an announced monster", header(0x81, u64::MAX >> 1), 1009),
        (
            "a long message in fragments",
            [frame(0x01, &[b' '; 60_000]), header(0x80, 6_561)].concat(),
            1009,
        ),
    ];
    for (what, bytes, code) in cases {
        let mut whole = open(&server);
        whole.write(&bytes);
        check_closed(whole, code, what);
        if bytes.len() < 200 {
            let mut split = open(&server);
            // What follows a violation is not taken any more.
            let _all = bytes.iter().all(|byte| split.write_while_taken([*byte]));
            check_closed(split, code, what);
        }
    }
    server.anonymous().expect_nothing_queued();
}

#[test]
fn messages_may_be_long_and_fragmented() {
    let server = Setup::new(1).start();
    let mut client = server.anonymous();
    for bytes in [125, 126, 127, 65_535, 65_536, MESSAGE_BYTES_MAX] {
        client.send(message_of(bytes));
        client.expect(PONG);
    }
    let text = message_of(MESSAGE_BYTES_MAX);
    let (first, rest) = text.as_bytes().split_at(40_000);
    let (second, third) = rest.split_at(1);
    for bytes in [
        frame(0x01, first),
        frame(0x89, b"between"),
        frame(0x00, second),
        frame(0x00, b""),
        frame(0x80, third),
    ] {
        client.send_bytes(&bytes);
    }
    assert_eq!(client.next_message(), Message::Pong("between".into()));
    client.expect(PONG);
    // A character may be split between fragments.
    let text = r#"{"type":"ping","requestId":"é"}"#;
    let (first, second) = text.as_bytes().split_at(text.find('é').unwrap() + 1);
    client.send_bytes(&[frame(0x01, first), frame(0x80, second)].concat());
    client.expect(r#"{"type":"pong","requestId":"é"}"#);
    client.send(message_of(MESSAGE_BYTES_MAX + 1));
    client.expect_close(1009);
}

#[test]
fn frames_may_come_in_any_pieces() {
    let server = Setup::new(1).start();
    let mut raw = open(&server);
    for byte in [text_frame(PING), frame(0x89, b"p"), text_frame(PING)].concat() {
        raw.write([byte]);
    }
    raw.write(text_frame(PING).repeat(50));
    let frames: Vec<(u8, Vec<u8>)> = (0..53).map(|_| raw.frame()).collect();
    let pongs = frames.iter().filter(|(opcode, _)| *opcode == 1);
    assert!(pongs.clone().all(|(_, payload)| payload == PONG.as_bytes()));
    assert_eq!(pongs.count(), 52);
    assert!(frames.contains(&(10, b"p".to_vec())));
}

#[test]
fn a_frame_sent_with_the_handshake_is_not_lost() {
    let server = Setup::new(2).start();
    for _ in 0..8 {
        let mut raw = server.raw();
        let upgrade = handshake("/v1?key=pk_live_a", "");
        raw.write([upgrade.as_bytes(), &text_frame(PING)].concat());
        assert_eq!(raw.response().status, 101);
        assert!(raw.frame().1.starts_with(br#"{"type":"welcome""#));
        assert_eq!(raw.frame(), (1, PONG.as_bytes().to_vec()));
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    let server = Setup::new(1).start();
    for (code, answer) in [
        (None, 1000),
        (Some(1000), 1000),
        (Some(1001), 1001),
        (Some(3000), 3000),
        (Some(4321), 4321),
    ] {
        assert_eq!(server.anonymous().close(code), answer);
    }
}

#[test]
fn a_close_that_is_not_answered_ends_anyway() {
    let setup = Setup::new(1).set("limits.message_rate", 1);
    let server = setup.set("limits.message_burst", 1).start();
    let mut raw = open(&server);
    let start = std::time::Instant::now();
    raw.write(text_frame(PING).repeat(2));
    assert_eq!(raw.frame(), (1, PONG.as_bytes().to_vec()));
    assert_eq!(raw.frame().0, 8);
    raw.ends();
    let waited = start.elapsed().as_millis();
    assert!(waited >= 1_500, "{waited} ms for a close handshake of 2 s");
}
