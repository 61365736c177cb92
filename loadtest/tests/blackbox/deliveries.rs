//! Right and wrong deliveries: what the executable reports of an honest server, and how it finds a
//! dishonest one out.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{Fault, STALL, harness, serve, url};

/// Runs the harness for a moment with these arguments and a result file.
fn load(port: u16, arguments: &[&str], json: &Path) -> Output {
    harness()
        .args(["--duration", "0.5", "--warmup", "0.2"])
        .args(["--url", &url("ws", port)])
        .arg("--json")
        .arg(json)
        .args(arguments)
        .output()
        .expect("the executable runs")
}

/// A run that must end well; returns its result file.
fn check_right(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("temporary folder");
    let json = folder.path().join("result.json");
    let output = load(serve(Fault::None).port, arguments, &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = std::fs::read_to_string(json).expect("a result");
    serde_json::from_str(&text).expect("JSON")
}

/// A run that must fail with one line that contains `cause`, and leave no result.
fn check_wrong(fault: Fault, cause: &str) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let json = folder.path().join("result.json");
    let arguments = ["fanout", "--subscribers", "10", "--rate", "200"];
    let output = load(serve(fault).port, &arguments, &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{fault:?}: {errors}");
    assert!(errors.contains(cause), "{fault:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(!json.exists(), "{fault:?}: a broken run left a result");
    assert!(
        output.stdout.is_empty(),
        "{fault:?}: a broken run printed figures"
    );
}

#[test]
fn fanout_counts_every_delivery() {
    let result = check_right(&["fanout", "--subscribers", "5", "--rate", "100", "--acks"]);
    let run = &result["runs"][0];
    assert_eq!(run["sent"], 50, "half a second at 100/s");
    assert_eq!(run["series"][0]["name"], "delivery");
    assert_eq!(run["series"][0]["count"], 250);
    assert_eq!(run["series"][1]["count"], 50, "acks");
    assert_eq!(run["verified"], 70 * 6, "warm-up included");
}

#[test]
fn saturation_direct_rooms_and_connects_end_well() {
    let saturated = [
        "fanout",
        "--subscribers",
        "3",
        "--saturate",
        "--in-flight",
        "4",
    ];
    assert!(check_right(&saturated)["runs"][0]["received"].as_u64() > Some(10));
    let direct = check_right(&["direct", "--pairs", "2", "--rate", "100"]);
    assert_eq!(direct["runs"][0]["series"][0]["count"], 50);
    let rooms = [
        "rooms",
        "--rooms",
        "3",
        "--members",
        "3",
        "--rate",
        "200",
        "--changes",
        "50",
    ];
    assert!(check_right(&rooms)["runs"][0]["received"].as_u64() > Some(10));
    let connects = check_right(&["connect", "-n", "20", "--concurrency", "4"]);
    assert_eq!(connects["runs"][0]["received"], 20);
}

/// Of two seconds the server does nothing for one. Whatever the machine does besides, a fifth of
/// the messages were due when more than half of that second was still to come.
#[test]
fn a_stall_is_charged_to_all_that_was_due_meanwhile() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let json = folder.path().join("result.json");
    let load_of = [
        "fanout",
        "--subscribers",
        "10",
        "--rate",
        "200",
        "--duration",
        "2",
    ];
    let output = load(serve(Fault::Stalls).port, &load_of, &json);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = std::fs::read_to_string(json).expect("a result");
    let result: Value = serde_json::from_str(&text).expect("JSON");
    let percentiles = result["runs"][0]["series"][0]["percentiles"]
        .as_array()
        .expect("a list");
    let p90 = percentiles
        .iter()
        .find(|pair| pair[0] == 90.0)
        .expect("it is kept");
    assert!(p90[1].as_u64() > Some(STALL.as_nanos() as u64 / 2), "{p90}");
}

#[test]
fn a_dishonest_server_is_found_out() {
    check_wrong(Fault::Loses, "1 lost, 0 doubled, 0 reordered");
    check_wrong(Fault::Doubles, "0 lost, 1 doubled, 0 reordered");
    check_wrong(Fault::Swaps, "0 lost, 0 doubled, 1 reordered");
    check_wrong(Fault::Damages, "damaged");
}

#[test]
fn a_server_that_refuses_or_ends_leaves_no_result() {
    check_wrong(Fault::Refuses, "HTTP 401");
    check_wrong(Fault::Closes, "ended without a close frame");
}
