//! Another protocol over the same connections: what a handler gets and sends, and what stays.

use super::*;
use crate::proto::ws::close::CloseCode;
use crate::proto::ws::frame::{append_close, append_frame};
use crate::shard::config::ShardConfig;
use crate::shard::handler::{Handler, Message};

/// Sends each message back with the kind of its frame as its first byte.
#[derive(Debug)]
struct Echo;

impl Handler for Echo {
    fn message(&self, message: Message<'_>, frames: &mut Vec<u8>) {
        let (opcode, bytes) = match message {
            Message::Text("say nothing") => return,
            Message::Text(text) => (Opcode::Text, text.as_bytes()),
            Message::Binary(bytes) => (Opcode::Binary, bytes),
        };
        append_frame(frames, opcode, bytes);
    }
}

const UPGRADE: &[u8] = b"GET /v1?key=pk_live_test HTTP/1.1\r\nHost: x\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_handler_gets_the_messages_and_ringmesh_says_nothing_of_its_own() {
    for shard_count in [1, 2] {
        let with_echo = |config: &mut ShardConfig| {
            config.handler = Some(Arc::new(Echo));
        };
        let mut cluster = Cluster::with(shard_count, rights(app()), with_echo);
        let client = cluster.accept(0);
        cluster.send(client, UPGRADE);
        let answer = cluster.take(client);
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(answer.ends_with(b"\r\n\r\n"), "no welcome");

        let mut bytes = Vec::new();
        append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], b"say nothing");
        append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], b"{}");
        append_masked_frame(&mut bytes, Opcode::Binary, [1, 2, 3, 4], b"\xff\x00");
        append_masked_frame(&mut bytes, Opcode::Ping, [1, 2, 3, 4], b"p");
        append_masked_frame(&mut bytes, Opcode::Text, [1, 2, 3, 4], b"\xff");
        cluster.send(client, &bytes);
        let answer = cluster.take(client);
        // Control frames go ahead of answers.
        let mut expected = b"\x8a\x01p\x81\x02{}\x82\x02\xff\x00".to_vec();
        let close = CloseCode::INVALID_PAYLOAD_DATA;
        append_close(&mut expected, &close.into());
        assert_eq!(answer, expected);
    }
}
