//! What clients speak: frames and responses, read and written without any of the server's code.

/// What a server sends over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// The first byte of each frame that a client sends whole (RFC 6455, section 5.2).
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;
/// Of a message in two pieces: its first one, and its last.
pub(crate) const TEXT_BEGINS: u8 = 0x01;
pub(crate) const ENDS: u8 = 0x80;

/// Clients cap frames at 1 MiB; the server promises less.
const FRAME_BYTES_MAX: usize = 1_000_000;

/// Appends a frame as clients send them: masked.
pub(crate) fn append_frame(bytes: &mut Vec<u8>, first: u8, key: [u8; 4], payload: &[u8]) {
    bytes.push(first);
    match payload.len() {
        0..126 => bytes.push(0x80 | payload.len() as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&key);
    let masked = payload.iter().zip(key.iter().cycle());
    bytes.extend(masked.map(|(byte, key)| byte ^ key));
}

/// The frame that begins there, and its length, once it is whole. A server masks nothing, splits
/// nothing, uses no extension and the shortest form of each length.
pub(crate) fn frame(bytes: &[u8]) -> Option<(usize, Frame)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0xF0 == 0x80, "a frame in pieces, or an extension");
    assert!(second < 0x80, "a masked frame");
    let (header, count) = match second {
        126 => {
            let count = u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap());
            assert!(count > 125, "a length in a longer form than it needs");
            (4, usize::from(count))
        }
        127 => {
            let count = u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap());
            assert!(count > 65_535, "a length in a longer form than it needs");
            (10, count as usize)
        }
        count => (2, usize::from(count)),
    };
    assert!(
        header + count <= FRAME_BYTES_MAX,
        "clients take no longer frame"
    );
    let payload = bytes.get(header..header + count)?;
    let frame = match first & 0x0F {
        1 => Frame::Text(String::from_utf8(payload.to_vec()).expect("text is not UTF-8")),
        8 => Frame::Close(close_code(payload)),
        9 => Frame::Ping(payload.to_vec()),
        10 => Frame::Pong,
        other => panic!("a server sends no frame of kind {other}"),
    };
    assert!(first == TEXT || count <= 125, "a long control frame");
    Some((header + count, frame))
}

fn close_code(payload: &[u8]) -> Option<u16> {
    assert!(payload.len() != 1, "half a close code");
    let code = payload.get(..2)?;
    assert!(payload[2..].is_ascii(), "a reason is ASCII");
    Some(u16::from_be_bytes(code.try_into().unwrap()))
}

/// A response of the server's.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub status: u16,
    /// The whole head.
    pub head: String,
    pub body: String,
    /// Bytes of all of it.
    pub count: usize,
}

/// The response that begins there, once it is whole.
pub(crate) fn response(bytes: &[u8]) -> Option<Response> {
    let head = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("heads are ASCII");
    let status = text.strip_prefix("HTTP/1.1 ").expect("a status line");
    let status = status[..3].parse().expect("a status");
    let length = text.split_once("Content-Length: ");
    let length = length.and_then(|(_, rest)| rest.lines().next()?.parse().ok());
    let length: usize = length.unwrap_or(0);
    let body = bytes.get(head..head + length)?;
    Some(Response {
        status,
        head: text.to_owned(),
        body: String::from_utf8(body.to_vec()).expect("JSON is UTF-8"),
        count: head + length,
    })
}
