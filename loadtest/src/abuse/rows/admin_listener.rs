//! The admin listener, kept busy by those who have no token.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::abuse::exchange;
use crate::abuse::scene::Scene;
use crate::abuse::verdict::Check;
use crate::failure::Failure;

/// Connections that begin a request and wait.
const CONNECTIONS: usize = 140;
/// How long it may take, seconds.
const ANSWER_SEC: f64 = 2.5;
/// How long is waited for it.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// 140 connections with half a request; then somebody asks for `/readyz`, and the owner for apps.
pub(super) fn idle(scene: &mut Scene) -> Result<(), Failure> {
    let admin = scene.place.admin_address()?;
    scene.begin()?;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        // A connect that is refused is one place less to hold.
        if let Ok(mut stream) = TcpStream::connect_timeout(&admin, Duration::from_secs(1)) {
            let _refused = stream.write_all(b"GET / HTTP/1.1\r\nHost: ");
            held.push(stream);
        }
    }
    scene.swarm.run(Duration::from_millis(200))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let asked = Instant::now();
    let ready = exchange::ask(admin, request.as_bytes(), ANSWER_MAX);
    let ready_sec = asked.elapsed().as_secs_f64();
    let asked = Instant::now();
    let apps = scene
        .place
        .admin("GET", "/api/internal/v1/apps", &serde_json::Value::Null);
    let apps_sec = asked.elapsed().as_secs_f64();
    scene.end()?;
    drop(held);
    let said = |answer: Result<exchange::Answer, Failure>| {
        answer.map_or_else(|it| it.line(), |it| it.status.to_string())
    };
    scene.saw(format!(
        "/readyz: {}; the owner: {}",
        said(ready),
        said(apps)
    ));
    scene.check(Check::at_most(
        "/readyz answers after",
        ready_sec,
        ANSWER_SEC,
        "s",
    ));
    scene.check(Check::at_most(
        "the owner is answered after",
        apps_sec,
        ANSWER_SEC,
        "s",
    ));
    Ok(())
}
