//! What it costs a shard to be a task of a glommio executor: rings, memory, and calls of the
//! kernel for each sleep, against a plain thread with one ring.
//!
//! Each way of being hosted runs in a process of its own, so that memory is its own. The calls
//! are counted by `strace -c`, which the program starts itself where it is installed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

use std::error::Error;
use std::fs;
use std::io;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use glommio::{LocalExecutorBuilder, Placement};
use io_uring::{IoUring, types};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// One sleep of an idle turn.
const SLEEP: Duration = Duration::from_millis(1);

/// Measures what an executor costs a shard.
#[derive(Parser)]
#[command(
    name = "executor",
    after_help = "Example: cargo run --release -p ringmesh-bench --bin executor"
)]
struct Arguments {
    /// Shards of the process.
    #[arg(long, default_value_t = 8)]
    shards: usize,
    /// Sleeps of each shard.
    #[arg(long, default_value_t = 1_000)]
    sleeps: u32,
    /// Run this one and print what the process has.
    #[arg(long, hide = true)]
    host: Option<Host>,
}

/// How the loop of a shard is hosted, and how it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Host {
    /// A plain thread, asleep in a ring of its own.
    Thread,
    /// The only task of an executor, asleep in a ring of its own.
    Hosted,
    /// The same, and the executor has a look at its other tasks once a turn.
    Yielding,
    /// A task that is asleep in a timer of the executor.
    Timer,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.host {
        Some(host) => run(host, &arguments),
        None => compare(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    println!("host      rings/shard  pinned KiB/shard  RSS KiB/shard  io_uring_enter/sleep");
    for host in [Host::Thread, Host::Hosted, Host::Yielding, Host::Timer] {
        let idle = measured(host, 0, arguments, false)?;
        let few = measured(host, arguments.sleeps, arguments, true)?;
        let many = measured(host, arguments.sleeps * 2, arguments, true)?;
        let shards = arguments.shards as f64;
        let sleeps = f64::from(arguments.sleeps) * shards;
        let calls = match (few.calls, many.calls) {
            (Some(few), Some(many)) => format!("{:.1}", (many as f64 - few as f64) / sleeps),
            _ => "no strace".to_owned(),
        };
        println!(
            "{:<9} {:>11.1} {:>17.0} {:>14.0} {:>21}",
            format!("{host:?}").to_lowercase(),
            idle.rings as f64 / shards,
            idle.pinned_kib as f64 / shards,
            idle.resident_kib as f64 / shards,
            calls,
        );
    }
    Ok(())
}

/// What a process of one host had.
struct Measured {
    rings: u64,
    pinned_kib: u64,
    resident_kib: u64,
    calls: Option<u64>,
}

fn measured(
    host: Host,
    sleeps: u32,
    arguments: &Arguments,
    traced: bool,
) -> Result<Measured, Box<dyn Error>> {
    let program = std::env::current_exe()?;
    let name = format!("{host:?}").to_lowercase();
    let (shards, sleeps) = (arguments.shards.to_string(), sleeps.to_string());
    let words = ["--host", &name, "--shards", &shards, "--sleeps", &sleeps];
    let strace = ["-f", "-c", "-e", "trace=io_uring_enter"];
    let mut command = if traced {
        let mut command = Command::new("strace");
        command.args(strace).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    let output = match command.args(words).output() {
        Err(_) if traced => Command::new(&program).args(words).output()?,
        output => output?,
    };
    let (told, traces) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    );
    if !output.status.success() {
        return Err(format!("{host:?}: {traces}").into());
    }
    let mut numbers = told.split_whitespace().map(str::parse);
    let mut next = || numbers.next().ok_or("too few numbers");
    // A line of `strace -c`: share, seconds, time of a call, calls, errors if any, name.
    let line = traces
        .lines()
        .find(|line| line.ends_with(" io_uring_enter"));
    let calls = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    Ok(Measured {
        rings: next()??,
        pinned_kib: next()??,
        resident_kib: next()??,
        calls,
    })
}

/// Runs the shards, and prints rings, pinned and resident memory while all of them are there.
fn run(host: Host, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    have_locked_memory_counted()?;
    let (pinned_before, resident_before) = (status_kib("VmPin:")?, status_kib("VmRSS:")?);
    let (ready, measured) = (barrier(arguments), barrier(arguments));
    let hosted = |sleeps| {
        let (ready, measured) = (Arc::clone(&ready), Arc::clone(&measured));
        move || shard(host, sleeps, ready, measured)
    };
    let mut threads = Vec::new();
    let mut executors = Vec::new();
    for _ in 0..arguments.shards {
        let shard = hosted(arguments.sleeps);
        match host {
            Host::Thread => threads.push(thread::spawn(move || run_alone(shard()))),
            _ => executors.push(
                LocalExecutorBuilder::new(Placement::Unbound)
                    .io_memory(0)
                    .spawn(shard)
                    .map_err(|error| error.to_string())?,
            ),
        }
    }
    ready.wait();
    let rings = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains("io_uring"))
        .count();
    let pinned_kib = status_kib("VmPin:")?.saturating_sub(pinned_before);
    let resident_kib = status_kib("VmRSS:")?.saturating_sub(resident_before);
    println!("{rings} {pinned_kib} {resident_kib}");
    measured.wait();
    for thread in threads {
        thread.join().map_err(|_| "a shard panicked")??;
    }
    for executor in executors {
        executor.join().map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// For all shards and the thread that measures.
fn barrier(arguments: &Arguments) -> Arc<Barrier> {
    Arc::new(Barrier::new(arguments.shards + 1))
}

/// A shard that has nothing to do, so many times.
async fn shard(
    host: Host,
    sleeps: u32,
    ready: Arc<Barrier>,
    measured: Arc<Barrier>,
) -> io::Result<()> {
    // As the shards of the server have it.
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(4_096)
        .dontfork()
        .build(256)?;
    ready.wait();
    measured.wait();
    let timeout = types::Timespec::from(SLEEP);
    let sleep = types::SubmitArgs::new().timespec(&timeout);
    for _ in 0..sleeps {
        if host == Host::Timer {
            glommio::timer::sleep(SLEEP).await;
            continue;
        }
        match ring.submitter().submit_with_args(1, &sleep) {
            Err(error) if error.raw_os_error() != Some(libc::ETIME) => return Err(error),
            _ => {}
        }
        if host == Host::Yielding {
            glommio::executor().yield_task_queue_now().await;
        }
    }
    Ok(())
}

/// Runs a task that never waits for another.
fn run_alone<T>(task: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    let mut task = pin!(task);
    loop {
        if let Poll::Ready(outcome) = task.as_mut().poll(&mut context) {
            return outcome;
        }
    }
}

/// Gives up the right to lock memory uncounted, which root has, and raises the limit first.
fn have_locked_memory_counted() -> Result<(), Box<dyn Error>> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    // Without the right to raise it, what holds must do.
    let _ = setrlimit(Resource::Memlock, unlimited);
    let mut sets = capabilities(None)?;
    sets.effective.remove(CapabilitySet::IPC_LOCK);
    Ok(set_capabilities(None, sets)?)
}

/// A line of proc_pid_status(5) that counts in kB.
fn status_kib(name: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let line = line.ok_or_else(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
