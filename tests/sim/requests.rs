//! What well-behaved clients ask for.

use serde_json::json;

use crate::client::Request;
use crate::ledger::{Direct, Publication};
use crate::permit::Action;
use crate::walk::{PEERS, Walk};
use crate::wire::{ENDS, TEXT, TEXT_BEGINS};
use crate::world::OUTBOUND_BYTES_MAX;

const REQUESTS_OUT_MAX: usize = 10;
/// Publications of a burst, and what is added to each of them. One burst fits into a member's
/// queue. Several that come together do not, unless their publishers wait.
const BURST: usize = 4;
const BURST_FILL_BYTES: usize = 3_000;
const _: () = assert!(BURST * BURST_FILL_BYTES > OUTBOUND_BYTES_MAX / 4);

impl Walk {
    /// A client asks for something.
    pub(crate) fn act(&mut self) {
        let alive = self.open_clients();
        let open = alive.into_iter().filter(|at| self.clients[*at].is_open());
        let open: Vec<usize> = open.collect();
        if open.is_empty() {
            return self.connect();
        }
        let client = *self.workload.pick(&open);
        if self.clients[client].requests.len() >= REQUESTS_OUT_MAX {
            return;
        }
        let channel = self.workload.below(self.channel_count);
        match self.workload.below(20) {
            0..5 => self.subscribe(client, channel),
            5..7 => self.unsubscribe(client, channel),
            7..14 => match self.workload.below(40) {
                0 => self.publish_burst(client, channel),
                _ => {
                    let fill = self.fill();
                    self.publish(client, channel, fill);
                }
            },
            14..18 => self.send_direct(client),
            18 if self.workload.percent(50) => self.refresh(client),
            18 => self.request(client, Request::Ping, json!({"type": "ping"}), true),
            _ => {
                let (code, bad) = self.workload.pick(&[
                    ("unknown_type", r#"{"type":"shout"}"#),
                    (
                        "channel_not_authorized",
                        r#"{"type":"publish","channel":"x","data":1}"#,
                    ),
                    (
                        "channel_reserved",
                        r#"{"type":"subscribe","channel":"_System/x"}"#,
                    ),
                    ("invalid_channel", r#"{"type":"unsubscribe","channel":""}"#),
                    ("missing_data", r#"{"type":"publish","channel":"room-0"}"#),
                    ("invalid_peer_id", r#"{"type":"send","to":"","data":1}"#),
                    (
                        "malformed_message",
                        r#"{"type":"subscribe","channel":"room-0","includeSenderMetadata":1}"#,
                    ),
                ]);
                let may = self.clients[client].actions.contains(Action::Publish);
                if may || *code != "channel_not_authorized" {
                    let bad = serde_json::from_str(bad).unwrap();
                    self.request(client, Request::Bad(code), bad, true);
                }
            }
        }
    }

    pub(crate) fn request(
        &mut self,
        client: usize,
        request: Request,
        mut body: serde_json::Value,
        id: bool,
    ) {
        let it = &mut self.clients[client];
        if id {
            it.next_request += 1;
            body["requestId"] = json!(it.next_request.to_string());
            it.requests.insert(it.next_request, request);
        }
        let text = body.to_string();
        if self.workload.percent(5) {
            let (begin, end) = text.as_bytes().split_at(text.len() / 2);
            self.send_frame(client, TEXT_BEGINS, begin);
            return self.send_frame(client, ENDS, end);
        }
        self.send_frame(client, TEXT, text.as_bytes());
    }

    fn subscribe(&mut self, client: usize, channel: usize) {
        let metadata = self.workload.percent(50);
        let it = &mut self.clients[client];
        it.ever_asked.insert(channel);
        it.channels.entry(channel).or_default().subscribes_out += 1;
        let body = json!({
            "type": "subscribe",
            "channel": format!("room-{channel}"),
            "includeSenderMetadata": metadata,
        });
        let step = self.step;
        self.request(
            client,
            Request::Subscribe {
                channel,
                metadata,
                step,
            },
            body,
            true,
        );
    }

    fn unsubscribe(&mut self, client: usize, channel: usize) {
        let subscription = self.clients[client].channels.entry(channel).or_default();
        subscription.unsubscribes_out += 1;
        if let Some(epoch) = subscription.epoch.take() {
            self.ledger.epochs[epoch].over = true;
        }
        let body = json!({"type": "unsubscribe", "channel": format!("room-{channel}")});
        self.request(client, Request::Unsubscribe { channel }, body, true);
    }

    fn publish(&mut self, client: usize, channel: usize, fill: usize) {
        let number = self.ledger.number();
        let it = &self.clients[client];
        let app = it.credential.app;
        // Who is refused for the quota is named by no answer without an id.
        let is_limited = self.tenants.plans[app].messages_max.is_some();
        let has_id = is_limited || self.workload.percent(80);
        let publication = Publication {
            client: Some(client),
            publisher: client,
            app,
            channel,
            step: self.step,
            epoch: it.settled(channel),
            has_id,
            accepted: None,
        };
        self.ledger.publications.insert(number, publication);
        let body = json!({
            "type": "publish",
            "channel": format!("room-{channel}"),
            "data": {"n": number, "fill": "x".repeat(fill)},
        });
        self.request(client, Request::Publish(number), body, has_id);
    }

    fn publish_burst(&mut self, client: usize, channel: usize) {
        for _ in 0..BURST {
            self.publish(client, channel, BURST_FILL_BYTES);
        }
    }

    fn send_direct(&mut self, client: usize) {
        let app = self.clients[client].credential.app;
        let peers = self.open_clients().into_iter().map(|at| &self.clients[at]);
        let peers = peers.filter(|it| it.credential.app == app && !it.peer.is_empty());
        let mut peers: Vec<String> = peers.map(|it| it.peer.clone()).collect();
        peers.push(format!("peer {}", self.workload.below(PEERS)));
        let to = self.workload.pick(&peers).clone();
        let number = self.ledger.number();
        let channels = self.clients[client].channels.iter();
        let epochs = channels.filter_map(|(at, it)| Some((*at, it.epoch?)));
        let direct = Direct {
            client,
            app,
            to: to.clone(),
            step: self.step,
            epochs: epochs.collect(),
            accepted: None,
            is_refused: false,
            receivers: Vec::new(),
        };
        self.ledger.directs.insert(number, direct);
        let fill = "x".repeat(self.fill());
        let body = json!({"type": "send", "to": to, "data": {"n": number, "fill": fill}});
        self.request(client, Request::Send(number), body, true);
    }

    /// How much longer than it need be a message is, in bytes.
    fn fill(&mut self) -> usize {
        match self.workload.below(30) {
            0 => self.workload.below(3_000),
            _ => 0,
        }
    }
}
