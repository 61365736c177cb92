//! The `ringmesh` executable: what was typed, what it means, and the exit code.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::Value;

use crate::backup;
use crate::check;
use crate::cli::{
    self, Cli, CliCommand, Failure, NoCommand, ServeArgs, Session, TokenCommand, connections,
    context, event_lines, events, generate, history, operate, print, print_adapted, pub_sub,
    sign_in, stats, tokens, version,
};
use crate::config::{Config, ConfigError, DevOptions, Environment, default_file, in_words_of_dev};
use crate::console;
use crate::control::admin_document;
use crate::demo::{self, Backend};
use crate::dev;
use crate::doctor;
use crate::run_file::{RunFile, reachable};
use crate::runtime::Successor;
use crate::runtime::clock::unix_ms;
use crate::runtime::listener::Endpoint;
use crate::runtime::process::forbid_dumps;
use crate::runtime::server::{Server, ServerError, check_addresses};
use crate::setup;
use crate::shard::rest::openapi;
use crate::start_page::{self, Showcase};

/// Carries out what was typed, and returns the exit code of the process.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(cli) => carry_out(cli),
        Err(NoCommand::Shown(text)) => print_adapted(&text),
        Err(NoCommand::BadUsage(failure)) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn carry_out(cli: Cli) -> Result<(), Failure> {
    let session = Session::new(cli.common, Environment::of_process());
    match cli.command {
        CliCommand::Dev(args) => run_dev(&args.into(), &session),
        CliCommand::Serve(args) => serve(&args, &session),
        CliCommand::Init(args) => setup::run(&args, unix_ms(), &session),
        CliCommand::Check(args) => check::run(&args, &session),
        CliCommand::Doctor(args) => doctor::run(&args, &session),
        CliCommand::Token(TokenCommand::Mint(args)) => {
            print(tokens::mint(&args, unix_ms() / 1_000, &session)?)
        }
        CliCommand::Token(TokenCommand::Check(args)) => {
            tokens::check(&args, unix_ms() / 1_000, &session)
        }
        CliCommand::Config(command) => print(operate::config(&command, &session)?),
        CliCommand::Backup(args) => backup::take(&args, &session),
        CliCommand::Restore(args) => backup::restore(&args, &session),
        CliCommand::Reload => operate::reload(&session),
        CliCommand::Upgrade => print(operate::upgrade(&session)?),
        CliCommand::Console(args) => sign_in::run(&args, &session),
        CliCommand::Openapi(args) => {
            let document = match args.admin {
                true => admin_document(),
                false => openapi::document(),
            };
            print(format!("{document}\n"))
        }
        CliCommand::App(command) => print(operate::app(&command, &session)?),
        CliCommand::Key(command) => print(operate::key(&command, &session)?),
        CliCommand::Pub(args) => pub_sub::publish(&args, &session, &mut io::stdout().lock()),
        CliCommand::Sub(args) => pub_sub::subscribe(&args, &session, &mut io::stdout().lock()),
        CliCommand::Events(args) => events::events(&args, &session, &mut io::stdout().lock()),
        CliCommand::Connections(args) => print(connections::connections(&args, &session)?),
        CliCommand::Why(args) => print(events::why(&args, &session)?),
        CliCommand::Trace(args) => print(events::trace(&args, &session)?),
        CliCommand::History(args) => history::history(&args, &session, &mut io::stdout().lock()),
        CliCommand::Kick(args) => print(events::kick(&args, &session)?),
        CliCommand::Stats(args) => stats::stats(&args, &session, &mut io::stdout().lock()),
        CliCommand::Context(command) => print(context::run(&command, &session)?),
        CliCommand::Completions(args) => print(generate::completions(&args, cli::command())),
        CliCommand::Man(args) => print(generate::man(&args, cli::command())?),
        CliCommand::Version => print(version::text(&session.terminal)),
    }
}

fn serve(args: &ServeArgs, session: &Session) -> Result<(), Failure> {
    forbid_dumps().map_err(Failure::failed)?;
    let file = match &args.config {
        Some(file) => file.clone(),
        None => {
            let file = default_file().map_err(Failure::usage)?;
            let text = format!("ringmesh: the configuration is {}", file.display());
            session.terminal.note(&text);
            file
        }
    };
    let load = || Config::load(&file, &session.environment);
    let successor = Successor::of_process().map_err(Failure::failed)?;
    let told = |failure: Failure| {
        if let Some(successor) = &successor {
            successor.failed(&failure.message);
        }
        failure
    };
    let config = load().map_err(|error| told(Failure::usage(error)))?;
    let page = |_: Option<SocketAddr>| start_page::html(None);
    let server = start(&config, page, successor.as_ref());
    let server = server.map_err(|error| told(failure(error)))?;
    drop(successor);
    let reload = || {
        load()
            .map(Some)
            .map_err(|error: ConfigError| error.to_string())
    };
    server.run(reload).map_err(failure)
}

fn run_dev(options: &DevOptions, session: &Session) -> Result<(), Failure> {
    start_dev(options, session).map_err(|failure| Failure {
        message: in_words_of_dev(&failure.message).into_owned(),
        ..failure
    })
}

fn start_dev(options: &DevOptions, session: &Session) -> Result<(), Failure> {
    let config = Config::for_dev(options, &session.environment);
    let mut config = config.map_err(Failure::usage)?;
    if let Ok(live) = RunFile::of_live_server(&config.store.data_dir) {
        let run = live.run;
        return Err(Failure::failed(format_args!(
            "a server runs with this data directory already, pid {}, {}; stop it with kill {}, or \
             give another --data-dir",
            run.pid,
            run.public_urls.join(", "),
            run.pid
        )));
    }
    for text in dev::move_taken_ports(&mut config) {
        session.terminal.note(&text);
    }
    check_addresses(&config).map_err(failure)?;
    let page = |admin| start_page_of_dev(&config, admin);
    let server = start(&config, page, None).map_err(failure)?;
    let keys = dev::keys(&config.store.data_dir, server.control()).map_err(Failure::failed)?;
    if let Some(endpoint) = server.endpoints().first() {
        let address = endpoint.address;
        server.control().show(demo::site(&Backend {
            address,
            tls: endpoint.tls,
            publishable_key: &keys.publishable_key,
        }));
        let sign_in = sign_in_path(&config, &server)?;
        let token_file = &config.admin.token_file;
        print(dev::welcome(
            address,
            config.server.public_url.as_ref(),
            (server.admin_address(), sign_in.as_deref()),
            token_file,
            &keys,
        ))?;
    }
    let events = Some(server.events()).filter(|it| it.is_on() && !session.terminal.quiet);
    let terminal = session.terminal;
    let shown = move |event: &Value| event_lines(event, &terminal);
    let lines = events.map(|events| dev::EventLines::start(events, shown));
    let lines = lines.transpose().map_err(Failure::failed)?;
    let outcome = server.run(|| Ok(None));
    if let Some(lines) = lines {
        lines.end();
    }
    outcome.map_err(failure)
}

/// Where the console is, with a code that signs in once; `None` where there is no console.
fn sign_in_path(config: &Config, server: &Server) -> Result<Option<String>, Failure> {
    if !config.admin.console {
        return Ok(None);
    }
    let code = server.control().sign_in_code();
    Ok(Some(sign_in::path(&code.map_err(Failure::failed)?)))
}

fn start(
    config: &Config,
    start_page: impl Fn(Option<SocketAddr>) -> String,
    successor: Option<&Successor>,
) -> Result<Server, ServerError> {
    let console = |endpoints: &[Endpoint]| console_of(config, endpoints);
    Server::start(config, start_page, console, successor)
}

fn start_page_of_dev(config: &Config, admin: Option<SocketAddr>) -> String {
    let showcase = admin.map(|admin| Showcase {
        admin: reachable(admin),
        demo: demo::PATH,
        has_console: config.admin.console,
    });
    start_page::html(showcase.as_ref())
}

/// The console of a server with those public listeners.
fn console_of(config: &Config, endpoints: &[Endpoint]) -> console::Site {
    let listener = |endpoint: &Endpoint| console::Listener {
        address: endpoint.address,
        tls: endpoint.tls,
    };
    let listeners: Vec<_> = endpoints.iter().map(listener).collect();
    let public_url = config.server.public_url.as_ref();
    let origins = public_url.map(|url| [url.rest(), url.clients()]);
    console::site(&listeners, origins.as_ref().map_or(&[], |it| &it[..]))
}

fn failure(error: ServerError) -> Failure {
    Failure {
        exit_code: error.exit_code,
        message: error.message,
    }
}
