//! `fanout`: publishers that only publish, subscribers that only receive.
//!
//! Open loop at a stated rate, or closed with a number of publications in flight (`--saturate`).
//! A second group of small channels can run beside the first, to see what wide fan-outs do to it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::client::message::{Message, RequestId};
use crate::driver::connection::Kind;
use crate::driver::core::Core;
use crate::failure::Failure;
use crate::stamp::{PAYLOAD_BYTES_MIN, Stamp};
use crate::workload::acks::Acks;
use crate::workload::fanout_options::{FanoutOptions, Group};
use crate::workload::ledger::{Faults, Ledger};
use crate::workload::pace::Pace;
use crate::workload::{Plan, RunContext, Verified, Workload, unexpected};

/// What the cores share: plain counts, each written by few and read at the end or when woken.
pub(crate) struct Shared {
    /// Sequences taken by each stream. Raised before the message is sent, so that whoever sees a
    /// message also sees its count.
    published: Vec<AtomicU32>,
    /// Deliveries of each stream, all subscribers together.
    delivered: Vec<AtomicU64>,
    /// Digest of the order in which each channel's messages were seen.
    order: Mutex<Vec<Option<u64>>>,
    names: Vec<String>,
}

impl Shared {
    /// For these groups, with channel names that contain `tag`.
    pub(crate) fn new(groups: &[Group], tag: &str) -> Shared {
        let streams: u32 = groups
            .iter()
            .map(|group| group.streams().len() as u32)
            .sum();
        let channels: u32 = groups.iter().map(|group| group.channels).sum();
        Shared {
            published: (0..streams).map(|_| AtomicU32::new(0)).collect(),
            delivered: (0..streams).map(|_| AtomicU64::new(0)).collect(),
            order: Mutex::new(vec![None; channels as usize]),
            names: (0..channels).map(|c| format!("load/{tag}/{c}")).collect(),
        }
    }
}

enum Role {
    Publisher,
    Subscriber {
        channel: u32,
        ledger: Ledger,
        order: u64,
    },
}

/// One load core's publishers and subscribers.
pub(crate) struct Fanout {
    groups: Vec<Group>,
    paces: Vec<(Pace, Vec<u32>)>,
    shared: Arc<Shared>,
    core_count: u32,
    payload_bytes: usize,
    clients: Vec<Role>,
    /// First peer number of this core's clients.
    first_peer: u32,
    waiting: usize,
    /// Own streams: the client that publishes each, by stream; `u32::MAX` elsewhere.
    publisher_of: Vec<u32>,
    own_saturated: Vec<u32>,
    /// Saturated streams of this core that may have room again.
    unblocked: Vec<u32>,
    acks: Acks,
    received: u64,
    faults: Faults,
    payload: Vec<u8>,
}

impl Fanout {
    /// The share of load core `core`.
    pub(crate) fn new(
        options: &FanoutOptions,
        groups: &[Group],
        shared: Arc<Shared>,
        core: u32,
        core_count: u32,
    ) -> Fanout {
        let mut clients = Vec::new();
        let mut publisher_of = vec![u32::MAX; shared.published.len()];
        let mut paces = Vec::new();
        let mut own_saturated = Vec::new();
        for group in groups {
            let own: Vec<u32> = group
                .streams()
                .filter(|stream| stream % core_count == core)
                .collect();
            for stream in &own {
                publisher_of[*stream as usize] = clients.len() as u32;
                clients.push(Role::Publisher);
            }
            if group.in_flight > 0 {
                own_saturated.extend_from_slice(&own);
                paces.push((Pace::new(1.0, 1, &[]), Vec::new()));
            } else {
                let place = |stream: &u32| (stream - group.first_stream) as usize;
                let places: Vec<usize> = own.iter().map(place).collect();
                paces.push((Pace::new(group.rate, group.streams().len(), &places), own));
            }
            for number in 0..group.channels * group.subscribers {
                if number % core_count == core {
                    let channel = group.first_channel + number / group.subscribers;
                    let mut ledger = Ledger::default();
                    group
                        .streams_of(channel)
                        .for_each(|stream| ledger.expect(stream, 0));
                    clients.push(Role::Subscriber {
                        channel,
                        ledger,
                        order: 0,
                    });
                }
            }
        }
        Fanout {
            groups: groups.to_vec(),
            paces,
            shared,
            core_count,
            payload_bytes: options.payload,
            first_peer: core,
            waiting: clients.len(),
            clients,
            publisher_of,
            unblocked: own_saturated.clone(),
            own_saturated,
            acks: Acks::default(),
            received: 0,
            faults: Faults::default(),
            payload: Vec::new(),
        }
    }

    fn group_of(&self, stream: u32) -> Group {
        let is_beside = self.groups.len() > 1 && stream >= self.groups[1].first_stream;
        self.groups[usize::from(is_beside)]
    }

    fn publish(&mut self, core: &mut Core, stream: u32, intended_ns: u64) -> Result<(), Failure> {
        let group = self.group_of(stream);
        let sequence = self.shared.published[stream as usize].fetch_add(1, Ordering::AcqRel);
        let stamp = Stamp {
            stream,
            sequence,
            intended_ns,
        };
        stamp.write(&mut self.payload, self.payload_bytes);
        let channel = self.shared.names[group.channel_of(stream) as usize].as_bytes();
        let id = RequestId {
            kind: b'p',
            a: stream,
            b: sequence,
        };
        let id_text = id.text();
        let ack: [&[u8]; 3] = match group.has_acks {
            true => [b",\"requestId\":\"", &id_text, b"\""],
            false => [b"", b"", b""],
        };
        let [a, b, c] = ack;
        let head = b"{\"type\":\"publish\",\"channel\":\"";
        let parts: [&[u8]; 8] = [head, channel, b"\",\"data\":", &self.payload, a, b, c, b"}"];
        if group.has_acks {
            self.acks.sent(id, intended_ns);
        }
        core.recorder.sent_at(intended_ns, crate::clock::now_ns());
        core.send_text(self.publisher_of[stream as usize], &parts)
    }

    fn delivered(&mut self, core: &mut Core, client: u32, stamp: Stamp) {
        let Role::Subscriber { ledger, order, .. } = &mut self.clients[client as usize] else {
            self.faults
                .misdirected(|| format!("publisher {client} got a publication"));
            return;
        };
        if !ledger.arrived(&mut self.faults, client, stamp) {
            return;
        }
        let mark = u64::from(stamp.stream) << 32 | u64::from(stamp.sequence);
        *order = (*order ^ mark)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
        let group = self.group_of(stamp.stream);
        core.recorder
            .latency(group.series, stamp.intended_ns, core.now_ns);
        core.recorder.counters.received += 1;
        self.received += 1;
        if group.in_flight > 0 {
            self.count_delivery(core, stamp.stream, group.subscribers);
        }
    }

    fn count_delivery(&mut self, core: &Core, stream: u32, subscribers: u32) {
        let counter = &self.shared.delivered[stream as usize];
        let total = if self.core_count == 1 {
            let total = counter.load(Ordering::Relaxed) + 1;
            counter.store(total, Ordering::Relaxed);
            total
        } else {
            counter.fetch_add(1, Ordering::AcqRel) + 1
        };
        if !total.is_multiple_of(u64::from(subscribers)) {
            return;
        }
        if self.publisher_of[stream as usize] == u32::MAX {
            core.phase.wake((stream % self.core_count) as usize);
        } else {
            self.unblocked.push(stream);
        }
    }

    fn fill(&mut self, core: &mut Core, stream: u32) -> Result<(), Failure> {
        let group = self.group_of(stream);
        loop {
            let published =
                u64::from(self.shared.published[stream as usize].load(Ordering::Acquire));
            let delivered = self.shared.delivered[stream as usize].load(Ordering::Acquire);
            let complete = delivered / u64::from(group.subscribers.max(1));
            if published - complete >= u64::from(group.in_flight) {
                return Ok(());
            }
            self.publish(core, stream, crate::clock::now_ns())?;
        }
    }

    fn expected_here(&self) -> u64 {
        let published =
            |s: u32| u64::from(self.shared.published[s as usize].load(Ordering::Acquire));
        let of_client = |role: &Role| match role {
            Role::Publisher => 0,
            Role::Subscriber { channel, .. } => self
                .groups
                .iter()
                .find(|group| group.has_channel(*channel))
                .map_or(0, |group| group.streams_of(*channel).map(published).sum()),
        };
        self.clients.iter().map(of_client).sum()
    }
}

impl Workload for Fanout {
    fn start(&mut self, core: &mut Core) -> Result<(), Failure> {
        for client in 0..self.clients.len() as u32 {
            let peer = client * self.core_count + self.first_peer;
            core.open(client, Kind::WebSocket { peer }, core.now_ns);
        }
        Ok(())
    }

    fn on_welcome(&mut self, core: &mut Core, client: u32, _: &[u8]) -> Result<(), Failure> {
        match &self.clients[client as usize] {
            Role::Publisher => {
                self.waiting -= 1;
                Ok(())
            }
            Role::Subscriber { channel, .. } => {
                let id = RequestId {
                    kind: b's',
                    a: client,
                    b: 0,
                };
                let name = &self.shared.names[*channel as usize];
                core.send_command(client, "subscribe", name, id)
            }
        }
    }

    fn on_message(
        &mut self,
        core: &mut Core,
        client: u32,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        match message {
            Message::Publication { stamp, .. } => self.delivered(core, client, stamp),
            Message::Ack(id) if id.kind == b's' => self.waiting -= 1,
            Message::Ack(id) => {
                let Some(intended_ns) = self.acks.arrived(id, &mut self.faults) else {
                    return Ok(());
                };
                core.recorder.latency(1, intended_ns, core.now_ns);
                if self.group_of(id.a).subscribers == 0 {
                    core.recorder.counters.received += 1;
                    self.shared.delivered[id.a as usize].fetch_add(1, Ordering::AcqRel);
                    self.unblocked.push(id.a);
                }
            }
            Message::Presence(_) => {}
            other => return unexpected(&other),
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.waiting == 0
    }

    fn pump(&mut self, core: &mut Core) -> Result<Option<u64>, Failure> {
        let to_ns = core.phase.to_ns();
        if !self.own_saturated.is_empty() && core.now_ns < to_ns {
            let mut unblocked = std::mem::take(&mut self.unblocked);
            if self.core_count > 1 {
                unblocked.clone_from(&self.own_saturated);
            }
            for stream in unblocked.drain(..) {
                // Only this group's streams are saturated; others are merely counted here.
                if self.group_of(stream).in_flight > 0 {
                    self.fill(core, stream)?;
                }
            }
            self.unblocked = unblocked;
        }
        self.unblocked.clear();
        let mut next = None;
        for at in 0..self.paces.len() {
            self.paces[at].0.start(core.recorder.window().go_ns);
            while let Some((due_ns, sender)) =
                self.paces[at].0.take_due(crate::clock::now_ns(), to_ns)
            {
                let stream = self.paces[at].1[sender];
                self.publish(core, stream, due_ns)?;
            }
            let due = self.paces[at].0.next().map(|(due_ns, _)| due_ns);
            next = [next, due].into_iter().flatten().min();
        }
        Ok(next)
    }

    fn is_drained(&self) -> bool {
        self.acks.is_empty() && self.received >= self.expected_here()
    }

    fn fault_count(&self) -> u64 {
        self.faults.count()
    }

    fn verify(&mut self, _: &mut Core) -> Result<Verified, Failure> {
        let mut order_of = self
            .shared
            .order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (client, role) in self.clients.iter_mut().enumerate() {
            let Role::Subscriber {
                channel,
                ledger,
                order,
            } = role
            else {
                continue;
            };
            let Some(group) = self.groups.iter().find(|g| g.has_channel(*channel)) else {
                continue;
            };
            for stream in group.streams_of(*channel) {
                let end = self.shared.published[stream as usize].load(Ordering::Acquire);
                ledger.finish(&mut self.faults, client as u32, stream, end);
            }
            let agreed = order_of[*channel as usize].get_or_insert(*order);
            // After a fault they differ for that reason already.
            if *agreed != *order && self.faults.count() == 0 {
                let text = || format!("subscribers of channel {channel} disagree on the order");
                self.faults.misdirected(text);
            }
        }
        self.acks.finish(&mut self.faults);
        self.faults.verdict()?;
        Ok(Verified {
            messages: self.received + self.acks.arrived_count(),
            notes: Vec::new(),
        })
    }
}

impl Plan for FanoutOptions {
    fn check(&self) -> Result<(), Failure> {
        let usage = |what: &str| Err(Failure::Usage(what.to_owned()));
        if self.channels == 0 || self.publishers == 0 {
            return usage("fanout needs at least one channel and one publisher");
        }
        if self.payload < PAYLOAD_BYTES_MIN {
            return usage(&format!("--payload must be at least {PAYLOAD_BYTES_MIN}"));
        }
        if self.rate <= 0.0 || !self.rate.is_finite() {
            return usage("--rate must be above 0");
        }
        if self.saturate && self.in_flight < self.streams() {
            return usage("--in-flight must give every publisher at least one");
        }
        Ok(())
    }

    fn connection_count(&self) -> u64 {
        let of_group = |channels: u32, members: u64| u64::from(channels).saturating_mul(members);
        let members = u64::from(self.publishers) + u64::from(self.subscribers);
        let beside = self.beside.map_or(0, |beside| {
            of_group(beside.channels, 1 + u64::from(beside.subscribers))
        });
        of_group(self.channels, members).saturating_add(beside)
    }

    fn series(&self) -> Vec<&'static str> {
        vec!["delivery", "ack", "delivery beside"]
    }

    fn unit(&self) -> &'static str {
        if self.subscribers == 0 {
            "publication"
        } else {
            "delivery"
        }
    }

    fn workloads(&self, run: &RunContext) -> Vec<Box<dyn Workload + Send>> {
        let groups = self.groups();
        let shared = Arc::new(Shared::new(&groups, &run.tag));
        let one = |core| {
            let fanout = Fanout::new(self, &groups, Arc::clone(&shared), core, run.core_count);
            Box::new(fanout) as Box<dyn Workload + Send>
        };
        (0..run.core_count).map(one).collect()
    }
}
