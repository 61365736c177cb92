//! Those who never leave, in pairs: each publishes on a schedule what the other hears. What they
//! wait for in a storm is what it does to others.
//!
//! They have a thread of their own, with priority over the rest of this program. A message counts
//! from the call that sends it to its arrival at the socket, as the kernel notes it, so that
//! neither end of it measures how busy this program is: that is told apart, as its own lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::setpriority_process;

use crate::abuse::heard::{Event, Kind};
use crate::abuse::place::Place;
use crate::abuse::storm::town::{Town, pair, stayer_id};
use crate::abuse::swarm::{Opening, Swarm};
use crate::client::target::Target;
use crate::clock::{MS, SECOND, now_ns};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::limits;

/// Between two messages of one of them, ns.
const INTERVAL_NS: u64 = SECOND;
/// How long all of them may take to be there.
const READY_MAX: Duration = Duration::from_secs(60);
/// Connects under way at once.
const CONNECTS: usize = 64;
/// How long what was sent, and the last changes of rosters, may take after the end.
const LATE_MAX_NS: u64 = 20 * SECOND;
/// Priority of the thread, as `nice` has it.
const NICE: i32 = -20;

/// One message.
#[derive(Debug, Clone, Copy)]
pub(in crate::abuse) struct Sample {
    /// When it was sent.
    pub sent_ns: u64,
    /// How much later than it was due.
    pub late_ns: u64,
    /// How long it took to arrive at the socket.
    pub took_ns: u64,
    /// How much later than that it was read.
    pub unread_ns: u64,
}

/// What became of them.
#[derive(Debug, Default)]
pub(in crate::abuse) struct Outcome {
    /// Messages that arrived.
    pub samples: Vec<Sample>,
    /// Messages that should have come and did not.
    pub lost: u64,
    /// Messages that came twice, or in another order than they were sent in.
    pub disordered: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Those who do not know exactly who is in their channels.
    pub wrong_rosters: u64,
}

/// The pairs at work.
pub(in crate::abuse) struct Stayers {
    stops: Arc<AtomicBool>,
    ready: Receiver<()>,
    thread: JoinHandle<Result<Outcome, Failure>>,
}

impl Stayers {
    /// They begin to connect.
    ///
    /// # Errors
    /// Those of [`Place::as_peer`].
    pub(in crate::abuse) fn begin(
        place: &Place,
        town: &Arc<Town>,
        interrupt: &Interrupt,
    ) -> Result<Stayers, Failure> {
        let requests = (0..town.stayers).map(|it| place.as_peer(&stayer_id(it)));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let stops = Arc::new(AtomicBool::new(false));
        let (tells, ready) = channel();
        let parts = (
            Arc::clone(&place.target),
            Arc::clone(town),
            interrupt.clone(),
            Arc::clone(&stops),
        );
        let thread = thread::spawn(move || at_work(parts, requests, &tells));
        Ok(Stayers {
            stops,
            ready,
            thread,
        })
    }

    /// Whether all of them are there, or one of them never will be.
    pub(in crate::abuse) fn are_ready(&self) -> bool {
        let ready = self.ready.recv_timeout(Duration::ZERO);
        !matches!(ready, Err(RecvTimeoutError::Timeout))
    }

    /// Ends them, and waits for what is still under way.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when they were never all there.
    pub(in crate::abuse) fn end(self) -> Result<Outcome, Failure> {
        self.stops.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| Failure::Executor("the thread of those who stay panicked".into()))?
    }
}

type Parts = (Arc<Target>, Arc<Town>, Interrupt, Arc<AtomicBool>);

fn at_work(
    (target, town, interrupt, stops): Parts,
    requests: Vec<Vec<u8>>,
    tells: &Sender<()>,
) -> Result<Outcome, Failure> {
    limits::stay_on(&limits::load_cores(None)?);
    // Of this thread only. Where that is not allowed, the lag that is told is larger.
    let _less_exact = setpriority_process(None, NICE);
    let mut swarm = Swarm::new(target, interrupt)?;
    gather(&mut swarm, requests, &town)?;
    swarm.keep_news(true);
    // Whoever waits for that has given up if it cannot be told.
    let _unheard = tells.send(());
    let streams = (0..town.stayers).map(|_| Stream::default()).collect();
    Work {
        swarm,
        town,
        streams,
        outcome: Outcome::default(),
    }
    .run(&stops)
}

/// All of them connect and subscribe.
fn gather(swarm: &mut Swarm, requests: Vec<Vec<u8>>, town: &Town) -> Result<(), Failure> {
    let all = requests.len();
    let mut requests = requests.into_iter();
    while swarm.peers().len() < all {
        let first = swarm.peers().len();
        for request in requests.by_ref().take(CONNECTS) {
            swarm.open(Opening::new(request).logging_messages().keeping_rosters())?;
        }
        let peers = first..swarm.peers().len();
        let count = peers.len() as u64;
        let came = swarm.until(READY_MAX, |swarm| {
            swarm.frames(peers.clone(), Kind::Welcome) == count
        })?;
        for stayer in peers.clone() {
            swarm.send(stayer, &town.subscribes_of_stayer(stayer));
        }
        let joined = came
            && swarm.until(READY_MAX, |swarm| {
                swarm.frames(peers.clone(), Kind::Ack) == 2 * count
            })?;
        if !joined {
            let what = "those who stay were not served before the storm".to_owned();
            return Err(Failure::Timeout(what));
        }
    }
    Ok(())
}

/// What one of them sends to the other of its pair.
#[derive(Debug, Default)]
struct Stream {
    /// When each message was sent, and how much too late.
    sent: Vec<(u64, u64)>,
    /// The number of the next that should be heard.
    next: u64,
}

struct Work {
    swarm: Swarm,
    town: Arc<Town>,
    /// By who sends.
    streams: Vec<Stream>,
    outcome: Outcome,
}

impl Work {
    fn run(mut self, stops: &AtomicBool) -> Result<Outcome, Failure> {
        let count = self.streams.len().max(1) as u64;
        let gap_ns = INTERVAL_NS / count;
        let first_ns = now_ns() + gap_ns;
        let mut sent = 0;
        while !stops.load(Ordering::Relaxed) {
            let mut due_ns = first_ns + sent * gap_ns;
            while due_ns <= now_ns() {
                self.publish((sent % count) as usize, due_ns);
                sent += 1;
                due_ns = first_ns + sent * gap_ns;
            }
            self.turn(due_ns.saturating_sub(now_ns()))?;
        }
        let end_ns = now_ns() + LATE_MAX_NS;
        while !self.is_complete() && now_ns() < end_ns {
            self.turn(20 * MS)?;
        }
        Ok(self.judge())
    }

    /// One of them publishes its next number.
    fn publish(&mut self, stayer: usize, due_ns: u64) {
        let Some(stream) = self.streams.get_mut(stayer) else {
            return;
        };
        let (channel, data) = (pair(stayer / 2), stream.sent.len());
        let text = format!(r#"{{"type":"publish","channel":"{channel}","data":{data}}}"#);
        self.swarm.send_text(stayer, &text);
        let sent_ns = now_ns();
        self.swarm.write_now(stayer);
        let late_ns = sent_ns.saturating_sub(due_ns);
        stream.sent.push((sent_ns, late_ns));
    }

    fn turn(&mut self, wait_ns: u64) -> Result<(), Failure> {
        self.swarm.turn(Duration::from_nanos(wait_ns))?;
        for stayer in self.swarm.take_news() {
            for event in self.swarm.take_log(stayer) {
                let number = event.data_number();
                if let (Some(number), Some(stream)) = (number, self.streams.get_mut(stayer ^ 1)) {
                    stream.heard(number, &event, &mut self.outcome);
                }
            }
        }
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.missing() == 0 && self.wrong_rosters() == 0
    }

    /// Messages that are still to come.
    fn missing(&self) -> u64 {
        let streams = self.streams.iter();
        streams
            .map(|it| (it.sent.len() as u64).saturating_sub(it.next))
            .sum()
    }

    fn wrong_rosters(&self) -> u64 {
        let peers = self.swarm.peers().iter().enumerate();
        let wrong = peers.filter(|(stayer, peer)| {
            let rosters = peer.heard.rosters.as_ref();
            !rosters.is_some_and(|it| self.town.is_known_to_stayer(*stayer, it))
        });
        wrong.count() as u64
    }

    fn judge(mut self) -> Outcome {
        self.outcome.lost += self.missing();
        self.outcome.wrong_rosters = self.wrong_rosters();
        let peers = self.swarm.peers().iter();
        self.outcome.ended = peers.filter(|it| !it.is_open()).count() as u64;
        self.outcome
    }
}

impl Stream {
    /// The message with that number has come.
    fn heard(&mut self, number: u64, event: &Event, outcome: &mut Outcome) {
        match number.checked_sub(self.next) {
            Some(missing) => outcome.lost += missing,
            None => outcome.disordered += 1,
        }
        self.next = self.next.max(number + 1);
        if let Some((sent_ns, late_ns)) = self.sent.get(number as usize) {
            outcome.samples.push(Sample {
                sent_ns: *sent_ns,
                late_ns: *late_ns,
                took_ns: event.at_ns.saturating_sub(*sent_ns),
                unread_ns: event.read_ns.saturating_sub(event.at_ns),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_counted() {
        let event = |number: u64| Event {
            at_ns: 30,
            read_ns: 40,
            kind: Kind::Message,
            head: format!(r#"{{"type":"message","data":{number}}}"#),
        };
        for (numbers, lost, disordered) in [
            (&[0, 1, 2, 3][..], 0, 0),
            (&[0, 1, 3], 1, 0),
            (&[0, 1, 1, 2, 3], 0, 1),
            (&[0, 2, 1, 3], 1, 1),
        ] {
            let mut stream = Stream::default();
            let mut outcome = Outcome::default();
            stream.sent = vec![(10, 5); 4];
            for number in numbers {
                stream.heard(*number, &event(*number), &mut outcome);
            }
            assert_eq!((outcome.lost, outcome.disordered), (lost, disordered));
            assert_eq!(outcome.samples.len(), numbers.len());
            let first = outcome.samples[0];
            assert_eq!((first.late_ns, first.took_ns, first.unread_ns), (5, 20, 10));
        }
    }
}
