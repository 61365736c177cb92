//! What history on disk costs a shard, whoever writes it: the thread beside the shard, the shard
//! itself, or an executor in the shard's thread with buffered or direct files. And how long a
//! start takes that reads what was written.
//!
//! A turn comes every half millisecond and makes records of 50 publications of 128 bytes: that is
//! 100,000 a second. CPU time is that of the thread that makes them, and of the process with all
//! its threads, those of the kernel's rings included.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

mod start;

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ahash::RandomState;
use clap::{Parser, ValueEnum};
use glommio::io::{BufferedFile, DmaFile};
use glommio::{GlommioError, LocalExecutorBuilder, Placement, Task};
use ringmesh::history::{Bounds, Directory, Epoch, Fsync, Opened, Options, open, start};
use ringmesh::proto::records::{self, Publication};
use ringmesh_bench::fixture::APP_ID;
use ringmesh_bench::machine::{own_cpu, own_thread_cpu, unix_ms};

/// The numbering of all channels.
const EPOCH: &str = "q7Zk2wAb";
/// A `message` of 128 bytes, in its frame.
const FRAME: &[u8] =
    b"\x81\x7e\x00\x80{\"type\":\"message\",\"channel\":\"chat/room\",\"from\":\"ann\",\
    \"data\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}";
const _: () = assert!(FRAME.len() == 4 + 128, "as its header says");
const TURN: Duration = Duration::from_micros(500);
const PUBLICATIONS_PER_TURN: u64 = 50;
/// Bytes of a direct write.
const DIRECT_BYTES: usize = 128 * 1_024;
/// Writes of an executor that are under way at most.
const TASKS_MAX: usize = 256;
/// Publications that a channel keeps.
const MESSAGES: usize = 1_000;
/// How long, in seconds.
const TTL_SEC: u32 = 86_400;

/// Measures history on disk.
#[derive(Parser)]
#[command(
    name = "segments",
    after_help = "Examples: cargo run --release -p ringmesh-bench --bin segments -- /var/tmp/x\n\
                  cargo run --release -p ringmesh-bench --bin segments -- /var/tmp/x --seconds 0 \
                  --node target/release/ringmesh"
)]
struct Arguments {
    /// A directory that is made, filled and removed: of the disk that is meant.
    directory: PathBuf,
    /// Seconds of each way of writing; 0: none is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// MiB that a start reads; 0: none is measured.
    #[arg(long, default_value_t = 1_024)]
    mebibytes: u64,
    /// Starts this program with what is to be read, too, and fails when it takes over 3 s.
    #[arg(long, value_name = "PROGRAM")]
    node: Option<PathBuf>,
    /// Channels that are read, each with up to 1,000 publications that are kept.
    #[arg(long, default_value_t = 1_000)]
    channels: usize,
    /// Only this way of writing.
    #[arg(long)]
    way: Option<Way>,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Nobody: records are made and thrown away.
    Nobody,
    /// The thread beside the shard, without fsync.
    ThreadNever,
    /// The same, with an fsync each second.
    ThreadInterval,
    /// The same, with one for each round.
    ThreadTurn,
    /// The shard, a call of the kernel each turn.
    Shard,
    /// An executor in the shard's thread, into the page cache.
    ExecutorBuffered,
    /// The same, past the page cache.
    ExecutorDirect,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let directory = &arguments.directory;
    fs::create_dir_all(directory)?;
    if arguments.seconds > 0 {
        println!("way               shard ns  all ns   turn µs: p50     p99   p99.9     max");
        for way in Way::value_variants() {
            if arguments.way.is_none_or(|only| only == *way) {
                let below = directory.join("appends");
                let measured = write_by(*way, &below, arguments.seconds)?;
                measured.print(*way);
                fs::remove_dir_all(&below)?;
            }
        }
    }
    if arguments.mebibytes > 0 {
        let below = directory.join("start");
        let written = start::fill(&below, arguments.mebibytes << 20, arguments.channels)?;
        start::of_library(&below, &written)?;
        if let Some(program) = &arguments.node {
            start::of_node(program, &below, &written)?;
        }
        fs::remove_dir_all(&below)?;
    }
    Ok(fs::remove_dir(directory)?)
}

fn write_by(way: Way, directory: &Path, seconds: u32) -> Result<Measured, Box<dyn Error>> {
    fs::create_dir(directory)?;
    let path = directory.join("file");
    match way {
        Way::Nobody => Ok(Load::new(seconds).run(Vec::clear)),
        Way::ThreadNever => by_thread(directory, Fsync::Never, seconds),
        Way::ThreadInterval => by_thread(directory, Fsync::Interval, seconds),
        Way::ThreadTurn => by_thread(directory, Fsync::Turn, seconds),
        Way::Shard => by_shard(&path, seconds),
        Way::ExecutorBuffered => Ok(by_executor(path, seconds, false)?),
        Way::ExecutorDirect => Ok(by_executor(path, seconds, true)?),
    }
}

fn by_thread(directory: &Path, fsync: Fsync, seconds: u32) -> Result<Measured, Box<dyn Error>> {
    let mut shards = open_store(directory, fsync)?.shards;
    let (writer, _) = shards.pop().ok_or("a store without a shard")?;
    // Somebody waits for what is stored at the end of a turn.
    let tell = (fsync == Fsync::Turn).then(|| Box::new(|| ()) as Box<dyn Fn() + Send>);
    let mut writing = start(writer, Instant::now(), hasher(), tell)?;
    let measured = Load::new(seconds).run(|batch| {
        writing.log.push(batch);
        writing.log.send();
        while writing.log.next_settled().is_some() {}
    });
    drop(writing.log);
    writing
        .thread
        .join()
        .map_err(|_| "the thread has panicked")?;
    Ok(measured)
}

fn by_shard(path: &Path, seconds: u32) -> Result<Measured, Box<dyn Error>> {
    let mut file: File = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)?;
    let mut outcome = Ok(());
    let measured = Load::new(seconds).run(|batch| {
        records::seal(batch);
        if let Err(error) = file.write_all(batch) {
            outcome = Err(error);
        }
        batch.clear();
    });
    outcome?;
    Ok(measured)
}

/// The loop is a task of the executor, and looks at its other tasks once a turn.
fn by_executor(path: PathBuf, seconds: u32, direct: bool) -> Result<Measured, GlommioError<()>> {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make()?;
    executor.run(async move {
        let (buffered, dma) = if direct {
            (None, Some(Rc::new(DmaFile::create(&path).await?)))
        } else {
            (Some(Rc::new(BufferedFile::create(&path).await?)), None)
        };
        let (mut load, mut at, mut block) = (Load::new(seconds), 0, Vec::new());
        let mut tasks: Vec<Task<Result<(), GlommioError<()>>>> = Vec::new();
        while let Some(began) = load.begin_turn() {
            let mut batch = std::mem::take(&mut load.batch);
            records::seal(&mut batch);
            if let Some(file) = &buffered {
                let (file, position) = (file.clone(), at);
                at += batch.len() as u64;
                tasks.push(glommio::spawn_local(async move {
                    file.write_at(batch, position).await.map(drop)
                }));
            } else if let Some(file) = &dma {
                block.extend_from_slice(&batch);
                if block.len() >= DIRECT_BYTES {
                    let mut buffer = file.alloc_dma_buffer(DIRECT_BYTES);
                    buffer
                        .as_bytes_mut()
                        .copy_from_slice(&block[..DIRECT_BYTES]);
                    block.drain(..DIRECT_BYTES);
                    let (file, position) = (file.clone(), at);
                    at += DIRECT_BYTES as u64;
                    tasks.push(glommio::spawn_local(async move {
                        file.write_at(buffer, position).await.map(drop)
                    }));
                }
            }
            glommio::executor().yield_task_queue_now().await;
            if tasks.len() > TASKS_MAX {
                for task in tasks.drain(..TASKS_MAX / 2) {
                    task.await?;
                }
            }
            load.end_turn(began);
        }
        let measured = load.end();
        for task in tasks {
            task.await?;
        }
        Ok(measured)
    })
}

/// Turns that make records, and what they take.
struct Load {
    turns: u32,
    turn: u32,
    began: Instant,
    cpu: (Duration, Duration),
    names: Vec<String>,
    published: u64,
    batch: Vec<u8>,
    took_ns: Vec<u64>,
}

impl Load {
    fn new(seconds: u32) -> Self {
        let turns = seconds * (1_000_000 / TURN.as_micros() as u32);
        Self {
            turns,
            turn: 0,
            began: Instant::now(),
            cpu: (own_thread_cpu(), own_cpu()),
            names: names(100),
            published: 0,
            batch: Vec::new(),
            took_ns: Vec::with_capacity(turns as usize),
        }
    }

    fn run(mut self, mut write: impl FnMut(&mut Vec<u8>)) -> Measured {
        while let Some(began) = self.begin_turn() {
            write(&mut self.batch);
            self.end_turn(began);
        }
        self.end()
    }

    /// Waits for the next turn and makes its records.
    fn begin_turn(&mut self) -> Option<Instant> {
        if self.turn == self.turns {
            return None;
        }
        let due = self.began + TURN * self.turn;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        self.turn += 1;
        let began = Instant::now();
        for _ in 0..PUBLICATIONS_PER_TURN {
            publish(&mut self.batch, self.published, &self.names);
            self.published += 1;
        }
        Some(began)
    }

    fn end_turn(&mut self, began: Instant) {
        self.took_ns.push(began.elapsed().as_nanos() as u64);
    }

    fn end(mut self) -> Measured {
        self.took_ns.sort_unstable();
        let per_one = |took: Duration| took.as_nanos() as u64 / self.published.max(1);
        Measured {
            shard_ns: per_one(own_thread_cpu() - self.cpu.0),
            all_ns: per_one(own_cpu() - self.cpu.1),
            took_ns: self.took_ns,
        }
    }
}

/// What one way of writing took.
struct Measured {
    /// CPU time of the shard's thread for each publication.
    shard_ns: u64,
    /// That of the process.
    all_ns: u64,
    /// Each turn, sorted.
    took_ns: Vec<u64>,
}

impl Measured {
    fn print(&self, way: Way) {
        let at = |part: f64| {
            let last = self.took_ns.len().saturating_sub(1) as f64;
            let took = self.took_ns.get((last * part) as usize);
            took.map_or(0.0, |ns| *ns as f64 / 1_000.0)
        };
        let name = way
            .to_possible_value()
            .map_or(String::new(), |it| it.get_name().to_owned());
        println!(
            "{name:<17} {:>8} {:>7} {:>15.1} {:>7.1} {:>7.1} {:>7.1}",
            self.shard_ns,
            self.all_ns,
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
        );
    }
}

fn open_store(directory: &Path, fsync: Fsync) -> Result<Opened, Box<dyn Error>> {
    let bounds = Bounds {
        messages: MESSAGES,
        bytes: 1 << 20,
        ttl_sec: TTL_SEC,
    };
    Ok(open(Options {
        files: Arc::new(Directory::open(directory)?),
        shards: 1,
        fsync,
        segment_bytes: 64 << 20,
        hasher: hasher(),
        unix_ms: unix_ms(),
        ids_ms: 120_000,
        bounds: &|_, _| Some(bounds),
        owner: &|_, _| 0,
        draw: &|| Epoch::new(b"drawn-00"),
    })?)
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("chat/room-{number}"))
        .collect()
}

/// Appends the next publication: channels have their turns.
fn publish(batch: &mut Vec<u8>, number: u64, names: &[String]) {
    let channel = &names[(number % names.len() as u64) as usize];
    publish_in(batch, channel, number / names.len() as u64 + 1);
}

/// Appends a publication as it would be of a client.
fn publish_in(batch: &mut Vec<u8>, channel: &str, seq: u64) {
    let publication = Publication {
        app: APP_ID,
        channel,
        epoch: EPOCH,
        seq,
        first: seq.saturating_sub(MESSAGES as u64 - 1).max(1),
        time_ms: unix_ms(),
        ttl_sec: TTL_SEC,
        from: "ann",
        id: "",
        metadata: "",
        frame: FRAME,
    };
    records::push_publication(batch, &publication);
}

fn hasher() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}
