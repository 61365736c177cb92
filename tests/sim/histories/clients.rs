//! What readers and writers do, and what they are told.

use std::collections::BTreeMap;

use ringmesh::domain::history::HistoryAck;
use serde_json::{Value, json};

use super::{
    Ask, Bounds, CHANNELS, Connection, FILL_BYTES_MAX, Histories, Membership, Position,
    UNACKED_MAX, Unacked,
};
use crate::permit::Action;
use crate::wire::{CLOSE, Frame, PONG, TEXT, append_frame, frame, response};

/// How often a publication is sent that is said to be in memory only.
const REFUSED_MAX: u32 = 3;

impl Histories {
    pub(super) fn drop_connection(&mut self, actor: usize) {
        let way = self.random.below(3);
        let Some(connection) = self.actors[actor].connection.take() else {
            return;
        };
        match way {
            0 => self.world.reset(connection.socket),
            1 => {
                let mut bytes = Vec::new();
                append_frame(&mut bytes, CLOSE, [1, 2, 3, 4], &1_000_u16.to_be_bytes());
                self.world.write(connection.socket, &bytes);
                self.world.end(connection.socket);
            }
            _ => self.world.end(connection.socket),
        }
    }

    pub(super) fn connect(&mut self, actor: usize) {
        let (peer, actions) = (self.actors[actor].peer, self.actors[actor].actions);
        let now = self.world.now().unix_sec();
        let credential = self.tenants.token(0, peer, actions, now, 80_000);
        let shard = self.random.below(self.world.shard_count());
        let Some(socket) = self.world.connect(shard) else {
            return;
        };
        let hello = format!(
            "GET /v1?{} HTTP/1.1\r\nHost: sim\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            credential.query
        );
        self.world.write(socket, hello.as_bytes());
        self.actors[actor].was_stalled = false;
        self.actors[actor].connection = Some(Connection {
            socket,
            received: Vec::new(),
            is_upgraded: false,
            is_open: false,
            next_request: 0,
            asked: BTreeMap::new(),
            channels: [Membership::Out; CHANNELS],
            snapshots_due: [false; CHANNELS],
        });
    }

    /// An actor does what comes next.
    pub(super) fn act(&mut self, actor: usize) {
        let Some(connection) = &self.actors[actor].connection else {
            return self.connect(actor);
        };
        if !connection.is_open {
            return;
        }
        if Self::is_reader(actor) {
            let channel = self.random.below(CHANNELS);
            self.subscribe(actor, channel);
        } else if self.actors[actor].unacked.len() < UNACKED_MAX {
            self.publish(actor);
        }
    }

    fn ask(&mut self, actor: usize, ask: Ask, mut body: Value) {
        let Some(connection) = &mut self.actors[actor].connection else {
            return;
        };
        connection.next_request += 1;
        body["requestId"] = json!(connection.next_request.to_string());
        connection.asked.insert(connection.next_request, ask);
        let mut bytes = Vec::new();
        append_frame(&mut bytes, TEXT, [4, 3, 2, 1], body.to_string().as_bytes());
        self.world.write(connection.socket, &bytes);
    }

    pub(super) fn subscribe(&mut self, actor: usize, channel: usize) {
        let Some(connection) = &mut self.actors[actor].connection else {
            return;
        };
        if connection.channels[channel] != Membership::Out {
            return;
        }
        connection.channels[channel] = Membership::Between;
        let promised = self.numberings.newest_promised(channel);
        if let Some(promised) = promised.filter(|_| self.random.percent(20)) {
            self.actors[actor].has[channel] = Some(promised);
        }
        let since = self.actors[actor].has[channel].clone();
        let mut body = json!({
            "type": "subscribe",
            "channel": format!("room-{channel}"),
            "includeSenderMetadata": self.random.percent(30),
        });
        match (&since, self.random.below(3)) {
            (Some(it), _) => body["since"] = json!({"epoch": it.epoch, "seq": it.seq}),
            (None, 0) => body["position"] = json!(true),
            (None, 1) => body["since"] = json!({"epoch": "another1", "seq": 7}),
            (None, _) => body["since"] = json!({"last": self.random.below(20)}),
        }
        let ms = self.numberings.aged_ms;
        let ask = Ask::Subscribe { channel, since, ms };
        self.ask(actor, ask, body);
    }

    pub(super) fn unsubscribe(&mut self, actor: usize) {
        let channel = self.random.below(CHANNELS);
        let connection = self.actors[actor].connection.as_mut();
        let Some(connection) = connection.filter(|it| it.channels[channel] == Membership::In)
        else {
            return;
        };
        connection.channels[channel] = Membership::Between;
        connection.snapshots_due[channel] = false;
        let body = json!({"type": "unsubscribe", "channel": format!("room-{channel}")});
        self.ask(actor, Ask::Unsubscribe(channel), body);
    }

    fn publish(&mut self, actor: usize) {
        self.next_number += 1;
        let (number, channel) = (self.next_number, self.random.below(CHANNELS));
        let fill = *self.random.pick(&[0, 0, 600, FILL_BYTES_MAX]);
        let fill = "x".repeat(fill);
        self.numberings.sent(number, channel);
        let unacked = Unacked {
            number,
            channel,
            fill,
            refused: 0,
        };
        self.send_publication(actor, &unacked);
        self.actors[actor].unacked.push_back(unacked);
    }

    fn send_publication(&mut self, actor: usize, unacked: &Unacked) {
        let number = unacked.number;
        let body = json!({
            "type": "publish",
            "channel": format!("room-{}", unacked.channel),
            "data": {"n": number, "fill": unacked.fill},
            "id": format!("m-{number}"),
            "position": true,
        });
        self.ask(actor, Ask::Publish(number), body);
    }

    /// An actor takes what has come.
    pub(super) fn receive(&mut self, actor: usize) {
        let Some(connection) = &mut self.actors[actor].connection else {
            return;
        };
        let socket = connection.socket;
        if self.world.sockets[socket].stalled {
            return;
        }
        while let Some((_, bytes)) = self.world.take(socket) {
            connection.received.extend_from_slice(&bytes);
        }
        while let Some(connection) = &mut self.actors[actor].connection {
            if !connection.is_upgraded {
                let Some(response) = response(&connection.received) else {
                    break;
                };
                connection.received.drain(..response.count);
                assert_eq!(response.status, 101, "{}", response.head);
                connection.is_upgraded = true;
                continue;
            }
            let Some((count, frame)) = frame(&connection.received) else {
                break;
            };
            connection.received.drain(..count);
            self.arrived(actor, socket, frame);
        }
        if self.actors[actor].connection.is_some() && self.world.sockets[socket].server_ended {
            let is_excused = self.actors[actor].was_stalled || self.lossy_until.is_some();
            assert!(is_excused, "cut off without a word");
            self.actors[actor].connection = None;
        }
    }

    fn arrived(&mut self, actor: usize, socket: usize, frame: Frame) {
        match frame {
            Frame::Ping(payload) => {
                let mut bytes = Vec::new();
                append_frame(&mut bytes, PONG, [1, 2, 3, 4], &payload);
                self.world.write(socket, &bytes);
            }
            Frame::Pong => panic!("nobody has pinged"),
            Frame::Close(code) => {
                assert_eq!(code, Some(1013), "closed");
                self.actors[actor].connection = None;
                self.world.end(socket);
            }
            Frame::Text(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                match message["type"].as_str().unwrap() {
                    "welcome" => self.welcomed(actor),
                    "ack" => self.acked(actor, &message),
                    "error" => self.refused(actor, &message),
                    "message" => self.publication(actor, &text, &message),
                    "presence" => {
                        let channel = channel_of(&message);
                        let connection = self.actors[actor].connection.as_mut().unwrap();
                        connection.snapshots_due[channel] = false;
                    }
                    _ => panic!("{text}"),
                }
            }
        }
    }

    /// What was not acked on the connection before is published again.
    fn welcomed(&mut self, actor: usize) {
        self.actors[actor].connection.as_mut().unwrap().is_open = true;
        for unacked in self.actors[actor].unacked.clone() {
            self.send_publication(actor, &unacked);
        }
    }

    fn answered(&mut self, actor: usize, answer: &Value) -> Ask {
        let request = answer["requestId"].as_str().unwrap();
        let connection = self.actors[actor].connection.as_mut().unwrap();
        let asked = connection.asked.remove(&request.parse().unwrap());
        asked.expect("one answer")
    }

    fn acked(&mut self, actor: usize, ack: &Value) {
        let asked = self.answered(actor, ack);
        let it = &mut self.actors[actor];
        let connection = it.connection.as_mut().unwrap();
        match asked {
            Ask::Unsubscribe(channel) => connection.channels[channel] = Membership::Out,
            Ask::Subscribe { channel, since, ms } => {
                connection.channels[channel] = Membership::In;
                connection.snapshots_due[channel] = it.actions.contains(Action::Presence);
                self.subscribed(actor, (channel, since, ms), ack);
            }
            Ask::Publish(number) => self.published(actor, number, ack),
        }
    }

    /// A publication has its place, and is stored if acks wait for that.
    fn published(&mut self, actor: usize, number: u64, ack: &Value) {
        let unacked = &mut self.actors[actor].unacked;
        unacked.retain(|it| it.number != number);
        let Some(epoch) = ack["epoch"].as_str() else {
            return self.without_history(ack);
        };
        let (channel, sent_ms) = self.numberings.sent_to(number);
        let seq = ack["seq"].as_u64().unwrap();
        self.told(channel, epoch, seq, sent_ms);
        self.numberings.note(channel, epoch, seq, number);
        let Some(kept) = self
            .kept
            .as_ref()
            .filter(|_| self.settings.ack == HistoryAck::Stored)
        else {
            return;
        };
        let is_of_now = !kept.is_failing || number <= kept.failed_at;
        assert!(
            is_of_now || kept.takes_some,
            "acked, and the disk takes nothing"
        );
        if !kept.is_failing && number > kept.healed_at {
            self.numberings.promise(channel, epoch, seq);
        }
    }

    fn told(&mut self, channel: usize, epoch: &str, seq: u64, ms: u64) {
        assert!(self.has_rule, "history without a rule");
        let is_first = self.numberings.told(channel, epoch, seq, ms);
        if is_first && self.kept.as_ref().is_some_and(|it| !it.has_failed) {
            self.numberings.promise_again(channel);
        }
    }

    fn without_history(&self, ack: &Value) {
        assert!(!self.has_rule, "no history: {ack}");
        assert_eq!((&ack["epoch"], &ack["seq"]), (&Value::Null, &json!(0)));
    }

    /// A request is answered with an error: a shard is lost, or the disk takes nothing.
    fn refused(&mut self, actor: usize, error: &Value) {
        assert_eq!(error["code"], "backend_error", "{error}");
        let is_lossy = self.lossy_until.is_some();
        match self.answered(actor, error) {
            Ask::Subscribe { channel, .. } | Ask::Unsubscribe(channel) => {
                assert!(is_lossy, "{error}");
                let connection = self.actors[actor].connection.as_mut().unwrap();
                connection.channels[channel] = Membership::Out;
            }
            Ask::Publish(number) => {
                let has_failed = self.kept.as_ref().is_some_and(|it| it.has_failed);
                let waits = self.settings.ack == HistoryAck::Stored;
                assert!(is_lossy || has_failed && waits, "{error}");
                let unacked = &mut self.actors[actor].unacked;
                let at = unacked.iter().position(|it| it.number == number);
                let Some(mut again) = at.and_then(|at| unacked.remove(at)) else {
                    return;
                };
                again.refused += 1;
                if is_lossy || again.refused < REFUSED_MAX {
                    unacked.push_back(again.clone());
                    if !is_lossy {
                        self.send_publication(actor, &again);
                    }
                }
            }
        }
    }

    fn subscribed(
        &mut self,
        actor: usize,
        (channel, since, ms): (usize, Option<Position>, u64),
        ack: &Value,
    ) {
        let (recovered, count) = (ack["recovered"].as_bool(), ack["count"].as_u64());
        assert!(recovered != Some(false) || count == Some(0), "{ack}");
        let Some(epoch) = ack["epoch"].as_str() else {
            return self.without_history(ack);
        };
        let seq = ack["seq"].as_u64().unwrap();
        self.told(channel, epoch, seq, ms);
        let (begin, since_ms) = match (since, recovered) {
            (Some(has), Some(true)) => {
                let missed = seq.checked_sub(has.seq);
                assert!(
                    missed.is_some() && count == missed,
                    "a replay from {has:?} to {seq}"
                );
                self.numberings.goes_on(channel, &has, epoch);
                (has.seq, has.since_ms)
            }
            (Some(has), Some(false)) => {
                if self.numberings.must_know(channel, &has) {
                    let missed = seq.checked_sub(has.seq).expect("behind the newest");
                    let is_excused =
                        self.may_be_lost(missed) || self.numberings.may_be_over(has.since_ms);
                    assert!(is_excused, "{missed} after {has:?} lost without a reason");
                }
                (seq, ms)
            }
            // Another epoch, the newest, or the position alone.
            (None, Some(false) | None) => (seq, ms),
            (None, Some(true)) => (seq - count.unwrap(), 0),
            (Some(_), None) => panic!("{ack}"),
        };
        self.actors[actor].has[channel] = Some(Position {
            epoch: epoch.to_owned(),
            seq: begin,
            since_ms,
        });
    }

    /// Whether so many publications may be too many to be had.
    fn may_be_lost(&self, missed: u64) -> bool {
        let Bounds {
            messages,
            replay_messages,
            replay_bytes,
            is_tight,
        } = self.bounds;
        let bytes = missed * (FILL_BYTES_MAX as u64 + 500);
        missed > 0 && (is_tight || missed > messages.min(replay_messages) || bytes > replay_bytes)
    }

    fn publication(&mut self, actor: usize, text: &str, message: &Value) {
        let channel = channel_of(message);
        let connection = self.actors[actor].connection.as_ref().unwrap();
        assert!(!connection.snapshots_due[channel], "before the snapshot");
        let is_in = connection.channels[channel] != Membership::Out;
        assert!(is_in, "not subscribed");
        let Some(seq) = message["seq"].as_u64() else {
            return assert!(!self.has_rule, "{text}");
        };
        assert!(text.ends_with(&format!(",\"seq\":{seq}}}")), "{text}");
        let number = message["data"]["n"].as_u64().unwrap();
        let sent_ms = self.numberings.sent_to(number).1;
        let has = self.actors[actor].has[channel].as_mut();
        let has = has.expect("a position");
        assert_eq!(seq, has.seq + 1, "a gap or a double in room-{channel}");
        (has.seq, has.since_ms) = (seq, sent_ms);
        let epoch = has.epoch.clone();
        self.numberings.note(channel, &epoch, seq, number);
    }
}

fn channel_of(message: &Value) -> usize {
    let name = message["channel"].as_str().unwrap();
    name.strip_prefix("room-").unwrap().parse().unwrap()
}
