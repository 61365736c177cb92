//! Scenario files: repeatable runs in TOML.
//!
//! ```toml
//! title = "Fan-out"
//! [defaults]
//! repeat = 5
//! [[run]]
//! name = "one in flight"
//! workload = "fanout"
//! saturate = true
//! ```
//!
//! Every other key is an option of the command line without its dashes (`in_flight` is
//! `--in-flight`) and means exactly the same, because it is parsed by the same code. Options typed
//! beside `--scenario` win over those in the file.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use serde::Deserialize;
use toml::{Table, Value};

use crate::cli::{Cli, Command, Common};
use crate::failure::Failure;

/// One run, ready to be made.
#[derive(Debug, Clone)]
pub(crate) struct PlannedRun {
    /// Given in the file, or the subcommand's name.
    pub name: String,
    /// Shared options.
    pub common: Common,
    /// The workload.
    pub command: Command,
    /// The command line that repeats it, without credentials.
    pub line: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    #[expect(dead_code, reason = "for whoever reads the file")]
    title: String,
    #[serde(default)]
    defaults: Table,
    #[serde(default)]
    run: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    workload: String,
    #[serde(flatten)]
    options: Table,
}

/// What the command line asks for: the runs of a scenario, or the one typed.
///
/// # Errors
/// [`Failure::Usage`] for options that do not fit, [`Failure::File`] for an unreadable scenario.
pub(crate) fn plan(arguments: &[OsString]) -> Result<Vec<PlannedRun>, Failure> {
    let cli = parse(arguments)?;
    match (&cli.scenario, cli.command) {
        (Some(_), Some(_)) => Err(Failure::Usage(
            "give --scenario or a subcommand, not both".into(),
        )),
        (None, None) => Err(Failure::Usage(
            "give a subcommand, or --scenario FILE".into(),
        )),
        (None, Some(command)) => Ok(vec![PlannedRun {
            name: command.name().to_owned(),
            common: cli.common,
            command,
            line: line_of(arguments),
        }]),
        (Some(path), None) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::File {
                path: path.display().to_string(),
                cause: error.to_string(),
            })?;
            planned(&text, path, arguments)
        }
    }
}

fn planned(text: &str, path: &Path, typed: &[OsString]) -> Result<Vec<PlannedRun>, Failure> {
    let wrong = |cause: String| Failure::File {
        path: path.display().to_string(),
        cause,
    };
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(0, |span| text[..span.start].lines().count().max(1));
        wrong(format!("line {line}: {}", error.message()))
    })?;
    if file.run.is_empty() {
        return Err(wrong("it has no [[run]]".into()));
    }
    let mut runs = Vec::new();
    for run in file.run {
        let mut arguments = vec![
            OsString::from("ringmesh-loadtest"),
            run.workload.clone().into(),
        ];
        for options in [&file.defaults, &run.options] {
            for (key, value) in options {
                let in_run = |cause| wrong(format!("run \"{}\": {cause}", run.name));
                push_option(&mut arguments, key, value).map_err(in_run)?;
            }
        }
        arguments.extend(without(typed.get(1..).unwrap_or_default(), &["--scenario"]));
        let cli = parse(&arguments).map_err(|failure| match failure {
            Failure::Usage(what) => wrong(format!("run \"{}\": {what}", run.name)),
            other => other,
        })?;
        let command = cli.command.filter(|command| command.plan().is_some());
        let command = command.ok_or_else(|| wrong(format!("run \"{}\" is no load", run.name)))?;
        let line = line_of(&arguments);
        runs.push(PlannedRun {
            name: run.name,
            common: cli.common,
            command,
            line,
        });
    }
    Ok(runs)
}

fn parse(arguments: &[OsString]) -> Result<Cli, Failure> {
    Cli::try_parse_from(arguments).map_err(|error| {
        if !error.use_stderr() {
            // Help and version were asked for.
            error.exit();
        }
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Failure::Usage(first.trim_start_matches("error: ").to_owned())
    })
}

fn push_option(arguments: &mut Vec<OsString>, key: &str, value: &Value) -> Result<(), String> {
    let flag = format!("--{}", key.replace('_', "-"));
    let text = match value {
        Value::Boolean(false) => return Ok(()),
        Value::Boolean(true) => {
            arguments.push(flag.into());
            return Ok(());
        }
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => return Err(format!("{key} must be text, a number, true or false")),
    };
    arguments.push(format!("{flag}={text}").into());
    Ok(())
}

/// The arguments without these options and their values.
fn without(arguments: &[OsString], options: &[&str]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut skips_value = false;
    for argument in arguments {
        let text = argument.to_string_lossy();
        let is_named = |option: &&str| text == **option || text.starts_with(&format!("{option}="));
        if std::mem::take(&mut skips_value) {
            continue;
        }
        if options.iter().any(is_named) {
            skips_value = !text.contains('=');
        } else {
            kept.push(argument.clone());
        }
    }
    kept
}

fn line_of(arguments: &[OsString]) -> String {
    let secrets = ["--key", "--token-secret", "--api-secret"];
    let rest = without(arguments.get(1..).unwrap_or_default(), &secrets);
    let words = rest.iter().map(|word| quoted(&word.to_string_lossy()));
    std::iter::once("ringmesh-loadtest".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=./:@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, typed: &[&str]) -> Result<Vec<PlannedRun>, String> {
        let typed: Vec<OsString> = [&["x"], typed]
            .concat()
            .into_iter()
            .map(OsString::from)
            .collect();
        planned(text, Path::new("s.toml"), &typed).map_err(|failure| failure.to_string())
    }

    const TWO: &str = "
        title = 't'
        [defaults]
        repeat = 5
        duration = 7.5
        [[run]]
        name = 'a'
        workload = 'fanout'
        saturate = true
        in_flight = 16
        acks = false
        [[run]]
        name = 'b'
        workload = 'idle'
        connections = 10
        repeat = 2
    ";

    #[test]
    fn runs_inherit_defaults_and_typed_options_win() {
        let typed = ["--key", "pk_live_x", "--scenario", "s.toml", "--duration=3"];
        let runs = check(TWO, &typed).expect("valid");
        let [a, b] = &runs[..] else {
            panic!("two runs")
        };
        assert_eq!(
            (a.name.as_str(), a.common.repeat, a.common.duration),
            ("a", 5, Some(3.0))
        );
        assert_eq!((b.name.as_str(), b.common.repeat), ("b", 2));
        assert_eq!(b.common.key.as_deref(), Some("pk_live_x"));
        assert!(a.line.contains("--saturate") && a.line.contains("--in-flight=16"));
        assert!(
            !a.line.contains("pk_live") && !a.line.contains("scenario") && !a.line.contains("acks")
        );
    }

    #[test]
    fn the_line_can_be_given_to_a_shell() {
        for (word, expected) in [
            (
                "--url=ws://127.0.0.1:8080/v1",
                "--url=ws://127.0.0.1:8080/v1",
            ),
            ("--beside=100x2@1", "--beside=100x2@1"),
            ("a b", "'a b'"),
            ("it's; $x", r"'it'\''s; $x'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn mistakes_name_file_and_run() {
        for (text, what) in [
            ("", "no [[run]]"),
            ("x = 1", "line 1"),
            ("[[run]]\nname='a'\nworkload='fly'", "run \"a\""),
            (
                "[[run]]\nname='a'\nworkload='idle'\nconections=3",
                "--conections",
            ),
            ("[[run]]\nname='a'\nworkload='idle'\nconnections='x'", "'x'"),
            (
                "[[run]]\nname='a'\nworkload='idle'\nconnections=[1]",
                "must be text",
            ),
            ("[[run]]\nname='a'", "workload"),
        ] {
            let failure = check(text, &[]).expect_err(text);
            assert!(
                failure.contains("s.toml") && failure.contains(what),
                "{text}: {failure}"
            );
            assert!(!failure.contains('\n'));
        }
    }

    #[test]
    fn every_committed_scenario_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("committed") {
            let path = entry.expect("readable").path();
            let text = std::fs::read_to_string(&path).expect("readable");
            let runs = planned(&text, &path, &[]).expect("valid");
            for run in runs {
                let plan = run.command.plan().expect("a load");
                plan.check().expect("possible");
            }
            count += 1;
        }
        assert!(count > 0);
    }
}
