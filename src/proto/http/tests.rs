//! The parts of `http` together: a stream of requests, cut at will, answered in memory.

use proptest::prelude::*;

use super::response::{CONTINUE, append_request_error, append_response};
use super::*;

const HEAD_BYTES_MAX: usize = 512;
const BODY_BYTES_MAX: u64 = 64;

/// The least that a connection has to do: it echoes every request's own method, path and
/// body, and an upgrade with a 101, after which it takes no more requests.
#[derive(Default)]
struct EchoConnection {
    buf: Vec<u8>,
    out: Vec<u8>,
    searched: usize,
    /// Where the head ends, where the body gathered so far ends, and what reads the rest.
    reading: Option<(usize, usize, BodyDecoder)>,
    closed: bool,
}

impl EchoConnection {
    fn read(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        let mut goes_on = !self.closed;
        while goes_on {
            goes_on = match self.step() {
                Ok(progressed) => progressed && !self.closed,
                Err(error) => {
                    let context = ResponseContext::UNREADABLE;
                    self.closed = !append_request_error(&mut self.out, &context, error);
                    assert!(self.closed);
                    false
                }
            };
        }
    }

    /// Whether it got anywhere with the bytes it has.
    fn step(&mut self) -> Result<bool, RequestError> {
        let Some((head_end, body_end, mut decoder)) = self.reading.take() else {
            return self.begin_request();
        };
        let progress = decoder.decode(&mut self.buf[body_end..])?;
        self.buf
            .drain(body_end + progress.written..body_end + progress.consumed);
        let body_end = body_end + progress.written;
        if !progress.done {
            self.reading = Some((head_end, body_end, decoder));
            return Ok(false);
        }
        let head = parse_head(&self.buf[..head_end])?;
        let context = ResponseContext::of(&head);
        let path = Target::parse(head.target)?.path;
        let body = &self.buf[head_end..body_end];
        let echo = [head.method.as_bytes(), b" ", path.as_bytes(), b" ", body].concat();
        append_response(&mut self.out, &context, Status::Ok, &[], &echo);
        self.closed = !context.keep_alive;
        self.buf.drain(..body_end);
        Ok(true)
    }

    fn begin_request(&mut self) -> Result<bool, RequestError> {
        let Some(end) = find_head_end(&self.buf, self.searched, HEAD_BYTES_MAX)? else {
            self.searched = self.buf.len();
            return Ok(false);
        };
        self.searched = 0;
        let head = parse_head(&self.buf[..end])?;
        if head.list_contains("upgrade", "websocket") {
            check_upgrade(&head)?.append_switching_protocols(&mut self.out);
            self.closed = true;
            return Ok(true);
        }
        let framing = BodyFraming::of(&head, BODY_BYTES_MAX)?;
        if expects_continue(&head)? {
            self.out.extend_from_slice(CONTINUE);
        }
        self.reading = Some((end, end, BodyDecoder::new(framing, BODY_BYTES_MAX)));
        Ok(true)
    }
}

fn answers<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut connection = EchoConnection::default();
    for piece in pieces {
        connection.read(piece);
    }
    String::from_utf8_lossy(&connection.out).into_owned()
}

/// What a client reads out of `answers`: the body of each 200, and the status of every other one.
fn outcomes(mut answers: &str) -> Vec<&str> {
    let mut outcomes = Vec::new();
    while let Some((head, rest)) = answers.split_once("\r\n\r\n") {
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let (body, rest) = rest.split_at(length.map_or(0, |length| length.parse().unwrap()));
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        outcomes.push(if status == "200" { body } else { status });
        answers = rest;
    }
    assert_eq!(answers, "", "behind {outcomes:?}");
    outcomes
}

/// Feeds `stream` whole, split at every byte, and byte by byte.
#[track_caller]
fn check(stream: &str, expected: &[&str]) {
    let stream = stream.as_bytes();
    let whole = answers([stream]);
    assert_eq!(outcomes(&whole), expected);
    for split in 0..=stream.len() {
        let (first, second) = stream.split_at(split);
        assert_eq!(answers([first, second]), whole, "split at {split}");
    }
    assert_eq!(answers(stream.chunks(1)), whole, "byte by byte");
}

const CHUNKED: &str = "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
    3\r\nabc\r\n2;x\r\nde\r\n0\r\nA: b\r\n\r\n";
const SIZED: &str = "POST /s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
const BARE: &str = "GET /g?a=b HTTP/1.1\r\nHost: x\r\n\r\n";
const UPGRADE: &str = "GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stream = [CHUNKED, BARE, SIZED, "\r\n", SIZED, CHUNKED, BARE].concat();
    let (chunked, bare, sized) = ("POST /c abcde", "GET /g ", "POST /s hello");
    check(&stream, &[chunked, bare, sized, sized, chunked, bare]);
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let stream = SIZED.replace("Content", "Expect: 100-continue\r\nContent") + BARE;
    check(&stream, &["100", "POST /s hello", "GET /g "]);
}

#[test]
fn nothing_is_answered_after_the_last_response() {
    let last = BARE.replace("Host", "Connection: close\r\nHost");
    check(&[BARE, &last, BARE].concat(), &["GET /g ", "GET /g "]);
    check(&[&BARE.replace("1.1", "1.0"), BARE].concat(), &["GET /g "]);
    check(&[BARE, UPGRADE, BARE].concat(), &["GET /g ", "101"]);
}

#[test]
fn nothing_is_taken_for_a_request_after_a_fault() {
    for (faulty, status) in [
        (CHUNKED.replace("Host", "Content-Length: 5\r\nHost"), "400"),
        (CHUNKED.replace("abc", "abcd"), "400"),
        (CHUNKED.replace("chunked", "gzip"), "400"),
        (CHUNKED.replace("3\r\n", "FFFFFFFF\r\n"), "413"),
        (SIZED.replace("5\r\n", "65\r\n"), "413"),
        (SIZED.replace("Host", "Expect: x\r\nHost"), "417"),
        (BARE.replace("Host: x", "Host: x\nA: b"), "400"),
        (BARE.replace("1.1", "2.0"), "400"),
        (BARE.replace("Host: x\r\n", ""), "400"),
        (BARE.replace("a=b", &"a".repeat(HEAD_BYTES_MAX)), "431"),
        (UPGRADE.replace("13", "8"), "426"),
        (UPGRADE.replace("GET", "POST"), "400"),
    ] {
        check(&[BARE, &faulty, BARE].concat(), &["GET /g ", status]);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        answers([&bytes[..]]);
        let _ = parse_head(&bytes);
    }

    /// Sound requests with a few bytes changed reach deeper than noise does.
    #[test]
    fn damaged_requests_are_answered_the_same_however_they_are_cut(
        which in prop::collection::vec(0..4_usize, 1..4),
        damage in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(&b"\r\n :;,0519afx/%\0\xff"[..])),
            0..4,
        ),
        cut in any::<prop::sample::Index>(),
    ) {
        let requests = which.iter().map(|&at| [CHUNKED, SIZED, BARE, UPGRADE][at]);
        let mut stream = requests.collect::<String>().into_bytes();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let whole = answers([&stream[..]]);
        let (first, second) = stream.split_at(cut.index(stream.len()));
        prop_assert_eq!(&answers([first, second]), &whole);
        prop_assert_eq!(&answers(stream.chunks(1)), &whole);
    }
}
