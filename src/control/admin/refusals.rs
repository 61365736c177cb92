//! What the HTTP library alone decides about a connection, and what is made of it.
//!
//! It gets no bytes that are not sound ([`Intake`]). To a head that is none, or that is too large,
//! it says nothing but a status: such answers get the body that every refusal of the admin API has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::intake::Intake;
use crate::proto::http::error::RequestError;

/// How an answer of the library alone ends.
const EMPTY: &[u8] = b"content-length: 0\r\n";
/// Bytes that are read at once.
const READ_BYTES: usize = 8 * 1_024;
/// Bytes that are read behind what is refused.
const THROWN_AWAY_MAX: usize = 256 * 1_024;

/// A stream on which no refusal is empty, and from which nothing comes that is not sound.
pub(super) struct Told<S> {
    stream: S,
    intake: Intake,
    /// What is written in place of what was to be, how much of it has been, and how much the
    /// library thinks it is.
    instead: Option<(Vec<u8>, usize, usize)>,
}

impl<S> Told<S> {
    /// A stream of a connection.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            intake: Intake::default(),
            instead: None,
        }
    }
}

/// Returns what is answered in place of the library's own answer, if that is one. `fault` is what
/// it was not handed.
fn in_place_of(written: &[u8], fault: Option<RequestError>) -> Option<Vec<u8>> {
    let head = written.strip_suffix(b"\r\n")?;
    let is_refusal = written.starts_with(b"HTTP/1.1 4") || written.starts_with(b"HTTP/1.0 4");
    let at = head.windows(EMPTY.len()).position(|it| it == EMPTY)?;
    // A head and nothing behind it, which is what a refusal of ours never is.
    let is_alone = !head.windows(4).any(|it| it == b"\r\n\r\n");
    if !is_refusal || !is_alone {
        return None;
    }
    let status_end = head.windows(2).position(|it| it == b"\r\n")?;
    let (status, message) = match (fault, head.get(9..12)?) {
        (Some(fault), _) => {
            let status = fault.api_error().status();
            let line = format!("HTTP/1.1 {} {}", status.code(), status.reason());
            let message = match fault {
                RequestError::ProxyHeader => "the PROXY protocol is not spoken here",
                fault => fault.message(),
            };
            (line.into_bytes(), message)
        }
        (None, code) => {
            let message = match code {
                b"431" => "the request head is too long",
                b"414" => "the target of the request is too long",
                _ => "this is no request that HTTP/1.1 knows",
            };
            (head[..status_end].to_vec(), message)
        }
    };
    let body = format!("{{\"error\":\"invalid_request\",\"message\":\"{message}\"}}");
    let length = format!(
        "content-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let (before, after) = (&head[status_end..at], &head[at + EMPTY.len()..]);
    let parts = [
        &status,
        before,
        length.as_bytes(),
        after,
        b"\r\n",
        body.as_bytes(),
    ];
    Some(parts.concat())
}

impl<S: AsyncRead + Unpin> Told<S> {
    /// Reads what has come behind what is refused: a connection that is closed with bytes unread is
    /// reset, and its client may miss the refusal.
    fn throw_away(&mut self, context: &mut Context<'_>) {
        let mut bytes = [0; READ_BYTES];
        for _ in 0..THROWN_AWAY_MAX / READ_BYTES {
            let mut room = ReadBuf::new(&mut bytes);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut room);
            if !matches!(read, Poll::Ready(Ok(()))) || room.filled().is_empty() {
                return;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let told = &mut *self;
        while !told.intake.has_some() && told.intake.fault().is_none() {
            let mut room = [0; READ_BYTES];
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut told.stream).poll_read(context, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            told.intake.put(room.filled());
        }
        if told.intake.is_last() {
            told.throw_away(context);
        }
        into.put_slice(told.intake.take(into.remaining()).as_slice());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let told = &mut *self;
        if told.instead.is_none() {
            match in_place_of(bytes, told.intake.fault()) {
                Some(answer) => told.instead = Some((answer, 0, bytes.len())),
                None => return Pin::new(&mut told.stream).poll_write(context, bytes),
            }
        }
        while let Some((answer, done, claimed)) = &mut told.instead {
            let stream = Pin::new(&mut told.stream);
            match ready!(stream.poll_write(context, &answer[*done..]))? {
                0 => return Poll::Ready(Ok(0)),
                count => *done += count,
            }
            if *done == answer.len() {
                let claimed = *claimed;
                told.instead = None;
                return Poll::Ready(Ok(claimed));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = slices.iter().filter(|slice| !slice.is_empty());
        match (full.next(), full.next()) {
            (Some(only), None) => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_gets_one() {
        let refusal = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                        content-length: 0\r\ndate: today\r\n\r\n";
        let told = String::from_utf8(in_place_of(refusal, None).unwrap()).unwrap();
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("connection: close") && head.ends_with("date: today"),
            "{head}"
        );
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"], "invalid_request");
        let fault = Some(RequestError::TooManyHeaders);
        let told = String::from_utf8(in_place_of(refusal, fault).unwrap()).unwrap();
        assert!(
            told.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
            "{told}"
        );
        assert!(
            told.ends_with("the request has too many headers\"}"),
            "{told}"
        );
        for other in [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 405 No\r\ncontent-length: 20\r\n\r\n",
            b"{\"text\":\"HTTP/1.1 400 content-length: 0\r\n\r\n\"}",
            b"",
        ] {
            assert_eq!(in_place_of(other, None), None);
        }
    }

    /// Takes seven bytes at a time.
    #[derive(Default)]
    struct Slow(Vec<u8>);

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(7);
            self.0.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_refusal_is_written_whole_however_little_is_taken_at_a_time() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let mut told = Told::new(Slow::default());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut write = |bytes: &[u8]| {
            let slices = [io::IoSlice::new(b""), io::IoSlice::new(bytes)];
            match Pin::new(&mut told).poll_write_vectored(&mut context, &slices) {
                Poll::Ready(Ok(count)) => count,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(write(refusal), refusal.len());
        assert_eq!(write(b"more and more"), 7);
        let text = String::from_utf8(told.stream.0).unwrap();
        assert!(text.ends_with("\"}more an"), "{text}");
        assert!(text.contains("no request that HTTP"), "{text}");
    }
}
