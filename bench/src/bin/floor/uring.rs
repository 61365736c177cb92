//! Sends to many sockets, submitted in batches through io_uring.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

/// Sends in one call of the kernel.
const BATCH: u32 = 256;

/// See the top of this file.
pub(crate) struct BatchedSends {
    ring: IoUring,
}

impl BatchedSends {
    /// Sets the ring up on the calling thread, which alone may use it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(BATCH)?;
        Ok(Self { ring })
    }

    /// Sends all of the bytes to their sockets, or fails: a full socket is an error here.
    pub(crate) fn send_all<'a>(
        &mut self,
        sends: impl Iterator<Item = (&'a TcpStream, &'a [u8])>,
    ) -> io::Result<()> {
        let mut queued = 0;
        for (socket, bytes) in sends {
            let entry = opcode::Send::new(
                types::Fd(socket.as_raw_fd()),
                bytes.as_ptr(),
                bytes.len() as u32,
            )
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
            // SAFETY: the bytes and the socket are borrowed until this function returns, `submit`
            // is called before, and with MSG_DONTWAIT every send is over by then.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                return Err(io::Error::other("the submission queue is full"));
            }
            queued += 1;
            if queued == BATCH {
                self.submit()?;
                queued = 0;
            }
        }
        match queued {
            0 => Ok(()),
            _ => self.submit(),
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        self.ring.submit()?;
        // Only failures complete.
        match self.ring.completion().next() {
            None => Ok(()),
            Some(failed) => Err(io::Error::from_raw_os_error(-failed.result())),
        }
    }
}
