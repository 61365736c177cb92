//! `abuse`: attacks on a server, each bounded in count and time, each with a verdict.
//!
//! A row is one thing that a remote could make a server keep, wait for or lose. It measures the
//! server's memory and two healthy clients beside it, and judges by bounds that are stated.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use serde::Serialize;

use crate::abuse::gauges::Source;
use crate::abuse::options::AbuseOptions;
use crate::abuse::place::Place;
use crate::abuse::rows::{ROWS, Row};
use crate::abuse::scene::{Scene, Size};
use crate::abuse::server::Server;
use crate::abuse::verdict::{Check, Report, Verdict};
use crate::cli::Common;
use crate::client::target::{Credential, Target, Tls, Url};
use crate::client::tls::{Trust, config};
use crate::client::token::{LIFETIME_SEC, TokenSigner};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::limits;
use crate::live::{write_stderr, write_stdout};
use crate::measure::process::ProcessProbe;

mod exchange;
mod gauges;
mod heard;
mod loopback;
pub(crate) mod options;
mod place;
mod rosters;
mod rows;
mod scene;
mod server;
mod statistics;
mod storm;
mod strangers;
mod swarm;
mod table;
mod verdict;

/// Descriptors that the largest row needs.
const DESCRIPTORS: u64 = 12_000;
/// Those beside the clients of a storm: the strangers' and the program's own.
const OTHER_DESCRIPTORS: u64 = 100;

#[derive(Serialize)]
struct File<'a> {
    rows: &'a [Report],
}

/// Does what was asked for.
///
/// # Errors
/// [`Failure::Verdict`] when a row fails, [`Failure::Usage`], or what kept a row from its verdict.
pub(crate) fn run(common: &Common, options: &AbuseOptions) -> Result<(), Failure> {
    if options.rows.iter().any(|name| name == "list") {
        write_stdout(&table::list(ROWS));
        return Ok(());
    }
    if options.rows.is_empty() {
        let what = "abuse: name what to try, `all`, or `list` to see what there is";
        return Err(Failure::Usage(what.into()));
    }
    if !(0.001..=10.0).contains(&options.scale) {
        return Err(Failure::Usage(
            "--scale is a factor from 0.001 to 10".into(),
        ));
    }
    let asks_for_all = options.rows.iter().any(|name| name == "all");
    let asked = |row: &&Row| asks_for_all || options.rows.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = ROWS.iter().filter(asked).collect();
    let clients = options.clients.map_or(0, u64::from);
    let descriptors = (DESCRIPTORS as f64 * options.scale) as u64;
    limits::allow_descriptors(descriptors.max(clients + OTHER_DESCRIPTORS))?;
    let interrupt = Interrupt::listen().map_err(|error| Failure::Executor(error.to_string()))?;
    let cores = limits::allowed_cores()?;
    let mut reports = Vec::new();
    for row in &rows {
        // A row may keep this thread off the server's core; its next server is not to stay there.
        limits::stay_on(&cores);
        if !common.quiet {
            write_stderr(&format!("{}: {}\n", row.name, row.shows));
        }
        let report = match try_row(row, common, options, &interrupt) {
            // Whoever asked for all takes what can be had.
            Err(Failure::Usage(why)) if asks_for_all && options.spawn.is_none() => {
                let mut report = Report::new(row.name, row.shows);
                report.saw.push(why);
                report
            }
            outcome => outcome?,
        };
        write_stdout(&table::of_row(&report));
        reports.push(report);
    }
    if reports.len() > 1 {
        write_stdout(&table::of_all(&reports));
    }
    if let Some(path) = &common.json {
        write_json(path, &reports)?;
    }
    let failed: Vec<_> = reports
        .iter()
        .filter(|it| it.verdict == Verdict::Fail)
        .map(|it| it.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names = failed.join(", ");
    Err(Failure::Verdict(format!(
        "{} of {} attacks got through: {names}",
        failed.len(),
        reports.len()
    )))
}

/// One row with everything around it.
fn try_row(
    row: &Row,
    common: &Common,
    options: &AbuseOptions,
    interrupt: &Interrupt,
) -> Result<Report, Failure> {
    let (place, server) = match &options.spawn {
        Some(executable) => {
            let server = Server::start(executable, &(row.setup)())?;
            (
                place_of(&server, (row.setup)().tls.is_some())?,
                Some(server),
            )
        }
        None => (place_given(common, options)?, None),
    };
    let source = match (place.pid, place.admin) {
        (Some(pid), _) => Some(Source::Process(ProcessProbe::new(pid)?)),
        (None, Some(admin)) => Some(Source::Metrics(admin, place.admin_token.clone())),
        (None, None) => None,
    };
    let mut report = Report::new(row.name, row.shows);
    if let Some(server) = &server {
        let lacks = server.lacks.iter();
        report
            .saw
            .extend(lacks.map(|it| format!("the server does not know {it}")));
    }
    let size = Size {
        scale: options.scale,
        clients: options.clients,
    };
    let around = (size, interrupt.clone());
    let mut scene = Scene::new(place, server, source, report, around)?;
    match (row.run)(&mut scene) {
        Ok(()) => {}
        Err(failure @ (Failure::Usage(_) | Failure::Interrupted(_) | Failure::Spawn(_))) => {
            return Err(failure);
        }
        // Whatever else an attack runs into is what it has done to the server.
        Err(failure) => {
            let right = "the attack can be made to its end".into();
            scene.check(Check::new("the server", false, failure.line(), right));
            scene.end()?;
        }
    }
    scene.report.judge(options.by_counts);
    Ok(scene.report)
}

fn place_of(server: &Server, is_tls: bool) -> Result<Place, Failure> {
    let tls = match is_tls {
        true => Some(Tls {
            config: config(Trust::File(&server.certificate()), false)?,
            server_name: name_of("localhost")?,
        }),
        false => None,
    };
    let id_and_secret = format!("{}:{}", server::SECRET_KEY_ID, server::SIGNING_SECRET);
    Ok(Place {
        target: Arc::new(target(server.public, server.public.to_string(), "/v1", tls)),
        key: Some(server::KEY.into()),
        signer: Some(TokenSigner::new(&id_and_secret, LIFETIME_SEC)?),
        api_secret: Some(server::API_SECRET.into()),
        admin: Some(server.admin),
        admin_token: Some(server.admin_token.clone()),
        pid: Some(server.pid()),
    })
}

fn place_given(common: &Common, options: &AbuseOptions) -> Result<Place, Failure> {
    let url = Url::parse(&common.url)?;
    let address = url.resolve()?;
    loopback::allow(address, options.target_is_mine)?;
    let admin = options.admin.as_deref().map(resolve).transpose()?;
    if let Some(admin) = admin {
        loopback::allow(admin, options.target_is_mine)?;
    }
    let trust = match (&common.insecure_ca, common.insecure) {
        (Some(file), _) => Trust::File(file),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    let tls = match url.is_tls {
        true => Some(Tls {
            config: config(trust, false)?,
            server_name: name_of(&url.host)?,
        }),
        false => None,
    };
    let signer = common.token_secret.as_deref();
    Ok(Place {
        target: Arc::new(target(
            address,
            format!("{}:{}", url.host, url.port),
            &url.path,
            tls,
        )),
        key: common.key.clone(),
        signer: signer
            .map(|it| TokenSigner::new(it, LIFETIME_SEC))
            .transpose()?,
        api_secret: common.api_secret.clone(),
        admin,
        admin_token: options.admin_token.clone(),
        pid: common.server_pid,
    })
}

fn target(address: SocketAddr, host: String, path: &str, tls: Option<Tls>) -> Target {
    Target {
        address,
        host,
        path: path.to_owned(),
        tls,
        credential: Credential::None,
        api_secret: None,
        origin: None,
    }
}

fn name_of(host: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| Failure::Usage(format!("{host}: {error}")))
}

fn resolve(text: &str) -> Result<SocketAddr, Failure> {
    let wrong = |cause: &str| Failure::Usage(format!("--admin {text}: {cause}"));
    let mut found = text
        .to_socket_addrs()
        .map_err(|it| wrong(&it.to_string()))?;
    found.next().ok_or_else(|| wrong("the name has no address"))
}

fn write_json(path: &Path, reports: &[Report]) -> Result<(), Failure> {
    let failed = |cause: String| Failure::File {
        path: path.display().to_string(),
        cause,
    };
    let json = serde_json::to_string_pretty(&File { rows: reports });
    let json = json.map_err(|error| failed(error.to_string()))?;
    std::fs::write(path, json + "\n").map_err(|error| failed(error.to_string()))
}
