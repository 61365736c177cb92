//! `ringmesh doctor`: what of this host is not good for a server, with what was measured, why it
//! matters, and what to do; and how large a server it carries. Nothing is changed.

mod asked;
mod cpu;
mod host;
mod kernel;
mod limits;
mod memory;
mod network;
mod plan;
mod settings;
mod sizing;
mod store;
#[cfg(test)]
mod tests;
mod token;

use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use crate::bounded_file::{self, SECRET_BYTES_MAX};
use crate::check;
use crate::cli::{DoctorArgs, Failure, Findings, Session};
use crate::config::{Config, default_file};
use crate::run_file::RunFile;
use cpu::Cores;
use host::Host;
use plan::{Plan, Wanted};

/// What was found, and what follows from it.
struct Diagnosis {
    findings: Findings,
    plan: Plan,
    /// What the asked size needs.
    size: Option<Value>,
}

/// What the doctor knows of the server beside the host.
#[derive(Default)]
struct Patient<'a> {
    config: Option<&'a Config>,
    /// The server that runs with this configuration.
    running: Option<RunFile>,
    /// A connect token.
    token: Option<Zeroizing<String>>,
}

/// Looks at the host, and prints what it found.
///
/// # Errors
/// Something is wrong, which has been printed then; or the configuration or the token cannot be
/// read.
pub(crate) fn run(args: &DoctorArgs, session: &Session) -> Result<(), Failure> {
    let file = args.config.clone().or_else(|| default_file().ok());
    let load = |file: &PathBuf| Config::load(file, &session.environment);
    let config = file.as_ref().map(load).transpose();
    let config = config
        .map_err(|error| Failure::usage(format_args!("{error}; ringmesh check says more")))?;
    let token = args.token_file.as_ref().map(|path| {
        bounded_file::read_text(path, SECRET_BYTES_MAX)
            .map_err(|error| Failure::usage(format_args!("{}: {error}", path.display())))
    });
    let data_dir = config.as_ref().map(|config| &*config.store.data_dir);
    let running = data_dir.and_then(|dir| RunFile::of_live_server(dir).ok());
    let patient = Patient {
        config: config.as_ref(),
        running: running.map(|live| live.run),
        token: token.transpose()?,
    };
    let host = Host::new(PathBuf::from("/"), asked::machine(data_dir));
    let diagnosis = examine(&host, &patient, args);
    if config.is_none() {
        let text = "no configuration: certificate, store and ports were passed over; name one \
                    with --config";
        session.terminal.note(text);
    }
    let mut more = vec![("plan", diagnosis.plan.text(), diagnosis.plan.json())];
    if let Some(size) = diagnosis.size {
        more.push(("size", String::new(), size));
    }
    let findings = &diagnosis.findings;
    findings.report_with(args.strict, &session.terminal, &more)
}

fn examine(host: &Host, patient: &Patient<'_>, args: &DoctorArgs) -> Diagnosis {
    let mut findings = Findings::default();
    let server = patient.config.map(|config| &config.server);
    let given = server.and_then(|server| server.cores.as_deref());
    let shards = server.and_then(|server| server.shards);
    let memory_bytes = patient
        .config
        .map_or(0, |config| config.limits.memory_bytes);
    let limits = limits::of_server(host, patient.running.as_ref().map(|run| run.pid));
    let cores = Cores::new(host, given, shards, &limits);
    let wanted = Wanted {
        has_cores: given.is_some(),
        follows_queues: server.is_some_and(|server| server.follow_queues),
    };
    let plan = Plan::new(host, &cores, wanted);

    kernel::look(host, &mut findings);
    limits::look(host, &limits, cores.shards, &mut findings);
    cpu::look(host, &cores, given, &mut findings);
    plan.look(&mut findings);
    memory::look(host, memory_bytes, &mut findings);
    network::look(host, &mut findings);
    settings::look(host, &mut findings);
    if let Some(config) = patient.config {
        configured(host, config, patient.running.as_ref(), &mut findings);
    }
    if let Some(token) = &patient.token {
        token::look(token, host.asked.now_unix, &mut findings);
    }
    let has = sizing::Has {
        ceiling_bytes: memory::ceiling(host, memory_bytes),
        descriptors: limits.descriptors,
        millicores: cores.millicores(),
    };
    let asked = sizing::Asked::new(args);
    let size = asked.map(|asked| sizing::look(host, asked, has, &mut findings));
    Diagnosis {
        findings,
        plan,
        size,
    }
}

/// What the configuration names on this host.
fn configured(host: &Host, config: &Config, running: Option<&RunFile>, findings: &mut Findings) {
    if let Some(tls) = &config.tls {
        check::certificate(tls, host.asked.now_unix, findings);
    }
    let data_dir: &Path = &config.store.data_dir;
    store::look(host, data_dir, findings);
    check::ports(config, running, host.root(), findings);
}
