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

/// Each of a burst of requests with the token is answered, however many connections there are.
#[test]
fn a_burst_of_requests_with_the_token_is_answered_each_of_them() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let list = format!(
        "GET {APPS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Connection: close\r\n\r\n",
        server.token
    );
    let _idlers = idlers(&server, 300);
    for _ in 0..3 {
        let send = |_| {
            let mut stream = TcpStream::connect(server.admin).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(list.as_bytes()).unwrap();
            stream
        };
        let burst: Vec<_> = (0..300).map(send).collect();
        for mut stream in burst {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let (head, _) = answer.split_once("\r\n\r\n").unwrap();
            let is_good = head.starts_with("HTTP/1.1 200 ");
            let is_later = head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1");
            assert!(is_good || is_later, "{head}");
        }
    }
    server.running.shutdown();
}

/// Connections that stay are used again and again, more of them than requests are under way.
#[test]
fn connections_that_stay_are_not_reset_between_two_requests() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let list = format!(
        "GET {APPS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        server.token
    );
    let connect = |_| {
        let stream = TcpStream::connect(server.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..150).map(connect).collect();
    for _ in 0..3 {
        for stream in &mut streams {
            stream.write_all(list.as_bytes()).unwrap();
        }
        for stream in &mut streams {
            let answer = read_answer(stream);
            assert!(
                answer.contains("200 ok") || answer.contains("503 "),
                "{answer}"
            );
        }
    }
    server.running.shutdown();
}

/// The library's own refusals have the body of all others.
#[test]
fn what_is_no_request_is_refused_with_a_reason() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let long = format!(
        "GET {APPS} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(30_000)
    );
    for (request, status, part) in [
        (&long[..], 431, "head is too long"),
        (
            "\u{16}\u{3}\u{1} hello\r\n\r\n",
            400,
            "request line is malformed",
        ),
        (
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            400,
            "header line is malformed",
        ),
    ] {
        let answer = exchange(server.admin, request.as_bytes());
        assert_eq!(answer.status, status, "{}", answer.body);
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error"], "invalid_request");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(part), "{message}");
    }
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
        ("/healthz", "evil.example", 200),
        ("/metrics", "evil.example:7464", 421),
        ("/demo/config.json", "evil.example", 421),
        (APPS, "evil.example", 421),
        ("/healthz", "admin.example:7464", 200),
        ("/healthz", "127.0.0.1:7464", 200),
        ("/healthz", "[::1]", 200),
        ("http://evil.example/metrics", "localhost", 421),
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
    // Who shows the token is no page that was led astray.
    let bearer = format!("evil.example\r\nAuthorization: Bearer {}", server.token);
    let request = get(APPS).replacen("localhost", &bearer, 1);
    assert_eq!(exchange(server.admin, request.as_bytes()).status, 200);
    // A probe that speaks HTTP/1.0 names no host; no browser does that.
    let answer = exchange(server.admin, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200);
    server.running.shutdown();
}

#[test]
fn who_waits_for_another_scrape_waits_no_longer_than_that() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let held = server.shards.gate.blocking_lock();
    std::thread::scope(|scope| {
        let scrape = || {
            let answer = exchange(server.admin, get("/metrics").as_bytes());
            (answer.status, Instant::now())
        };
        let ended: Vec<_> = [(); 4].map(|()| scope.spawn(scrape)).into();
        let ended = ended.into_iter().map(|it| it.join().unwrap());
        let (statuses, times): (Vec<_>, Vec<_>) = ended.unzip();
        assert_eq!(statuses, [503; 4]);
        // One after the other, the last of them would have waited for 15 s more than the first.
        let [first, last] = [times.iter().min(), times.iter().max()].map(Option::unwrap);
        assert!(
            *last - *first < Duration::from_secs(10),
            "{:?}",
            *last - *first
        );
    });
    drop(held);
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
