//! A body that is made as time goes on, for a reader that nobody waits for: what it has not taken
//! is counted, so that whoever makes it can stop at a bound.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Bytes that wait for a reader, beside one page.
const BUFFER_BYTES_MAX: usize = 256 * 1_024;

/// Where the parts of a body are put.
pub(super) struct Parts {
    sender: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
}

/// What has been made and not been taken. What the body holds is let go with it.
struct Buffered<H> {
    parts: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
    _holds: H,
}

impl<H: Unpin> hyper::body::Body for Buffered<H> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.parts.poll_recv(context);
        next.map(|part| {
            let part = part?;
            self.waiting.fetch_sub(part.len(), Ordering::Relaxed);
            Some(Ok(Frame::data(part)))
        })
    }
}

/// Returns a stream of server-sent events, and where its parts are put. It holds something until
/// the reader is gone.
pub(super) fn stream<H: Send + Unpin + 'static>(holds: H) -> (Parts, Response) {
    let (sender, parts) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let body = Buffered {
        parts,
        waiting: Arc::clone(&waiting),
        _holds: holds,
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    let response = (headers, Body::new(body)).into_response();
    (Parts { sender, waiting }, response)
}

/// Returns a body that holds something until it has been sent, or the reader is gone.
pub(super) fn whole<H: Send + Unpin + 'static>(bytes: Bytes, holds: H) -> Body {
    let (sender, parts) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(bytes.len()));
    // The receiver is right here.
    let _ = sender.send(bytes);
    Body::new(Buffered {
        parts,
        waiting,
        _holds: holds,
    })
}

impl Parts {
    /// Whether the reader is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether so much waits for the reader that no more is made.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= BUFFER_BYTES_MAX
    }

    /// Puts a part.
    pub(super) fn send(&self, text: String) {
        self.waiting.fetch_add(text.len(), Ordering::Relaxed);
        // Without a receiver the stream has ended, which is seen at the next turn.
        let _ = self.sender.send(Bytes::from(text));
    }
}
