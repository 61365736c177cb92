//! Clients that drop and come back: what the executable reports of a server that keeps history, and
//! how it finds one out that does not keep its word.

use std::process::Output;

use crate::support::{Fault, harness, serve, url};

fn resume(fault: Fault) -> Output {
    let server = serve(fault);
    harness()
        .args(["--warmup", "0", "--url", &url("ws", server.port), "resume"])
        .args(["--clients", "5", "--channels", "2", "--of", "4"])
        .args(["--rate", "200", "--away", "200", "--drops", "2"])
        .output()
        .expect("the executable runs")
}

#[test]
fn clients_that_come_back_have_missed_nothing() {
    let output = resume(Fault::None);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("each once, in order"), "{said}");
    assert!(said.contains("connect to recovered"), "{said}");
    let note = said.lines().find(|line| line.contains("came in replays"));
    let note = note.expect("a note").trim_start_matches("  note: ");
    let count = note
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok());
    assert!(count > Some(0_u64), "{note}");
    assert!(!said.contains("recovered: false"), "{said}");
}

#[test]
fn a_gap_that_is_told_is_no_fault() {
    let output = resume(Fault::Forgets);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let said = String::from_utf8_lossy(&output.stdout);
    let gaps = "20 of the subscriptions could not be continued (recovered: false)";
    assert!(said.contains(gaps), "{said}");
}

#[test]
fn a_replay_that_is_not_whole_is_found_out() {
    for (fault, cause) in [
        (Fault::SkipsReplayed, "where"),
        (Fault::DoublesReplayed, "again"),
        (Fault::Loses, "lost"),
        (Fault::Doubles, "doubled"),
    ] {
        let output = resume(fault);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{fault:?}: {errors}");
        assert!(errors.contains(cause), "{fault:?}: {errors}");
    }
}

#[test]
fn a_server_without_history_is_told_apart() {
    let output = resume(Fault::KeepsNothing);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("keeps no history of load/"), "{errors}");
    assert!(errors.contains("[[apps.history]]"), "{errors}");
}
