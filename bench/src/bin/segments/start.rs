//! How long a start takes that reads what a run has written: in this process, and of a whole
//! server, until a client has resumed.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringmesh::history::Fsync;
use ringmesh_bench::client::{open_websocket, read_until};
use ringmesh_bench::fixture::{APP_ID, PUBLISHABLE_KEY, text_frame};
use ringmesh_bench::machine::{own_cpu, process_cpu, resident_bytes};
use serde_json::Value;

use crate::{MESSAGES, TTL_SEC, names, open_store, publish, publish_in};

/// Starts of each kind.
const STARTS: usize = 5;
/// A server that is not ready by then never is.
const READY_MAX: Duration = Duration::from_secs(60);
/// What a server has to be ready in.
const GOAL: Duration = Duration::from_secs(3);
/// Publications that the client asks for which resumes.
const ASKED: usize = 10;

/// A channel that is published in seldom: for its sake no segment is over.
const SLOW: &str = "chat/slow";
/// Between two of its publications.
const SLOW_BYTES: u64 = 2 << 20;

/// What was written.
pub(crate) struct Written {
    channels: usize,
    publications: u64,
}

/// Where a server with that data directory has its history.
fn history(directory: &Path) -> PathBuf {
    directory.join("history")
}

/// Writes so many bytes of segments, and ends in order.
pub(crate) fn fill(
    directory: &Path,
    bytes_min: u64,
    channels: usize,
) -> Result<Written, Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let mut shards = open_store(&history(directory), Fsync::Never)?.shards;
    let (mut writer, _) = shards.pop().ok_or("a store without a shard")?;
    let (names, mut publications, mut bytes) = (names(channels), 0, 0);
    let mut batch = Vec::new();
    let mut slow = 0;
    while bytes < bytes_min {
        batch.clear();
        if bytes >= slow * SLOW_BYTES {
            slow += 1;
            publish_in(&mut batch, SLOW, slow);
        }
        for _ in 0..500 {
            publish(&mut batch, publications, &names);
            publications += 1;
        }
        bytes += batch.len() as u64;
        if !writer.append(0, &mut batch, 0) {
            return Err("the disk takes no more".into());
        }
    }
    writer.end(0);
    Ok(Written {
        channels,
        publications,
    })
}

/// Reads it, without making anything of it.
pub(crate) fn of_library(directory: &Path, written: &Written) -> Result<(), Box<dyn Error>> {
    println!("start: bytes, publications kept of those written, time, CPU time");
    for _ in 0..STARTS {
        let (began, cpu) = (Instant::now(), own_cpu());
        let opened = open_store(&history(directory), Fsync::Never)?;
        let (took, cpu) = (began.elapsed(), own_cpu() - cpu);
        let channels = opened.shards.iter().flat_map(|(_, channels)| channels);
        let kept: usize = channels.map(|channel| channel.items.len()).sum();
        let (bytes, of) = (opened.bytes, written.publications);
        println!("  {bytes} {kept}/{of} {took:.2?} {cpu:.2?}");
        for (mut writer, _) in opened.shards {
            writer.end(0);
        }
    }
    Ok(())
}

/// Starts a server with it, again and again, and has a client resume.
pub(crate) fn of_node(
    program: &Path,
    directory: &Path,
    written: &Written,
) -> Result<(), Box<dyn Error>> {
    configure(directory)?;
    println!("server: time to the first replay, CPU time until then, resident memory");
    let mut all = Vec::new();
    for start in 0..STARTS {
        let channel = format!("chat/room-{}", start % written.channels);
        let (took, cpu, resident) = ready(program, directory, &channel)?;
        println!("  {took:.2?} {cpu:.2?} {} MiB", resident >> 20);
        all.push((took, cpu));
    }
    all.sort_unstable();
    let (median, _) = all[all.len() / 2];
    match median <= GOAL {
        true => Ok(()),
        false => Err(format!("the median is {median:.2?}, which is over {GOAL:?}").into()),
    }
}

fn configure(directory: &Path) -> io::Result<()> {
    let data_dir = directory.display();
    let toml = format!(
        r#"
server.listen = ["127.0.0.1:0"]
admin.listen = "127.0.0.1:0"
store.data_dir = "{data_dir}"
history.memory_bytes = 4294967296
[[apps]]
id = "{APP_ID}"
history = [{{ pattern = "chat/**", messages = {MESSAGES}, ttl_sec = {TTL_SEC}, store = "disk" }}]
[[apps.keys]]
id = "{PUBLISHABLE_KEY}"
channel_patterns = ["**"]
actions = ["publish", "subscribe"]
"#
    );
    fs::write(configuration(directory), toml)
}

fn configuration(directory: &Path) -> PathBuf {
    directory.join("ringmesh.toml")
}

/// A server that is killed when it is of no use any more.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server until a client has the newest publications of a channel, and ends it in
/// order.
fn ready(
    program: &Path,
    directory: &Path,
    channel: &str,
) -> Result<(Duration, Duration, u64), Box<dyn Error>> {
    let run_file = directory.join("run.json");
    // There is none before the first start.
    let _ = fs::remove_file(&run_file);
    let began = Instant::now();
    let mut server = Command::new(program);
    server
        .args(["serve", "--config"])
        .arg(configuration(directory));
    let mut server = Server(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let address = loop {
        if let Some(address) = public_address(&run_file) {
            break address;
        }
        if began.elapsed() > READY_MAX || server.0.try_wait()?.is_some() {
            return Err("the server is not ready".into());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut client = open_websocket(address.parse()?, &format!("key={PUBLISHABLE_KEY}"))?;
    let since = format!(r#""requestId":"1","since":{{"last":{ASKED}}}"#);
    let json = format!(r#"{{"type":"subscribe","channel":"{channel}",{since}}}"#);
    client.write_all(&text_frame(&json))?;
    let ack = format!(r#""recovered":true,"count":{ASKED}}}"#);
    read_until(&mut client, ack.as_bytes())?;
    let pid = server.0.id();
    let told = (began.elapsed(), process_cpu(pid), resident_bytes(pid));
    let stopped = Command::new("kill").arg(pid.to_string()).status()?;
    if !stopped.success() || !server.0.wait()?.success() {
        return Err("the server did not end in order".into());
    }
    Ok(told)
}

fn public_address(run_file: &Path) -> Option<String> {
    let run: Value = serde_json::from_slice(&fs::read(run_file).ok()?).ok()?;
    let url = run["publicUrls"][0].as_str()?;
    Some(url.split_once("://")?.1.to_owned())
}
