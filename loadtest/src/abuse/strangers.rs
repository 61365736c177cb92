//! A healthy pair of clients in a channel that nobody attacks: one publishes on a schedule, the
//! other listens, and what they wait for is what an attack makes others wait for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::abuse::heard::Kind;
use crate::abuse::loopback::is_loopback;
use crate::abuse::place::Place;
use crate::abuse::swarm::{Opening, Swarm};
use crate::client::target::Target;
use crate::clock::{MS, SECOND, now_ns};
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Their channel.
const CHANNEL: &str = "abuse-strangers";
/// Between two messages, ns: half of the default rate.
const INTERVAL_NS: u64 = 20 * MS;
/// Messages under way at once: what waits longer is due all the same, and sent as soon as earlier
/// ones have come, so that a server that stalls does not take the pair for a flood.
const UNDER_WAY_MAX: usize = 50;
/// How long the pair may take to be there.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long what was sent may take after the end of an attack.
const LATE_MAX_NS: u64 = 20 * SECOND;

/// One message of the pair.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When it was due, ns.
    pub due_ns: u64,
    /// How long it took, ns; what had not come at the end counts up to there.
    pub latency_ns: u64,
}

/// What became of the pair.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// All messages.
    pub samples: Vec<Sample>,
    /// Those that never came.
    pub lost: u64,
    /// Close code with which one of the two was ended; 0 for an end without.
    pub ended: Option<u16>,
}

/// The pair at work, in a thread of its own.
pub(super) struct Strangers {
    stops: Arc<AtomicBool>,
    thread: JoinHandle<Result<Outcome, Failure>>,
}

impl Strangers {
    /// Connects the pair and lets it begin.
    ///
    /// # Errors
    /// Whatever keeps it from being served while there is no attack yet.
    pub(super) fn begin(place: &Place, interrupt: Interrupt) -> Result<Strangers, Failure> {
        let target = Arc::clone(&place.target);
        let request = || match place.signer {
            Some(_) => place.as_quiet_peer("stranger"),
            None => place.with_key(),
        };
        let pair = Pair::connect(target, [request()?, request()?], interrupt)?;
        let stops = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stops = Arc::clone(&stops);
            move || pair.run(&stops)
        });
        Ok(Strangers { stops, thread })
    }

    /// Ends it, and waits for what is still under way.
    ///
    /// # Errors
    /// When the system refuses to poll.
    pub(super) fn end(self) -> Result<Outcome, Failure> {
        self.stops.store(true, Ordering::Relaxed);
        let joined = self.thread.join();
        joined.map_err(|_| Failure::Executor("the strangers' thread panicked".into()))?
    }
}

struct Pair {
    swarm: Swarm,
    publisher: usize,
    subscriber: usize,
}

impl Pair {
    fn connect(
        target: Arc<Target>,
        requests: [Vec<u8>; 2],
        interrupt: Interrupt,
    ) -> Result<Pair, Failure> {
        let mut swarm = Swarm::new(Arc::clone(&target), interrupt)?;
        let [mut publisher, mut subscriber] = requests.map(|first| Opening::new(first).logged());
        if is_loopback(target.address) && target.address.is_ipv4() {
            // What is limited for each address is the attacker's, not theirs.
            let source = Some(IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1)));
            publisher.shape.source = source;
            subscriber.shape.source = source;
        }
        let (publisher, subscriber) = (swarm.open(publisher)?, swarm.open(subscriber)?);
        let subscribe = format!(r#"{{"type":"subscribe","channel":"{CHANNEL}","requestId":"s"}}"#);
        let there = swarm.until(READY_MAX, |swarm| {
            [publisher, subscriber]
                .iter()
                .all(|it| swarm.peer(*it).heard.count(Kind::Welcome) > 0)
        })?;
        swarm.send_text(subscriber, &subscribe);
        let ready = swarm.until(READY_MAX, |it| {
            it.peer(subscriber).heard.count(Kind::Ack) > 0
        })?;
        if !there || !ready {
            let what = "two healthy clients found no service before the attack".to_owned();
            return Err(Failure::Timeout(what));
        }
        Ok(Pair {
            swarm,
            publisher,
            subscriber,
        })
    }

    fn run(mut self, stops: &AtomicBool) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        let mut waiting = std::collections::BTreeMap::new();
        let first_ns = now_ns() + INTERVAL_NS;
        let mut sent: u64 = 0;
        let mut end_ns = None;
        loop {
            if end_ns.is_none() && stops.load(Ordering::Relaxed) {
                end_ns = Some(now_ns() + LATE_MAX_NS);
            }
            let mut due_ns = first_ns + sent * INTERVAL_NS;
            let is_over = end_ns.is_some_and(|it| {
                let all_sent = due_ns > it - LATE_MAX_NS;
                (all_sent && waiting.is_empty()) || now_ns() > it
            });
            if is_over || outcome.ended.is_some() {
                break;
            }
            let last_ns = end_ns.map_or_else(now_ns, |it| it - LATE_MAX_NS);
            while due_ns <= last_ns && waiting.len() < UNDER_WAY_MAX {
                let text = format!(r#"{{"type":"publish","channel":"{CHANNEL}","data":{sent}}}"#);
                self.swarm.send_text(self.publisher, &text);
                waiting.insert(sent, due_ns);
                sent += 1;
                due_ns = first_ns + sent * INTERVAL_NS;
            }
            let wait_ns = due_ns.saturating_sub(now_ns()).clamp(MS, INTERVAL_NS);
            self.swarm.turn(Duration::from_nanos(wait_ns))?;
            for event in self.swarm.take_log(self.subscriber) {
                let number = event.data_number().filter(|_| event.kind == Kind::Message);
                if let Some(due_ns) = number.and_then(|it| waiting.remove(&it)) {
                    outcome.samples.push(Sample {
                        due_ns,
                        latency_ns: event.at_ns.saturating_sub(due_ns),
                    });
                }
            }
            outcome.ended = self.ending();
        }
        let now = now_ns();
        outcome.lost = waiting.len() as u64;
        outcome
            .samples
            .extend(waiting.into_values().map(|due_ns| Sample {
                due_ns,
                latency_ns: now - due_ns,
            }));
        Ok(outcome)
    }

    fn ending(&self) -> Option<u16> {
        [self.publisher, self.subscriber].iter().find_map(|it| {
            let peer = self.swarm.peer(*it);
            let is_ended = !peer.is_open() || peer.heard.close.is_some();
            is_ended.then(|| peer.heard.close.unwrap_or_default())
        })
    }
}
