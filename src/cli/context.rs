//! `ringmesh context`: servers get names, and lose them.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::address::admin_url;
use super::common::Common;
use super::contexts::{self, Context, Contexts, file};
use super::failure::Failure;
use super::session::Session;
use super::table::{Column, Table};
use super::terminal::{Terminal, json as json_text, printable};

/// What can be done with contexts.
#[derive(Subcommand)]
pub enum ContextCommand {
    /// Give a server a name; the first one is used from then on.
    #[command(after_help = "Examples:\n  \
        ringmesh context add shop --admin-url https://rt.example:7464 --admin-token-file t\n  \
        ringmesh context add local --admin-url 7464 --admin-token-file data/admin.token")]
    Add {
        /// The name: 1 to 64 of A-Z a-z 0-9 . _ -
        #[arg(value_name = "NAME", value_parser = contexts::name)]
        name: String,
        /// Where its clients connect, such as wss://rt.example
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// List the contexts.
    #[command(after_help = "Examples:\n  ringmesh context list\n  ringmesh context list --json")]
    List,
    /// Show one context.
    #[command(after_help = "Examples:\n  ringmesh context show\n  ringmesh context show shop")]
    Show {
        /// The name [default: the one in use]
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Use a context from now on.
    #[command(after_help = "Examples:\n  ringmesh context use shop\n  ringmesh -C shop stats")]
    Use {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget a context.
    #[command(
        visible_alias = "delete",
        after_help = "Examples:\n  ringmesh context remove shop\n  ringmesh context list"
    )]
    Remove {
        /// The name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Carries `ringmesh context …` out. Returns what to print.
///
/// # Errors
/// Bad usage, or the file cannot be read or written.
pub(crate) fn run(command: &ContextCommand, session: &Session) -> Result<String, Failure> {
    let (common, terminal) = (&session.common, &session.terminal);
    let path = file(&session.environment).ok_or_else(|| {
        Failure::usage("there is no place for contexts; set HOME or XDG_CONFIG_HOME")
    })?;
    let mut contexts = Contexts::load(&path)?;
    match command {
        ContextCommand::Add { name, url } => {
            add(&mut contexts, name, url.clone(), common)?;
            contexts.save(&path)?;
            let in_use = contexts.current.as_deref() == Some(name);
            let end = if in_use { ", and is in use" } else { "" };
            terminal.note(&format!("context {name} is in {}{end}", path.display()));
            Ok(String::new())
        }
        ContextCommand::List => Ok(listed(&contexts, terminal)),
        ContextCommand::Show { name } => {
            let name = name.as_ref().or(contexts.current.as_ref()).ok_or_else(|| {
                Failure::usage("no context is in use; name one, or run ringmesh context add")
            })?;
            Ok(shown(name, contexts.named(name)?, terminal))
        }
        ContextCommand::Use { name } => {
            contexts.named(name)?;
            contexts.current = Some(name.clone());
            contexts.save(&path)?;
            terminal.note(&format!("context {name} is in use"));
            Ok(String::new())
        }
        ContextCommand::Remove { name } => {
            contexts.named(name)?;
            contexts.contexts.remove(name);
            contexts.current = contexts.current.filter(|current| current != name);
            contexts.save(&path)?;
            terminal.note(&format!("context {name} is gone"));
            Ok(String::new())
        }
    }
}

fn add(
    contexts: &mut Contexts,
    name: &str,
    url: Option<String>,
    common: &Common,
) -> Result<(), Failure> {
    if contexts.contexts.contains_key(name) {
        return Err(Failure::usage(format_args!(
            "there is a context {name:?} already; run ringmesh context remove {name} first"
        )));
    }
    if common.admin_token.is_some() {
        return Err(Failure::usage(
            "--admin-token: a context keeps no token; put it into a file that only you may read, \
             and give --admin-token-file",
        ));
    }
    let Some(given) = &common.admin_url else {
        return Err(Failure::usage(
            "--admin-url is missing; give the address of the server's admin listener",
        ));
    };
    let bad = |text: String| Failure::usage(format_args!("--admin-url: {text}"));
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let context = Context {
        admin_url: admin_url(given).map_err(bad)?,
        admin_token_file: common.admin_token_file.as_ref().map(absolute),
        url,
        ca: common.ca.as_ref().map(absolute),
    };
    contexts.contexts.insert(name.to_owned(), context);
    contexts.current.get_or_insert_with(|| name.to_owned());
    Ok(())
}

fn listed(contexts: &Contexts, terminal: &Terminal) -> String {
    if terminal.json {
        return json_text(&json!(contexts));
    }
    let columns = [
        Column::text("CONTEXT"),
        Column::text("IN USE"),
        Column::text("ADMIN URL"),
        Column::text("URL"),
    ];
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let in_use = contexts.current.as_ref() == Some(name);
        let in_use = if in_use { "yes" } else { "" };
        let url = context.url.as_deref().unwrap_or("-");
        [name, in_use, &context.admin_url, url]
            .map(printable)
            .to_vec()
    });
    Table::new(columns, rows.collect()).render(terminal)
}

fn shown(name: &str, context: &Context, terminal: &Terminal) -> String {
    if terminal.json {
        return json_text(&json!(context));
    }
    let path = |path: &Option<PathBuf>| {
        let shown = path.as_ref().map(|path| path.display().to_string());
        shown.unwrap_or("-".to_owned())
    };
    let fields = [
        ("name", name.to_owned()),
        ("adminUrl", context.admin_url.clone()),
        ("adminTokenFile", path(&context.admin_token_file)),
        ("url", context.url.clone().unwrap_or("-".to_owned())),
        ("ca", path(&context.ca)),
    ];
    let rows = fields.map(|(name, value)| vec![name.to_owned(), printable(&value)]);
    Table::fields(rows.to_vec()).render(terminal)
}
