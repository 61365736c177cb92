//! A WebSocket client: tungstenite, which shares no code with the server.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use tungstenite::client::ClientRequestBuilder;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

use super::PATIENCE;

/// A connection that got its `welcome`.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    pub peer_id: String,
    pub welcome: String,
    requests: u32,
    /// Presence that came before an answer that was awaited.
    put_off: VecDeque<String>,
}

/// A connection that got its 101.
pub(crate) fn upgrade(
    address: SocketAddr,
    query: &str,
    headers: &[(&str, &str)],
) -> WebSocket<TcpStream> {
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
    pub(crate) fn connect(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut client = Self {
            socket: upgrade(address, query, headers),
            peer_id: String::new(),
            welcome: String::new(),
            requests: 0,
            put_off: VecDeque::new(),
        };
        client.welcome = client.next();
        let welcome: Value = serde_json::from_str(&client.welcome).unwrap();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client.peer_id = welcome["peerId"].as_str().unwrap().into();
        client
    }

    #[track_caller]
    pub(crate) fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).unwrap();
    }

    /// Sends a text message; `None` if the connection has ended.
    pub(crate) fn try_send(&mut self, text: String) -> Option<()> {
        self.socket.send(Message::text(text)).ok()
    }

    /// The next text message; `None` if the connection has ended.
    pub(crate) fn try_next(&mut self) -> Option<String> {
        loop {
            if let Message::Text(text) = read(&mut self.socket).ok()? {
                return Some(text.as_str().into());
            }
        }
    }

    /// Sends bytes that need not be WebSocket frames.
    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// The next text message. Pings are answered on the way.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        match self.put_off.pop_front() {
            Some(text) => text,
            None => self.read_text(),
        }
    }

    #[track_caller]
    fn read_text(&mut self) -> String {
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
    pub(crate) fn next_message(&mut self) -> Message {
        if let Some(text) = self.put_off.pop_front() {
            return Message::text(text);
        }
        read(&mut self.socket).unwrap_or_else(|error| panic!("{}: {error}", self.peer_id))
    }

    /// The next text message is exactly this.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) {
        let got = self.next();
        assert_eq!(got, text, "{}", self.peer_id);
    }

    /// Sends a command with a request id and expects its ack. Presence may come before it, which
    /// depends on how busy the machine is; that of a channel to which the command subscribes may
    /// not.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: Value) {
        let (got, id) = self.answer(command);
        let ack = format!(r#"{{"type":"ack","requestId":"{id}"}}"#);
        assert_eq!(got, ack, "{}", self.peer_id);
    }

    /// Sends a command. Returns what comes next, presence put off, and the request id.
    #[track_caller]
    fn answer(&mut self, command: Value) -> (String, String) {
        let own = match command["type"].as_str() {
            Some("subscribe") => format!(r#""channel":{}"#, command["channel"]),
            _ => r#""channel":none"#.to_owned(),
        };
        let id = self.request(command);
        loop {
            let text = self.read_text();
            if !text.starts_with(r#"{"type":"presence","#) || text.contains(&own) {
                return (text, id);
            }
            self.put_off.push_back(text);
        }
    }

    /// Sends a command with a request id and expects this error; presence may come before it.
    #[track_caller]
    pub(crate) fn ask_refused(&mut self, command: Value, code: &str) {
        let shown = command.to_string();
        let (answer, id) = self.answer(command);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["type"], "error", "{shown}: {answer}");
        assert_eq!(answer["requestId"], id.as_str(), "{shown}: {answer}");
        assert_eq!(answer["code"], code, "{shown}: {answer}");
    }

    /// Sends a command with a request id of its own. Returns that id.
    pub(crate) fn request(&mut self, mut command: Value) -> String {
        self.requests += 1;
        let id = format!("r{}", self.requests);
        command["requestId"] = json!(id);
        self.send(command.to_string());
        id
    }

    /// Subscribes a connection without the `presence` action.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) {
        self.ask(json!({"type": "subscribe", "channel": channel}));
    }

    /// Subscribes a connection with the `presence` action. Returns the snapshot's peer ids.
    #[track_caller]
    pub(crate) fn subscribe_for_presence(&mut self, channel: &str) -> Vec<String> {
        self.subscribe(channel);
        let (joined, left) = self.presence(channel);
        assert_eq!(left, Vec::<String>::new());
        joined
    }

    /// The next message is a presence change of this channel; its ids, sorted.
    #[track_caller]
    pub(crate) fn presence(&mut self, channel: &str) -> (Vec<String>, Vec<String>) {
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
    pub(crate) fn publish(&mut self, channel: &str, data: Value) {
        self.ask(json!({"type": "publish", "channel": channel, "data": data}));
    }

    /// Nothing is queued to this connection by now.
    #[track_caller]
    pub(crate) fn expect_nothing_queued(&mut self) {
        self.send(r#"{"type":"ping","requestId":"quiet"}"#);
        self.expect(r#"{"type":"pong","requestId":"quiet"}"#);
    }

    /// The server closes with this code, with nothing before it. Returns the reason.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16) -> String {
        let peer = self.peer_id.clone();
        expect_close(&mut self.socket, code, &peer)
    }

    /// Reads messages up to the close, which has this code. Returns the messages.
    #[track_caller]
    pub(crate) fn read_until_close(&mut self, code: u16) -> Vec<String> {
        let mut messages: Vec<String> = self.put_off.drain(..).collect();
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
    pub(crate) fn close(mut self, code: Option<u16>) -> u16 {
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
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }
}

/// The next message. With a timeout on the socket, the system does not restart a read that a
/// signal or a debugger has interrupted.
pub(crate) fn read(socket: &mut WebSocket<TcpStream>) -> tungstenite::Result<Message> {
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
pub(crate) fn expect_close(socket: &mut WebSocket<TcpStream>, code: u16, peer: &str) -> String {
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
