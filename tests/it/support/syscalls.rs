//! Faults of the kernel and the disk: calls of a server that fail, wait, or are its last.
//!
//! A filter of seccomp_unotify(2) hands chosen calls to the test before the kernel carries them
//! out. That needs no root, and the server knows nothing of it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, Signal, kill_process};

/// A call that the server is about to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The thread that makes it.
    pub thread: u32,
    /// As in `libc::SYS_fdatasync`.
    pub number: i64,
    pub arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel carries it out.
    Pass,
    /// It fails without having done anything.
    Fail(Errno),
    /// The server is killed before it.
    Kill,
    /// Its thread waits until it is [let go](Syscalls::let_go).
    Hold,
}

type Judge = Box<dyn FnMut(Call) -> Verdict + Send>;

/// The calls of one server. All others of its calls are its own business.
#[derive(Clone)]
pub(crate) struct Syscalls {
    judge: Arc<Mutex<Judge>>,
    held: Arc<Mutex<Held>>,
}

/// Calls that wait, and where they are answered.
#[derive(Default)]
struct Held {
    calls: Vec<u64>,
    listener: Option<Arc<OwnedFd>>,
}

impl Syscalls {
    /// Will be asked about these calls of the process that the command starts.
    pub(crate) fn of(command: &mut Command, numbers: &[i64]) -> Self {
        let filter = filter(numbers);
        let (ours, theirs) = UnixStream::pair().unwrap();
        // SAFETY: between fork and exec it allocates nothing and takes no lock: three calls of
        // the kernel, with what the closure owns.
        unsafe {
            command.pre_exec(move || send(&theirs, install(&filter)?.as_fd()));
        }
        let syscalls = Self {
            judge: Arc::new(Mutex::new(Box::new(|_| Verdict::Pass))),
            held: Arc::default(),
        };
        let (judge, held) = (Arc::clone(&syscalls.judge), Arc::clone(&syscalls.held));
        thread::spawn(move || {
            if let Some(listener) = receive(&ours) {
                let listener = Arc::new(listener);
                held.lock().unwrap().listener = Some(Arc::clone(&listener));
                answer(&listener, &judge, &held);
            }
        });
        syscalls
    }

    /// From now on this decides. It may block, as a disk does.
    pub(crate) fn judge(&self, judge: impl FnMut(Call) -> Verdict + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    /// The kernel carries everything out.
    pub(crate) fn pass(&self) {
        self.judge(|_| Verdict::Pass);
    }

    /// How many calls are held.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().unwrap().calls.len()
    }

    /// The kernel carries everything out, and what was held as well.
    pub(crate) fn let_go(&self) {
        self.pass();
        let mut held = self.held.lock().unwrap();
        let calls = std::mem::take(&mut held.calls);
        for id in calls {
            reply(held.listener.as_ref().unwrap(), passed(id));
        }
    }
}

fn filter(numbers: &[i64]) -> Vec<libc::sock_filter> {
    let statement = |code: u32, k: u32| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    };
    // The first field of `seccomp_data` is the number of the call.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (at, number) in numbers.iter().enumerate() {
        let to_end = (numbers.len() - at) as u8;
        program.push(libc::sock_filter {
            jt: to_end,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32)
        });
    }
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_USER_NOTIF));
    program
}

/// Installs the filter. Returns where its calls are to be heard of; it is closed on exec.
fn install(filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: the program describes a live slice, which the kernel only reads.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(listener as RawFd) })
}

fn send(over: &UnixStream, fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        over,
        &[IoSlice::new(b"x")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// `None` if the process was never started.
fn receive(over: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    recvmsg(over, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).unwrap();
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}

/// Answers until the process has ended.
fn answer(listener: &OwnedFd, judge: &Mutex<Judge>, held: &Mutex<Held>) {
    while let Some(asked) = next(listener) {
        let call = Call {
            thread: asked.pid,
            number: asked.data.nr.into(),
            arguments: asked.data.args,
        };
        let mut judge = judge.lock().unwrap();
        match judge(call) {
            Verdict::Pass => reply(listener, passed(asked.id)),
            Verdict::Fail(error) => reply(
                listener,
                libc::seccomp_notif_resp {
                    error: -error.raw_os_error(),
                    flags: 0,
                    ..passed(asked.id)
                },
            ),
            // While nobody else judges: what is let go later, is.
            Verdict::Hold => held.lock().unwrap().calls.push(asked.id),
            Verdict::Kill => {
                // The number of a thread stands for its process. It may be dead already.
                let thread = Pid::from_raw(asked.pid as i32).unwrap();
                let _ = kill_process(thread, Signal::KILL);
            }
        }
    }
}

fn passed(id: u64) -> libc::seccomp_notif_resp {
    libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    }
}

fn reply(listener: &OwnedFd, mut answer: libc::seccomp_notif_resp) {
    // SAFETY: the structure is the one that this call reads. A caller that has gone meanwhile
    // needs no answer.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    };
}

/// The next call; `None` when the process has ended.
fn next(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut waits = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one structure, as the count says.
        unsafe { libc::poll(&raw mut waits, 1, -1) };
        if waits.revents & libc::POLLIN != 0 {
            // SAFETY: of this structure of numbers all zeroes are a value, which the kernel asks
            // for, and fills.
            let (asked, outcome) = unsafe {
                let mut asked: libc::seccomp_notif = std::mem::zeroed();
                let fd = listener.as_raw_fd();
                let outcome = libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked);
                (asked, outcome)
            };
            if outcome == 0 {
                return Some(asked);
            }
        } else if waits.revents & libc::POLLHUP != 0 {
            return None;
        }
    }
}
