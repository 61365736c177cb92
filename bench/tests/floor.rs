//! Every load of `floor`, as small as it gets: all servers take part and every message arrives.
//! What is printed is not judged, a load that loses something fails.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what is not there fails the test"
)]

use std::process::{Command, Output};

fn floor(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_floor"))
        .args(arguments.split(' '))
        .output()
        .unwrap()
}

#[track_caller]
fn assert_compares(arguments: &str, servers: &[&str]) {
    let output = floor(&format!("{arguments} --runs 1 --seconds 0.1"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let table = String::from_utf8_lossy(&output.stdout);
    // A title and heads, then the servers with their figures.
    let lines: Vec<_> = table.lines().skip(2).collect();
    assert_eq!(lines.len(), servers.len(), "{table}");
    for (line, server) in lines.iter().zip(servers) {
        let figures = line.strip_prefix(server).expect("in the order given");
        let cpu_us: f64 = figures.split_whitespace().next().unwrap().parse().unwrap();
        assert!(cpu_us > 0.0, "{line}");
    }
}

const SEND: &str = "floor, send";
const URING: &str = "floor, io_uring";

#[test]
fn publications_reach_all_subscribers_of_their_channel() {
    let servers = [SEND, "floor, coalesced", URING, "ringmesh"];
    assert_compares("fan-out --subscribers 20 --in-flight 4", &servers);
    assert_compares(
        "fan-out --channels 3 --subscribers 4 --in-flight 6 --payload 1024",
        &servers,
    );
}

#[test]
fn one_shard_is_compared_with_two() {
    assert_compares("shards --subscribers 20", &["one shard", "two shards"]);
}

#[test]
fn an_open_loop_gets_all_it_sent() {
    let servers = [SEND, URING, "ringmesh"];
    assert_compares("open-loop --subscribers 10", &servers);
    assert_compares("open-loop --subscribers 10 --small 20", &servers);
}

#[test]
fn requests_are_answered() {
    let servers = [SEND, "ringmesh"];
    assert_compares("inbound --connections 10", &[SEND, URING, "ringmesh"]);
    assert_compares("ping-pong --pairs 2", &servers);
    assert_compares("connects --parallel 4", &servers);
    assert_compares("connects --parallel 4 --token", &servers);
}

#[test]
fn what_cannot_be_measured_is_said_in_one_line() {
    for (arguments, cause) in [
        ("fan-out --subscribers 40000000", "ulimit -n"),
        ("fan-out --channels 3 --in-flight 4", "--in-flight"),
        ("fan-out --only nobody", "nobody"),
    ] {
        let output = floor(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<_> = errors
            .lines()
            .filter(|line| !line.starts_with("warning: "))
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains(cause), "{errors:?}");
    }
}
