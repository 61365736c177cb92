//! Shards as values: bytes are operations of clients that know no rules, on two shards, and
//! whatever always holds is looked at behind each.

use ringmesh::proto::ws::frame::{Opcode, append_masked_frame};

use super::Bytes;
use super::cluster::{Client, Cluster, PUBLISHABLE_KEY};

const CLIENTS_MAX: usize = 6;
const CHANNELS: [&str; 4] = ["a", "b/c", "hall", "_rm"];

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let mut cluster = Cluster::new();
    let mut clients: Vec<Client> = Vec::new();
    while !script.is_empty() {
        let operation = script.byte();
        if clients.is_empty() || (operation & 0x1f == 0 && clients.len() < CLIENTS_MAX) {
            clients.push(connect(&mut cluster, script.byte()));
            continue;
        }
        let client = clients[script.below(clients.len())];
        step(&mut cluster, client, operation, &mut script);
        cluster.check();
        clients.retain(|it| cluster.is_open(*it));
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
}

fn connect(cluster: &mut Cluster, shape: u8) -> Client {
    let client = cluster.accept(usize::from(shape & 1));
    if shape & 0xe != 0 {
        let request = format!(
            "GET /v1?key={PUBLISHABLE_KEY} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        cluster.send(client, request.as_bytes());
    }
    if shape & 0x10 == 0 {
        cluster.run();
    }
    client
}

fn step(cluster: &mut Cluster, client: Client, operation: u8, script: &mut Bytes<'_>) {
    match operation % 16 {
        // Commands.
        0..=5 => {
            let channel = CHANNELS[script.below(CHANNELS.len())];
            let kind = ["subscribe", "unsubscribe", "publish"][script.below(3)];
            let data = "x".repeat(usize::from(script.byte()) * 8);
            let text = format!(
                r#"{{"type":"{kind}","channel":"{channel}","data":"{data}","requestId":"1"}}"#
            );
            message(cluster, client, text.as_bytes());
        }
        6 => {
            let count = usize::from(script.byte());
            message(cluster, client, script.take(count));
        }
        7 => {
            let count = usize::from(script.byte());
            cluster.send(client, script.take(count));
        }
        8 => {
            let mut frame = Vec::new();
            append_masked_frame(&mut frame, Opcode::Ping, [1, 2, 3, 4], b"p");
            cluster.send(client, &frame);
        }
        9 => cluster.make_room(client, Some(usize::from(script.byte()) * 4)),
        10 => cluster.make_room(client, None),
        11 => cluster.pass(1 << script.below(16)),
        12 => drop(cluster.turn(script.below(2))),
        13 => cluster.run(),
        14 => match script.below(32) {
            0 => cluster.drain(),
            1..8 => cluster.close(client),
            8..16 => cluster.end(client),
            _ => {
                let mut frame = Vec::new();
                append_masked_frame(&mut frame, Opcode::Close, [1, 2, 3, 4], &[3, 232]);
                cluster.send(client, &frame);
            }
        },
        _ => {
            let request = b"GET /v1/channels/hall/peers HTTP/1.1\r\nHost: x\r\n\
                Authorization: Bearer sk_id_f:a-signing-secret-of-32-bytes....\r\n\r\n";
            cluster.send(client, request);
        }
    }
}

fn message(cluster: &mut Cluster, client: Client, text: &[u8]) {
    let mut frame = Vec::new();
    append_masked_frame(&mut frame, Opcode::Text, [9, 8, 7, 6], text);
    cluster.send(client, &frame);
}
