//! `ringmesh check`: everything that `serve` would refuse or warn about, in one run. It binds
//! nothing and changes nothing, so it can be run beside a server.

mod certificate;
mod files;
mod ports;
mod server;

use std::path::Path;

use crate::cli::{CheckFileArgs, Failure, Findings, Level, Session};
use crate::config::{Config, UnreadVariable, default_file, faults};
use crate::run_file::{NotLive, RunFile};
use crate::runtime::clock::unix_ms;
use crate::runtime::machine_findings;

/// Silence after which load balancers cut connections, in milliseconds: a common setting.
const BALANCER_CUTS_MS: u64 = 30_000;
/// How long load balancers keep idle connections for reuse, in milliseconds: a common setting.
const BALANCER_KEEPS_MS: u64 = 60_000;

pub(crate) use certificate::look as certificate;
pub(crate) use ports::look as ports;

/// Looks at everything, and prints what it found.
///
/// # Errors
/// Something is wrong, which has been printed then; or there is no file to check.
pub(crate) fn run(args: &CheckFileArgs, session: &Session) -> Result<(), Failure> {
    let path = match args.given() {
        Some(path) => path.to_owned(),
        None => default_file().map_err(Failure::usage)?,
    };
    let mut findings = Findings::default();
    if let Some(config) = configuration(&path, session, &mut findings) {
        variables(&config, &mut findings);
        combinations(&config, &mut findings);
        files::look(&config, unix_ms() / 1_000, &mut findings);
        let live = RunFile::of_live_server(&config.store.data_dir);
        let run = live.as_ref().ok().map(|live| &live.run);
        ports::look(&config, run, Path::new("/"), &mut findings);
        machine(&config, &mut findings);
        files::store(&config, run.is_some(), &mut findings);
        match &live {
            Ok(live) => server::compare(&config, live, session, &mut findings),
            Err(NotLive::Unusable(why)) => {
                findings.warn("server", format!("run.json: {why}"));
            }
            Err(NotLive::Absent | NotLive::Ended) => {}
        }
    }
    findings.report(args.strict, &session.terminal)
}

fn configuration(path: &Path, session: &Session, findings: &mut Findings) -> Option<Config> {
    let (found, config) = faults(path, &session.environment);
    for fault in &found {
        let place = Some(fault.place.clone());
        findings.add(Level::Fail, "configuration", place, fault.text.clone());
    }
    if let Some(config) = config.as_ref().filter(|_| found.is_empty()) {
        let set = config.settings.iter().filter(|it| it.origin != "default");
        let text = format!(
            "{}: {} settings are set, and {} apps declared",
            path.display(),
            set.count(),
            config.apps.len()
        );
        findings.ok("configuration", text);
    }
    config
}

fn variables(config: &Config, findings: &mut Findings) {
    for UnreadVariable { name, nearest } in &config.unread_variables {
        let meant = nearest.as_ref();
        let meant = meant.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
        let text = format!("nothing reads this variable{meant}");
        findings.add(Level::Warn, "environment", Some(name.clone()), text);
    }
}

/// Settings that are good one by one, and not together or in this world.
fn combinations(config: &Config, findings: &mut Findings) {
    let mut warn = |key: &str, text: &str| {
        let mut settings = config.settings.iter();
        let setting = settings.find(|setting| setting.key == key);
        let place = setting.filter(|it| it.origin != "default");
        let place = place.map(|it| it.origin.clone());
        findings.add(Level::Warn, "settings", place, format!("{key}: {text}"));
    };
    if config.limits.ping_after_ms >= BALANCER_CUTS_MS {
        let text = "load balancers often cut connections that are silent for 30 s; ping before";
        warn("limits.ping_after_ms", text);
    }
    if config.rest.keep_alive_ms < BALANCER_KEEPS_MS {
        let text = "load balancers often keep connections for 60 s and more, and answer 502 when \
                    one is closed before; set it above theirs";
        warn("rest.keep_alive_ms", text);
    }
    if config.admin.listen.is_some_and(|it| !it.ip().is_loopback()) {
        let text = "the admin API is reached from other machines, without TLS; listen on \
                    127.0.0.1, and reach it through a tunnel";
        warn("admin.listen", text);
        if !config.admin.protect_metrics {
            let text = "and so are the metrics, without a token; set it to true";
            warn("admin.protect_metrics", text);
        }
    }
    if config.rest.accept_bare_key_id {
        let text = "whoever has seen a token of a key can mint others; turn it off, and use API \
                    secrets";
        warn("rest.accept_bare_key_id", text);
    }
}

fn machine(config: &Config, findings: &mut Findings) {
    match machine_findings(config.server.cores.as_deref(), config.server.shards) {
        Err(error) => findings.fail("machine", error),
        Ok((summary, warnings)) => {
            for warning in &warnings {
                findings.warn("machine", warning.clone());
            }
            if warnings.is_empty() {
                findings.ok("machine", summary);
            }
        }
    }
}
