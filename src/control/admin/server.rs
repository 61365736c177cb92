//! The admin listener's connections: HTTP/1.1 by hyper, within bounds.
//!
//! A client that sends nothing, sends slowly or does not read is cut off, and gives way to the
//! next when places run out.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::access::Access;
use super::drain::share;
use super::host::{self, HostNames};
use super::pages::{self, Showcase};
use super::places::{Place, Places};
use super::routes::router;
use crate::control::engine::Engine;

/// How long the first request head of a connection may take.
const HEAD_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a connection may be idle between requests, the next head included.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
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
    hosts: HostNames,
    engine: Arc<Engine>,
    showcase: Showcase,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "admin listener"),
    };
    let router = router(engine, access)
        .layer(from_fn_with_state(showcase, pages::serve))
        .layer(from_fn_with_state(hosts, host::check));
    let places = Arc::new(Places::default());
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                let place = Arc::new(places.take());
                tokio::spawn(converse(stream, place, router, stopped));
            }
            Err(error) => {
                tracing::debug!(%error, "admin accept");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    // Connections that do not end in time are cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIME_MAX, places.all_left()).await;
}

async fn converse(
    stream: TcpStream,
    place: Arc<Place>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are written whole; without this the last part waits for an ACK.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (mut request, rest) = share(request);
        request.extensions_mut().insert(Arc::clone(&place));
        let (place, router) = (Arc::clone(&place), router.clone());
        async move {
            place.set_busy(true);
            let answer = router.call(request).await;
            rest.discard().await;
            place.set_busy(false);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let first_head = async {
        tokio::time::sleep(HEAD_TIME_MAX).await;
        if place.has_begun() {
            std::future::pending().await
        }
    };
    // A client's faults and absences are its own business.
    let finish_time = tokio::select! {
        _ = connection.as_mut() => return,
        () = first_head => return,
        () = place.lost() => return,
        () = tokio::time::sleep(CONNECTION_TIME_MAX) => FINISH_TIME_MAX,
        _ = stopped.changed() => STOP_TIME_MAX,
    };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = tokio::time::timeout(finish_time, connection) => {}
        () = place.lost() => {}
    }
}
