//! The same at a whole node: how long each view of the console waits for its lists, over the admin
//! API of a server with all its connections, and what that does to live deliveries.
//!
//! Time is divided into turns: in one nobody looks, in the next somebody asks for one list after
//! the other without a pause. Both are compared within a run, so that what else the machine does
//! is in both.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringmesh_bench::client::{Readers, open_websocket};
use ringmesh_bench::fixture::text_frame;
use ringmesh_bench::machine::raise_descriptor_limit;
use serde_json::Value;

/// How long the server may take to be ready.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// Connections that are sent what is published.
const LISTENERS: usize = 200;
/// Between two publications.
const EVERY: Duration = Duration::from_millis(5);
/// Between the last publication of a turn and the next turn.
const PAUSE: Duration = Duration::from_millis(200);
/// What takes longer counts as this long, in milliseconds or microseconds.
const LONGEST: u64 = 60_000_000;
/// Descriptors for all but connections.
const SPARE_DESCRIPTORS: u64 = 100;

/// What is measured.
pub(crate) struct Plan {
    /// The program.
    pub server: PathBuf,
    pub shards: u16,
    pub connections: usize,
    pub channels: usize,
    /// Of each kind.
    pub turns: usize,
    pub turn: Duration,
}

/// What came of it.
pub(crate) struct Found {
    /// Milliseconds that each request took, by path.
    pub views: BTreeMap<String, Histogram<u64>>,
    /// Microseconds of deliveries while nobody looked, and while somebody did.
    pub quiet: Histogram<u64>,
    pub looked_at: Histogram<u64>,
}

pub(crate) fn measure(plan: &Plan) -> io::Result<Found> {
    let needed = plan.connections as u64 + SPARE_DESCRIPTORS;
    if raise_descriptor_limit() < needed {
        let text = format!("{needed} descriptors are needed: ulimit -n, or --connections");
        return Err(io::Error::other(text));
    }
    let server = Server::start(plan)?;
    let mut node = Node::fill(&server, plan)?;
    let is_looked_at = AtomicBool::new(false);
    let is_over = AtomicBool::new(false);
    let mut quiet = histogram()?;
    let mut looked_at = histogram()?;
    let views = thread::scope(|scope| {
        let looker = scope.spawn(|| look(&server, &is_looked_at, &is_over));
        let watched = (0..2 * plan.turns).try_for_each(|turn| {
            let is_second = turn % 2 == 1;
            is_looked_at.store(is_second, Ordering::Relaxed);
            let latencies = if is_second {
                &mut looked_at
            } else {
                &mut quiet
            };
            node.watch(plan.turn, latencies)
        });
        is_over.store(true, Ordering::Relaxed);
        let views = looker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the looker fell")));
        watched.and(views)
    })?;
    Ok(Found {
        views,
        quiet,
        looked_at,
    })
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_max(LONGEST, 3).map_err(io::Error::other)
}

/// The server, a process of its own; ended when dropped.
struct Server {
    child: Child,
    directory: PathBuf,
    public: SocketAddr,
    admin: SocketAddr,
    /// Of operators, and of clients.
    token: String,
    key: String,
}

impl Server {
    fn start(plan: &Plan) -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("ringmesh-looks-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let mut child = Command::new(&plan.server)
            .args([
                "dev",
                "--quiet",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .args(["--shards", &plan.shards.to_string(), "--data-dir"])
            .arg(&directory)
            .env("RINGMESH_LIMITS__MESSAGE_RATE", "0")
            .env("RINGMESH_LIMITS__CONNECTS_PER_ADDRESS", "0")
            .stdout(Stdio::null())
            .spawn()?;
        let told = told(&directory, &mut child);
        let told = told.inspect_err(|_| drop(child.kill()));
        let (public, admin, token, key) = told?;
        Ok(Self {
            child,
            directory,
            public,
            admin,
            token,
            key,
        })
    }

    /// Asks for a path of the admin API. Returns how long the answer took.
    fn ask(&self, path: &str) -> io::Result<Duration> {
        let began = Instant::now();
        let mut socket = TcpStream::connect(self.admin)?;
        let (host, token) = (self.admin, &self.token);
        let request = format!(
            "GET /api/internal/v1/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        socket.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            let text = String::from_utf8_lossy(&answer).into_owned();
            return Err(io::Error::other(format!("{path}: {text}")));
        }
        Ok(began.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What the server tells in its data directory once it is ready.
fn told(
    directory: &Path,
    child: &mut Child,
) -> io::Result<(SocketAddr, SocketAddr, String, String)> {
    let json = |name: &str| -> Option<Value> {
        serde_json::from_slice(&fs::read(directory.join(name)).ok()?).ok()
    };
    let until = Instant::now() + READY_TIME_MAX;
    while Instant::now() < until && child.try_wait()?.is_none() {
        if let (Some(run), Some(keys)) = (json("run.json"), json("dev.json")) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let address = |url: &str| {
                let (_, address) = url.split_once("://").unwrap_or_default();
                address.parse().map_err(io::Error::other)
            };
            let token = fs::read_to_string(text(&run["tokenFile"]))?;
            return Ok((
                address(&text(&run["publicUrls"][0]))?,
                address(&text(&run["adminUrl"]))?,
                token.trim().to_owned(),
                text(&keys["publishableKey"]),
            ));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("the server is not ready"))
}

/// All clients: many who are silent in channels of their own, and those in the live one.
struct Node {
    _silent: Vec<TcpStream>,
    listeners: Readers,
    publisher: TcpStream,
    began: Instant,
    /// Bytes that have come of a message, of each listener.
    rests: Vec<Vec<u8>>,
}

impl Node {
    fn fill(server: &Server, plan: &Plan) -> io::Result<Self> {
        let query = format!("key={}", server.key);
        let mut silent = Vec::new();
        let mut left = plan.channels;
        let each = plan.channels.div_ceil(plan.connections.max(1));
        for number in 0..plan.connections.saturating_sub(LISTENERS + 1) {
            let mut socket = open_websocket(server.public, &query)?;
            let count = each.min(left);
            left -= count;
            let mut frames = Vec::new();
            for channel in 0..count {
                let json = format!(r#"{{"type":"subscribe","channel":"room/{number}/{channel}"}}"#);
                frames.extend(text_frame(&json));
            }
            // Its answer is the last one: all others have been done by then.
            frames.extend(text_frame(r#"{"type":"ping","requestId":"last"}"#));
            socket.write_all(&frames)?;
            read_until(&mut socket, br#""last""#)?;
            silent.push(socket);
        }
        let mut listeners = Vec::new();
        for _ in 0..LISTENERS {
            let mut socket = open_websocket(server.public, &query)?;
            let json = r#"{"type":"subscribe","channel":"live","requestId":"last"}"#;
            socket.write_all(&text_frame(json))?;
            read_until(&mut socket, br#""last""#)?;
            listeners.push(socket);
        }
        let publisher = open_websocket(server.public, &query)?;
        let mut node = Self {
            _silent: silent,
            rests: vec![Vec::new(); listeners.len()],
            listeners: Readers::new(listeners)?,
            publisher,
            began: Instant::now(),
        };
        // Who came is told; nobody waits for it.
        node.read_for(Duration::from_secs(2), &mut histogram()?)?;
        Ok(node)
    }

    /// Publishes for a while and notes how long each delivery took.
    fn watch(&mut self, turn: Duration, latencies: &mut Histogram<u64>) -> io::Result<()> {
        let begins = Instant::now();
        let mut due = begins;
        while due < begins + turn {
            // A publication counts from when it was due.
            let us = due.duration_since(self.began).as_micros();
            let json = format!(r#"{{"type":"publish","channel":"live","data":{{"us":{us}}}}}"#);
            self.publisher.write_all(&text_frame(&json))?;
            due += EVERY;
            self.read_for(due.saturating_duration_since(Instant::now()), latencies)?;
        }
        self.read_for(PAUSE, latencies)
    }

    fn read_for(&mut self, time: Duration, latencies: &mut Histogram<u64>) -> io::Result<()> {
        let until = Instant::now() + time;
        let (rests, began) = (&mut self.rests, self.began);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.listeners.wait_for_bytes(left, |at, bytes| {
                let now_us = began.elapsed().as_micros() as u64;
                let rest = &mut rests[at];
                rest.extend_from_slice(bytes);
                while let Some((sent_us, end)) = first_time(rest) {
                    latencies.saturating_record(now_us.saturating_sub(sent_us));
                    rest.drain(..end);
                }
            })?;
            if left.is_zero() {
                return Ok(());
            }
        }
    }
}

/// The first whole time of a publication in some bytes, and where it ends.
fn first_time(bytes: &[u8]) -> Option<(u64, usize)> {
    const MARK: &[u8] = br#""us":"#;
    let begins = bytes.windows(MARK.len()).position(|it| it == MARK)? + MARK.len();
    let digits = bytes[begins..].iter().position(|it| !it.is_ascii_digit())?;
    let text = std::str::from_utf8(&bytes[begins..begins + digits]).ok()?;
    Some((text.parse().ok()?, begins + digits))
}

fn read_until(socket: &mut TcpStream, last: &[u8]) -> io::Result<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 16 * 1_024];
    while !seen.windows(last.len()).any(|it| it == last) {
        match socket.read(&mut buffer)? {
            0 => {
                return Err(io::Error::other(
                    String::from_utf8_lossy(&seen).into_owned(),
                ));
            }
            count => seen.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(())
}

/// Asks for what the views of the console ask for, one after the other, while it is looked at.
fn look(
    server: &Server,
    is_looked_at: &AtomicBool,
    is_over: &AtomicBool,
) -> io::Result<BTreeMap<String, Histogram<u64>>> {
    let mut views = BTreeMap::new();
    let mut round = 0_usize;
    while !is_over.load(Ordering::Relaxed) {
        for path in paths(round) {
            while !is_looked_at.load(Ordering::Relaxed) && !is_over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let took = server.ask(&path)?;
            let name = path.replace(&format!("limit={}", limit(round)), "limit=…");
            let name = name.replace(&format!("room/{round}"), "room/…");
            let times = match views.entry(name) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(histogram()?),
            };
            times.saturating_record(took.as_millis() as u64);
        }
        round += 1;
    }
    Ok(views)
}

/// Another one each time, because equal questions share an answer for a while.
fn limit(round: usize) -> usize {
    1 + (199 + round) % 200
}

fn paths(round: usize) -> Vec<String> {
    let limit = limit(round);
    let of_app = [
        format!("channels?sort=rate&limit={limit}"),
        format!("channels?sort=name&limit={limit}"),
        format!("channels?sort=connections&limit={limit}"),
        format!("channels?match=**7/6**&limit={limit}"),
        format!("channel?name=room/{round}/0"),
        format!("channel/members?name=room/{round}/1"),
        format!("channel/members?name=live&limit={limit}"),
        format!("connections?sort=queue&limit={limit}"),
        format!("connections?sort=newest&limit={limit}"),
        format!("connections?group=address&limit={limit}"),
        format!("peers?limit={limit}"),
        format!("peers?match=**a**&limit={limit}"),
        format!("peer?id=nobody-{round}"),
    ];
    let own = [
        "stats",
        "stats/history?seconds=900",
        "warnings",
        "events?limit=100",
        "why?app=app_dev&peer=nobody",
        "apps?include=usage",
        "apps/app_dev/keys",
        "node",
        "config",
    ];
    let of_app = of_app.iter().map(|path| format!("apps/app_dev/{path}"));
    of_app.chain(own.map(String::from)).collect()
}
