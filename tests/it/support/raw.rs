//! HTTP and WebSocket as bytes on a socket, for what no well-behaved client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A TCP connection that sends whatever it is given.
pub(crate) struct Raw {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// It has this status and the documented error body.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["error"], code, "{self:?}");
        assert!(self.json()["message"].is_string(), "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{self:?}"
        );
    }
}

impl Raw {
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|| panic!("{address} refuses a connection"))
    }

    /// A connection, if somebody listens.
    pub(crate) fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self {
            stream,
            unread: Vec::new(),
        })
    }

    /// Waits for answers as long as another process may take to be started.
    pub(crate) fn wait_longer(&self) {
        self.stream.set_read_timeout(Some(PATIENCE * 8)).unwrap();
    }

    #[track_caller]
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Writes until the server does not take any more. Returns whether it took everything.
    pub(crate) fn write_while_taken(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next answer, with a body as long as it says.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.try_response()
            .unwrap_or_else(|| panic!("the stream ends in an answer: {:?}", self.text()))
    }

    /// The next answer, unless the stream ends before it is whole.
    #[track_caller]
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let head = loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more() {
                return None;
            }
        };
        let head = String::from_utf8(self.unread.drain(..head).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: String::new(),
        };
        let length = response
            .header("content-length")
            .map_or(0, |it| it.parse().unwrap());
        while self.unread.len() < length {
            if !self.more() {
                return None;
            }
        }
        response.body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        Some(response)
    }

    /// The server's next frame: opcode and payload.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        self.frame_or_end().expect("the stream ends before a frame")
    }

    /// The server's next frame, unless it ends the stream before one.
    #[track_caller]
    pub(crate) fn frame_or_end(&mut self) -> Option<(u8, Vec<u8>)> {
        while self.unread.len() < 2 {
            if !self.more() {
                assert!(self.unread.is_empty(), "the stream ends in a frame");
                return None;
            }
        }
        assert_eq!(self.unread[1] & 0x80, 0, "a server does not mask");
        let (start, length) = match self.unread[1] {
            126 => (4, None),
            127 => (10, None),
            short => (2, Some(usize::from(short))),
        };
        self.fill(start);
        let length = length.unwrap_or_else(|| {
            let long = self.unread[2..start].iter();
            long.fold(0, |length, byte| (length << 8) | usize::from(*byte))
        });
        self.fill(start + length);
        let frame: Vec<u8> = self.unread.drain(..start + length).collect();
        Some((frame[0] & 0x0F, frame[start..].to_vec()))
    }

    #[track_caller]
    fn fill(&mut self, bytes: usize) {
        while self.unread.len() < bytes {
            assert!(self.more(), "the stream ends in a frame");
        }
    }

    /// The server ends the stream and sends nothing before that.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        while self.more() {}
        assert!(self.unread.is_empty(), "still came {:?}", self.text());
    }

    /// The server ends the connection, whatever it sends before.
    #[track_caller]
    pub(crate) fn ends_somehow(&mut self) {
        while self.more() {
            self.unread.clear();
        }
    }

    /// Waits for more bytes; `false` at the end of the stream, orderly or not.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1_024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // With a timeout on the socket, the system does not restart it.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.more(),
            Err(error) => panic!("{error}, with {:?} read", self.text()),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A sound WebSocket handshake, with more header lines (each ended by CR LF).
pub(crate) fn handshake(target: &str, more: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame (RFC 6455, section 5.2); `first` is its first byte: FIN, RSV and opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// The header of a masked frame, for any announced length.
pub(crate) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(0x80 | length as u8),
        126..0x1_0000 => {
            header.push(0x80 | 126);
            header.extend((length as u16).to_be_bytes());
        }
        _ => {
            header.push(0x80 | 127);
            header.extend(length.to_be_bytes());
        }
    }
    header.extend(MASK);
    header
}

pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}
