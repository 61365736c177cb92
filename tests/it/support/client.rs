//! A WebSocket client: tungstenite, which shares no code with the server.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;

/// A connection that got its `welcome`.
pub struct Client {
    socket: WebSocket<TcpStream>,
    pub peer_id: String,
    pub welcome: String,
    requests: u32,
}

/// A connection that got its 101.
pub fn upgrade(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let uri = format!("ws://{address}/v1{query}").parse().unwrap();
    let request = headers
        .iter()
        .fold(ClientRequestBuilder::new(uri), |request, (name, value)| {
            request.with_header(*name, *value)
        });
    tungstenite::client(request, stream)
        .unwrap_or_else(|error| panic!("{error}"))
        .0
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut client = Self {
            socket: upgrade(address, query, headers),
            peer_id: String::new(),
            welcome: String::new(),
            requests: 0,
        };
        client.welcome = client.next();
        let welcome: Value = serde_json::from_str(&client.welcome).unwrap();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client.peer_id = welcome["peerId"].as_str().unwrap().into();
        client
    }

    #[track_caller]
    pub fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).unwrap();
    }

    /// Sends bytes that need not be WebSocket frames.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// The next text message. Pings are answered on the way.
    #[track_caller]
    pub fn next(&mut self) -> String {
        loop {
            match read(&mut self.socket) {
                Ok(Message::Text(text)) => return text.as_str().into(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{}: a message was due, not {other:?}", self.peer_id),
            }
        }
    }

    /// The next message of any kind.
    #[track_caller]
    pub fn next_message(&mut self) -> Message {
        read(&mut self.socket).unwrap_or_else(|error| panic!("{}: {error}", self.peer_id))
    }

    /// The next text message is exactly this.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let got = self.next();
        assert_eq!(got, text, "{}", self.peer_id);
    }

    /// Sends a command with a request id and expects its ack next.
    #[track_caller]
    pub fn ask(&mut self, command: Value) {
        let id = self.request(command);
        self.expect(&format!(r#"{{"type":"ack","requestId":"{id}"}}"#));
    }

    /// Sends a command with a request id and expects this error next.
    #[track_caller]
    pub fn ask_refused(&mut self, command: Value, code: &str) {
        let shown = command.to_string();
        let id = self.request(command);
        let answer: Value = serde_json::from_str(&self.next()).unwrap();
        assert_eq!(answer["type"], "error", "{shown}: {answer}");
        assert_eq!(answer["requestId"], id.as_str(), "{shown}: {answer}");
        assert_eq!(answer["code"], code, "{shown}: {answer}");
    }

    /// Sends a command with a request id of its own. Returns that id.
    pub fn request(&mut self, mut command: Value) -> String {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        command["requestId"] = json!(id);
        self.send(command.to_string());
        id
    }

    /// Subscribes a connection without the `presence` action.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) {
        self.ask(json!({"type": "subscribe", "channel": channel}));
    }

    /// Subscribes a connection with the `presence` action. Returns the snapshot's peer ids.
    #[track_caller]
    pub fn subscribe_for_presence(&mut self, channel: &str) -> Vec<String> {
        self.subscribe(channel);
        let (joined, left) = self.presence(channel);
        assert_eq!(left, Vec::<String>::new());
        joined
    }

    /// The next message is a presence change of this channel; its ids, sorted.
    #[track_caller]
    pub fn presence(&mut self, channel: &str) -> (Vec<String>, Vec<String>) {
        let text = self.next();
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["type"], "presence", "{}: {text}", self.peer_id);
        assert_eq!(event["channel"], channel, "{}: {text}", self.peer_id);
        let ids = |list: &str| {
            let entries = event[list].as_array().unwrap().iter();
            let mut ids: Vec<String> = entries
                .map(|entry| entry["peerId"].as_str().unwrap().into())
                .collect();
            ids.sort();
            ids
        };
        (ids("joined"), ids("left"))
    }

    /// Publishes and waits for the ack.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, data: Value) {
        self.ask(json!({"type": "publish", "channel": channel, "data": data}));
    }

    /// Nothing is queued to this connection by now.
    #[track_caller]
    pub fn expect_nothing_queued(&mut self) {
        self.send(r#"{"type":"ping","requestId":"quiet"}"#);
        self.expect(r#"{"type":"pong","requestId":"quiet"}"#);
    }

    /// The server closes with this code, with nothing before it. Returns the reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        let peer = self.peer_id.clone();
        expect_close(&mut self.socket, code, &peer)
    }

    /// Reads messages up to the close, which has this code. Returns the messages.
    #[track_caller]
    pub fn read_until_close(&mut self, code: u16) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            match read(&mut self.socket) {
                Ok(Message::Text(text)) => messages.push(text.as_str().into()),
                Ok(Message::Close(Some(close))) => {
                    assert_eq!(u16::from(close.code), code, "{close:?}");
                    return messages;
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("{}: {other:?} before the close", self.peer_id),
            }
        }
    }

    /// Closes in order. Returns the code of the server's close frame.
    #[track_caller]
    pub fn close(mut self, code: Option<u16>) -> u16 {
        let frame = code.map(|code| CloseFrame {
            code: CloseCode::from(code),
            reason: "bye".into(),
        });
        self.socket.close(frame).unwrap();
        let mut answer = None;
        loop {
            match read(&mut self.socket) {
                Ok(Message::Close(close)) => answer = close,
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => break,
                Err(error) => panic!("{}: {error}", self.peer_id),
            }
        }
        answer.map(|close| close.code.into()).unwrap()
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }
}

/// The next message. With a timeout on the socket, the system does not restart a read that a
/// signal or a debugger has interrupted.
pub fn read(socket: &mut WebSocket<TcpStream>) -> tungstenite::Result<Message> {
    loop {
        match socket.read() {
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The server's next frame is a close with this code and a short ASCII reason, and once that is
/// answered it ends the stream. Returns the reason.
#[track_caller]
pub fn expect_close(socket: &mut WebSocket<TcpStream>, code: u16, peer: &str) -> String {
    let reason = match read(socket) {
        Ok(Message::Close(Some(close))) => {
            assert_eq!(u16::from(close.code), code, "{peer}: {close:?}");
            close.reason.as_str().to_owned()
        }
        other => panic!("{peer}: a close with {code} was due, not {other:?}"),
    };
    assert!(
        reason.is_ascii() && (1..=64).contains(&reason.len()),
        "{code} {reason:?}"
    );
    match read(socket) {
        Err(tungstenite::Error::ConnectionClosed) => {}
        other => panic!("{peer}: the stream was to end, not {other:?}"),
    }
    reason
}
