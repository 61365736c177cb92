//! Listeners that the service manager has opened: sd_listen_fds(3), with this test in its place.

use std::io;
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::{dup2, fcntl_dupfd_cloexec};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::raw::{Raw, handshake};
use crate::support::server::Server;
use crate::support::setup::Setup;

/// The first descriptor of those that are handed over.
const FIRST: i32 = 3;
/// Descriptors from here on are in nobody's way.
const ASIDE: i32 = 200;

/// Sockets that listen on one address, as a unit with so many lines has them.
fn opened(count: usize) -> (Vec<Socket>, SocketAddr) {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let open = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        address = socket.local_addr().unwrap().as_socket().unwrap();
        socket
    };
    let sockets: Vec<_> = (0..count).map(open).collect();
    (sockets, address)
}

/// The server as the service manager starts it, with these descriptors. `pid` is whom they are
/// for, in words of the shell.
fn handed(setup: &Setup, descriptors: &[impl AsFd], pid: &str) -> Command {
    // A process learns its own number only when it runs.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("LISTEN_PID={pid} exec \"$0\" serve --config \"$1\""),
        ])
        .arg(env!("CARGO_BIN_EXE_ringmesh"))
        .arg(setup.config())
        .env("LISTEN_FDS", descriptors.len().to_string());
    let aside = descriptors
        .iter()
        .map(|it| fcntl_dupfd_cloexec(it, ASIDE).unwrap());
    let aside: Vec<OwnedFd> = aside.collect();
    let place = move || -> io::Result<()> {
        for (number, descriptor) in (FIRST..).zip(&aside) {
            // SAFETY: whoever had that number in this process has lost it then, and the new one
            // is kept open, not dropped.
            let mut place = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            dup2(descriptor, &mut place)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec there are only calls of the kernel.
    unsafe { command.pre_exec(place) };
    command
}

fn at(address: SocketAddr, shards: u16) -> Setup {
    Setup::new(shards).set("server.listen", format!("[\"{address}\"]"))
}

#[test]
fn shards_share_sockets_and_leave_none_alone() {
    for (sockets, shards) in [(1, 2), (2, 2), (3, 2), (2, 3)] {
        let (descriptors, address) = opened(sockets);
        let setup = at(address, shards);
        let command = handed(&setup, &descriptors, "$$");
        let server = Server::start(command, setup);
        assert_eq!(server.public, address);
        // The kernel gives each socket some of them; whoever got one that nobody looks at
        // would wait in vain.
        let clients = (0..40).map(|_| server.anonymous());
        assert_eq!(clients.collect::<Vec<_>>().len(), 40);
    }
}

#[test]
fn who_connects_between_two_servers_waits_and_is_served() {
    let (descriptors, address) = opened(1);
    let setup = at(address, 2);
    let command = handed(&setup, &descriptors, "$$");
    let mut server = Server::start(command, setup);
    let before = server.anonymous();
    server.signal(Signal::TERM);
    assert!(server.exit_status().success());
    drop(before);

    let mut waiting = Raw::open(address);
    waiting.write(handshake("/v1?key=pk_live_a", ""));
    let setup = server.into_setup();
    let command = handed(&setup, &descriptors, "$$");
    let server = Server::start(command, setup);
    assert_eq!(waiting.response().status, 101);
    server.anonymous();
}

#[test]
fn addresses_that_are_not_handed_over_are_opened() {
    let (descriptors, address) = opened(1);
    let setup = Setup::new(2).set("server.listen", format!("[\"127.0.0.1:0\", \"{address}\"]"));
    let command = handed(&setup, &descriptors, "$$");
    let server = Server::start(command, setup);
    assert_ne!(server.public, address);
    server.anonymous();
    let mut other = Raw::open(address);
    other.write(handshake("/v1?key=pk_live_a", ""));
    assert_eq!(other.response().status, 101);
}

#[test]
fn what_is_meant_for_another_process_is_left_alone() {
    let (descriptors, _) = opened(1);
    let setup = Setup::new(1);
    let command = handed(&setup, &descriptors, "1");
    Server::start(command, setup).anonymous();
}

#[test]
fn what_cannot_be_taken_over_is_told_in_one_line() {
    let (sockets, address) = opened(1);
    let unlisted = format!("listens on {address} for this server, and neither server.listen nor");
    let setup = Setup::new(1);
    refuses(
        handed(&setup, &sockets, "$$"),
        &[&unlisted, "ListenStream="],
    );
    let for_admin = Setup::new(1).set("admin.listen", format!("\"{address}\""));
    refuses(
        handed(&for_admin, &sockets, "$$"),
        &["which is admin.listen", "take that ListenStream= out"],
    );
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    refuses(
        handed(&setup, &[udp], "$$"),
        &["descriptor 3 ", "no TCP socket that listens"],
    );
    let mut unreadable = handed(&setup, &sockets, "$$");
    unreadable.env("LISTEN_FDS", "many");
    refuses(unreadable, &["invalid LISTEN_FDS", "unset LISTEN_FDS"]);
    // What was refused is left as it was.
    drop(TcpListener::bind(address).unwrap_err());
}

#[track_caller]
fn refuses(mut command: Command, parts: &[&str]) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let mut lines = errors.lines().filter(|line| line.starts_with("ringmesh: "));
    let line = lines.next().unwrap_or_else(|| panic!("{errors}"));
    assert_eq!(lines.next(), None, "{errors}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}
