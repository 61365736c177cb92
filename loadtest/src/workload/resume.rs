//! `resume`: clients drop all at once, come back and ask for what they have missed.
//!
//! Each load core publishes into channels of its own all the time. Every message of a channel with
//! history has a number, and a client must get all numbers from its first position on, each once
//! and in order, however often it drops; or be told that it cannot, which is counted apart.

use clap::Args;

use crate::client::message::{Message, Position, RequestId};
use crate::clock::{MS, SECOND, now_ns};
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::stamp::{PAYLOAD_BYTES_MIN, Stamp};
use crate::workload::ledger::Faults;
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, unexpected};

/// Time between the start, or the return of the last client, and the next drop, ns.
const PAUSE_NS: u64 = SECOND;
/// Of the time away, the part by which each client comes back earlier or later at most.
const SPREAD_ONE_IN: u64 = 5;
/// The client that publishes; the others follow.
const PUBLISHER: u32 = 0;

/// Latency series.
const RECOVERED: usize = 0;
const WELCOME: usize = 1;
const LIVE: usize = 2;

/// Options of `resume`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResumeOptions {
    /// Clients
    #[arg(short = 'n', long, default_value_t = 1_000)]
    clients: u32,
    /// Channels of each client
    #[arg(long, default_value_t = 10)]
    channels: u32,
    /// Channels in all, of each load core
    #[arg(long, default_value_t = 100)]
    of: u32,
    /// Publications per second, over all channels
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    size: usize,
    /// Milliseconds for which a client is gone, a fifth more or less
    #[arg(long, default_value_t = 500, value_name = "MS")]
    away: u64,
    /// How often all of them drop
    #[arg(long, default_value_t = 3)]
    drops: u32,
}

impl Plan for ResumeOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: String| Err(Failure::Usage(what));
        if self.clients == 0 || self.channels == 0 || self.drops == 0 {
            return usage("--clients, --channels and --drops must be above 0".into());
        }
        if self.of < self.channels {
            return usage("--of must be --channels or more".into());
        }
        if self.rate <= 0.0 || !self.rate.is_finite() {
            return usage("--rate must be above 0".into());
        }
        if self.size < PAYLOAD_BYTES_MIN {
            return usage(format!("--size must be {PAYLOAD_BYTES_MIN} or more"));
        }
        Ok(())
    }

    fn connection_count(&self) -> u64 {
        // And a publisher on each load core, of which there are seldom more than one.
        u64::from(self.clients) + 1
    }

    fn series(&self) -> Vec<&'static str> {
        vec![
            "connect to recovered",
            "connect to welcome",
            "live delivery",
        ]
    }

    fn unit(&self) -> &'static str {
        "message"
    }

    fn is_counted(&self) -> bool {
        true
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let share = |core: u32| {
            let own = (0..self.clients).filter(|n| n % run.core_count == core);
            let channel_count = self.of;
            let clients = own.map(|number| Client::new(number, self));
            let names = (0..channel_count).map(|at| format!("load/{}/resume/{core}/{at}", run.tag));
            let rate = self.rate / f64::from(run.core_count);
            let resume = Resume {
                names: names.collect(),
                published: vec![Published::default(); channel_count as usize],
                clients: clients.collect(),
                publisher: self.clients + core,
                pace: Pace::new(rate, 1, &[0]),
                next_channel: 0,
                size: self.size,
                payload: Vec::new(),
                waiting: 0,
                away_ns: self.away * MS,
                drops_left: self.drops,
                next_drop_ns: None,
                returns: Vec::new(),
                absent: 0,
                gaps: 0,
                replayed: 0,
                seen: 0,
                faults: Faults::default(),
            };
            Box::new(resume) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(share).collect()
    }
}

/// What the publisher knows of a channel.
#[derive(Debug, Clone, Default)]
struct Published {
    sent: u32,
    acked: u32,
    /// Number of the last one that was acked.
    last: Option<u64>,
}

/// What a client knows of one of its channels.
#[derive(Debug)]
struct Membership {
    channel: u32,
    epoch: Box<str>,
    /// Number of the message that must come next.
    next: u64,
    /// Number of the last one that the replay brings.
    replay_to: u64,
    awaits_ack: bool,
}

#[derive(Debug)]
struct Client {
    peer: u32,
    memberships: Vec<Membership>,
    /// It has come back, and has not got everything that it missed.
    recovers: bool,
}

impl Client {
    fn new(peer: u32, options: &ResumeOptions) -> Client {
        let first = peer.wrapping_mul(options.channels) % options.of;
        let channels = (0..options.channels).map(|at| (first + at) % options.of);
        let membership = |channel| Membership {
            channel,
            epoch: Box::default(),
            next: 0,
            replay_to: 0,
            awaits_ack: true,
        };
        Client {
            peer,
            memberships: channels.map(membership).collect(),
            recovers: false,
        }
    }

    fn membership(&mut self, channel: u32) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|it| it.channel == channel)
    }

    fn has_all(&self) -> bool {
        let is_whole = |it: &Membership| !it.awaits_ack && it.next > it.replay_to;
        self.memberships.iter().all(is_whole)
    }
}

struct Resume {
    names: Vec<String>,
    published: Vec<Published>,
    clients: Vec<Client>,
    /// The publisher's number in the whole run.
    publisher: u32,
    pace: Pace,
    next_channel: usize,
    size: usize,
    payload: Vec<u8>,
    /// Connections and answers that the set-up lacks.
    waiting: u32,
    away_ns: u64,
    drops_left: u32,
    next_drop_ns: Option<u64>,
    /// When clients come back, the next one last.
    returns: Vec<(u64, u32)>,
    /// Clients that are gone, or have not recovered.
    absent: usize,
    gaps: u64,
    replayed: u64,
    seen: u64,
    faults: Faults,
}

impl Resume {
    /// Asks for a channel from the client's position on, or for the position where it has none.
    fn subscribe(&self, core: &mut Core, client: u32, at: usize) -> Result<(), Failure> {
        let membership = &self.clients[client as usize - 1].memberships[at];
        let channel = membership.channel;
        let id = RequestId {
            kind: b's',
            a: client,
            b: channel,
        };
        let asked = match &*membership.epoch {
            "" => ",\"position\":true}".to_owned(),
            epoch => {
                let seq = membership.next - 1;
                format!(",\"since\":{{\"epoch\":\"{epoch}\",\"seq\":{seq}}}}}")
            }
        };
        let parts: [&[u8]; 5] = [
            b"{\"type\":\"subscribe\",\"channel\":\"",
            self.names[channel as usize].as_bytes(),
            b"\",\"requestId\":\"",
            &id.text(),
            b"\"",
        ];
        let text = parts.concat();
        core.send_text(client, &[&text, asked.as_bytes()])
    }

    fn publish(&mut self, core: &mut Core, intended_ns: u64) -> Result<(), Failure> {
        let channel = self.next_channel;
        self.next_channel = (channel + 1) % self.names.len();
        let published = &mut self.published[channel];
        let stamp = Stamp {
            stream: channel as u32,
            sequence: published.sent,
            intended_ns,
        };
        published.sent += 1;
        stamp.write(&mut self.payload, self.size);
        core.recorder.sent_at(intended_ns, now_ns());
        let id = RequestId {
            kind: b'p',
            a: channel as u32,
            b: 0,
        };
        let parts: [&[u8]; 7] = [
            b"{\"type\":\"publish\",\"channel\":\"",
            self.names[channel].as_bytes(),
            b"\",\"data\":",
            &self.payload,
            b",\"requestId\":\"",
            &id.text(),
            b"\",\"position\":true}",
        ];
        core.send_text(PUBLISHER, &parts)
    }

    /// The publisher's message has a place.
    fn stored(&mut self, channel: u32, position: &Position<'_>) {
        let published = &mut self.published[channel as usize];
        published.acked += 1;
        if let Some(last) = published.last
            && position.seq != last + 1
        {
            let seq = position.seq;
            let name = &self.names[channel as usize];
            self.faults
                .doubled(|| format!("{name}: message {seq} was acked after {last}"));
        }
        published.last = Some(position.seq);
    }

    /// A subscription is answered.
    fn joined(&mut self, core: &mut Core, id: RequestId, position: &Position<'_>) {
        let name = &self.names[id.b as usize];
        let client = &mut self.clients[id.a as usize - 1];
        let Some(membership) = client.membership(id.b).filter(|it| it.awaits_ack) else {
            self.faults
                .doubled(|| format!("{name}: an answer nobody awaits"));
            return;
        };
        membership.awaits_ack = false;
        let missed = position.seq.checked_sub(membership.next.saturating_sub(1));
        match position.recovered {
            Some(true) => {
                membership.replay_to = position.seq;
                if missed != position.count || Some(&*membership.epoch) != position.epoch {
                    let text = format!("{name}: {position:?} after {}", membership.next);
                    self.faults.doubled(|| text);
                }
                self.replayed += position.count.unwrap_or(0);
            }
            Some(false) => {
                self.gaps += 1;
                membership.restart(position);
            }
            None => {
                self.waiting -= 1;
                membership.restart(position);
            }
        }
        self.look_recovered(core, id.a);
    }

    fn heard(&mut self, core: &mut Core, client: u32, channel: &[u8], (stamp, seq): (Stamp, u64)) {
        self.seen += 1;
        core.recorder.counters.received += 1;
        let at = self.clients.get_mut(client as usize - 1);
        let found = at.and_then(|it| it.membership(stamp.stream));
        let name = self.names.get(stamp.stream as usize);
        let (Some(membership), Some(name)) = (found, name) else {
            let channel = String::from_utf8_lossy(channel).into_owned();
            self.faults
                .misdirected(|| format!("client {client} heard of {channel}"));
            return;
        };
        if name.as_bytes() != channel || membership.awaits_ack {
            self.faults
                .misdirected(|| format!("client {client}: message {seq} of {name} before its ack"));
        } else if seq > membership.next {
            let next = membership.next;
            let text = format!("client {client}: {name} brought {seq} where {next} was due");
            self.faults.lost(seq - next, || text);
            membership.next = seq + 1;
        } else if seq < membership.next {
            self.faults
                .doubled(|| format!("client {client}: {name} brought {seq} again"));
        } else {
            membership.next += 1;
            if seq > membership.replay_to {
                core.recorder.latency(LIVE, stamp.intended_ns, core.now_ns);
            } else if membership.next > membership.replay_to {
                self.look_recovered(core, client);
            }
        }
    }

    fn look_recovered(&mut self, core: &mut Core, client: u32) {
        let it = &mut self.clients[client as usize - 1];
        if it.recovers && it.has_all() {
            it.recovers = false;
            let intended_ns = core.intended_ns(client);
            core.recorder.latency(RECOVERED, intended_ns, core.now_ns);
            self.absent -= 1;
            if self.absent == 0 && self.drops_left > 0 {
                self.next_drop_ns = Some(core.now_ns + PAUSE_NS);
            }
        }
    }

    /// All clients are gone from now on, and come back at a time of their own.
    fn drop_all(&mut self, core: &mut Core) {
        self.next_drop_ns = None;
        self.drops_left -= 1;
        self.absent = self.clients.len();
        let spread_ns = self.away_ns / SPREAD_ONE_IN;
        let now_ns = core.now_ns;
        for (at, client) in self.clients.iter_mut().enumerate() {
            let number = at as u32 + 1;
            core.abandon(number);
            client.recovers = true;
            client
                .memberships
                .iter_mut()
                .for_each(|it| it.awaits_ack = true);
            let later_ns = core.random_below((2 * spread_ns / MS) as u32 + 1);
            let back_ns = now_ns + self.away_ns - spread_ns + u64::from(later_ns) * MS;
            self.returns.push((back_ns, number));
        }
        self.returns
            .sort_unstable_by_key(|(back_ns, _)| u64::MAX - back_ns);
    }

    /// Whether every client has got what was published last.
    fn is_whole(&self, client: &Client) -> bool {
        let is_whole = |it: &Membership| {
            let last = self.published[it.channel as usize].last;
            !it.awaits_ack && last.is_none_or(|last| it.next > last)
        };
        client.memberships.iter().all(is_whole)
    }

    fn no_history(&self, channel: u32) -> Failure {
        let name = &self.names[channel as usize];
        Failure::Usage(format!(
            "the server keeps no history of {name}: give the app a rule, as [[apps.history]] with \
             pattern = \"load/**\""
        ))
    }
}

impl Membership {
    /// There is nothing before the present position.
    fn restart(&mut self, position: &Position<'_>) {
        self.epoch = position.epoch.unwrap_or_default().into();
        self.next = position.seq + 1;
        self.replay_to = position.seq;
    }
}

impl Workload for Resume {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        let memberships = self.clients.iter().map(|it| it.memberships.len() as u32);
        self.waiting = 1 + memberships.sum::<u32>();
        let publisher = Kind::WebSocket {
            peer: self.publisher,
        };
        core.open(PUBLISHER, publisher, core.now_ns);
        for (at, client) in self.clients.iter().enumerate() {
            let kind = Kind::WebSocket { peer: client.peer };
            core.open(at as u32 + 1, kind, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, _: &[u8]) -> Result<(), Failure> {
        if client == PUBLISHER {
            self.waiting -= 1;
            return Ok(());
        }
        let it = &self.clients[client as usize - 1];
        if it.recovers {
            let intended_ns = core.intended_ns(client);
            core.recorder.latency(WELCOME, intended_ns, core.now_ns);
        }
        for at in 0..it.memberships.len() {
            self.subscribe(core, client, at)?;
        }
        Ok(())
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match message {
            Message::Placed(id, Position { epoch: None, .. }) => {
                let channel = if id.kind == b'p' { id.a } else { id.b };
                return Err(self.no_history(channel));
            }
            // A server without history knows nothing of positions.
            Message::Ack(RequestId { kind: b'p', a, .. }) => return Err(self.no_history(a)),
            Message::Ack(RequestId { kind: b's', b, .. }) => return Err(self.no_history(b)),
            Message::Placed(id, position) if id.kind == b'p' => self.stored(id.a, &position),
            Message::Placed(id, position) => self.joined(core, id, &position),
            Message::Publication {
                channel,
                stamp,
                seq: Some(seq),
            } => self.heard(core, client, channel, (stamp, seq)),
            Message::Presence(_) => {}
            other => return unexpected(&other),
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        let go_ns = core.recorder.window().go_ns;
        if self.drops_left > 0 && self.absent == 0 {
            self.next_drop_ns.get_or_insert(go_ns + PAUSE_NS);
        }
        self.pace.start(go_ns);
        while let Some((due_ns, _)) = self.pace.take_due(now_ns(), core.phase.to_ns()) {
            self.publish(core, due_ns)?;
        }
        if self.next_drop_ns.is_some_and(|at| at <= core.now_ns) {
            self.drop_all(core);
        }
        while let Some((back_ns, client)) = self.returns.pop_if(|(at, _)| *at <= core.now_ns) {
            let peer = self.clients[client as usize - 1].peer;
            core.open(client, Kind::WebSocket { peer }, back_ns);
        }
        let publication_ns = self.pace.next().map(|(due_ns, _)| due_ns);
        let back_ns = self.returns.last().map(|(at, _)| *at);
        let due_ns = [publication_ns, self.next_drop_ns, back_ns];
        Ok(due_ns.into_iter().flatten().min())
    }

    fn is_finished(&self) -> bool {
        self.drops_left == 0 && self.absent == 0
    }

    fn is_drained(&self) -> bool {
        let is_acked = |it: &Published| it.acked == it.sent;
        self.published.iter().all(is_acked) && self.clients.iter().all(|it| self.is_whole(it))
    }

    fn fault_count(&self) -> u64 {
        self.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        let unacked = self
            .published
            .iter()
            .map(|it| u64::from(it.sent - it.acked));
        let unacked = unacked.sum();
        self.faults.lost(unacked, || {
            format!("{unacked} publications were never acked")
        });
        let behind = self.clients.iter().filter(|it| !self.is_whole(it)).count() as u64;
        self.faults.lost(behind, || {
            format!("{behind} clients lack messages in the end")
        });
        self.faults.verdict()?;
        let mut notes = vec![format!("{} messages came in replays", self.replayed)];
        if self.gaps > 0 {
            notes.push(format!(
                "{} of the subscriptions could not be continued (recovered: false): keep more of \
                 each channel, or stay away for less long",
                self.gaps
            ));
        }
        Ok(Verified {
            messages: self.seen,
            notes,
        })
    }
}
