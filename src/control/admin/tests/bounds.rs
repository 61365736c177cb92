//! What one client of the admin listener can take from the others, and what it is told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{APPS, get};
use crate::control::testing::{Server, exchange, options, scratch};

/// Upper bounds only, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const PROMPT: Duration = Duration::from_secs(5);

/// Connections that send half a request and wait.
fn idlers(server: &Server, count: usize) -> Vec<TcpStream> {
    let idler = |_| {
        let mut stream = TcpStream::connect(server.admin).unwrap();
        // It may have been sent away already.
        let _ = stream.write_all(b"GET /");
        stream
    };
    (0..count).map(idler).collect()
}

/// Reads an answer with `Content-Length` and leaves the connection open.
fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    loop {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed");
        answer.push(byte[0]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.unwrap().parse().unwrap() {
            return text;
        }
    }
}

#[test]
fn idle_connections_without_the_token_shut_nobody_out() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let mut known = TcpStream::connect(server.admin).unwrap();
    known.set_read_timeout(Some(PATIENCE)).unwrap();
    let list = format!(
        "GET {APPS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token
    );
    known.write_all(list.as_bytes()).unwrap();
    assert!(read_answer(&mut known).contains("200 ok"));
    let _idlers = idlers(&server, 300);
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(
            exchange(server.admin, get("/readyz").as_bytes()).status,
            200
        );
        server.expect(200, "GET", APPS, None);
        assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    }
    // Whoever has shown the token has kept its place.
    known.write_all(list.as_bytes()).unwrap();
    assert!(read_answer(&mut known).contains("200 ok"));
    server.running.shutdown();
}

#[test]
fn a_first_head_has_two_seconds() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let start = Instant::now();
    let mut silent = idlers(&server, 1);
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent[0].read(&mut [0; 1]).unwrap_or(0), 0);
    let after = start.elapsed();
    assert!(
        (Duration::from_millis(1_900)..Duration::from_secs(8)).contains(&after),
        "{after:?}"
    );
    server.running.shutdown();
}

#[test]
fn a_body_that_is_too_large_is_answered_where_its_sender_reads_after_sending() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let (token, body) = (&server.token, "x".repeat(2 * 1_024 * 1_024));
    for (bearer, status, text) in [
        (token.as_str(), 413, "more than 262144 bytes"),
        ("wrong", 401, "token is needed"),
    ] {
        let head = format!(
            "POST {APPS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\
             Connection: close\r\n"
        );
        let length = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let chunked = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        for request in [length, chunked] {
            let answer = exchange(server.admin, request.as_bytes());
            assert_eq!(answer.status, status);
            assert!(answer.body.contains(text), "{}", answer.body);
        }
    }
    // Who waits for a word before it sends gets the answer at once.
    let request = format!(
        "POST {APPS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    assert_eq!(exchange(server.admin, request.as_bytes()).status, 413);
    server.running.shutdown();
}

#[test]
fn only_requests_for_its_own_names_are_answered() {
    let dir = scratch();
    let mut options = options(dir.path());
    options.admin.as_mut().unwrap().hosts = vec!["admin.example".into()];
    let server = Server::with(options).unwrap();
    for (path, host, status) in [
        ("/healthz", "evil.example", 421),
        ("/metrics", "evil.example:7464", 421),
        ("/demo/config.json", "evil.example", 421),
        (APPS, "evil.example", 421),
        ("/healthz", "admin.example:7464", 200),
        ("/healthz", "127.0.0.1:7464", 200),
        ("/healthz", "[::1]", 200),
        ("http://evil.example/healthz", "localhost", 421),
    ] {
        let request = get(path).replacen("localhost", host, 1);
        let answer = exchange(server.admin, request.as_bytes());
        assert_eq!(answer.status, status, "{path} {host}");
        assert!(
            status == 200 || answer.body.contains("admin.hosts"),
            "{}",
            answer.body
        );
    }
    // A probe that speaks HTTP/1.0 names no host; no browser does that.
    let answer = exchange(server.admin, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200);
    server.running.shutdown();
}

#[test]
fn scrapes_at_once_share_what_the_shards_tell() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let held = server.shards.gate.blocking_lock();
    std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| exchange(server.admin, get("/metrics").as_bytes()).status))
            .collect();
        let start = Instant::now();
        while server.shards.asked() == 0 {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        server.expect(200, "GET", "/healthz", None);
        drop(held);
        for scrape in scrapes {
            assert_eq!(scrape.join().unwrap(), 200);
        }
    });
    // The first, and one for all that came while it was under way; more only where a thread
    // was late.
    assert!(server.shards.asked() < 20, "{}", server.shards.asked());
    server.running.shutdown();
}
