//! The channel between two processes of the server: frames in a pair of sockets that keep their
//! boundaries and their order, with descriptors beside them.
//!
//! Nothing here waits without an end, and the other side is not believed: a frame that is none, is
//! too long or has lost descriptors on its way is an error. A frame that was sent before the other
//! side ended is received; only then the end is.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use minicbor::{Decode, Encode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// What a frame begins with: "RM".
const MAGIC: u16 = 0x524D;
/// Magic, kind, and length of the body.
const HEAD_BYTES: usize = 8;
/// The longest body: with its head far below what a socket takes at once by default.
const BODY_BYTES_MAX: usize = 60 * 1_024;
/// Descriptors in one frame; the kernel allows 253.
pub(super) const DESCRIPTORS_MAX: usize = 250;
/// Between two looks whether to go on waiting.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One end of the channel.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// How long to wait, and what ends the wait before that.
#[derive(Clone, Copy)]
pub(super) struct Patience<'p> {
    pub deadline: Instant,
    /// Why nobody waits any more.
    pub is_over: &'p dyn Fn() -> Option<&'static str>,
}

/// A frame that has come.
#[derive(Debug)]
pub(super) struct Frame {
    pub kind: u16,
    body: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// Why nothing was sent or received.
#[derive(Debug)]
pub(super) enum ChannelError {
    /// The other side has ended, or has closed its end.
    Ended,
    /// Nothing came, or went, in time.
    Late,
    /// The wait was ended: why.
    Over(&'static str),
    /// What came is no frame, or not whole.
    Garbled(&'static str),
    /// Descriptors did not arrive: this process may not have more.
    NoDescriptors,
    /// The system.
    System(io::Error),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the other process has ended"),
            Self::Late => f.write_str("the other process did not answer in time"),
            Self::Over(why) => f.write_str(why),
            Self::Garbled(what) => write!(f, "the other process sent {what}"),
            Self::NoDescriptors => {
                f.write_str("not all descriptors arrived: the limit on open files is too low")
            }
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<Errno> for ChannelError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET => Self::Ended,
            Errno::TOOMANYREFS => Self::NoDescriptors,
            error => Self::System(error.into()),
        }
    }
}

impl Frame {
    /// What it says.
    ///
    /// # Errors
    /// `Garbled`.
    pub(super) fn read<'b, T: Decode<'b, ()>>(&'b self) -> Result<T, ChannelError> {
        let garbled = |_| ChannelError::Garbled("a message that cannot be read");
        minicbor::decode(&self.body).map_err(garbled)
    }
}

impl Channel {
    /// A pair: both ends are closed in programs that are started.
    ///
    /// # Errors
    /// Those of `socketpair(2)`.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that this process was given.
    pub(super) fn of(end: OwnedFd) -> Self {
        Self(end)
    }

    /// Sends a frame, with descriptors beside it.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub(super) fn send(
        &self,
        kind: u16,
        message: &impl Encode<()>,
        descriptors: &[BorrowedFd<'_>],
        patience: Patience<'_>,
    ) -> Result<(), ChannelError> {
        let mut bytes = head(kind, 0).to_vec();
        let unmade = |_| ChannelError::System(io::Error::other("a message cannot be written"));
        minicbor::encode(message, &mut bytes).map_err(unmade)?;
        let length = bytes.len() - HEAD_BYTES;
        if length > BODY_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ChannelError::System(io::ErrorKind::InvalidInput.into()));
        }
        bytes[..HEAD_BYTES].copy_from_slice(&head(kind, length as u32));
        self.send_bytes(&bytes, descriptors, patience)
    }

    /// Sends bytes that are a frame, or none.
    pub(super) fn send_bytes(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        patience: Patience<'_>,
    ) -> Result<(), ChannelError> {
        loop {
            let mut space =
                vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                beside.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut beside, flags) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, patience)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives the next frame.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub(super) fn receive(&self, patience: Patience<'_>) -> Result<Frame, ChannelError> {
        loop {
            match self.take() {
                Err(ChannelError::System(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, patience)?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Takes a frame that has come.
    ///
    /// # Errors
    /// See [`ChannelError`]; `System` with `WouldBlock` if there is none.
    pub(super) fn take(&self) -> Result<Frame, ChannelError> {
        let mut bytes = vec![0; HEAD_BYTES + BODY_BYTES_MAX];
        let mut space =
            vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut into, &mut beside, flags) {
                // The other side has ended and had not read all: what it had sent before is there.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                outcome => break outcome?,
            }
        };
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        if received.bytes == 0 {
            return Err(ChannelError::Ended);
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ChannelError::NoDescriptors);
        }
        bytes.truncate(received.bytes);
        let kind = kind_of(&bytes).ok_or(ChannelError::Garbled("what is no message"))?;
        bytes.drain(..HEAD_BYTES);
        Ok(Frame {
            kind,
            body: bytes,
            descriptors,
        })
    }

    /// Waits for room, or for a frame.
    fn wait(&self, for_what: PollFlags, patience: Patience<'_>) -> Result<(), ChannelError> {
        loop {
            if let Some(why) = (patience.is_over)() {
                return Err(ChannelError::Over(why));
            }
            let left = patience.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ChannelError::Late);
            }
            let pause = Timespec::try_from(left.min(LOOK_EVERY)).map_err(|_| ChannelError::Late)?;
            let mut watched = [PollFd::new(&self.0, for_what)];
            match poll(&mut watched, Some(&pause)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn head(kind: u16, length: u32) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..2].copy_from_slice(&MAGIC.to_be_bytes());
    head[2..4].copy_from_slice(&kind.to_be_bytes());
    head[4..].copy_from_slice(&length.to_be_bytes());
    head
}

/// The kind of a frame; `None`: the bytes are none.
fn kind_of(bytes: &[u8]) -> Option<u16> {
    let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let [m0, m1, k0, k1, length @ ..] = *head;
    let is_frame =
        u16::from_be_bytes([m0, m1]) == MAGIC && u32::from_be_bytes(length) as usize == body.len();
    is_frame.then_some(u16::from_be_bytes([k0, k1]))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use super::*;

    const NEVER: &dyn Fn() -> Option<&'static str> = &|| None;

    fn patience() -> Patience<'static> {
        Patience {
            deadline: Instant::now() + Duration::from_secs(60),
            is_over: NEVER,
        }
    }

    fn pair() -> (Channel, Channel) {
        let (near, far) = Channel::pair().unwrap();
        (near, Channel::of(far))
    }

    #[test]
    fn frames_come_in_order_with_their_descriptors_and_then_the_end() {
        let (near, far) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"state").unwrap();
        near.send(4, &(1_u32, "a"), &[file.as_fd()], patience())
            .unwrap();
        near.send(5, &7_u8, &[], patience()).unwrap();
        drop((near, file));
        let frame = far.receive(patience()).unwrap();
        assert_eq!((frame.kind, frame.read().unwrap()), (4, (1_u32, "a")));
        let mut file = File::from(frame.descriptors.into_iter().next().unwrap());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "state");
        let frame = far.receive(patience()).unwrap();
        assert_eq!((frame.kind, frame.read().unwrap()), (5, 7_u8));
        let end = far.receive(patience()).unwrap_err();
        assert!(matches!(end, ChannelError::Ended), "{end}");
        let sent = far.send(6, &0_u8, &[], patience()).unwrap_err();
        assert!(matches!(sent, ChannelError::Ended), "{sent}");
    }

    #[test]
    fn what_was_sent_before_an_end_is_there_whatever_was_not_read() {
        let (near, far) = pair();
        near.send(8, &1_u8, &[], patience()).unwrap();
        far.send(9, &1_u8, &[], patience()).unwrap();
        drop(far);
        assert_eq!(near.receive(patience()).unwrap().kind, 9);
        assert!(matches!(near.receive(patience()), Err(ChannelError::Ended)));
    }

    #[test]
    fn a_frame_has_as_many_descriptors_as_there_may_be_and_no_more() {
        let (near, far) = pair();
        let file = tempfile::tempfile().unwrap();
        let many = vec![file.as_fd(); DESCRIPTORS_MAX];
        near.send(1, &(), &many, patience()).unwrap();
        assert_eq!(
            far.receive(patience()).unwrap().descriptors.len(),
            DESCRIPTORS_MAX
        );
        let more = vec![file.as_fd(); DESCRIPTORS_MAX + 1];
        assert!(near.send(1, &(), &more, patience()).is_err());
        let long = "x".repeat(BODY_BYTES_MAX);
        assert!(near.send(1, &long, &[], patience()).is_err());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let (near, far) = pair();
        for bytes in [&b"R"[..], b"HTTP/1.1 200 OK", &head(1, 5), &[0; 8]] {
            near.send_bytes(bytes, &[], patience()).unwrap();
            let refused = far.receive(patience()).unwrap_err();
            assert!(matches!(refused, ChannelError::Garbled(_)), "{refused}");
        }
        near.send(1, &"a text", &[], patience()).unwrap();
        assert!(far.receive(patience()).unwrap().read::<u32>().is_err());
    }

    #[test]
    fn a_wait_ends_with_its_time_or_before_it() {
        let (near, far) = pair();
        let late = Patience {
            deadline: Instant::now(),
            is_over: NEVER,
        };
        assert!(matches!(far.receive(late), Err(ChannelError::Late)));
        let over = Patience {
            is_over: &|| Some("SIGTERM"),
            ..patience()
        };
        assert!(matches!(
            far.receive(over),
            Err(ChannelError::Over("SIGTERM"))
        ));
        // Nobody reads: the socket is full before long, and nobody waits for it.
        let full = (0..10_000).find_map(|_| near.send(1, &[0_u8; 4_096], &[], late).err());
        assert!(matches!(full, Some(ChannelError::Late)));
    }
}
