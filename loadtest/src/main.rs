//! `ringmesh-loadtest`: puts load on a server of the ringmesh protocol, checks every delivery and
//! measures latency, CPU and memory. See `README.md` beside `Cargo.toml`.

mod abuse;
mod cli;
mod client;
mod clock;
mod driver;
mod failure;
mod interrupt;
mod limits;
mod live;
mod measure;
mod report;
mod scenario;
mod session;
mod stamp;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match session::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            live::write_stderr(&format!("ringmesh-loadtest: {}\n", failure.line()));
            ExitCode::from(failure.exit_code())
        }
    }
}
