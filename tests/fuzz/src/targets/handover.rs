//! What one process hands to the next, as nobody has written it: an error, or shards that go on as
//! all others do.

use ringmesh::proto::ws::frame::{Opcode, append_masked_frame};
use ringmesh::shard::handover::{Handed, ImportError};

use super::cluster::Cluster;

/// Kinds of records, see `src/shard/handover/state.rs`.
const CONNECTION: u8 = 4;
const CHANNEL: u8 = 5;
const END: u8 = 6;
/// Memberships for which an end is tried that counts so many.
const MEMBERSHIPS_MAX: u8 = 8;

/// The first byte: how many shards go on, and whether lengths and counts are made to fit.
pub(crate) fn run(bytes: &[u8]) {
    let Some((shape, state)) = bytes.split_first() else {
        return;
    };
    let handed = match shape & 0x80 {
        0 => Handed::read(&[state]),
        _ => read_repaired(state),
    };
    if let Ok(handed) = handed {
        go_on(&handed, 1 + u16::from(shape % 3));
    }
}

/// Whether shards take that over; they go on then.
fn go_on(handed: &Handed, shard_count: u16) -> bool {
    let mut cluster = Cluster::with_history(shard_count, 7);
    let Ok(clients) = cluster.take_over(handed) else {
        return false;
    };
    cluster.run();
    cluster.check();
    let mut frame = Vec::new();
    let publish = br#"{"type":"publish","channel":"hall","data":1,"requestId":"p"}"#;
    append_masked_frame(&mut frame, Opcode::Text, [1, 2, 3, 4], publish);
    for client in &clients {
        cluster.send(*client, &frame);
    }
    cluster.run();
    cluster.check();
    for client in clients {
        cluster.close(client);
    }
    cluster.run();
    cluster.pass(60_000);
    cluster.run();
    cluster.check();
    true
}

/// Reads records whose lengths end where the bytes do, behind which there is an end that counts
/// them.
fn read_repaired(mut bytes: &[u8]) -> Result<Handed, ImportError> {
    let mut records = Vec::new();
    let mut counts = [0_u16; 2];
    while let Some(([kind, length @ ..], rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest.split_at(length.min(rest.len()));
        bytes = rest;
        match *kind {
            CONNECTION => counts[0] += 1,
            CHANNEL => counts[1] += 1,
            END => continue,
            _ => {}
        }
        push(&mut records, *kind, body);
    }
    let with_end = |memberships| {
        let mut state = records.clone();
        let mut body = vec![0xa3, 0, 0x19];
        body.extend(counts[0].to_be_bytes());
        body.extend([1, 0x18, memberships, 2, 0x19]);
        body.extend(counts[1].to_be_bytes());
        push(&mut state, END, &body);
        Handed::read(&[state])
    };
    let mut tried = (0..MEMBERSHIPS_MAX).map(with_end);
    let found = tried.find(|read| !matches!(read, Err(ImportError::Cut)));
    found.unwrap_or(Err(ImportError::Cut))
}

fn push(records: &mut Vec<u8>, kind: u8, body: &[u8]) {
    records.push(kind);
    records.extend((body.len() as u32).to_le_bytes());
    records.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::super::cluster::{Client, PUBLISHABLE_KEY};
    use super::*;

    fn message(cluster: &mut Cluster, client: Client, text: &str) {
        let mut frame = Vec::new();
        append_masked_frame(&mut frame, Opcode::Text, [9, 8, 7, 6], text.as_bytes());
        cluster.send(client, &frame);
        cluster.run();
    }

    fn connect(cluster: &mut Cluster) -> Client {
        let client = cluster.accept(0);
        let request = format!(
            "GET /v1?key={PUBLISHABLE_KEY} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        cluster.send(client, request.as_bytes());
        cluster.run();
        client
    }

    /// States of several kinds, each with what one shard hands over.
    fn states() -> Vec<Vec<u8>> {
        let subscribe = |room: &str| format!(r#"{{"type":"subscribe","channel":"{room}"}}"#);
        let publish = |room: &str, data: &str| {
            format!(r#"{{"type":"publish","channel":"{room}","data":"{data}","id":"{data}"}}"#)
        };
        let mut states = Vec::new();
        for kind in 0..6 {
            let mut cluster = Cluster::with_history(1, 1);
            let client = connect(&mut cluster);
            match kind {
                0 => {}
                // In a channel with history, and another one.
                1 | 2 => {
                    message(&mut cluster, client, &subscribe("hall"));
                    message(&mut cluster, client, &subscribe("a"));
                    let other = connect(&mut cluster);
                    cluster.pass(20);
                    cluster.run();
                    if kind == 2 {
                        cluster.make_room(client, Some(30));
                    }
                    for data in ["1", "2", "3", "4", "5"] {
                        message(&mut cluster, other, &publish("hall", data));
                    }
                }
                // A snapshot waits for its time, and a message came in part.
                3 => {
                    message(&mut cluster, client, &subscribe("hall"));
                    cluster.send(client, &[0x01, 0x81, 0, 0, 0, 0, b'{']);
                }
                // A request that is not whole, and a head.
                4 => {
                    for request in [
                        "POST /v1/channels/hall/publish HTTP/1.1\r\nHost: x\r\n\
                         Transfer-Encoding: chunked\r\n\r\n3\r\n{",
                        "GET /v1/heal",
                    ] {
                        let client = cluster.accept(0);
                        cluster.send(client, request.as_bytes());
                        cluster.run();
                    }
                }
                // Being closed.
                _ => {
                    cluster.make_room(client, Some(0));
                    cluster.send(client, &[0x83, 0x80, 0, 0, 0, 0]);
                    cluster.run();
                }
            }
            states.append(&mut cluster.hand_over());
        }
        states
    }

    /// `HANDOVER_CORPUS=write` writes the corpus: what real shards have handed over.
    #[test]
    fn what_is_handed_over_is_taken_over() {
        let is_written = env::var("HANDOVER_CORPUS").is_ok_and(|it| it == "write");
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora/handover");
        for (at, state) in states().into_iter().enumerate() {
            for shard_count in 1..=3 {
                let handed = Handed::read(&[&state]).unwrap();
                assert!(
                    go_on(&handed, shard_count),
                    "state {at}, {shard_count} shards"
                );
                let handed = read_repaired(&state).unwrap();
                assert!(
                    go_on(&handed, shard_count),
                    "state {at}, {shard_count} shards"
                );
            }
            if is_written {
                let shape = if at % 2 == 0 { 0 } else { 2 };
                for shape in [shape, 0x80 + shape] {
                    let mut input = vec![shape];
                    input.extend_from_slice(&state);
                    fs::create_dir_all(&corpus).unwrap();
                    fs::write(corpus.join(format!("state-{at}-{shape}")), input).unwrap();
                }
            }
        }
    }
}
