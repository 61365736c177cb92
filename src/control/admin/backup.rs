//! `GET /api/internal/v1/backup`: a consistent copy of the store, streamed while it is read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::answer::Failure;
use super::gate::Caller;
use super::session::Role;
use crate::control::engine::Engine;
use crate::control::store::{Snapshot, Unfinished};
use crate::events::author::Author;

/// How long the store may take to give its state.
const STORE_TIME_MAX: Duration = Duration::from_secs(10);
/// Chunks that wait for the client.
const CHUNKS_WAITING_MAX: usize = 2;

/// One backup at a time: it holds back no change, but pages of the store.
#[derive(Clone)]
pub(super) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// What is read, and has not been sent. An error breaks the answer off.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    _turn: OwnedSemaphorePermit,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.chunks.poll_recv(context);
        next.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

/// Streams a backup to whoever shows the token itself.
pub(super) async fn stream(
    State(engine): State<Arc<Engine>>,
    Extension(Turn(turn)): Extension<Turn>,
    Extension(caller): Extension<Caller>,
    Extension(author): Extension<Author>,
) -> Result<Response, Failure> {
    if caller.role != Role::Admin || caller.session.is_some() {
        let text = "a backup is for the bearer of the admin token";
        return Err(Failure::forbidden(text));
    }
    let turn = turn
        .try_acquire_owned()
        .map_err(|_| Failure::busy("another backup is being taken; try again when it is done"))?;
    let snapshot = tokio::time::timeout(STORE_TIME_MAX, engine.snapshot(&author)).await;
    let snapshot = snapshot.map_err(|_| {
        Failure::unavailable("the store does not answer in time: is the disk slow?")
    })??;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
    let now_ms = engine.now_unix_ms();
    tokio::task::spawn_blocking(move || read(&snapshot, now_ms, &sender));
    let body = Chunks {
        chunks,
        _turn: turn,
    };
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

fn read(snapshot: &Snapshot, now_ms: u64, sender: &mpsc::Sender<io::Result<Bytes>>) {
    let take = |chunk: Vec<u8>| sender.blocking_send(Ok(chunk.into())).is_ok();
    match snapshot.write(now_ms, take) {
        Ok(()) | Err(Unfinished::Gone) => {}
        Err(Unfinished::Store(error)) => {
            tracing::error!("the store could not be read for a backup: {error}");
            // Whoever reads it finds no manifest at its end.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    }
}
