//! The executable against a small server of the protocol, honest and dishonest.
//!
//! The server is built on tungstenite, so that neither side shares code with the other.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// The delivery at which a dishonest server does wrong.
const FAULTY_DELIVERY: u64 = 300;

/// What the server does wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Loses,
    Doubles,
    Damages,
    Swaps,
    Closes,
    Refuses,
}

#[derive(Default)]
struct Hub {
    /// Subscribers of each channel, and their outboxes, by connection.
    channels: HashMap<String, HashMap<u64, Sender<String>>>,
    /// Outbox of each peer.
    peers: HashMap<String, Sender<String>>,
    delivered: u64,
    /// A message that its connection gets only after the next one.
    held_back: Option<(u64, String)>,
}

impl Hub {
    fn publish(&mut self, from: u64, channel: &str, data: &Value, fault: Fault) {
        let text =
            format!(r#"{{"type":"message","channel":"{channel}","from":"c{from}","data":{data}}}"#);
        let Some(subscribers) = self.channels.get(channel) else {
            return;
        };
        for (id, outbox) in subscribers.iter().filter(|(id, _)| **id != from) {
            self.delivered += 1;
            let sent: Vec<String> = match fault {
                _ if self.delivered != FAULTY_DELIVERY => {
                    let late = self.held_back.take_if(|held| held.0 == *id);
                    std::iter::once(text.clone())
                        .chain(late.map(|held| held.1))
                        .collect()
                }
                Fault::None | Fault::Refuses => vec![text.clone()],
                Fault::Loses => Vec::new(),
                Fault::Doubles => vec![text.clone(), text.clone()],
                Fault::Damages => vec![text.replace("x0", "x1")],
                Fault::Closes => vec![String::from("close")],
                Fault::Swaps => {
                    self.held_back = Some((*id, text.clone()));
                    Vec::new()
                }
            };
            // A subscriber that has gone hears nothing.
            sent.into_iter().for_each(|text| drop(outbox.send(text)));
        }
    }
}

/// Starts a server; returns its port. It lives as long as the test process.
fn serve(fault: Fault) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        let hub = Arc::new(Mutex::new(Hub::default()));
        for (id, stream) in listener.incoming().enumerate() {
            let hub = Arc::clone(&hub);
            thread::spawn(move || connection(stream.expect("accepted"), id as u64, &hub, fault));
        }
    });
    port
}

fn connection(mut stream: TcpStream, id: u64, hub: &Mutex<Hub>, fault: Fault) {
    if fault == Fault::Refuses {
        let mut head = [0; 2048];
        let _ = stream.read(&mut head);
        let body = r#"{"error":"unauthorized","message":"no"}"#;
        let _ = write!(
            stream,
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        return;
    }
    #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let check = |request: &Request, response: Response| {
        assert_eq!(request.uri().query(), Some("key=pk_live_test"));
        Ok(response)
    };
    let mut socket = tungstenite::accept_hdr(stream, check).expect("our own client's handshake");
    let timeout = Some(Duration::from_millis(1));
    socket
        .get_ref()
        .set_read_timeout(timeout)
        .expect("a socket");
    let (outbox, waiting) = channel::<String>();
    let peer = format!("c{id}");
    hub.lock()
        .expect("no panic")
        .peers
        .insert(peer.clone(), outbox.clone());
    let welcome = format!(r#"{{"type":"welcome","peerId":"{peer}","expiresAt":null}}"#);
    socket.send(Message::text(welcome)).expect("open");
    loop {
        for text in waiting.try_iter() {
            if text == "close" {
                drop(socket);
                return;
            }
            if socket.write(Message::text(text)).is_err() {
                return;
            }
        }
        if socket.flush().is_err() {
            return;
        }
        match socket.read() {
            Ok(Message::Text(text)) => command(text.as_str(), id, &outbox, hub, fault),
            Ok(_) => {}
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let mut hub = hub.lock().expect("no panic");
    hub.peers.remove(&peer);
    hub.channels
        .values_mut()
        .for_each(|subscribers| drop(subscribers.remove(&id)));
    finish(socket);
}

fn finish(mut socket: WebSocket<TcpStream>) {
    let _ = socket.flush();
}

fn command(text: &str, id: u64, outbox: &Sender<String>, hub: &Mutex<Hub>, fault: Fault) {
    let command: Value = serde_json::from_str(text).expect("the harness sends JSON");
    let text_of = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
    let mut hub = hub.lock().expect("no panic");
    match command["type"].as_str() {
        Some("subscribe") => {
            hub.channels
                .entry(text_of("channel"))
                .or_default()
                .insert(id, outbox.clone());
        }
        Some("unsubscribe") => {
            hub.channels
                .entry(text_of("channel"))
                .or_default()
                .remove(&id);
        }
        Some("publish") => hub.publish(id, &text_of("channel"), &command["data"], fault),
        Some("send") => {
            let text = format!(
                r#"{{"type":"direct","from":"c{id}","data":{}}}"#,
                command["data"]
            );
            hub.peers[&text_of("to")].send(text).expect("connected");
        }
        other => panic!("unexpected command {other:?}"),
    }
    if let Some(request) = command["requestId"].as_str() {
        let _ = outbox.send(format!(r#"{{"type":"ack","requestId":"{request}"}}"#));
    }
}

/// Runs the harness for a moment with these arguments and a result file.
fn load(port: u16, arguments: &[&str], json: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmesh-loadtest"))
        .args([
            "--quiet",
            "--duration",
            "0.5",
            "--warmup",
            "0.2",
            "--settle",
            "0",
        ])
        .args([
            "--key",
            "pk_live_test",
            "--url",
            &format!("ws://127.0.0.1:{port}"),
        ])
        .arg("--json")
        .arg(json)
        .args(arguments)
        .output()
        .expect("the executable runs")
}

/// A run that must end well; returns its result file.
fn check_right(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("temporary folder");
    let json = folder.path().join("result.json");
    let output = load(serve(Fault::None), arguments, &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = std::fs::read_to_string(json).expect("a result");
    serde_json::from_str(&text).expect("JSON")
}

/// A run that must fail with one line that contains `cause`, and leave no result.
fn check_wrong(fault: Fault, cause: &str) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let json = folder.path().join("result.json");
    let arguments = ["fanout", "--subscribers", "10", "--rate", "200"];
    let output = load(serve(fault), &arguments, &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{fault:?}: {errors}");
    assert!(errors.contains(cause), "{fault:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(!json.exists(), "{fault:?}: a broken run left a result");
    assert!(
        output.stdout.is_empty(),
        "{fault:?}: a broken run printed figures"
    );
}

#[test]
fn fanout_counts_every_delivery() {
    let result = check_right(&["fanout", "--subscribers", "5", "--rate", "100", "--acks"]);
    let run = &result["runs"][0];
    assert_eq!(run["sent"], 50, "half a second at 100/s");
    assert_eq!(run["series"][0]["name"], "delivery");
    assert_eq!(run["series"][0]["count"], 250);
    assert_eq!(run["series"][1]["count"], 50, "acks");
    assert_eq!(run["verified"], 70 * 6, "warm-up included");
}

#[test]
fn saturation_direct_rooms_and_connects_end_well() {
    let saturated = [
        "fanout",
        "--subscribers",
        "3",
        "--saturate",
        "--in-flight",
        "4",
    ];
    assert!(check_right(&saturated)["runs"][0]["received"].as_u64() > Some(10));
    let direct = check_right(&["direct", "--pairs", "2", "--rate", "100"]);
    assert_eq!(direct["runs"][0]["series"][0]["count"], 50);
    let rooms = [
        "rooms",
        "--rooms",
        "3",
        "--members",
        "3",
        "--rate",
        "200",
        "--changes",
        "50",
    ];
    assert!(check_right(&rooms)["runs"][0]["received"].as_u64() > Some(10));
    let connects = check_right(&["connect", "-n", "20", "--concurrency", "4"]);
    assert_eq!(connects["runs"][0]["received"], 20);
}

#[test]
fn a_dishonest_server_is_found_out() {
    check_wrong(Fault::Loses, "1 lost, 0 doubled, 0 reordered");
    check_wrong(Fault::Doubles, "0 lost, 1 doubled, 0 reordered");
    check_wrong(Fault::Swaps, "0 lost, 0 doubled, 1 reordered");
    check_wrong(Fault::Damages, "damaged");
}

#[test]
fn a_server_that_refuses_or_ends_leaves_no_result() {
    check_wrong(Fault::Refuses, "HTTP 401");
    check_wrong(Fault::Closes, "ended without a close frame");
}
