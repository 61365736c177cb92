//! Bodies of the REST API: whatever a backend sends, it gets one sound answer, and the next
//! request is served.

use serde_json::Value;

use super::Bytes;
use super::cluster::{Cluster, SECRET};

const PATHS: [&str; 3] = [
    "/v1/tokens",
    "/v1/channels/hall/publish",
    "/v1/channels/a%2Fb/publish",
];

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let path = PATHS[script.below(PATHS.len())];
    let body = script.0;
    let mut cluster = Cluster::new();
    let client = cluster.accept(0);
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_id_f:{SECRET}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    cluster.send(client, head.as_bytes());
    cluster.send(client, body);
    cluster.run();
    let answer = cluster.received(client);
    let (status, answered) = answer_of(&answer);
    assert!(
        matches!(status, 200 | 400 | 401 | 403 | 413 | 422),
        "{status}: {answered}"
    );
    if serde_json::from_slice::<&serde_json::value::RawValue>(body).is_err() {
        assert_ne!(status, 200, "no JSON, and taken: {answered}");
    }
    if status == 200 && path == "/v1/tokens" {
        assert!(answered["token"].is_string(), "{answered}");
    }
    if cluster.is_open(client) && status != 413 {
        cluster.send(client, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        cluster.run();
        let answer = cluster.received(client);
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "the next request");
    }
    cluster.check();
}

/// Status and body of an answer, which is all that has come.
fn answer_of(answer: &[u8]) -> (u16, Value) {
    let text = str::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    assert_eq!(length, Some(body.len()), "one answer");
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}
