//! A backend that follows who is in the channels of its app: killed at random, overtaken at random
//! and listing anew while peers come and go, it ends with the true roster each time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::domain::rights::Feed;
use crate::events::feed::{FeedEvent, FeedKind, FeedReader, FeedWriter};

/// Every seed is another run.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 5_000 };
const STEPS: u64 = 120;
const CHANNELS: [&str; 3] = ["room/1", "room/2", "a \"b\""];
const PEERS: u64 = 6;

type Rosters = BTreeMap<String, BTreeSet<String>>;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }

    fn percent(&mut self, part: u64) -> bool {
        self.below(100) < part
    }
}

/// A process with its shards, and the clients that are connected to it.
struct Server {
    cluster: Cluster,
    feed: FeedReader,
    /// Who each client is, and the channels that it is in or on its way into.
    clients: Vec<(Client, String, BTreeSet<&'static str>)>,
}

impl Server {
    fn start(random: &mut Random) -> Self {
        let feed = Feed {
            presence: true,
            peers: true,
            since_version: 1,
        };
        let shards = 1 + random.below(3) as u16;
        let mut cluster = Cluster::new(shards, rights(App { feed, ..app() }));
        // Hundreds of events, or thousands.
        let bytes = if random.percent(60) {
            2 << 12
        } else {
            64 << 12
        };
        let mut rings = Vec::new();
        for shard in &mut cluster.shards {
            let (writer, ring) = FeedWriter::new(bytes);
            shard.feed_with(writer);
            rings.extend(ring);
        }
        Self {
            cluster,
            feed: FeedReader::new(rings),
            clients: Vec::new(),
        }
    }

    fn any_shard(&self, random: &mut Random) -> usize {
        random.below(self.cluster.shards.len() as u64) as usize
    }

    /// A client or a shard does something; others hear of it when those have their turns.
    fn step(&mut self, random: &mut Random) {
        let any = random.below(self.clients.len().max(1) as u64) as usize;
        match random.below(12) {
            0..3 if self.clients.len() < 16 => {
                let shard = self.any_shard(random);
                let id = format!("peer-{}", random.below(PEERS));
                let client = peer(&mut self.cluster, shard, &id);
                self.clients.push((client, id, BTreeSet::new()));
            }
            3..6 if !self.clients.is_empty() => self.command(any, "subscribe", random),
            6..8 if !self.clients.is_empty() => self.command(any, "unsubscribe", random),
            8 if !self.clients.is_empty() => {
                let (client, ..) = self.clients.swap_remove(any);
                let connection = client.id;
                let closed = Input::Closed { connection };
                self.cluster.input(client.shard, closed);
            }
            _ => {
                let shard = self.any_shard(random);
                self.cluster.turn(shard);
            }
        }
    }

    fn command(&mut self, at: usize, what: &str, random: &mut Random) {
        let channel = CHANNELS[random.below(CHANNELS.len() as u64) as usize];
        let (client, _, channels) = &mut self.clients[at];
        match what {
            "subscribe" => channels.insert(channel),
            _ => channels.remove(channel),
        };
        let command = json!({ "type": what, "channel": channel }).to_string();
        self.cluster.feed(*client, &Cluster::frame(&command));
    }

    /// Who is where, by what clients have done.
    fn truth(&self) -> Rosters {
        let mut rosters = Rosters::new();
        for (_, id, channels) in &self.clients {
            for channel in channels {
                let roster = rosters.entry((*channel).to_owned()).or_default();
                roster.insert(id.clone());
            }
        }
        rosters
    }
}

/// What a backend keeps on its disk, in one piece.
#[derive(Clone, Default)]
struct Kept {
    /// Which process it follows, and from where on; `None`: it has to list.
    at: Option<(u64, Vec<u64>)>,
    rosters: Rosters,
    /// Who is connected, as long as nothing was missed since the start of the process.
    online: Option<BTreeSet<String>>,
}

/// A list that is under way: from where it is followed, the channels that are left, and the
/// request that has not been answered.
struct Listing {
    next: Vec<u64>,
    left: Vec<&'static str>,
    asked: Option<Client>,
    rosters: Rosters,
    /// The last peer of the page before.
    after: Option<String>,
}

#[derive(Default)]
struct Backend {
    disk: Kept,
    memory: Kept,
    listing: Option<Listing>,
    /// The number of the last event of each channel, while nothing is missing.
    numbers: BTreeMap<String, u64>,
    lists: u64,
    kills: u64,
}

impl Backend {
    /// Goes on from what is on the disk.
    fn kill(&mut self) {
        self.kills += 1;
        self.memory = self.disk.clone();
        self.listing = None;
        self.numbers.clear();
    }

    fn begin_list(&mut self, server: &Server) {
        self.lists += 1;
        self.memory = Kept::default();
        self.numbers.clear();
        self.listing = Some(Listing {
            next: server.feed.end(),
            left: CHANNELS.to_vec(),
            asked: None,
            rosters: Rosters::new(),
            after: None,
        });
    }

    /// Asks, hears, or reads on. Returns whether there was nothing to do.
    fn step(&mut self, server: &mut Server, epoch: u64, random: &mut Random) -> bool {
        if let Some(listing) = self.listing.take() {
            self.list(listing, server, epoch, random);
            return false;
        }
        let Some((_, next)) = self.memory.at.take().filter(|(it, _)| *it == epoch) else {
            self.begin_list(server);
            return false;
        };
        let (tag, limit) = (app().id.tag().words(), 1 + random.below(20) as usize);
        let Some(page) = server.feed.read(tag, &next, limit, || true, |_| true) else {
            self.begin_list(server);
            return false;
        };
        page.events.iter().for_each(|event| self.apply(event));
        self.memory.at = Some((epoch, page.next));
        if random.percent(30) {
            self.disk = self.memory.clone();
        }
        page.events.is_empty() && !page.has_more
    }

    fn apply(&mut self, event: &FeedEvent) {
        if !event.channel.is_empty() {
            let expected = match event.kind {
                FeedKind::ChannelOccupied => Some(1),
                _ => self.numbers.get(&event.channel).map(|it| it + 1),
            };
            assert_eq!(event.number, expected.unwrap_or(event.number), "{event:?}");
            self.numbers.insert(event.channel.clone(), event.number);
        }
        let peer = event.peer.clone();
        let roster = || event.channel.clone();
        match (event.kind, &mut self.memory.online) {
            (FeedKind::ChannelOccupied, _) => {}
            (FeedKind::ChannelVacated, _) => drop(self.memory.rosters.remove(&roster())),
            (FeedKind::MemberJoined, _) => {
                self.memory
                    .rosters
                    .entry(roster())
                    .or_default()
                    .insert(peer);
            }
            (FeedKind::MemberLeft, _) => {
                self.memory
                    .rosters
                    .entry(roster())
                    .or_default()
                    .remove(&peer);
            }
            (FeedKind::PeerOnline, Some(online)) => assert!(online.insert(peer), "twice online"),
            (FeedKind::PeerOffline, Some(online)) => assert!(online.remove(&peer), "never online"),
            (FeedKind::PeerOnline | FeedKind::PeerOffline, None) => {}
        }
    }

    fn list(&mut self, mut list: Listing, server: &mut Server, epoch: u64, random: &mut Random) {
        let Some(channel) = list.left.last().copied() else {
            self.memory = Kept {
                at: Some((epoch, list.next)),
                rosters: list.rosters,
                online: None,
            };
            return;
        };
        match list.asked {
            None => {
                let client = server.cluster.accept(server.any_shard(random));
                let name = channel.replace(' ', "%20").replace('"', "%22");
                let after = list.after.iter().map(|it| format!("&after={it}"));
                let request = format!(
                    "GET /v1/channels/{name}/peers?limit=2{} HTTP/1.1\r\nHost: x\r\n\
                     Authorization: Bearer sk_live_full\r\n\r\n",
                    after.collect::<String>()
                );
                server.cluster.feed(client, request.as_bytes());
                list.asked = Some(client);
            }
            Some(client) => {
                if let Some(response) = server.cluster.responses(client).pop() {
                    let page = response.json();
                    let peers = page["peers"].as_array().unwrap().iter();
                    let peers = peers.map(|it| it["peerId"].as_str().unwrap().to_owned());
                    let roster = list.rosters.entry(channel.to_owned()).or_default();
                    roster.extend(peers);
                    list.after = page["next"].as_str().map(str::to_owned);
                    list.asked = None;
                    if list.after.is_none() {
                        list.left.pop();
                    }
                }
            }
        }
        self.listing = Some(list);
    }
}

/// Without the channels that nobody is in.
fn occupied(rosters: &Rosters) -> Rosters {
    let mut rosters = rosters.clone();
    rosters.retain(|_, roster| !roster.is_empty());
    rosters
}

fn run(seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let mut server = Server::start(&mut random);
    let mut epoch = 0;
    let mut backend = Backend::default();
    // At the start of a process nobody is connected.
    backend.memory = Kept {
        at: Some((epoch, server.feed.end())),
        rosters: Rosters::new(),
        online: Some(BTreeSet::new()),
    };
    backend.disk = backend.memory.clone();
    let laziness = 1 + random.below(40);
    for _ in 0..STEPS {
        match random.below(400) {
            0 => {
                server = Server::start(&mut random);
                epoch += 1;
                // Its requests went with the process.
                backend.listing = None;
            }
            1..20 => backend.kill(),
            _ if random.below(laziness) < 5 => drop(backend.step(&mut server, epoch, &mut random)),
            _ => (0..1 + random.below(9)).for_each(|_| server.step(&mut random)),
        }
    }
    server.cluster.run();
    if random.percent(50) {
        backend.kill();
    }
    for _ in 0..10_000 {
        if backend.step(&mut server, epoch, &mut random) {
            break;
        }
        server.cluster.run();
    }
    assert_eq!(
        occupied(&backend.memory.rosters),
        server.truth(),
        "seed {seed}"
    );
    if let Some(online) = &backend.memory.online {
        let connected = server.clients.iter().map(|(_, id, _)| id.clone());
        assert_eq!(*online, connected.collect::<BTreeSet<_>>(), "seed {seed}");
    }
    (backend.lists, backend.kills)
}

#[test]
fn a_reader_killed_at_random_ends_with_the_true_roster() {
    let (mut lists, mut kills) = (0, 0);
    for seed in 0..SEEDS {
        let (more_lists, more_kills) = run(seed);
        (lists, kills) = (lists + more_lists, kills + more_kills);
    }
    assert!(
        lists > SEEDS / 4 && kills > SEEDS,
        "{lists} lists, {kills} kills"
    );
}

#[test]
fn without_a_feed_nothing_is_written() {
    let mut cluster = Cluster::new(1, rights(app()));
    let (writer, ring) = FeedWriter::new(1 << 16);
    cluster.shards[0].feed_with(writer);
    let client = peer(&mut cluster, 0, "ann");
    cluster.message(client, r#"{"type":"subscribe","channel":"room/1"}"#);
    assert_eq!(ring.unwrap().written(), 0);
}

#[test]
fn a_channel_is_occupied_before_its_first_member_and_vacated_after_its_last() {
    let feed = Feed {
        presence: true,
        peers: true,
        since_version: 1,
    };
    let mut cluster = Cluster::new(1, rights(App { feed, ..app() }));
    let (writer, ring) = FeedWriter::new(1 << 16);
    cluster.shards[0].feed_with(writer);
    let reader = FeedReader::new(ring.into_iter().collect());
    for _ in 0..2 {
        let clients = ["ann", "ann", "bob"].map(|id| peer(&mut cluster, 0, id));
        for client in clients {
            cluster.message(client, r#"{"type":"subscribe","channel":"room/1"}"#);
        }
        for client in clients {
            cluster.close(client);
        }
        cluster.wait(1_000);
    }
    let tag = app().id.tag().words();
    let page = reader.read(tag, &[0], 100, || true, |_| true).unwrap();
    let told = |event: &FeedEvent| {
        let FeedEvent {
            kind, number, peer, ..
        } = event;
        format!("{} {number} {peer}", kind.as_str())
    };
    let told: Vec<_> = page.events.iter().map(told).collect();
    let once = [
        "peer_online 1 ann",
        "peer_online 1 bob",
        "channel_occupied 1 ",
        "member_joined 2 ann",
        "member_joined 3 bob",
        "member_left 4 ann",
        "peer_offline 2 ann",
        "member_left 5 bob",
        "channel_vacated 6 ",
        "peer_offline 2 bob",
    ];
    assert_eq!(told, [once, once].concat());
}
