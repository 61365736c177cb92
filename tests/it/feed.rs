//! The feed of an app: a backend that follows it has the true roster in the end, however often it
//! or the server is killed; and what is no reader's business is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::admin::Api;
use crate::support::raw::{Raw, Response};
use crate::support::server::Server;
use crate::support::setup::{ALL_ACTIONS, Setup, key, secret_key, signer};
use crate::support::token::SECRET;
use crate::support::until;

const FEED: &str = "/api/internal/v1/apps/app_a/feed";
const CHANNELS: [&str; 2] = ["room/1", "room/2"];

type Rosters = BTreeMap<String, BTreeSet<String>>;

/// A server whose `app_a` has a feed, and whose `app_b` has none.
fn setup(shards: u16, feed: &str) -> Setup {
    let keys = [
        key("pk_live_a", &["**"], ALL_ACTIONS),
        signer("sk_id_a"),
        secret_key("sk_id_narrow", &["room/1"], ALL_ACTIONS),
        secret_key("sk_id_mute", &["**"], &["publish"]),
    ];
    Setup::new(shards)
        .no_apps()
        .app(&format!("app_a\nfeed = {{ {feed} }}"), &keys)
        .app("app_b", &[signer("sk_id_b")])
}

/// The feed with the credential of a key, and the public API with the same.
fn backend(server: &Server, key_id: &str) -> (Api, Api) {
    let bearer = format!("{key_id}:{SECRET}");
    let at = |address| Api {
        address,
        bearer: bearer.clone(),
    };
    (at(server.admin_address()), at(server.public))
}

fn roster(rest: &Api, channel: &str) -> Option<BTreeSet<String>> {
    let channel = channel.replace('/', "%2F");
    let answer = rest.attempt("GET", &format!("/v1/channels/{channel}/peers"), None)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let peers = answer["peers"].as_array().unwrap().iter();
    Some(
        peers
            .map(|it| it["peerId"].as_str().unwrap().to_owned())
            .collect(),
    )
}

/// What a backend writes to its disk in one piece.
#[derive(Clone, Default)]
struct Kept {
    cursor: Option<String>,
    rosters: Rosters,
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// One life of a backend, from what is on its disk until it is killed, which may be at any point.
/// `None`: the server was gone.
fn live(feed: &Api, rest: &Api, disk: &Mutex<Kept>, lives: u64) -> Option<()> {
    let mut left = lives;
    let mut dies = || {
        left -= 1;
        left == 0
    };
    let mut state = disk.lock().unwrap().clone();
    loop {
        let Some(cursor) = &state.cursor else {
            let answer = feed.attempt("GET", FEED, None)?;
            assert_eq!(answer.status, 200, "{answer:?}");
            state.cursor = answer.json()["cursor"].as_str().map(str::to_owned);
            for channel in CHANNELS {
                if dies() {
                    return Some(());
                }
                state
                    .rosters
                    .insert(channel.to_owned(), roster(rest, channel)?);
            }
            continue;
        };
        if dies() {
            return Some(());
        }
        let path = format!("{FEED}?after={cursor}&limit=7&waitMs=100");
        let answer = feed.attempt("GET", &path, None)?;
        if answer.status == 410 {
            answer.is_error(410, "cursor_expired");
            assert!(answer.json()["cursor"].is_string());
            state = Kept::default();
            continue;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        page["events"]
            .as_array()
            .unwrap()
            .iter()
            .for_each(|event| apply(&mut state, event));
        state.cursor = page["cursor"].as_str().map(str::to_owned);
        if dies() {
            return Some(());
        }
        *disk.lock().unwrap() = state.clone();
    }
}

fn apply(state: &mut Kept, event: &Value) {
    let channel = event["channel"].as_str().unwrap_or_default();
    let Some(roster) = state.rosters.get_mut(channel) else {
        return;
    };
    let peer = event["peerId"].as_str().unwrap_or_default().to_owned();
    match event["kind"].as_str() {
        Some("member_joined") => drop(roster.insert(peer)),
        Some("member_left") => drop(roster.remove(&peer)),
        Some("channel_occupied") => {}
        Some("channel_vacated") => roster.clear(),
        kind => panic!("{kind:?}"),
    }
}

fn check_killed_reader(shards: u16, seed: u64) {
    // So small that a reader is overtaken.
    let mut server = setup(shards, "presence = true")
        .set("feed.memory_per_shard", 65_536)
        .start();
    let mut random = Random(seed);
    let (disk, ends) = (Mutex::new(Kept::default()), AtomicBool::new(false));
    let (feed, rest) = backend(&server, "sk_id_a");
    std::thread::scope(|scope| {
        let (disk, ends) = (&disk, &ends);
        let mut fates = Random(seed + 1);
        scope.spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let lives = 1 + fates.below(60);
                if live(&feed, &rest, disk, lives).is_none() {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        });
        let mut clients = Vec::new();
        for round in 0..6 {
            for _ in 0..60 {
                if clients.len() > 8 || (random.below(3) == 0 && !clients.is_empty()) {
                    clients.swap_remove(random.below(clients.len() as u64) as usize);
                    continue;
                }
                let id = format!("peer-{}", random.below(6));
                let mut client = server.quiet_peer(&id);
                client.subscribe(CHANNELS[random.below(2) as usize]);
                clients.push(client);
            }
            if round % 2 == 1 {
                clients.clear();
                server.kill_and_restart();
            }
        }
        // One peer stays, so that something is to be known.
        let mut last = server.quiet_peer("last");
        last.subscribe(CHANNELS[0]);
        drop(clients);
        let (_, rest) = backend(&server, "sk_id_a");
        let truth = |channel: &str| roster(&rest, channel).unwrap();
        until("everybody else is gone", || truth(CHANNELS[0]).len() == 1);
        until("everybody is gone", || truth(CHANNELS[1]).is_empty());
        until("the true roster", || {
            let known = disk.lock().unwrap().rosters.clone();
            CHANNELS.iter().all(|it| known.get(*it) == Some(&truth(it)))
        });
        ends.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_reader_killed_at_random_ends_with_the_true_roster() {
    std::thread::scope(|scope| {
        scope.spawn(|| check_killed_reader(1, 7));
        scope.spawn(|| check_killed_reader(2, 8));
    });
}

#[test]
fn events_say_who_came_and_went_and_where() {
    let server = setup(2, "presence = true, peers = true").start();
    let (feed, _) = backend(&server, "sk_id_a");
    let cursor = feed.get(FEED)["cursor"].as_str().unwrap().to_owned();
    let mut ann = server.quiet_peer("ann");
    ann.subscribe("room/2");
    assert_eq!(ann.close(Some(1000)), 1000);
    let kinds = [
        "channel_occupied",
        "channel_vacated",
        "member_joined",
        "member_left",
        "peer_offline",
        "peer_online",
    ];
    let mut events = Vec::new();
    let mut after = cursor.clone();
    until("all events", || {
        let page = feed.get(&format!("{FEED}?after={after}&waitMs=1000"));
        events.extend(page["events"].as_array().unwrap().clone());
        after = page["cursor"].as_str().unwrap().to_owned();
        events.len() >= kinds.len()
    });
    let mut told: Vec<_> = events
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    told.sort_unstable();
    assert_eq!(told, kinds);
    for event in &events {
        let kind = event["kind"].as_str().unwrap();
        let expected = match kind {
            "channel_occupied" => json!([1, "room/2", null]),
            "member_joined" => json!([2, "room/2", "ann"]),
            "member_left" => json!([3, "room/2", "ann"]),
            "channel_vacated" => json!([4, "room/2", null]),
            "peer_online" => json!([1, null, "ann"]),
            _ => json!([2, null, "ann"]),
        };
        let is = json!([event["number"], event["channel"], event["peerId"]]);
        assert_eq!(is, expected, "{event}");
    }
    // A key sees the channels that it could list, and peers.
    let (narrow, _) = backend(&server, "sk_id_narrow");
    let seen = narrow.get(&format!("{FEED}?after={cursor}&waitMs=0"));
    let seen = seen["events"].as_array().unwrap();
    assert!(seen.iter().all(|it| it["channel"].is_null()), "{seen:?}");
    assert_eq!(seen.len(), 2);
    // The same again: whoever goes on from an older cursor is told again.
    let again = server
        .admin()
        .get(&format!("{FEED}?after={cursor}&waitMs=0&limit=6"));
    assert_eq!(again["events"].as_array().unwrap().len(), 6);
}

#[test]
fn only_the_app_itself_and_operators_read_and_only_what_there_is() {
    let server = setup(1, "presence = true").start();
    let admin = server.admin();
    let with = |bearer: &str| Api {
        bearer: bearer.to_owned(),
        ..admin.clone()
    };
    let key_a = with(&format!("sk_id_a:{SECRET}"));
    let key_b = with(&format!("sk_id_b:{SECRET}"));
    let unauthorized = |answer: Response| answer.is_error(401, "unauthorized");
    for bearer in [
        "",
        "pk_live_a",
        "sk_id_a",
        "sk_id_a:",
        "sk_id_a:x",
        "sk_live_x",
        "a:b:c",
    ] {
        unauthorized(with(bearer).call("GET", FEED, None));
    }
    unauthorized(key_b.call("GET", FEED, None));
    unauthorized(key_a.call("GET", "/api/internal/v1/apps/app_x/feed", None));
    // Nothing else is a key's business.
    for (method, path) in [
        ("GET", "/api/internal/v1/apps"),
        ("GET", "/api/internal/v1/apps/app_a"),
        ("GET", "/api/internal/v1/apps/app_a/feed/"),
        ("GET", "/api/internal/v1/apps/app_a/peers"),
        ("POST", FEED),
        ("DELETE", FEED),
        ("GET", "/api/internal/v1/apps/app_a/../app_a/feed"),
        ("GET", "/metrics/feed"),
    ] {
        unauthorized(key_a.call(method, path, None));
    }
}

#[test]
fn bad_questions_are_refused_and_wild_cursors_have_expired() {
    let server = setup(1, "presence = true").start();
    let admin = server.admin();
    let [(key_a, _), (key_b, _)] = ["sk_id_a", "sk_id_b"].map(|id| backend(&server, id));
    admin
        .call("POST", FEED, None)
        .is_error(405, "invalid_request");
    admin
        .call("GET", "/api/internal/v1/apps/app_x/feed", None)
        .is_error(404, "not_found");
    key_b
        .call("GET", "/api/internal/v1/apps/app_b/feed", None)
        .is_error(409, "conflict");
    let (mute, _) = backend(&server, "sk_id_mute");
    mute.call("GET", FEED, None).is_error(403, "forbidden");
    for query in [
        "after=x",
        "after=k-1.2",
        "after=k-1.2-",
        "after=k-1.2-3-4",
        "after=K-1.2-3",
        "limit=0",
        "limit=1001",
        "waitMs=25001",
        "waitMs=-1",
        "before=1",
        "limit=1&limit=2",
        "after=%2",
        "after=k-1.2-99999999999999",
    ] {
        key_a
            .call("GET", &format!("{FEED}?{query}"), None)
            .is_error(400, "invalid_request");
    }
    let cursor = key_a.get(FEED)["cursor"].as_str().unwrap().to_owned();
    let (beginning, _) = cursor.rsplit_once('-').unwrap();
    for wild in [
        format!("{beginning}-zzzzzzzzzz"),
        format!("{beginning}-0.0"),
        format!("k-{}", cursor.split_once('-').unwrap().1),
        cursor.replacen('-', "-1", 1),
    ] {
        let path = format!("{FEED}?after={wild}");
        key_a
            .call("GET", &path, None)
            .is_error(410, "cursor_expired");
    }
}

#[test]
fn a_feed_that_is_switched_off_and_on_ends_its_cursors_and_a_revoked_key_its_streams() {
    let server = setup(1, "presence = true").start();
    let admin = server.admin();
    let apps = "/api/internal/v1/apps";
    let app = json!({"appId": "app_s", "feed": {"presence": true}});
    assert_eq!(
        admin.create(apps, &app)["feed"],
        json!({"presence": true, "peers": false})
    );
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": ["presence"]});
    let key = admin.create(&format!("{apps}/app_s/keys"), &body);
    let backend = Api {
        bearer: key["apiSecret"].as_str().unwrap().to_owned(),
        ..admin.clone()
    };
    let path = format!("{apps}/app_s/feed");
    let cursor = || backend.get(&path)["cursor"].as_str().unwrap().to_owned();
    let old = cursor();
    // Other changes end nothing.
    admin.patch(&format!("{apps}/app_s"), &json!({"name": "S"}));
    backend.get(&format!("{path}?after={old}&waitMs=0"));
    for presence in [false, true] {
        admin.patch(
            &format!("{apps}/app_s"),
            &json!({"feed": {"presence": presence}}),
        );
    }
    let expired = backend.call("GET", &format!("{path}?after={old}&waitMs=0"), None);
    expired.is_error(410, "cursor_expired");
    // Who lacks the action sees nobody, also where the feed has peers.
    let feed = json!({"feed": {"presence": true, "peers": true}});
    admin.patch(&format!("{apps}/app_s"), &feed);
    let body = json!({"type": "secret", "channelPatterns": ["**"], "actions": ["publish"]});
    let blind = admin.create(&format!("{apps}/app_s/keys"), &body);
    let blind = Api {
        bearer: blind["apiSecret"].as_str().unwrap().to_owned(),
        ..admin.clone()
    };
    blind.call("GET", &path, None).is_error(403, "forbidden");
    // The cursor of another app is none.
    let other = admin.get(FEED)["cursor"].as_str().unwrap().to_owned();
    let other = backend.call("GET", &format!("{path}?after={other}"), None);
    other.is_error(410, "cursor_expired");

    let mut stream = Stream::open(&backend, &path);
    assert_eq!(stream.next("event: "), "event: cursor");
    admin.delete(&format!(
        "/api/internal/v1/signalling/keys/{}",
        key["keyId"].as_str().unwrap()
    ));
    assert_eq!(stream.next("event: "), "event: end");
    assert!(stream.next("data: ").contains("unauthorized"));
    assert_eq!(
        stream
            .lines
            .by_ref()
            .map_while(Result::ok)
            .filter(|it| it.starts_with("id:"))
            .count(),
        0
    );
}

/// A stream of server-sent events, line by line.
struct Stream {
    lines: std::io::Lines<BufReader<std::net::TcpStream>>,
}

impl Stream {
    fn open(api: &Api, path: &str) -> Self {
        let mut raw = Raw::open(api.address);
        let bearer = &api.bearer;
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {bearer}\r\n\r\n"
        ));
        let lines = BufReader::new(raw.stream.try_clone().unwrap()).lines();
        Self { lines }
    }

    /// The next line that begins so.
    #[track_caller]
    fn next(&mut self, beginning: &str) -> String {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        lines
            .find(|line| line.starts_with(beginning))
            .expect("the stream goes on")
    }
}

#[test]
fn a_stream_tells_what_happens_and_there_are_some_and_no_more() {
    let server = setup(1, "presence = true").start();
    let (feed, _) = backend(&server, "sk_id_a");
    let mut streams: Vec<_> = (0..4).map(|_| Stream::open(&feed, FEED)).collect();
    for stream in &mut streams {
        assert!(stream.next("HTTP").contains("200"));
        assert_eq!(stream.next("event: "), "event: cursor");
    }
    let cursor = streams[0].next("id: ")[4..].to_owned();
    feed.call("GET", FEED, None).is_error(429, "busy");
    let mut ann = server.quiet_peer("ann");
    ann.subscribe("room/1");
    for stream in &mut streams {
        assert_eq!(stream.next("event: "), "event: channel_occupied");
        assert_eq!(stream.next("event: "), "event: member_joined");
        let event: Value = serde_json::from_str(&stream.next("data: ")[6..]).unwrap();
        assert_eq!(event["peerId"], "ann");
        assert!(stream.next("id: ").len() > 4);
    }
    // Whoever is gone leaves a place for others.
    drop(streams);
    until("a place", || feed.call("GET", FEED, None).status == 200);
    let mut raw = Raw::open(feed.address);
    raw.write(format!(
        "GET {FEED} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Last-Event-ID: {cursor}\r\nAuthorization: Bearer {}\r\n\r\n",
        feed.bearer
    ));
    let mut again = Stream {
        lines: BufReader::new(raw.stream.try_clone().unwrap()).lines(),
    };
    assert_eq!(again.next("event: "), "event: cursor");
    assert_eq!(again.next("event: "), "event: channel_occupied");
}

#[test]
fn without_memory_there_is_no_feed() {
    let server = setup(1, "presence = true")
        .set("feed.memory_per_shard", 0)
        .start();
    server
        .admin()
        .call("GET", FEED, None)
        .is_error(404, "invalid_request");
}
