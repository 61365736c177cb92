//! The instruction gate: counts what each case executes and compares it with the committed
//! figures in `bench/instructions.toml`.
//!
//! Times vary on a shared machine, instruction counts hardly do. The program runs itself under
//! callgrind once for each case; callgrind counts only inside one function, so that what
//! prepares a case does not matter.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program's output"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use clap::Parser;
use ringmesh_bench::cases::CASES;

/// A case may cost this much more than its committed figure, in percent.
const TOLERANCE_PERCENT: f64 = 5.0;
/// Performances before counting: pools are filled, tables have grown.
const WARM_UP: u32 = 20;
/// Performances that are counted.
const COUNTED: u32 = 20;

/// Fails when a part of the hot path executes over 5% more instructions than committed.
#[derive(Parser)]
#[command(
    name = "gate",
    after_help = "Example: cargo run --release -p ringmesh-bench --bin gate\n\
                  Needs valgrind (Debian: apt install valgrind)."
)]
struct Arguments {
    /// Write the figures of this build instead of comparing with the committed ones.
    #[arg(long)]
    update: bool,
    /// Perform one case: what callgrind runs.
    #[arg(long, hide = true)]
    perform: Option<String>,
}

type Figures = BTreeMap<String, u64>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.perform {
        for case in CASES.iter().filter(|case| case.name == name) {
            let mut operation = (case.prepare)();
            (0..WARM_UP).for_each(|_| operation());
            counted_by_callgrind(&mut *operation);
        }
        return ExitCode::SUCCESS;
    }
    let outcome = count().and_then(|counted| match arguments.update {
        true => update(&counted),
        false => compare(&counted),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("error: {cause}");
            ExitCode::FAILURE
        }
    }
}

#[inline(never)]
fn counted_by_callgrind(operation: &mut dyn FnMut()) {
    for _ in 0..COUNTED {
        operation();
    }
}

/// Instructions of each case, performed once.
fn count() -> Result<Figures, String> {
    if cfg!(debug_assertions) {
        return Err("the figures are those of a release build: add --release".into());
    }
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let directory = env::temp_dir().join(format!("ringmesh-gate-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let counted = run_callgrind(&this, &directory);
    // Nothing depends on the directory any longer.
    let _ = fs::remove_dir_all(&directory);
    counted
}

fn run_callgrind(this: &Path, directory: &Path) -> Result<Figures, String> {
    let mut counted = Figures::new();
    for case in CASES {
        let output = directory.join(case.name);
        let status = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
            .arg("--toggle-collect=*counted_by_callgrind*")
            .arg(format!("--callgrind-out-file={}", output.display()))
            .arg(this)
            .args(["--perform", case.name])
            .stdout(Stdio::null())
            .status()
            .map_err(|error| {
                format!("cannot run valgrind: {error}; install it (Debian: apt install valgrind)")
            })?;
        if !status.success() {
            return Err(format!("valgrind ended with {status} in {}", case.name));
        }
        let total = total_of(&output)
            .ok_or_else(|| format!("callgrind counted nothing for {}", case.name))?;
        counted.insert(case.name.into(), total / u64::from(COUNTED));
    }
    Ok(counted)
}

/// The `totals:` line of a callgrind file.
fn total_of(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}

fn committed_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

fn update(counted: &Figures) -> Result<(), String> {
    let mut text = String::from(
        "# Instructions of one performance of each case, counted by callgrind in a release\n\
         # build on x86-64. Compared by `cargo run --release -p ringmesh-bench --bin gate`,\n\
         # written by the same with `-- --update`: commit them with the change \
         that moved them.\n\n",
    );
    for case in CASES {
        let count = counted.get(case.name).copied().unwrap_or_default();
        writeln!(text, "{} = {count}", case.name).map_err(|error| error.to_string())?;
    }
    let file = committed_file();
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

fn compare(counted: &Figures) -> Result<(), String> {
    let file = committed_file();
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let committed: Figures =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut worse = Vec::new();
    println!(
        "{:<30} {:>12} {:>12} {:>8}",
        "instructions", "committed", "now", "change"
    );
    for case in CASES {
        let now = counted.get(case.name).copied().unwrap_or_default();
        let Some(before) = committed.get(case.name).copied().filter(|count| *count > 0) else {
            worse.push(case.name);
            println!("{:<30} {:>12} {now:>12} {:>8}", case.name, "none", "");
            continue;
        };
        let percent = (now as f64 / before as f64 - 1.0) * 100.0;
        println!("{:<30} {before:>12} {now:>12} {percent:>+7.1}%", case.name);
        if percent > TOLERANCE_PERCENT {
            worse.push(case.name);
        }
    }
    println!(
        "gate: {} passed, {} failed",
        CASES.len() - worse.len(),
        worse.len()
    );
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} costs over {TOLERANCE_PERCENT}% more than committed; make it cheaper, or commit the \
         new figures with the reason (gate -- --update)",
        worse.join(", ")
    ))
}
