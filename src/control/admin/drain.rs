//! The rest of a request's body, when the response is ready before it has been read.
//!
//! A connection that is closed with bytes unread is reset, and its client sees a broken pipe in
//! place of the response. So the rest is read and thrown away, within bounds.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use axum::http::header::EXPECT;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

/// Bytes that are thrown away; a body that is longer is cut off.
const BYTES_MAX: u64 = 8 * 1_024 * 1_024;
/// How long that may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How long nothing may come.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A body that a handler reads, and whose rest is read when the handler is done.
pub(super) struct Shared<B>(Arc<Inner<B>>);

/// The rest of a body.
pub(super) struct Rest<B> {
    body: Arc<Inner<B>>,
    /// Whether the client waits for `100 Continue` before it sends anything.
    waits: bool,
}

struct Inner<B> {
    body: Mutex<B>,
    begun: AtomicBool,
}

/// A request whose body is shared with its rest.
pub(super) fn share<B>(request: Request<B>) -> (Request<Shared<B>>, Rest<B>) {
    let waits = request.headers().contains_key(EXPECT);
    let (head, body) = request.into_parts();
    let body = Arc::new(Inner {
        body: Mutex::new(body),
        begun: AtomicBool::new(false),
    });
    let shared = Shared(Arc::clone(&body));
    (Request::from_parts(head, shared), Rest { body, waits })
}

impl<B> Inner<B> {
    fn body(&self) -> MutexGuard<'_, B> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Shared<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.0.begun.store(true, Ordering::Relaxed);
        Pin::new(&mut *self.0.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body().size_hint()
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> Rest<B> {
    /// Reads the rest, if it is not too much of it.
    pub(super) async fn discard(self) {
        let asked_for = !self.waits || self.body.begun.load(Ordering::Relaxed);
        let lower = self.body.body().size_hint().lower();
        if !asked_for || lower > BYTES_MAX {
            return;
        }
        let end = Instant::now() + TIME_MAX;
        let mut bytes = 0;
        while bytes <= BYTES_MAX && !self.body.body().is_end_stream() {
            let next = poll_fn(|context| Pin::new(&mut *self.body.body()).poll_frame(context));
            let until = end.min(Instant::now() + PAUSE_MAX);
            // Too late, at its end, or broken: there is nothing more to wait for.
            let Ok(Some(Ok(frame))) = timeout_at(until, next).await else {
                return;
            };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
    }
}
