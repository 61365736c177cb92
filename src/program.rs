//! The `ringmesh` executable: what was typed, what it means, and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::cli::admin::OperatorCommand;
use crate::cli::{self, Cli, CliCommand, Failure, NoCommand, ServeArgs, TokenCommand, operate};
use crate::config::{Config, ConfigError, DevOptions, Environment};
use crate::demo::{self, Backend};
use crate::dev;
use crate::runtime::clock::unix_ms;
use crate::runtime::process::forbid_dumps;
use crate::runtime::server::{Server, ServerError};
use crate::shard::rest::openapi;

/// Carries out what was typed, and returns the exit code of the process.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(cli) => carry_out(cli),
        Err(NoCommand::Shown(text)) => print(&text),
        Err(NoCommand::BadUsage(failure)) => Err(failure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn carry_out(cli: Cli) -> Result<(), Failure> {
    let environment = Environment::of_process();
    match cli.command {
        CliCommand::Dev(args) => run_dev(&args.into(), &environment),
        CliCommand::Serve(args) => serve(&args, &environment),
        CliCommand::Token(TokenCommand::Mint(args)) => {
            let token = args.mint(unix_ms() / 1_000, &environment)?;
            print(&format!("{token}\n"))
        }
        CliCommand::Operate(OperatorCommand::Openapi) => {
            print(&format!("{}\n", openapi::document()))
        }
        CliCommand::Operate(OperatorCommand::App(args)) => print(&operate::app(&args)?),
        CliCommand::Operate(OperatorCommand::Key(args)) => print(&operate::key(&args)?),
        CliCommand::Operate(OperatorCommand::Stats(args)) => {
            operate::stats(&args, &mut io::stdout().lock())
        }
    }
}

fn serve(args: &ServeArgs, environment: &Environment) -> Result<(), Failure> {
    forbid_dumps().map_err(Failure::failed)?;
    let load = || Config::load(&args.config, environment);
    let server = Server::start(&load().map_err(Failure::usage)?).map_err(failure)?;
    let reload = || {
        load()
            .map(Some)
            .map_err(|error: ConfigError| error.to_string())
    };
    server.run(reload).map_err(failure)
}

fn run_dev(options: &DevOptions, environment: &Environment) -> Result<(), Failure> {
    let config = Config::for_dev(options, environment).map_err(Failure::usage)?;
    let server = Server::start(&config).map_err(failure)?;
    let keys = dev::keys(&config.store.data_dir, server.control()).map_err(Failure::failed)?;
    if let Some(endpoint) = server.endpoints().first() {
        let address = endpoint.address;
        server.control().show(demo::site(&Backend {
            address,
            tls: endpoint.tls,
            publishable_key: &keys.publishable_key,
        }));
        print(&dev::welcome(address, server.admin_address(), &keys))?;
    }
    server.run(|| Ok(None)).map_err(failure)
}

fn failure(error: ServerError) -> Failure {
    Failure {
        exit_code: error.exit_code,
        message: error.message,
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read us has had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(Failure::failed),
    }
}
