//! A small server of the protocol, honest and dishonest, and the executable beside it.
//!
//! The server is built on tungstenite, so that neither side shares code with the other.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// The delivery at which a dishonest server does wrong.
pub(crate) const FAULTY_DELIVERY: u64 = 300;

/// How long a stalling server does nothing.
pub(crate) const STALL: Duration = Duration::from_secs(1);

/// The numbering of every channel with history.
const EPOCH: &str = "q7Zk2wAb";

/// What the server does wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// A message never arrives.
    Loses,
    /// A message arrives twice.
    Doubles,
    /// A message arrives with other content.
    Damages,
    /// A message arrives after the next one.
    Swaps,
    /// A connection ends.
    Closes,
    /// Nobody may connect.
    Refuses,
    /// Commands get no answer.
    Ignores,
    /// Everything is late by [`STALL`].
    Stalls,
    /// A replay lacks its first message.
    SkipsReplayed,
    /// A replay brings its first message twice.
    DoublesReplayed,
    /// No subscription can be continued.
    Forgets,
    /// There is no history.
    KeepsNothing,
}

#[derive(Default)]
struct Hub {
    /// Told at the faulty delivery, and when a command is ignored.
    reached: Option<Sender<()>>,
    /// Subscribers of each channel, and their outboxes, by connection.
    channels: HashMap<String, HashMap<u64, Sender<String>>>,
    /// Outbox of each peer.
    peers: HashMap<String, Sender<String>>,
    /// What the channels with history keep.
    histories: HashMap<String, Vec<String>>,
    delivered: u64,
    /// A message that its connection gets only after the next one.
    held_back: Option<(u64, String)>,
}

/// A test that does not wait has dropped the receiver.
fn tell(reached: &mut Option<Sender<()>>) {
    if let Some(reached) = reached.take() {
        let _ = reached.send(());
    }
}

impl Hub {
    fn publish(&mut self, from: u64, channel: &str, data: &Value, fault: Fault) {
        let mut text =
            format!(r#"{{"type":"message","channel":"{channel}","from":"c{from}","data":{data}}}"#);
        if has_history(channel, fault) {
            let kept = self.histories.entry(channel.to_owned()).or_default();
            text.insert_str(text.len() - 1, &format!(r#","seq":{}"#, kept.len() + 1));
            kept.push(text.clone());
        }
        let Some(subscribers) = self.channels.get(channel) else {
            return;
        };
        for (id, outbox) in subscribers.iter().filter(|(id, _)| **id != from) {
            self.delivered += 1;
            if self.delivered == FAULTY_DELIVERY {
                tell(&mut self.reached);
                if fault == Fault::Stalls {
                    thread::sleep(STALL);
                }
            }
            let sent: Vec<String> = match fault {
                _ if self.delivered != FAULTY_DELIVERY => {
                    let late = self.held_back.take_if(|held| held.0 == *id);
                    std::iter::once(text.clone())
                        .chain(late.map(|held| held.1))
                        .collect()
                }
                Fault::None | Fault::Refuses | Fault::Ignores | Fault::Stalls => vec![text.clone()],
                Fault::SkipsReplayed | Fault::DoublesReplayed => vec![text.clone()],
                Fault::Forgets | Fault::KeepsNothing => vec![text.clone()],
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

/// Whether a channel is one with history: those of `resume` are.
fn has_history(channel: &str, fault: Fault) -> bool {
    channel.contains("/resume/") && fault != Fault::KeepsNothing
}

/// What stands in the answer to a subscription of that channel, and the replay that follows.
fn position_and_replay(kept: &[String], command: &Value, fault: Fault) -> (String, Vec<String>) {
    let last = kept.len();
    let position = format!(r#","epoch":"{EPOCH}","seq":{last}"#);
    let Some(seq) = command["since"]["seq"].as_u64() else {
        return (position, Vec::new());
    };
    assert_eq!(command["since"]["epoch"], EPOCH);
    if fault == Fault::Forgets {
        return (format!(r#"{position},"recovered":false"#), Vec::new());
    }
    let mut replay = kept[seq as usize..].to_vec();
    let position = format!(r#"{position},"recovered":true,"count":{}"#, replay.len());
    match fault {
        Fault::SkipsReplayed if !replay.is_empty() => drop(replay.remove(0)),
        Fault::DoublesReplayed if !replay.is_empty() => replay.insert(0, replay[0].clone()),
        _ => {}
    }
    (position, replay)
}

/// A stream to a client, plain or TLS.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// A server that lives as long as the test process.
pub(crate) struct Server {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Gets one message at delivery number [`FAULTY_DELIVERY`], or when a command is ignored.
    pub reached: Receiver<()>,
}

/// Starts a server of plain WebSocket.
pub(crate) fn serve(fault: Fault) -> Server {
    start(fault, None)
}

/// Starts a server with TLS.
pub(crate) fn serve_tls(config: Arc<ServerConfig>) -> Server {
    start(Fault::None, Some(config))
}

fn start(fault: Fault, tls: Option<Arc<ServerConfig>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let (sender, reached) = channel();
    thread::spawn(move || {
        let hub = Hub {
            reached: Some(sender),
            ..Hub::default()
        };
        let hub = Arc::new(Mutex::new(hub));
        for (id, stream) in listener.incoming().enumerate() {
            let (hub, tls) = (Arc::clone(&hub), tls.clone());
            thread::spawn(move || {
                let stream = stream.expect("accepted");
                match tls {
                    Some(config) => with_tls(stream, config, id as u64, &hub, fault),
                    None => connection(stream, |it| it, id as u64, &hub, fault),
                }
            });
        }
    });
    Server { port, reached }
}

fn with_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
    id: u64,
    hub: &Mutex<Hub>,
    fault: Fault,
) {
    let mut session = ServerConnection::new(config).expect("a valid configuration");
    while session.is_handshaking() {
        if session.complete_io(&mut stream).is_err() {
            // An alert is on its way.
            return;
        }
    }
    let socket = |stream: TcpStream| StreamOwned::new(session, stream);
    connection(stream, socket, id, hub, fault);
}

fn connection<S: Duplex>(
    mut stream: TcpStream,
    wrap: impl FnOnce(TcpStream) -> S,
    id: u64,
    hub: &Mutex<Hub>,
    fault: Fault,
) {
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
    let handle = stream.try_clone().expect("a socket");
    let Ok(mut socket) = tungstenite::accept_hdr(wrap(stream), check) else {
        // A client that speaks something else gets what web servers answer.
        let mut handle = handle;
        let _ = handle.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        return;
    };
    let timeout = Some(Duration::from_millis(1));
    handle.set_read_timeout(timeout).expect("a socket");
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

fn finish<S: Duplex>(mut socket: WebSocket<S>) {
    let _ = socket.flush();
}

fn command(text: &str, id: u64, outbox: &Sender<String>, hub: &Mutex<Hub>, fault: Fault) {
    let command: Value = serde_json::from_str(text).expect("the harness sends JSON");
    let text_of = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
    let mut hub = hub.lock().expect("no panic");
    if fault == Fault::Ignores {
        tell(&mut hub.reached);
        return;
    }
    let mut position = String::new();
    let mut replay = Vec::new();
    match command["type"].as_str() {
        Some("subscribe") => {
            if has_history(&text_of("channel"), fault) {
                let kept = hub.histories.entry(text_of("channel")).or_default();
                (position, replay) = position_and_replay(kept, &command, fault);
            }
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
        Some("publish") => {
            hub.publish(id, &text_of("channel"), &command["data"], fault);
            if let Some(kept) = hub.histories.get(&text_of("channel")) {
                position = format!(r#","epoch":"{EPOCH}","seq":{}"#, kept.len());
            }
        }
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
        let ack = format!(r#"{{"type":"ack","requestId":"{request}"{position}}}"#);
        let _ = outbox.send(ack);
    }
    replay.into_iter().for_each(|text| drop(outbox.send(text)));
}

/// The executable, quiet, with the key that the server wants and no environment of its own.
pub(crate) fn harness() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmesh-loadtest"));
    command.args(["--quiet", "--settle", "0", "--key", "pk_live_test"]);
    for name in [
        "RINGMESH_KEY",
        "RINGMESH_TOKEN_SECRET",
        "RINGMESH_API_SECRET",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The URL of a port on this machine.
pub(crate) fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}")
}
