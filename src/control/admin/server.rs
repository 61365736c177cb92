//! The admin listener's connections: HTTP/1.1 by hyper, within bounds.
//!
//! A client that sends nothing, sends slowly or does not read is cut off, and gives way to the
//! next when places run out.

use std::net::{SocketAddr, TcpListener};
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
use super::gate::{self, Gate};
use super::host::HostNames;
use super::intake::HEAD_BYTES_MAX;
use super::pages::{self, Showcase};
use super::places::{ClientAddress, Place, Places};
use super::refusals::Told;
use super::routes::router;
use super::session::Sessions;
use crate::control::engine::Engine;
use crate::control::sampler::Sampler;

/// How long the first request head of a connection may take.
const HEAD_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a connection may be idle between requests, the next head included.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection takes its last request this long after its first byte; clients reconnect.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);
/// How long the request under way may take at the end of a connection.
const FINISH_TIME_MAX: Duration = Duration::from_secs(10);
/// The same at the end of the server.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
/// How long to wait after the system has refused a connection (no more descriptors).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listener, and who may use it.
pub(crate) struct Listening {
    pub listener: TcpListener,
    pub access: Access,
    pub hosts: HostNames,
}

/// Serves the admin API while it is `serving`, until `stopped` changes, and lets the requests under
/// way finish.
pub(crate) async fn serve(
    listening: Listening,
    engine: Arc<Engine>,
    (showcase, sessions, sampler): (Showcase, Arc<Sessions>, Arc<Sampler>),
    (mut serving, mut stopped): (watch::Receiver<bool>, watch::Receiver<bool>),
) {
    let Listening {
        listener,
        access,
        hosts,
    } = listening;
    let address = listener.local_addr();
    let gate = Arc::new(Gate {
        access,
        sessions,
        hosts,
        on_loopback: address.as_ref().is_ok_and(|it| it.ip().is_loopback()),
        cookie: format!("ringmesh_{}", address.map_or(0, |it| it.port())),
        engine,
    });
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "admin listener"),
    };
    let router = router(Arc::clone(&gate), sampler)
        .layer(from_fn_with_state(showcase, pages::serve))
        .layer(from_fn_with_state(gate, gate::check_host));
    let places = Arc::new(Places::default());
    loop {
        // Whoever has to wait for a place has been accepted: the next ones wait in the kernel.
        let accepted = async {
            let accepted = accept(&listener, &mut serving).await?;
            Ok::<_, std::io::Error>((accepted, places.take().await))
        };
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(((stream, client), place)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                let place = Arc::new(place);
                let client = ClientAddress(client.ip().to_canonical());
                tokio::spawn(converse((stream, client), place, router, stopped));
            }
            Err(error) => {
                tracing::debug!(%error, "admin accept");
                places.make_room();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    // Connections that do not end in time are cut off with the runtime.
    let _ = tokio::time::timeout(STOP_TIME_MAX, places.all_left()).await;
}

/// The next connection, once the listener is to accept. Nobody is lost where this is given up.
async fn accept(
    listener: &tokio::net::TcpListener,
    serving: &mut watch::Receiver<bool>,
) -> std::io::Result<(TcpStream, SocketAddr)> {
    loop {
        if serving.wait_for(|it| *it).await.is_err() {
            // Nobody is left who could say so.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            accepted = listener.accept() => return accepted,
            _ = serving.changed() => {}
        }
    }
}

async fn converse(
    (stream, client): (TcpStream, ClientAddress),
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
        request.extensions_mut().insert(client);
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
        .serve_connection(TokioIo::new(Told::new(stream)), service);
    let mut connection = pin!(connection);
    let first_head = async {
        tokio::time::sleep(HEAD_TIME_MAX).await;
        if place.has_begun() {
            std::future::pending().await
        }
    };
    let time_over = async {
        tokio::time::sleep(CONNECTION_TIME_MAX).await;
        if place.streams() {
            std::future::pending().await
        }
    };
    let left = async {
        loop {
            place.told().await;
            if place.must_leave() {
                return;
            }
        }
    };
    let mut left = pin!(left);
    // A client's faults and absences are its own business. What has come is read first, whatever
    // else has happened: a request that is there may decide whether the connection stays.
    let finish_time = tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = first_head => return,
        () = left.as_mut() => return,
        () = time_over => FINISH_TIME_MAX,
        _ = stopped.changed() => STOP_TIME_MAX,
    };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = tokio::time::timeout(finish_time, connection) => {}
        () = left.as_mut() => {}
    }
}
