//! `abuse`: whom it refuses to attack, what it says when something is missing, and its verdicts on
//! a real server and on one that fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{Fault, harness, serve, url};

fn abuse(arguments: &[&str]) -> Output {
    let mut command = harness();
    command.env_remove("RINGMESH_ADMIN_TOKEN").arg("abuse");
    command
        .args(arguments)
        .output()
        .expect("the executable runs")
}

/// Bad usage: exit 2, one line with `cause`, and nothing else.
#[track_caller]
fn check_usage(arguments: &[&str], cause: &str) {
    let output = abuse(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert!(errors.contains(cause), "{cause}: {errors}");
    assert!(output.stdout.is_empty(), "{arguments:?}: {errors}");
}

/// The server's executable beside the harness, built if it is not there.
fn ringmesh() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_ringmesh-loadtest"));
        let directory = beside.parent().expect("a directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "ringmesh",
            "--bin",
            "ringmesh",
        ]);
        if directory.file_name().is_some_and(|name| name == "release") {
            cargo.arg("--release");
        }
        let target = directory.parent().expect("the target directory");
        cargo.arg("--target-dir").arg(target);
        assert!(cargo.status().expect("cargo runs").success());
        directory.join("ringmesh")
    })
}

/// The reports of these rows against a server of their own.
fn reports(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let directory = tempfile::tempdir().expect("temporary folder");
    let file = directory.path().join("r.json");
    let mut command = harness();
    command.arg("abuse").args(arguments);
    command.arg("--spawn").arg(ringmesh());
    let output = command.arg("--json").arg(&file).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("no file: {errors}"));
    let parsed: Value = serde_json::from_str(&text).expect("JSON");
    let rows = parsed["rows"].as_array().expect("rows").clone();
    (output.status.code(), rows)
}

#[test]
fn other_machines_are_refused_before_any_packet() {
    for host in ["192.0.2.1", "[2001:db8::1]", "0.0.0.0"] {
        let url = format!("ws://{host}:9");
        check_usage(&["pipelined-health", "--url", &url], "--target-is-mine");
    }
    let admin = ["admin-idle", "--admin", "192.0.2.1:9"];
    check_usage(&admin, "--target-is-mine");
}

#[test]
fn what_is_missing_is_named() {
    check_usage(&["nonsense"], "nonsense");
    check_usage(&[], "`list`");
    check_usage(&["mass-drain"], "--spawn");
    check_usage(&["last-words"], "--token-secret");
    check_usage(&["admin-idle"], "--admin");
    check_usage(&["all", "--scale", "0"], "--scale");
}

#[test]
fn an_executable_that_is_no_server_is_named() {
    let output = abuse(&["last-words", "--spawn", "/nonexistent/ringmesh"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("/nonexistent/ringmesh"), "{errors}");
}

#[test]
fn the_list_names_every_row_and_what_it_needs() {
    let output = abuse(&["list"]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    for name in ["pipelined-health", "tls-storm", "memory-ceiling"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let rows = text.lines().filter(|line| !line.starts_with(' ')).count();
    let needs = text.lines().filter(|line| line.contains("needs: ")).count();
    assert!(rows == needs && rows > 30, "{text}");
}

#[test]
fn a_server_that_holds_passes_and_the_figures_are_in_the_file() {
    let (code, rows) = reports(&["last-requests", "mass-drain", "--scale", "0.005"]);
    assert_eq!(code, Some(0), "{rows:#?}");
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(row["verdict"], "pass", "{row:#}");
        assert!(row["memoryPeakMb"].as_f64() >= row["memoryBeforeMb"].as_f64());
        assert!(row["checks"].as_array().is_some_and(|it| it.len() > 1));
    }
    assert!(rows[1]["strangersDuringMs"].is_array(), "{rows:#?}");
}

#[test]
fn storms_lose_nothing_and_leave_nothing_behind() {
    let rows = [
        "reconnect-storm",
        "reconnect-storm-tls",
        "reconnect-storm-resumed",
        "restart-storm",
        "join-storm",
        "mass-exit",
        "--by-counts",
    ];
    let (code, rows) = reports(&[&rows[..], &["--clients", "300", "--scale", "0.06"]].concat());
    assert_eq!(code, Some(0), "{rows:#?}");
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!(row["verdict"], "pass", "{row:#}");
        // Times, for whoever looks for them.
        println!("{}: {:#}", row["name"], row["saw"]);
    }
}

#[test]
fn a_server_that_ends_strangers_fails() {
    let server = serve(Fault::Closes);
    let pid = std::process::id().to_string();
    let url = url("ws", server.port);
    let output = abuse(&["pipelined-404", "--url", &url, "--pid", &pid]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("1 of 1 attacks got through"), "{errors}");
    let figures = String::from_utf8_lossy(&output.stdout);
    assert!(figures.contains("FAIL strangers"), "{figures}");
}
