//! When bytes arrive at a socket, as the kernel notes it: a reader that comes late, because its
//! core had other work, then measures the server and not itself.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::clock::{SECOND, monotonic_of_real_ns};

/// Asks the kernel to note it (`SO_TIMESTAMPNS`). Returns whether it does.
pub(crate) fn ask(socket: &impl AsFd) -> bool {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true).is_ok()
}

/// Reads bytes, and says when the last of them had arrived, on the monotonic clock in nanoseconds.
///
/// # Errors
/// `WouldBlock` when nothing is there; anything else ends the connection.
pub(crate) fn receive(socket: &impl AsRawFd, into: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let arrived = received.cmsgs().find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    });
    let real_ns = arrived.map(|it| it.tv_sec() as u64 * SECOND + it.tv_nsec() as u64);
    Ok((received.bytes, real_ns.map(monotonic_of_real_ns)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::clock::now_ns;

    #[test]
    fn bytes_that_are_read_late_have_arrived_before() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).expect("it");
        let (far, _) = listener.accept().expect("it connects");
        assert!(ask(&far));
        // Between two readings of two clocks a busy machine may do other work: not every time. And
        // the kernel begins to stamp a little after it was asked for the first time.
        let is_seen = (0..50).any(|_| {
            near.write_all(b"hello").expect("there is room");
            assert_eq!(far.peek(&mut [0; 16]).expect("it arrives"), 5);
            let there_ns = now_ns();
            std::thread::sleep(Duration::from_millis(5));
            let (bytes, arrived_ns) = receive(&far, &mut [0; 16]).expect("it has arrived");
            assert_eq!(bytes, 5);
            arrived_ns.is_some_and(|at_ns| at_ns < there_ns + 1_000_000)
        });
        assert!(is_seen);
    }
}
