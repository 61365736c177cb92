//! What systemd, or whoever stands at the other end of `NOTIFY_SOCKET`, is told of the server.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::server::{Server, ringmesh};
use crate::support::setup::Setup;

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// Waits for a message that holds this text, and returns those before it and itself.
    #[track_caller]
    fn hear(&self, text: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let mut bytes = [0; 4_096];
        loop {
            let len = self.0.recv(&mut bytes);
            let len = len.unwrap_or_else(|error| panic!("no {text} ({error}): {heard:?}"));
            heard.push(String::from_utf8(bytes[..len].to_vec()).unwrap());
            if heard.last().unwrap().contains(text) {
                return heard;
            }
        }
    }
}

/// A server that a service manager has started, with a watchdog of this time.
fn started_by_a_manager(watchdog_us: &str) -> (Server, Manager) {
    let setup = Setup::new(2);
    let path = setup.dir().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = ringmesh();
    command.arg("serve").arg("--config").arg(setup.config());
    command.env("NOTIFY_SOCKET", path);
    command.env("WATCHDOG_USEC", watchdog_us);
    (Server::start(command, setup), manager)
}

#[test]
fn the_service_manager_is_told_of_every_state() {
    let (mut server, manager) = started_by_a_manager("300000");
    assert_eq!(manager.hear("READY=1"), ["READY=1\n"]);
    manager.hear("WATCHDOG=1\nSTATUS=connections: 0");
    let client = server.anonymous();
    manager.hear("WATCHDOG=1\nSTATUS=connections: 1; messages/s: ");

    server.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1\n");
    assert!(reloading.last().unwrap().contains("\nMONOTONIC_USEC="));
    manager.hear("READY=1");
    drop(client);
    server.signal(Signal::TERM);
    manager.hear("STOPPING=1");
    assert!(server.exit_status().success());
}

#[test]
fn a_manager_that_is_gone_ends_nothing() {
    let (mut server, manager) = started_by_a_manager("30000");
    manager.hear("READY=1");
    std::fs::remove_file(server.dir().join("notify")).unwrap();
    drop(manager);
    server.log.find("a warning", |line| {
        line.contains("the service manager could not be told")
            .then_some(())
    });
    server.anonymous();
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
}
