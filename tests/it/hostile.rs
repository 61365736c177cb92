//! Clients that mean harm, on the same shard as one that does not: it is served promptly, and
//! memory stays bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Client;
use crate::support::raw::{Raw, frame, handshake, text_frame};
use crate::support::server::Server;
use crate::support::setup::Setup;
use crate::support::token::token;

/// More than any of the attacks below may cost.
const MEMORY_BYTES_MAX: u64 = 64 << 20;

/// More than a round of the healthy pair takes beside an attack, on a machine that runs other
/// tests as well.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// Attacks a server of one shard while a healthy pair of clients goes on.
#[track_caller]
fn attack(setup: Setup, attack: impl FnOnce(&Server)) {
    let server = setup.start();
    let before = server.memory_bytes();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let healthy = scope.spawn(|| serve_healthy_pair(&server, &over));
        // Told also when the attack fails, or the healthy pair would go on for ever.
        let _told = Told(&over);
        attack(&server);
        over.store(true, Ordering::Release);
        let (rounds, slowest) = healthy.join().unwrap();
        assert!(
            rounds > 0 && slowest < ROUND_MAX,
            "{slowest:?} in {rounds} rounds"
        );
    });
    let grown = server.memory_bytes().saturating_sub(before);
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more memory");
}

struct Told<'a>(&'a AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Publications from one to the other until told to stop: how many, and the slowest of them.
fn serve_healthy_pair(server: &Server, over: &AtomicBool) -> (u32, Duration) {
    let (mut publisher, mut reader) = (server.quiet_peer("healthy"), server.quiet_peer("reader"));
    reader.subscribe("healthy");
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while rounds == 0 || !over.load(Ordering::Acquire) {
        let start = Instant::now();
        publisher.publish("healthy", json!(rounds));
        assert!(reader.next().ends_with(&format!("\"data\":{rounds}}}")));
        slowest = slowest.max(start.elapsed());
        rounds += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    (rounds, slowest)
}

#[test]
fn heads_byte_by_byte() {
    attack(
        Setup::new(1).set("limits.head_timeout_ms", 1_000),
        |server| {
            let head = handshake("/v1?key=pk_live_a", "");
            let mut slow: Vec<Raw> = (0..200).map(|_| server.raw()).collect();
            for byte in head.bytes().take(8) {
                for raw in &mut slow {
                    let _refused_already = raw.write_while_taken([byte]);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            for raw in &mut slow {
                raw.response().is_error(408, "invalid_request");
                raw.ends();
            }
        },
    );
}

#[test]
fn messages_byte_by_byte() {
    attack(Setup::new(1), |server| {
        let mut slow: Vec<Client> = (0..50).map(|_| server.anonymous()).collect();
        for byte in text_frame(r#"{"type":"ping"}"#) {
            slow.iter_mut()
                .for_each(|client| client.send_bytes(&[byte]));
        }
        slow.iter_mut()
            .for_each(|client| client.expect(r#"{"type":"pong"}"#));
    });
}

#[test]
fn frames_of_nested_brackets() {
    attack(Setup::new(1), |server| {
        let mut client = server.anonymous();
        let brackets = format!(r#"{{"type":"ping","data":{}"#, "[".repeat(65_000));
        let objects = format!(r#"{{"type":"ping","data":{}"#, "{\"a\":".repeat(13_000));
        let deepest = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let wide = format!("[{}0]", format!("{deepest},").repeat(250));
        let wide = format!(r#"{{"type":"publish","channel":"a","requestId":"w","data":{wide}}}"#);
        for _ in 0..100 {
            for text in [&brackets, &objects] {
                client.send(text.as_str());
                assert!(client.next().contains("malformed_message"));
            }
            client.send(wide.as_str());
            let answer = client.next();
            assert!(answer.contains("malformed_message"), "{answer}");
        }
        let wide = wide.replace(&deepest, &deepest[1..253]);
        client.send(wide);
        client.expect(r#"{"type":"ack","requestId":"w"}"#);
    });
}

#[test]
fn ten_thousand_pipelined_messages() {
    attack(Setup::new(1), |server| {
        let mut client = server.anonymous();
        let publish = |number: u32| {
            text_frame(&format!(
                r#"{{"type":"publish","channel":"flood","data":{number},"requestId":"{number}"}}"#
            ))
        };
        let frames: Vec<u8> = (0..10_000).flat_map(publish).collect();
        let mut stream = client.stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || stream.write_all(&frames).unwrap());
            for number in 0..10_000 {
                client.expect(&format!(r#"{{"type":"ack","requestId":"{number}"}}"#));
            }
        });
    });
}

#[test]
fn answers_that_nobody_reads() {
    attack(Setup::new(1), |server| {
        let mut deaf: Vec<Raw> = (0..8).map(|_| server.raw()).collect();
        let burst = text_frame(r#"{"type":"ping","requestId":"0123456789"}"#).repeat(2_000);
        for raw in &mut deaf {
            raw.write(handshake("/v1?key=pk_live_a", ""));
            assert_eq!(raw.response().status, 101);
            raw.stream.set_nonblocking(true).unwrap();
        }
        for raw in &mut deaf {
            let (mut sent, mut moved) = (0, Instant::now());
            // Until the server has taken nothing for a while: it reads only who reads.
            while moved.elapsed() < Duration::from_millis(300) {
                match raw.stream.write(&burst[sent % burst.len()..]) {
                    Ok(bytes) => (sent, moved) = (sent + bytes, Instant::now()),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("after {sent} bytes: {error}"),
                }
                assert!(sent < 1 << 30, "the server takes everything");
            }
        }
    });
}

#[test]
fn garbage_at_every_stage() {
    attack(Setup::new(1), |server| {
        // xorshift64 (Marsaglia), the same garbage each time.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut garbage = |bytes: usize| -> Vec<u8> {
            let next = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            });
            next.take(bytes).collect()
        };
        let upgrade = handshake("/v1?key=pk_live_a", "");
        for round in 0..60 {
            let bytes = 1 << (round % 12);
            let mut text = text_frame(&String::from_utf8_lossy(&garbage(bytes)));
            let credential: String = garbage(64)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let half = &upgrade[..round % upgrade.len()];
            let token = token("sk_id_a", json!({"sub": "a"}));
            let broken_token = &token[..token.len() - round % 40];
            text.extend(garbage(bytes));
            for stage in [
                garbage(bytes),
                [half.as_bytes(), &garbage(bytes)].concat(),
                [upgrade.as_bytes(), &garbage(bytes)].concat(),
                [upgrade.as_bytes(), &text].concat(),
                handshake(&format!("/v1?token={credential}"), "").into(),
                handshake(&format!("/v1?token={broken_token}.{credential}"), "").into(),
            ] {
                let mut raw = server.raw();
                raw.write_while_taken(&stage);
                let _ended_already = raw.stream.shutdown(Shutdown::Write);
                raw.ends_somehow();
            }
        }
    });
}

#[test]
fn bodies_that_lie_about_themselves() {
    attack(Setup::new(1), |server| {
        for framing in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: -1",
            "Content-Length: +5",
            "Content-Length: 0x10",
            "Content-Length: 5, 6",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 18446744073709551616",
            "Content-Length: 99999999999999999999999999999",
            "Content-Length:",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding : chunked",
        ] {
            let mut raw = server.raw();
            // What a proxy might take for a second request must not be answered as one.
            raw.write(format!(
                "POST /nowhere HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n\
                 GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            ));
            let response = raw.response();
            assert_eq!(response.status, 400, "{framing}: {response:?}");
            raw.ends();
        }
    });
}

#[test]
fn bodies_of_fifty_megabytes() {
    attack(Setup::new(1), |server| {
        for _ in 0..4 {
            let mut raw = server.raw();
            raw.write("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 52428800\r\n\r\n");
            // Refused before the body is read, and so before it is sent.
            raw.response().is_error(404, "not_found");
            let megabyte = vec![b'x'; 1 << 20];
            let _cut_off = (0..50).all(|_| raw.write_while_taken(&megabyte));
            raw.ends_somehow();
        }
    });
}

#[test]
fn many_connections_that_come_and_go() {
    attack(Setup::new(1), |server| {
        let upgrade = handshake("/v1?key=pk_live_a", "");
        for round in 0..600 {
            let mut raw = server.raw();
            raw.write(&upgrade[..round % (upgrade.len() + 1)]);
        }
        let mut client = server.anonymous();
        for _ in 0..50 {
            for number in 0..20 {
                client.subscribe_for_presence(&format!("c{number}"));
            }
            for number in 0..20 {
                client.ask(json!({"type": "unsubscribe", "channel": format!("c{number}")}));
            }
        }
    });
}

/// Writes and reads on all of these sockets, as fast as the server does, until they have sent
/// that much in all; reads only if told so. Returns the most memory that the server had.
fn flood(server: &Server, sockets: &mut [Raw], unit: &[u8], bytes: usize, reads: bool) -> u64 {
    let burst = unit.repeat((256 * 1_024) / unit.len());
    let mut sent = vec![0; sockets.len()];
    let (mut most, mut moved, mut buffer) = (0, Instant::now(), vec![0; 256 * 1_024]);
    for raw in &*sockets {
        raw.stream.set_nonblocking(true).unwrap();
    }
    // A server that reads no more from those who do not read is as it should be.
    while sent.iter().sum::<usize>() < bytes && moved.elapsed() < Duration::from_millis(300) {
        for (raw, sent) in sockets.iter_mut().zip(&mut sent) {
            while reads && matches!(raw.stream.read(&mut buffer), Ok(1..)) {}
            if let Ok(count) = raw.stream.write(&burst[*sent % burst.len()..]) {
                (*sent, moved) = (*sent + count, Instant::now());
            }
        }
        most = most.max(server.memory_bytes());
    }
    most
}

#[test]
fn pipelined_requests_and_pings() {
    let mut ping = frame(0x89, &[7; 125]);
    ping.extend(frame(0x89, b""));
    for (unit, upgrades, reads) in [
        (
            &b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            false,
            true,
        ),
        (b"GET /v1/usage HTTP/1.1\r\nHost: a\r\n\r\n", false, true),
        (&ping, true, true),
        (&ping, true, false),
    ] {
        attack(Setup::new(1), |server| {
            let mut sockets: Vec<Raw> = (0..8).map(|_| server.raw()).collect();
            for raw in &mut sockets {
                if upgrades {
                    raw.write(handshake("/v1?key=pk_live_a", ""));
                    assert_eq!(raw.response().status, 101);
                }
            }
            let before = server.memory_bytes();
            let most = flood(server, &mut sockets, unit, 48 << 20, reads);
            let grown = most.saturating_sub(before);
            assert!(grown < 8 << 20, "{grown} bytes more memory");
        });
    }
}
