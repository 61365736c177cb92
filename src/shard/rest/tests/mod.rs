//! Requests against shards in memory: bytes in, answers out.

mod client_files;
mod history;
mod http;
mod kick;
mod openapi;
mod operations;
mod peers;
mod refused;

use crate::shard::testing::{Cluster, Response, app, rights};

/// A request with the credential of `sk_id_full`, and a JSON body if there is one.
pub(in crate::shard) fn with_key(method: &str, path: &str, body: &str) -> Vec<u8> {
    request(method, path, "Authorization: Bearer sk_live_full\r\n", body)
}

/// A request with these header lines, and a JSON body if there is one.
pub(in crate::shard) fn request(method: &str, path: &str, lines: &str, body: &str) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        bytes => format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}{length}\r\n{body}").into_bytes()
}

fn cluster(shard_count: u16) -> Cluster {
    Cluster::new(shard_count, rights(app()))
}

/// Status and `error` code, or `ok`.
fn outcome(response: &Response) -> (u16, String) {
    let code = match response.status {
        200 => "ok".into(),
        _ => response.json()["error"].as_str().unwrap().to_owned(),
    };
    (response.status, code)
}
