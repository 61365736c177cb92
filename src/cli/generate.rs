//! `ringmesh completions` and `ringmesh man`: what is made from the definition of the commands.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::failure::Failure;

/// Arguments of `ringmesh completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that completes
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Arguments of `ringmesh man`.
#[derive(Args)]
pub struct ManArgs {
    /// The command, such as app create [default: ringmesh itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// Returns the script for a shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ringmesh", &mut script);
    script
}

/// Returns the page of a command, in roff; with a directory it is empty and the pages are there.
///
/// # Errors
/// There is no such command, or the directory cannot be written.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<Vec<u8>, Failure> {
    if let Some(dir) = &args.dir {
        let written = fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir));
        written
            .map_err(|error| Failure::failed(format_args!("--dir: {}: {error}", dir.display())))?;
        return Ok(Vec::new());
    }
    let mut found = &command;
    for word in &args.command {
        found = found.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format_args!(
                "there is no command {:?}; 'ringmesh help' shows them",
                args.command.join(" ")
            ))
        })?;
    }
    page(found).map_err(Failure::failed)
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}
