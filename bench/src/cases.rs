//! The operations that are timed and counted, by name.
//!
//! Each case prepares its own state and returns a closure that performs the operation once.
//! The closure leaves the state as it found it, so that it can be called any number of times.

use std::hint::black_box;
use std::sync::Arc;

use ahash::RandomState;
use ringmesh::domain::app_id::AppTag;
use ringmesh::domain::peer::{ChannelKey, JsonName};
use ringmesh::ids::ConnectionId;
use ringmesh::proto::wire::command::Request;
use ringmesh::proto::wire::event::Event;
use ringmesh::proto::wire::string::JsonStr;
use ringmesh::proto::ws::message::{Decoder, MessageLimits};
use ringmesh::shard::channel::channels::Channels;
use ringmesh::shard::outbound::outbox::BufferPool;
use ringmesh::shard::outbound::outbox::Class;
use ringmesh::shard::outbound::outbox::Outbox;
use ringmesh::shard::placement::channel_hash;

use crate::fixture::{
    Fixture, PRESENCE_KEY, PUBLISHABLE_KEY, publish_json, text_frame, token, upgrade_request,
};

/// One operation, ready to be performed again and again.
pub type Operation = Box<dyn FnMut()>;

/// A named operation.
#[derive(Clone, Copy)]
pub struct Case {
    /// Stable: the committed figures go by it.
    pub name: &'static str,
    /// Prepares the operation.
    pub prepare: fn() -> Operation,
}

/// Size of the usual message, in bytes of JSON.
const USUAL_BYTES: usize = 150;

/// A channel without history, and one with it. Their names have one length.
const PLAIN: &str = "room-1";
const KEPT: &str = "kept/1";
/// As many publications as a channel keeps.
const KEPT_MESSAGES: usize = 1_000;
/// Publications that somebody who returns has missed.
const MISSED: usize = 100;

/// All cases, from the smallest part to the whole shard.
pub const CASES: &[Case] = &[
    case("frame_decode_150", frame_decode),
    case("parse_publish_150", || parse_publish(USUAL_BYTES)),
    case("parse_publish_1024", || parse_publish(1_024)),
    case("parse_publish_16384", || parse_publish(16_384)),
    case("channel_lookup", channel_lookup),
    case("event_encode_150", event_encode),
    case("outbox_push_advance", outbox),
    case("shard_publish_150", || publish(USUAL_BYTES)),
    case("shard_publish_1024", || publish(1_024)),
    case("shard_fan_out_1000", || {
        fan_out(Fixture::new(), PLAIN, 1_000, 1)
    }),
    case("shard_fan_out_1000_x16", || {
        fan_out(Fixture::new(), PLAIN, 1_000, 16)
    }),
    case("shard_fan_out_10", || fan_out(Fixture::new(), PLAIN, 10, 1)),
    case("shard_publish_kept_150", publish_kept),
    case("shard_fan_out_kept_1000", || fan_out_kept(1_000, 1)),
    case("shard_fan_out_kept_1000_x16", || fan_out_kept(1_000, 16)),
    case("shard_replay_100", replay),
    case("shard_direct_round_trip", direct),
    case("shard_subscribe_unsubscribe", subscribe),
    case("shard_subscribe_presence", subscribe_with_presence),
    case("shard_connect_key", connect_key),
    case("shard_connect_token", connect_token),
];

const fn case(name: &'static str, prepare: fn() -> Operation) -> Case {
    Case { name, prepare }
}

fn frame_decode() -> Operation {
    let frame = text_frame(&publish_json("room-1", USUAL_BYTES));
    let limits = MessageLimits::text(66_560);
    let mut scratch = frame.clone();
    let mut decoder = Decoder::server();
    Box::new(move || {
        scratch.copy_from_slice(&frame);
        let _ = black_box(decoder.decode(black_box(&mut scratch), &limits));
    })
}

fn parse_publish(json_bytes: usize) -> Operation {
    let json = publish_json("room-1", json_bytes);
    Box::new(move || {
        let _ = black_box(Request::parse(black_box(&json)));
    })
}

fn channel_lookup() -> Operation {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let app = AppTag::of("app_bench");
    let mut channels = Channels::default();
    for number in 0..1_000 {
        let name = format!("room-{number}");
        channels.find_or_insert(&Arc::new(ChannelKey {
            app,
            hash: channel_hash(&hasher, app, &name),
            name: JsonName::new(&name),
        }));
    }
    Box::new(move || {
        let name = black_box("room-500");
        black_box(channels.find(channel_hash(&hasher, app, name), &app, name));
    })
}

fn event_encode() -> Operation {
    let data = publish_json("room-1", USUAL_BYTES);
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        let event = Event::Message {
            channel: JsonStr::from_escaped("\"room-1\""),
            from: JsonStr::from_escaped("\"2f1e6b3c-5a57-4d6e-9a0c-1b2c3d4e5f60\""),
            data: black_box(data.as_bytes()),
            from_metadata: None,
        };
        event.append_to(black_box(&mut out));
    })
}

fn outbox() -> Operation {
    let mut frame = Vec::new();
    ringmesh::proto::ws::frame::append_frame(
        &mut frame,
        ringmesh::proto::ws::frame::Opcode::Text,
        &[b'x'; USUAL_BYTES],
    );
    let (mut outbox, mut pool) = (Outbox::default(), BufferPool::default());
    Box::new(move || {
        outbox.push(Class::Delivery, black_box(&frame), &mut pool);
        outbox.note_offer();
        let count = black_box(outbox.pending()).len();
        outbox.advance(count, &mut pool);
    })
}

/// The whole inbound path: the channel exists, and its only member is the publisher.
fn publish(json_bytes: usize) -> Operation {
    publish_to(Fixture::new(), PLAIN, json_bytes)
}

/// The same where the channel keeps it, and its oldest one goes.
fn publish_kept() -> Operation {
    publish_to(filled(KEPT_MESSAGES), KEPT, USUAL_BYTES)
}

fn publish_to(mut fixture: Fixture, channel: &str, json_bytes: usize) -> Operation {
    let publisher = fixture.connect();
    fixture.subscribe(publisher, channel);
    let frame = text_frame(&publish_json(channel, json_bytes));
    let mut scratch = frame.clone();
    Box::new(move || {
        scratch.copy_from_slice(&frame);
        fixture.receive(publisher, &mut scratch);
    })
}

fn fan_out_kept(subscribers: usize, in_flight: usize) -> Operation {
    fan_out(filled(KEPT_MESSAGES), KEPT, subscribers, in_flight)
}

fn fan_out(mut fixture: Fixture, channel: &str, subscribers: usize, in_flight: usize) -> Operation {
    for _ in 0..subscribers {
        let subscriber = fixture.connect();
        fixture.subscribe(subscriber, channel);
    }
    let publisher = fixture.connect();
    let frames = text_frame(&publish_json(channel, USUAL_BYTES)).repeat(in_flight);
    let mut scratch = frames.clone();
    Box::new(move || {
        scratch.copy_from_slice(&frames);
        fixture.receive(publisher, &mut scratch);
        fixture.end_turn();
    })
}

/// A shard where so many publications have been made to the channel with history.
fn filled(publications: usize) -> Fixture {
    let mut fixture = Fixture::new();
    let publisher = fixture.connect();
    let json = publish_json(KEPT, USUAL_BYTES);
    for _ in 0..publications {
        fixture.say(publisher, &json);
    }
    fixture
}

/// A subscriber comes back, gets what it has missed, and leaves.
fn replay() -> Operation {
    let mut fixture = filled(KEPT_MESSAGES);
    let connection = fixture.connect();
    let frames = returning().map(|json| text_frame(&json));
    Box::new(move || {
        for frame in &frames {
            fixture.receive(connection, &mut frame.clone());
            fixture.settle();
        }
    })
}

/// What somebody who returns says, and then leaves with.
fn returning() -> [String; 2] {
    let since = format!(r#""requestId":"1","since":{{"last":{MISSED}}}"#);
    [
        format!(r#"{{"type":"subscribe","channel":"{KEPT}",{since}}}"#),
        format!(r#"{{"type":"unsubscribe","channel":"{KEPT}"}}"#),
    ]
}

fn direct() -> Operation {
    let mut fixture = Fixture::new();
    let (ann, ben) = (fixture.connect_as("ann"), fixture.connect_as("ben"));
    let frame = |to: &str| {
        let data = "x".repeat(100);
        text_frame(&format!(r#"{{"type":"send","to":"{to}","data":"{data}"}}"#))
    };
    let (there, back) = (frame("ben"), frame("ann"));
    let mut scratch = there.clone();
    Box::new(move || {
        for (connection, frame) in [(ann, &there), (ben, &back)] {
            scratch.copy_from_slice(frame);
            fixture.receive(connection, &mut scratch);
            fixture.end_turn();
        }
    })
}

fn subscribe() -> Operation {
    let mut fixture = Fixture::new();
    let connection = fixture.connect();
    let frames = [
        text_frame(r#"{"type":"subscribe","channel":"room-1"}"#),
        text_frame(r#"{"type":"unsubscribe","channel":"room-1"}"#),
    ];
    Box::new(move || {
        for frame in &frames {
            fixture.receive(connection, &mut frame.clone());
            fixture.end_turn();
        }
    })
}

/// The same where presence is seen: the announcement, the snapshot and the pause before it.
fn subscribe_with_presence() -> Operation {
    let mut fixture = Fixture::new();
    let connection = fixture.connect_with(PRESENCE_KEY);
    let subscribe = text_frame(r#"{"type":"subscribe","channel":"room-1","requestId":"s"}"#);
    let unsubscribe = text_frame(r#"{"type":"unsubscribe","channel":"room-1"}"#);
    Box::new(move || {
        fixture.receive(connection, &mut subscribe.clone());
        fixture.end_turn();
        fixture.end_pauses();
        fixture.receive(connection, &mut unsubscribe.clone());
        fixture.end_turn();
    })
}

fn connect_key() -> Operation {
    connect(upgrade_request(&format!("key={PUBLISHABLE_KEY}")))
}

fn connect_token() -> Operation {
    connect(upgrade_request(&format!("token={}", token("ann"))))
}

/// From accept to `welcome`, and the end of the socket.
fn connect(request: String) -> Operation {
    let mut fixture = Fixture::new();
    let mut scratch = request.clone().into_bytes();
    let mut generation = 0;
    Box::new(move || {
        generation += 1;
        let connection = ConnectionId {
            slot: 0,
            generation,
        };
        scratch.copy_from_slice(request.as_bytes());
        fixture.tick();
        fixture.accept_as(connection);
        fixture.receive(connection, &mut scratch);
        fixture.end_turn();
        fixture.close(connection);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::message_frame_bytes;

    /// A case that fails silently would be a fast one.
    #[test]
    fn fan_out_reaches_every_subscriber_and_connects_get_their_welcome() {
        let mut fixture = Fixture::new();
        let publisher = fixture.connect();
        assert!(fixture.written_bytes > 200, "101 and welcome");
        for _ in 0..10 {
            let subscriber = fixture.connect();
            fixture.subscribe(subscriber, "room-1");
        }
        let before = fixture.written_bytes;
        let json = publish_json("room-1", USUAL_BYTES);
        assert_eq!(json.len(), USUAL_BYTES);
        fixture.say(publisher, &json);
        let from = r#","from":"","#.len() + 36;
        let each = fixture.written_bytes - before;
        assert_eq!(each % 10, 0);
        assert!(
            each / 10 > USUAL_BYTES + from - 20,
            "{each} bytes to ten subscribers"
        );
    }

    /// So would one that stops after some rounds.
    #[test]
    fn every_round_of_a_fan_out_writes_as_much() {
        let mut fixture = Fixture::new();
        let publisher = fixture.connect();
        for _ in 0..1_000 {
            let subscriber = fixture.connect();
            fixture.subscribe(subscriber, "room-1");
        }
        let frames = text_frame(&publish_json("room-1", USUAL_BYTES)).repeat(16);
        let mut written = Vec::new();
        for _ in 0..20 {
            let before = fixture.written_bytes;
            fixture.receive(publisher, &mut frames.clone());
            fixture.end_turn();
            written.push(fixture.written_bytes - before);
        }
        assert!(written[0] > 1_000 * 16 * USUAL_BYTES, "{written:?}");
        assert!(written.iter().all(|it| *it == written[0]), "{written:?}");
    }

    #[test]
    fn a_subscribe_with_presence_is_sent_a_snapshot() {
        let mut fixture = Fixture::new();
        let connection = fixture.connect_with(PRESENCE_KEY);
        fixture.receive(
            connection,
            &mut text_frame(r#"{"type":"subscribe","channel":"room-1","requestId":"1"}"#),
        );
        fixture.end_turn();
        let before = fixture.written_bytes;
        fixture.end_pauses();
        let snapshot = r#"{"type":"presence","channel":"room-1","joined":[],"left":[]}"#;
        assert_eq!(fixture.written_bytes - before, snapshot.len() + 2);
    }

    #[test]
    fn who_returns_gets_all_it_has_missed_each_time() {
        let mut fixture = filled(MISSED + 1);
        let connection = fixture.connect();
        let json = publish_json(KEPT, USUAL_BYTES);
        let (_, data) = json.split_once(r#""data":"#).unwrap();
        let message = message_frame_bytes(KEPT, data.strip_suffix('}').unwrap());
        let mut written = Vec::new();
        for _ in 0..3 {
            let before = fixture.written_bytes;
            for json in returning() {
                fixture.say(connection, &json);
            }
            written.push(fixture.written_bytes - before);
        }
        assert!(written[0] > MISSED * message, "{written:?}");
        assert!(written[0] < (MISSED + 1) * (message + r#","seq":100"#.len()));
        assert!(written.iter().all(|it| *it == written[0]), "{written:?}");
    }

    #[test]
    fn every_case_can_be_performed_again() {
        for case in CASES {
            let mut operation = (case.prepare)();
            for _ in 0..3 {
                operation();
            }
        }
    }

    #[test]
    fn a_token_connect_is_welcomed() {
        let mut fixture = Fixture::new();
        fixture.connect_as("ann");
        assert!(fixture.written_bytes > 200, "101 and welcome");
    }
}
