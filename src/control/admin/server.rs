//! The admin listener's connections: HTTP/1.1 by hyper, within bounds.
//!
//! A client that sends nothing, sends slowly or does not read is cut off; while all places are
//! taken the next ones wait in the kernel's backlog.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use super::access::Access;
use super::pages::{self, Showcase};
use super::routes::router;
use crate::control::engine::Engine;

/// Connections at the same time.
const CONNECTIONS_MAX: usize = 64;
/// How long a request head may take, and a connection may be idle.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a request head.
const HEAD_BYTES_MAX: usize = 24 * 1_024;
/// A connection takes its last request this long after its first byte; clients reconnect.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// How long the request under way may take at the end of a connection.
const FINISH_TIME_MAX: Duration = Duration::from_secs(10);
/// The same at the end of the server.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
/// How long to wait after the system has refused a connection (no more descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves the admin API until `stopped` changes, and lets the requests under way finish.
pub async fn serve(
    listener: TcpListener,
    access: Access,
    engine: Arc<Engine>,
    showcase: Showcase,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "admin listener"),
    };
    let router = router(engine, access).layer(from_fn_with_state(showcase, pages::serve));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            _ = stopped.changed() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                tokio::spawn(async move {
                    converse(stream, router, stopped).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin accept");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Connections that do not end in time are cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIME_MAX, places.acquire_many(all)).await;
}

async fn converse(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    // Answers are written whole; without this the last part waits for an ACK.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // A client's faults and absences are its own business.
    let finish_time = tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_TIME_MAX) => FINISH_TIME_MAX,
        _ = stopped.changed() => STOP_TIME_MAX,
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(finish_time, connection).await;
}
