//! `ringmesh doctor` on the machine of the tests: what it prints, its exit code, and that it
//! leaves nothing. What it finds is tested on trees of files, in `src/doctor/tests`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::server::ringmesh;

fn doctor(directory: &Path, words: &[&str]) -> (Value, i32) {
    let mut command = ringmesh();
    let command = command.args(["doctor", "--json"]).args(words);
    let output = command.current_dir(directory).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (report, output.status.code().unwrap())
}

fn level(report: &Value, check: &str) -> String {
    let findings = report["findings"].as_array().unwrap();
    let finding = findings.iter().find(|it| it["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("{check}: {report:#}"));
    assert!(finding["measured"].is_string() && finding["text"].is_string());
    finding["level"].as_str().unwrap().to_owned()
}

#[test]
fn a_host_is_looked_at_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (report, code) = doctor(dir.path(), &[]);
    assert_eq!(level(&report, "kernel"), "ok");
    assert_eq!(level(&report, "io_uring"), "ok");
    assert_eq!(code, i32::from(report["verdict"] == "fail"), "{report:#}");
    let plan = report["plan"].as_array().unwrap();
    assert!(plan.iter().any(|row| row["shard"] == 0));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_size_beyond_any_host_fails() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["--connections", "100000000", "--tls", "--rate", "100000"];
    let (report, code) = doctor(dir.path(), &words);
    assert_eq!(level(&report, "size-cores"), "fail");
    assert_eq!(report["size"]["descriptors"], 100_000_160);
    assert_eq!(code, 1);
    let (_, code) = doctor(dir.path(), &["--rate", "1"]);
    assert_eq!(code, 2, "a rate of no connections");
}

#[test]
fn the_disk_of_the_configuration_is_asked_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
                  store.data_dir = \"data\"\n";
    fs::write(dir.path().join("ringmesh.toml"), config).unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let (report, _) = doctor(dir.path(), &[]);
    level(&report, "store-space");
    level(&report, "store-sync");
    assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 0);
}
