//! The new process: it follows, and touches no socket before it has said `Taken`.
//!
//! What fails before that is told to the old process, which serves on. If the old one dies when
//! everything has been handed over, the new one is alone with it, and serves.

use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;
use rustix::process::{Pid, getppid};

use super::channel::{Channel, ChannelError, Frame, Patience};
use super::fault::{Fault, Side, strike};
use super::lineage::Lineage;
use super::memory_file::read_sealed;
use super::messages::{
    Abort, Counts, Failed, Got, Hello, Listeners, Nothing, SocketRecord, Sockets, State, Welcome,
    kind,
};
use super::origin::VARIABLE;
use super::places::{Inherited, places};
use super::stage::Stage;
use crate::control::ControlHandle;
use crate::ids::ConnectionRef;
use crate::runtime::clock::Clock;
use crate::runtime::shard_loop::Adoption;
use crate::runtime::sockets::Adopted;
use crate::runtime::transport::Transports;
use crate::shard::handover::{FORMAT, Handed};

/// How long the old process may take for each of its messages while it serves. It has a time of its
/// own, which is shorter: this ends a process that was forgotten.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(600);
/// The same while nobody is served: so many times the longest pause.
const PAUSE_TIMES: u32 = 4;
/// How long a process that has closed its end of the channel takes to be gone.
const GONE_TIME_MAX: Duration = Duration::from_secs(2);
const GONE_PAUSE: Duration = Duration::from_millis(2);
/// A copy of the store, and what apps have used: more than anybody has.
const STORE_BYTES_MAX: u64 = 1 << 32;

/// The descriptor is taken once: then it is somebody's.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A process that was started to take over.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Arc<Channel>,
    predecessor: Option<Pid>,
}

/// What it begins with.
#[derive(Debug)]
pub(super) struct Welcomed {
    pub clock: Clock,
    pub lineage: Lineage,
    pub listeners: Vec<Inherited>,
    pub admin: Option<TcpListener>,
    pub store_copy: Vec<u8>,
    shards_before: u16,
    pause_max: Duration,
    state_bytes_max: u64,
}

/// What a shard has handed over.
struct FromShard {
    state: Vec<u8>,
    before: Vec<SocketRecord>,
    sockets: Vec<OwnedFd>,
}

/// What has come of the state.
struct Received {
    shards: Vec<FromShard>,
    frozen_ms: u64,
    usage: Vec<u8>,
}

/// What new shards wait for.
pub(super) type Adoptions = [flume::Sender<Adoption>];

impl Successor {
    /// The end of the channel that this process was started with; `None`: it was started by
    /// somebody else.
    ///
    /// # Errors
    /// The variable is there, and what it names is not.
    pub(crate) fn of_process() -> Result<Option<Self>, String> {
        let Some(number) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let number = number.to_str().and_then(|it| it.parse::<RawFd>().ok());
        let wrong = || {
            format!("{VARIABLE} is set, and not by a server that hands over to this one: unset it")
        };
        let number = number.filter(|it| *it > 2).ok_or_else(wrong)?;
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(None);
        }
        // SAFETY: looked at only. If there is no such descriptor, that fails.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl_setfd(borrowed, FdFlags::CLOEXEC).map_err(|_| wrong())?;
        if socket_type(borrowed) != Ok(SocketType::SEQPACKET) {
            return Err(wrong());
        }
        // SAFETY: the process before has opened it for this one, it is open as was seen, and
        // nobody else takes it, as `TAKEN` shows.
        let end = unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Some(Self {
            channel: Arc::new(Channel::of(end)),
            predecessor: getppid(),
        }))
    }

    /// Tells the old process that this one gives up, and why.
    pub(crate) fn failed(&self, cause: &str) {
        let failed = Failed {
            cause: cause.to_owned(),
        };
        // If it does not hear, it sees that this process has ended.
        let _ = self
            .channel
            .send(kind::FAILED, &failed, &[], within(Duration::from_secs(1)));
    }

    fn enter(&self, stage: Stage) {
        if let Some(Fault::Garble) = strike(Side::New, stage) {
            let _ = self
                .channel
                .send_bytes(b"garbled", &[], within(Duration::from_secs(1)));
        }
    }

    /// The next message, which must be of that kind.
    fn hear(&self, kind: u16, time_max: Duration) -> Result<Frame, String> {
        let frame = self.channel.receive(within(time_max));
        expected(frame.map_err(|error| error.to_string())?, kind)
    }

    fn say(&self, kind: u16, message: &impl minicbor::Encode<()>) -> Result<(), String> {
        let sent = self
            .channel
            .send(kind, message, &[], within(PREPARE_TIME_MAX));
        sent.map_err(|error| error.to_string())
    }

    /// A3, A4: says hello, and gets what this process begins with.
    ///
    /// # Errors
    /// The old process has given up, or ended.
    pub(super) fn greet(&self, shard_count: u16) -> Result<Welcomed, String> {
        self.enter(Stage::Hello);
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reads: (FORMAT, FORMAT),
            shard_count,
            features_known: 0,
        };
        self.say(kind::HELLO, &hello)?;
        let frame = self.hear(kind::WELCOME, PREPARE_TIME_MAX)?;
        self.enter(Stage::Welcome);
        let welcome: Welcome = frame.read().map_err(|error| error.to_string())?;
        if welcome.format != FORMAT || welcome.features_used != 0 {
            return Err("the state has a format that this version does not know".to_owned());
        }
        let mut beside = frame.descriptors.into_iter();
        let copy = beside.next().ok_or("there is no copy of the store")?;
        let unreadable = |error: std::io::Error| format!("the copy of the store: {error}");
        let admin = beside.next().filter(|_| welcome.has_admin);
        let mut listeners = Vec::new();
        while listeners.len() < welcome.listeners as usize {
            let frame = self.hear(kind::LISTENERS, PREPARE_TIME_MAX)?;
            let message: Listeners = frame.read().map_err(|error| error.to_string())?;
            if message.configured.len() != frame.descriptors.len() || frame.descriptors.is_empty() {
                return Err("listeners are missing".to_owned());
            }
            for (fd, configured) in frame.descriptors.into_iter().zip(&message.configured) {
                listeners.push(Inherited::new(fd, configured)?);
            }
        }
        Ok(Welcomed {
            clock: Clock::since(welcome.clock_origin_ns),
            lineage: Lineage {
                generation: welcome.generation,
                done: AtomicU64::new(welcome.done),
                failed: AtomicU64::new(welcome.failed),
                pause_ms: AtomicU64::new(0),
            },
            listeners,
            admin: admin.map(TcpListener::from),
            store_copy: read_sealed(copy, STORE_BYTES_MAX).map_err(unreadable)?,
            shards_before: welcome.shard_count,
            pause_max: Duration::from_millis(welcome.pause_max_ms),
            state_bytes_max: welcome.state_bytes_max,
        })
    }

    /// A5 to B6: says that this process is ready, goes on with what it gets, and takes over. The
    /// shards serve when this returns.
    ///
    /// # Errors
    /// The old process serves on.
    pub(super) fn take_over(
        &self,
        welcomed: &Welcomed,
        adoptions: &Adoptions,
        control: &ControlHandle,
        lineage: &Lineage,
    ) -> Result<(), String> {
        self.enter(Stage::Ready);
        self.say(kind::READY, &Nothing {})?;
        let received = self.receive(welcomed)?;
        self.enter(Stage::Import);
        let pause = welcomed.pause_max * PAUSE_TIMES;
        let deadline = Instant::now() + pause;
        control
            .adopt_usage(received.usage, deadline)
            .map_err(|error| error.to_string())?;
        let (begin, counts) = import(received.shards, welcomed.shards_before, adoptions, deadline)?;
        self.say(kind::IMPORTED, &counts)?;
        self.enter(Stage::Commit);
        self.wait_for_commit(pause)?;
        // From here on all of it is this process's, whether or not the old one hears so.
        let taken = self
            .channel
            .send(kind::TAKEN, &Nothing {}, &[], within(pause));
        if let Err(error) = taken {
            tracing::warn!("upgrade: the process before was not told: {error}");
        }
        for begin in begin {
            // A shard that is gone has ended the process.
            let _ = begin.send(received.frozen_ms);
        }
        let pause_ms = welcomed
            .clock
            .now()
            .mono_ms
            .saturating_sub(received.frozen_ms);
        lineage.pause_ms.store(pause_ms, Ordering::Relaxed);
        lineage.done.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            pause_ms,
            connections = counts.connections,
            "upgrade: taken over"
        );
        Ok(())
    }

    /// B4: the state of all shards, what apps have used, and the sockets.
    fn receive(&self, welcomed: &Welcomed) -> Result<Received, String> {
        let (mut shards, mut frozen_ms, mut of) = (Vec::new(), 0, 1);
        let mut left = welcomed.state_bytes_max;
        while shards.len() < of {
            let time_max = match shards.is_empty() {
                true => PREPARE_TIME_MAX,
                false => welcomed.pause_max * PAUSE_TIMES,
            };
            let frame = self.hear(kind::STATE, time_max)?;
            let message: State = frame.read().map_err(|error| error.to_string())?;
            let shard = from_shard(&message, frame.descriptors, left)?;
            if usize::from(message.shard) != shards.len() {
                return Err("the state of a shard is missing".to_owned());
            }
            left = left.saturating_sub(shard.state.len() as u64);
            (frozen_ms, of) = (message.frozen_ms, usize::from(message.of));
            shards.push(shard);
        }
        self.enter(Stage::Send);
        let time_max = welcomed.pause_max * PAUSE_TIMES;
        let frame = self.hear(kind::USAGE, time_max)?;
        let usage = frame.descriptors.into_iter().next();
        let usage = usage.ok_or("what apps have used is missing")?;
        let usage = read_sealed(usage, STORE_BYTES_MAX).map_err(|error| error.to_string())?;
        self.receive_sockets(&mut shards, time_max)?;
        Ok(Received {
            shards,
            frozen_ms,
            usage,
        })
    }

    fn receive_sockets(&self, shards: &mut [FromShard], time_max: Duration) -> Result<(), String> {
        let mut got = 0;
        for (number, shard) in (0..).zip(shards) {
            while shard.sockets.len() < shard.before.len() {
                let frame = self.hear(kind::SOCKETS, time_max)?;
                let message: Sockets = frame.read().map_err(|error| error.to_string())?;
                let count = frame.descriptors.len();
                let follows = message.shard == number
                    && message.first as usize == shard.sockets.len()
                    && message.count as usize == count;
                let all_are_streams = frame
                    .descriptors
                    .iter()
                    .all(|fd| socket_type(fd) == Ok(SocketType::STREAM));
                if !follows || !all_are_streams || count == 0 {
                    return Err("sockets are missing, or are none".to_owned());
                }
                shard.sockets.extend(frame.descriptors);
                got += count as u64;
                self.say(kind::GOT, &Got { sockets: got })?;
            }
            if shard.sockets.len() > shard.before.len() {
                return Err("there are more sockets than connections".to_owned());
            }
        }
        Ok(())
    }

    /// B6: waits for the word to take over. If the old process is gone without another word, that
    /// is one.
    fn wait_for_commit(&self, time_max: Duration) -> Result<(), String> {
        match self.channel.receive(within(time_max)) {
            Ok(frame) => expected(frame, kind::COMMIT).map(drop),
            Err(ChannelError::Ended) if self.is_alone() => {
                tracing::warn!("upgrade: the process before has died: this one takes over alone");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether the old process is gone, which takes a moment.
    fn is_alone(&self) -> bool {
        let deadline = Instant::now() + GONE_TIME_MAX;
        while getppid() == self.predecessor && Instant::now() < deadline {
            thread::sleep(GONE_PAUSE);
        }
        getppid() != self.predecessor
    }

    /// Waits until the store is this process's, and says so; then until the old process has told
    /// the service manager whom it is to watch.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn settle(
        &self,
        store: flume::Sender<()>,
        settled: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let channel = Arc::clone(&self.channel);
        let wait = move || {
            let mut store = Some(store);
            loop {
                let heard = channel.receive(within(PREPARE_TIME_MAX));
                let is_over = matches!(heard, Err(ChannelError::Ended));
                let is_released = matches!(&heard, Ok(it) if it.kind == kind::STORE_RELEASED);
                if (is_over || is_released)
                    && let Some(store) = store.take()
                {
                    // The store's thread waits for it.
                    let _ = store.send(());
                }
                if is_over {
                    return settled();
                }
            }
        };
        let thread = thread::Builder::new().name("handover".into()).spawn(wait);
        thread.map(drop)
    }
}

fn within(time_max: Duration) -> Patience<'static> {
    Patience {
        deadline: Instant::now() + time_max,
        is_over: &|| None,
    }
}

/// A message of that kind; the old process may have given up instead.
fn expected(frame: Frame, kind: u16) -> Result<Frame, String> {
    match frame.kind {
        it if it == kind => Ok(frame),
        kind::ABORT => {
            let abort: Result<Abort, _> = frame.read();
            let cause = abort.map(|it| it.cause).unwrap_or_default();
            Err(format!("the process before has given up: {cause}"))
        }
        other => Err(format!("message {other} came in place of {kind}")),
    }
}

/// What a shard has handed over, without its sockets.
fn from_shard(message: &State, beside: Vec<OwnedFd>, bytes_max: u64) -> Result<FromShard, String> {
    let files: [OwnedFd; 2] = beside
        .try_into()
        .map_err(|_| "the state of a shard is missing")?;
    let read = |file| read_sealed(file, bytes_max).map_err(|error| error.to_string());
    let [state, before] = files.map(read);
    let before: Vec<SocketRecord> =
        minicbor::decode(&before?).map_err(|error| format!("a record: {error}"))?;
    if before.len() != message.connections as usize {
        return Err("records of sockets are missing".to_owned());
    }
    Ok(FromShard {
        state: state?,
        before,
        sockets: Vec::with_capacity(message.connections as usize),
    })
}

/// B5: hands the shards what they go on with. Returns how each is told to begin, and what they
/// have, all together.
fn import(
    shards: Vec<FromShard>,
    before: u16,
    adoptions: &Adoptions,
    deadline: Instant,
) -> Result<(Vec<flume::Sender<u64>>, Counts), String> {
    let states: Vec<_> = shards.iter().map(|it| &it.state[..]).collect();
    let handed = Handed::read(&states).map_err(|error| error.to_string())?;
    let records = handed.connections().map(|(shard, _)| shard.index());
    let sockets = shards.iter().map(|it| it.sockets.len()).enumerate();
    if !records.eq(sockets.flat_map(|(shard, count)| vec![shard; count])) {
        return Err("there is not a socket for each connection".to_owned());
    }
    let count = adoptions.len() as u16;
    let places: Arc<[ConnectionRef]> = places(&handed, before, count).into();
    let mut dealt: Vec<Vec<Adopted>> = (0..count).map(|_| Vec::new()).collect();
    let sockets = shards
        .into_iter()
        .flat_map(|it| it.sockets.into_iter().zip(it.before));
    for ((fd, record), place) in sockets.zip(&*places) {
        let shard = dealt.get_mut(place.home.shard().index());
        shard.ok_or("a connection of no shard")?.push(Adopted {
            connection: place.connection,
            fd,
            transport: Transports::adopt(record),
        });
    }
    let handed = Arc::new(handed);
    let (mut begins, mut answers) = (Vec::new(), Vec::new());
    for (adoption, sockets) in adoptions.iter().zip(dealt) {
        let (answer, heard) = flume::bounded(1);
        let (say, begin) = flume::bounded(1);
        let sent = adoption.send(Adoption {
            handed: handed.clone(),
            places: places.clone(),
            sockets,
            answer,
            begin,
        });
        sent.map_err(|_| "a shard has ended")?;
        begins.push(say);
        answers.push(heard);
    }
    let mut counts = Counts::default();
    for answer in answers {
        let answer = answer.recv_deadline(deadline);
        counts.add(answer.map_err(|_| "a shard has failed, or did not answer in time")??);
    }
    Ok((begins, counts))
}
