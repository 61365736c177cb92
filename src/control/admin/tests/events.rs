//! Events over HTTP: lists, stories and streams.

use std::io::{BufRead, BufReader};

use super::*;
use crate::events::kind::{Cause, Kind};
use crate::events::record::Record;

const EVENTS: &str = "/api/internal/v1/events";

fn kicked(server: &Server, peer: &str) {
    let record = Record {
        first: peer,
        ..Record::new(Kind::Kicked, Cause::None)
    };
    server.shards.scene.lock().unwrap().record(0, &record);
}

#[test]
fn events_and_stories_are_told_and_faults_are_named() {
    let dir = scratch();
    let server = Server::start(dir.path());
    kicked(&server, "alice");
    let found = server.expect(200, "GET", &format!("{EVENTS}?kind=kicked"), None);
    assert_eq!(found["events"][0]["peer"], "alice");
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    let cursor = found["cursor"].as_str().unwrap();
    let path = format!("{EVENTS}?kind=kicked&after={cursor}");
    let none = server.expect(200, "GET", &path, None);
    assert_eq!(none["events"], json!([]));

    server.expect(201, "POST", APPS, Some(json!({"appId": "shop"})));
    let rights = server.expect(200, "GET", &format!("{EVENTS}?kind=rights"), None);
    assert_eq!(rights["events"][0]["object"], "shop");
    assert_eq!(rights["events"][0]["cause"], "created");
    assert_eq!(rights["events"][0]["changed"], "appId");

    let path = "/api/internal/v1/why?app=shop&peer=bo%62";
    let why = server.expect(200, "GET", path, None);
    assert_eq!(
        (&why["connected"], &why["stories"]),
        (&json!(3), &json!([]))
    );
    for (path, status, part) in [
        ("events?kind=opend", 400, "kind: there is no \\\"opend\\\""),
        ("events?limit=5000", 400, "limit"),
        ("events?peer=%zz", 400, "percent"),
        ("why?app=shop", 400, "peer"),
        ("why?peer=a&limit=2", 400, "limit"),
        ("why?peer=a&app=nobody", 404, "nobody"),
    ] {
        let path = format!("/api/internal/v1/{path}");
        let body = server.expect(status, "GET", &path, None).to_string();
        assert!(body.contains(part), "{path}: {body}");
    }
}

#[test]
fn a_wrong_token_is_an_event() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let request = format!("GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let wrong = format!("{request}Authorization: Bearer wrong\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(exchange(server.admin, wrong.as_bytes()).status, 401);
    }
    let path = format!("{EVENTS}?kind=admin&cause=sign_in_refused");
    let found = server.expect(200, "GET", &path, None);
    assert_eq!(found["events"][0]["address"], "127.0.0.1");
}

/// Opens a stream and reads its head.
fn stream(server: &Server, query: &str, headers: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.admin).unwrap();
    let request = format!(
        "GET {EVENTS}{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer {}\r\n{headers}\r\n",
        server.token
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut reader = BufReader::new(stream);
    let head = lines_until(&mut reader, |line| line.is_empty());
    assert!(head[0].starts_with("HTTP/1.1 200"), "{head:?}");
    reader
}

fn lines_until(
    reader: &mut BufReader<TcpStream>,
    mut is_last: impl FnMut(&str) -> bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(
            reader.read_line(&mut line).unwrap() > 0,
            "the stream has ended: {lines:?}"
        );
        let line = line.trim_end().to_owned();
        lines.push(line.clone());
        if is_last(&line) {
            return lines;
        }
    }
}

#[test]
fn a_stream_begins_with_what_was_goes_on_with_what_comes_and_is_taken_up_again() {
    let dir = scratch();
    let server = Server::start(dir.path());
    kicked(&server, "before");
    let mut reader = stream(&server, "?kind=kicked", "");
    let is_id = |line: &str| line.starts_with("id: ");
    let first = lines_until(&mut reader, is_id).join("\n");
    assert!(
        first.contains("event: kicked") && first.contains("before"),
        "{first}"
    );
    kicked(&server, "live");
    let second = lines_until(&mut reader, is_id);
    let id = second
        .last()
        .unwrap()
        .strip_prefix("id: ")
        .unwrap()
        .to_owned();
    assert!(second.join("\n").contains("\"live\""), "{second:?}");
    drop(reader);
    kicked(&server, "missed");
    let mut again = stream(&server, "?kind=kicked", &format!("Last-Event-ID: {id}\r\n"));
    let taken_up = lines_until(&mut again, is_id).join("\n");
    assert!(
        taken_up.contains("\"missed\"") && !taken_up.contains("\"live\""),
        "{taken_up}"
    );
}

/// More than is buffered for a reader that takes its time: it gets all of it, or is told.
#[test]
fn a_slow_reader_loses_nothing_that_it_is_not_told_of() {
    const EVENTS_BEHIND: usize = 2_500;
    let dir = scratch();
    let server = Server::start(dir.path());
    kicked(&server, "before");
    let mut reader = stream(&server, "?kind=kicked", "");
    // It has read what was there, and follows.
    lines_until(&mut reader, |line| line.starts_with("id: "));
    let name = "n".repeat(100);
    for number in 0..EVENTS_BEHIND {
        kicked(&server, &format!("{name}{number}"));
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < EVENTS_BEHIND {
        let line = lines_until(&mut reader, |_| true).remove(0);
        if let Some(data) = line.strip_prefix("data: ") {
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            match data["lost"].as_u64() {
                Some(number) => lost += number as usize,
                None => {
                    let expected = format!("{name}{}", seen + lost);
                    assert_eq!(data["peer"], expected, "in order, and each once");
                    seen += 1;
                }
            }
        }
    }
    assert_eq!((seen, lost), (EVENTS_BEHIND, 0), "the ring has them all");
}

#[test]
fn eight_streams_have_places_of_their_own_and_a_ninth_waits() {
    let dir = scratch();
    let server = Server::start(dir.path());
    let streams: Vec<_> = (0..8).map(|_| stream(&server, "", "")).collect();
    let request = format!(
        "GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer {}\r\nConnection: close\r\n\r\n",
        server.token
    );
    let refused = exchange(server.admin, request.as_bytes());
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.head.contains("retry-after"), "{}", refused.head);
    // Others go on.
    server.expect(200, "GET", EVENTS, None);
    drop(streams);
    // A stream's place is free when its end has been seen.
    for _ in 0..600 {
        if exchange_status(&server) == 200 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no stream's place became free");
}

/// The status of another stream, of which only the head is read.
fn exchange_status(server: &Server) -> u16 {
    let mut stream = TcpStream::connect(server.admin).unwrap();
    let request = format!(
        "GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer {}\r\n\r\n",
        server.token
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let head = lines_until(&mut reader, |line| line.is_empty());
    head[0].split(' ').nth(1).unwrap().parse().unwrap()
}
