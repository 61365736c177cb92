//! One invocation: all runs with their repetitions, then the files.
//!
//! Files are written only when every run ended well: a broken or interrupted run leaves none.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;

use crate::abuse;
use crate::cli::{Command, Common};
use crate::client::target::{Credential, Target, Tls, Url};
use crate::client::tls::{Trust, config};
use crate::client::token::TokenSigner;
use crate::clock::seconds_to_ns;
use crate::driver::conductor::{self, Job};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::limits;
use crate::live::{Live, write_stdout};
use crate::measure::process::ProcessProbe;
use crate::report::figures::{self, Label};
use crate::report::result::{ResultFile, RunResult};
use crate::report::{compare, html, summary};
use crate::scenario::{self, PlannedRun};
use crate::workload::Plan;

/// Does what the command line asks for.
///
/// # Errors
/// Whatever keeps it from a result.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let planned = scenario::plan(arguments)?;
    if let [
        PlannedRun {
            command: Command::Compare { files },
            ..
        },
    ] = &planned[..]
    {
        write_stdout(&compare::compare(files)?);
        return Ok(());
    }
    if let [
        PlannedRun {
            command: Command::Abuse(options),
            common,
            ..
        },
    ] = &planned[..]
    {
        return abuse::run(common, options);
    }
    let Some(common) = planned.first().map(|run| &run.common) else {
        return Ok(());
    };
    for path in [&common.json, &common.report].into_iter().flatten() {
        check_writable(path)?;
    }
    let interrupt = Interrupt::listen().map_err(|error| Failure::Executor(error.to_string()))?;
    let mut results = Vec::new();
    for run in &planned {
        let first = results.len();
        for repetition in 1..=run.common.repeat.max(1) {
            let (result, was_interrupted) = run_once(run, repetition, &interrupt)?;
            write_stdout(&summary::of_run(&result));
            if was_interrupted {
                let what = "the figures above are those up to then; no file is written";
                return Err(Failure::Interrupted(what.into()));
            }
            results.push(result);
        }
        write_stdout(&summary::of_repetitions(
            &results[first..].iter().collect::<Vec<_>>(),
        ));
    }
    let file = ResultFile::new(results);
    if let Some(path) = &common.json {
        let json = serde_json::to_string_pretty(&file);
        let json = json.map_err(|error| file_failure(path, &error.to_string()))?;
        write_file(path, &json)?;
    }
    if let Some(path) = &common.report {
        write_file(path, &html::page(&file))?;
    }
    Ok(())
}

/// The result of one run, and whether it was interrupted.
fn run_once(
    run: &PlannedRun,
    repetition: u32,
    interrupt: &Interrupt,
) -> Result<(RunResult, bool), Failure> {
    let common = &run.common;
    let Some(plan) = run.command.plan() else {
        return Err(Failure::Usage("abuse and compare stand alone".into()));
    };
    check(common)?;
    plan.check()?;
    let cpus = limits::load_cores(common.cores.as_deref())?;
    limits::check_executors(cpus.len())?;
    limits::allow_descriptors(plan.connection_count())?;
    limits::stay_on(&cpus);
    let target = target(common, plan)?;
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (warmup, duration) = plan.phases(common.warmup, common.duration);
    let job = Job {
        plan,
        target: Arc::new(target),
        probe: common.server_pid.map(ProcessProbe::new).transpose()?,
        cpus,
        concurrency: common.concurrency.max(1),
        spins: common.spin,
        settle_ns: seconds_to_ns(common.settle),
        warmup_ns: seconds_to_ns(warmup),
        duration_ns: seconds_to_ns(duration),
        tag: format!("{:x}", started.as_micros()),
        interrupt: interrupt.clone(),
    };
    let mut live = Live::new(&run.name, plan.series(), common.quiet);
    let outcome = conductor::run(&job, &mut live);
    live.end();
    let label = Label {
        name: run.name.clone(),
        repetition,
        command: run.line.clone(),
        url: common.url.clone(),
        started_unix: started.as_secs(),
        unit: plan.unit().to_owned(),
        series: plan.series(),
        cores: job.cpus.clone(),
        spins: common.spin,
    };
    let outcome = outcome?;
    let mut result = figures::of_run(label, &outcome);
    plan.conclude(&mut result);
    if outcome.was_interrupted {
        let length = summary::seconds(&result);
        let note = format!("interrupted after {length} of the measurement: incomplete");
        result.notes.insert(0, note);
    }
    Ok((result, outcome.was_interrupted))
}

fn check(common: &Common) -> Result<(), Failure> {
    let durations = [
        ("--duration", common.duration.unwrap_or(0.0)),
        ("--warmup", common.warmup),
        ("--settle", common.settle),
    ];
    for (name, seconds) in durations {
        if !(0.0..1e8).contains(&seconds) {
            return Err(Failure::Usage(format!("{name} must be seconds, 0 or more")));
        }
    }
    if common.key.is_some() && common.token_secret.is_some() {
        return Err(Failure::Usage(
            "give --key or --token-secret, not both".into(),
        ));
    }
    Ok(())
}

fn target(common: &Common, plan: &dyn Plan) -> Result<Target, Failure> {
    let url = Url::parse(&common.url)?;
    let (uses_websocket, uses_rest) = plan.uses();
    let credential = match (&common.key, &common.token_secret) {
        (Some(key), _) => Credential::Key(key.clone()),
        (None, Some(secret)) => {
            let signer = TokenSigner::new(secret, common.token_lifetime)?;
            Credential::Tokens(Box::new(signer))
        }
        (None, None) if uses_websocket => {
            return Err(Failure::Usage(
                "give --key PK or --token-secret ID:SECRET".into(),
            ));
        }
        (None, None) => Credential::None,
    };
    if uses_rest && common.api_secret.is_none() {
        return Err(Failure::Usage("REST requests need --api-secret".into()));
    }
    let trust = match (&common.insecure_ca, common.insecure) {
        (Some(file), _) => Trust::File(file),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    let tls = if url.is_tls {
        let server_name = ServerName::try_from(url.host.clone())
            .map_err(|error| Failure::Usage(format!("--url {}: {error}", common.url)))?;
        Some(Tls {
            config: config(trust, common.resume)?,
            server_name,
        })
    } else {
        None
    };
    let bracketed = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    Ok(Target {
        address: url.resolve()?,
        host: format!("{bracketed}:{}", url.port),
        path: url.path,
        tls,
        credential,
        api_secret: common.api_secret.clone(),
        origin: common.origin.clone(),
    })
}

/// Finds out before a long run whether its result can be written.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let is_new = !path.exists();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| file_failure(path, &error.to_string()))?;
    if is_new {
        let removed = std::fs::remove_file(path);
        removed.map_err(|error| file_failure(path, &error.to_string()))?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| file_failure(path, &error.to_string()))
}

fn file_failure(path: &Path, cause: &str) -> Failure {
    Failure::File {
        path: path.display().to_string(),
        cause: cause.to_owned(),
    }
}
