//! Signals: what has no meaning ends nothing, and what ends the server loses nothing.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::Client;
use crate::support::server::Server;
use crate::support::setup::Setup;

const USAGE: &str = "/api/internal/v1/apps/app_a/usage";

#[test]
fn signals_without_a_meaning_are_logged_and_end_nothing() {
    let mut server = Setup::new(1).start();
    let mut client = server.anonymous();
    for (signal, name) in [
        (Signal::USR1, "SIGUSR1 is ignored"),
        (Signal::ALARM, "SIGALRM is ignored"),
        (Signal::VTALARM, "SIGVTALRM is ignored"),
        (Signal::QUIT, "SIGQUIT is ignored"),
        (Signal::XFSZ, "SIGXFSZ is ignored"),
    ] {
        server.signal(signal);
        server
            .log
            .find(name, |line| line.contains(name).then_some(()));
        client.expect_nothing_queued();
    }
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
}

#[test]
fn a_second_signal_saves_what_was_counted() {
    const MESSAGES: u64 = 57;
    for shards in [1, 2] {
        let mut server = Setup::new(shards).set("shutdown.drain_ms", 60_000).start();
        let mut client: Client = server.anonymous();
        for number in 0..MESSAGES {
            client.publish("a", json!(number));
        }
        server.signal(Signal::TERM);
        assert!(client.next().contains("going_away"));
        server.signal(Signal::INT);
        assert!(server.exit_status().success());
        let server = server.into_setup().start();
        assert_eq!(server.admin().get(USAGE)["messagesUsed"], MESSAGES);
    }
}

/// Where the kernel writes no cores at all this shows nothing; where it does, it does.
#[test]
fn serve_leaves_no_core_with_its_secrets_in_it() {
    let setup = Setup::new(1);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -c unlimited; exec \"$0\" serve --config \"$1\"",
    ]);
    command
        .arg(env!("CARGO_BIN_EXE_ringmesh"))
        .arg(setup.config())
        .current_dir(setup.dir());
    let mut server = Server::start(command, setup);
    server.anonymous();
    server.signal(Signal::ABORT);
    let status = server.exit_status();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
}
