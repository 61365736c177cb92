//! What came before the end of a connection is used and answered, and what has ended leaves
//! nothing behind.

use std::net::Shutdown;

use serde_json::json;

use crate::support::raw::{Raw, frame, handshake, text_frame};
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, secret_key};
use crate::support::until;

/// A value of the metrics, summed over shards.
fn metric(server: &Server, name: &str) -> f64 {
    let mut admin = Raw::open(server.admin_address());
    admin.write("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let body = admin.response().body;
    let lines = body
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// 16 subscribes and 50 publications in one write, the end of the stream right behind it.
#[test]
fn messages_before_the_end_of_a_stream_are_delivered() {
    let server = Setup::new(2).start();
    let mut reader = server.quiet_peer("reader");
    for channel in 0..4 {
        reader.subscribe(&format!("ch{channel}"));
    }
    let joins = (0..16).map(|at| json!({"type": "subscribe", "channel": format!("z{at}")}));
    let publishes = (0..50).map(|at| {
        json!({"type": "publish", "channel": format!("ch{}", at % 4), "data": at, "requestId": "1"})
    });
    let commands = joins.chain(publishes);
    let commands: Vec<u8> = commands
        .flat_map(|it| text_frame(&it.to_string()))
        .collect();
    for round in 0..8 {
        let mut raw = server.raw();
        raw.write(handshake("/v1?key=pk_live_a", ""));
        assert_eq!(raw.response().status, 101);
        let closes = round % 2 == 0;
        let close = if closes {
            frame(0x88, &[0x03, 0xE8])
        } else {
            Vec::new()
        };
        raw.write([&commands[..], &close].concat());
        raw.stream.shutdown(Shutdown::Write).unwrap();
        let (mut acks, mut last) = (0, 0);
        while let Some((opcode, payload)) = raw.frame_or_end() {
            acks += usize::from(payload.starts_with(br#"{"type":"ack""#));
            last = opcode;
        }
        assert_eq!(acks, 50, "round {round}");
        assert_eq!(last == 8, closes, "round {round}");
        for _ in 0..50 {
            assert!(reader.next().starts_with(r#"{"type":"message""#));
        }
    }
}

#[test]
fn requests_before_the_end_of_a_stream_are_answered() {
    let key = secret_key("sk_id_r", &["**"], ALL_ACTIONS) + "api_secret_file = \"api.secret\"\n";
    let server = Setup::new(2).app("app_r", &[key]).start();
    let requests = (0..16).map(|at| {
        format!(
            "POST /v1/channels/ch{at}/publish HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer sk_live_declared_0123456789\r\n\
             Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{{\"data\":1}}"
        )
    });
    let requests: String = requests.collect();
    let mut raw = server.raw();
    raw.write(requests);
    raw.stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..16 {
        assert_eq!(raw.response().status, 200);
    }
    raw.ends();
}

/// Their ends are read while they wait to be sent what the ends before them have caused.
#[test]
fn clients_that_exit_at_once_leave_no_sockets_behind() {
    let server = Setup::new(1).start();
    let mut clients: Vec<Raw> = (0..200).map(|_| server.raw()).collect();
    for (at, raw) in clients.iter_mut().enumerate() {
        raw.write(handshake("/v1?key=pk_live_a", ""));
        assert_eq!(raw.response().status, 101);
        for channel in [at % 20, (at + 7) % 20] {
            let join =
                json!({"type": "subscribe", "channel": format!("c{channel}"), "requestId": "1"});
            raw.write(text_frame(&join.to_string()));
        }
    }
    for raw in &mut clients {
        let mut acks = 0;
        while acks < 2 {
            acks += usize::from(raw.frame().1.starts_with(br#"{"type":"ack""#));
        }
    }
    drop(clients);
    until("all gone", || {
        metric(&server, "ringmesh_connections") == 0.0
    });
}
