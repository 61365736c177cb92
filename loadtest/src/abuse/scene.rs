//! One attack while it runs: the attacker's connections, the strangers beside it, the server's
//! memory, and what comes to light.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::abuse::gauges::{Source, Watch};
use crate::abuse::heard::Kind;
use crate::abuse::place::{Place, missing};
use crate::abuse::server::Server;
use crate::abuse::statistics::Latencies;
use crate::abuse::strangers::{Outcome, Strangers};
use crate::abuse::swarm::{Opening, Swarm};
use crate::abuse::verdict::{Check, Report, STRANGERS_TIMES};
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::measure::process::ProcessProbe;

/// How long strangers are watched before an attack begins.
const QUIET: Duration = Duration::from_secs(2);
/// How long everybody rests before that.
const REST: Duration = Duration::from_secs(1);
/// How long a batch of connects may take.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Connects under way at once.
const CONNECTS: usize = 64;
/// Bytes of a megabyte, as memory is counted here.
const MB: f64 = 1_048_576.0;

/// How large attacks are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Multiplies the counts of connections.
    pub scale: f64,
    /// Clients of a storm, if that many were asked for.
    pub clients: Option<u32>,
}

/// An attack under way.
pub(super) struct Scene {
    /// Whom it is aimed at.
    pub place: Place,
    /// The server, where it is the attack's own.
    pub server: Option<Server>,
    /// The attacker's connections.
    pub swarm: Swarm,
    /// What has been found.
    pub report: Report,
    size: Size,
    interrupt: Interrupt,
    source: Option<Source>,
    watch: Option<Watch>,
    strangers: Option<Strangers>,
    began_ns: u64,
}

impl Scene {
    /// Before anything has happened.
    ///
    /// # Errors
    /// [`Failure::Executor`] when the system refuses a poller.
    pub(super) fn new(
        place: Place,
        server: Option<Server>,
        source: Option<Source>,
        report: Report,
        (size, interrupt): (Size, Interrupt),
    ) -> Result<Scene, Failure> {
        Ok(Scene {
            swarm: Swarm::new(Arc::clone(&place.target), interrupt.clone())?,
            place,
            server,
            report,
            size,
            interrupt,
            source,
            watch: None,
            strangers: None,
            began_ns: 0,
        })
    }

    /// A count of connections or members, as `--scale` has it.
    pub(super) fn scaled(&self, count: usize) -> usize {
        ((count as f64 * self.size.scale) as usize).max(1)
    }

    /// As [`scaled`](Scene::scaled), unless a number of clients was asked for.
    pub(super) fn clients(&self, count: usize) -> usize {
        let asked = self.size.clients.map(|count| count as usize);
        asked.unwrap_or_else(|| self.scaled(count))
    }

    /// The server of the attack's own, which some rows stop, end or configure.
    ///
    /// # Errors
    /// [`Failure::Usage`] without one.
    pub(super) fn own_server(&mut self) -> Result<&mut Server, Failure> {
        let missing = || Failure::Usage("abuse: this row needs --spawn".into());
        self.server.as_mut().ok_or_else(missing)
    }

    /// The server has been started again: its memory is another one.
    ///
    /// # Errors
    /// [`Failure::ServerProcess`] when it has ended already.
    pub(super) fn server_is_new(&mut self) -> Result<(), Failure> {
        let pid = self.own_server()?.pid();
        let source = Source::Process(ProcessProbe::new(pid)?);
        self.place.pid = Some(pid);
        self.watch = Some(Watch::begin(source.clone()));
        self.source = Some(source);
        Ok(())
    }

    /// Ends with Ctrl-C.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Opens `count` WebSockets, some at a time, and waits until all are welcome.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when the server does not take them.
    pub(super) fn join_in(
        &mut self,
        count: usize,
        mut opening: impl FnMut(&Place, usize) -> Result<Opening, Failure>,
    ) -> Result<Range<usize>, Failure> {
        let first = self.swarm.peers().len();
        let mut opened = 0;
        while opened < count {
            let batch = CONNECTS.min(count - opened);
            let from = first + opened;
            for number in opened..opened + batch {
                self.swarm.open(opening(&self.place, number)?)?;
            }
            opened += batch;
            let are_there = self.swarm.until(CONNECT_MAX, |swarm| {
                let peers = &swarm.peers()[from..];
                peers.iter().all(|it| it.heard.count(Kind::Welcome) > 0)
            })?;
            if !are_there {
                let endings = self.swarm.endings(from..from + batch);
                let what = format!("{opened} of {count} connects were made, then: {endings}");
                return Err(Failure::Timeout(what));
            }
        }
        Ok(first..first + count)
    }

    /// Sends each of them a text and waits for as many frames of `kind` as there are peers.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when they do not come.
    pub(super) fn tell_all(
        &mut self,
        peers: Range<usize>,
        kind: Kind,
        text: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let mut next = peers.start;
        while next < peers.end {
            let batch = next..(next + CONNECTS).min(peers.end);
            let before = self.swarm.frames(batch.clone(), kind);
            for index in batch.clone() {
                self.swarm.send_text(index, &text(index));
            }
            let wanted = before + batch.len() as u64;
            let came = self.swarm.until(CONNECT_MAX, |swarm| {
                swarm.frames(batch.clone(), kind) >= wanted
            })?;
            if !came {
                let endings = self.swarm.endings(batch);
                return Err(Failure::Timeout(format!(
                    "{kind:?} did not come: {endings}"
                )));
            }
            next = batch.end;
        }
        Ok(())
    }

    /// Watches strangers for a while, and then begins to measure.
    ///
    /// # Errors
    /// When strangers are not served, or the memory cannot be read.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.swarm.run(REST)?;
        self.strangers = Some(Strangers::begin(&self.place, self.interrupt.clone())?);
        self.swarm.run(QUIET)?;
        self.begin_without_strangers()
    }

    /// The same for attacks in which nobody else can be served.
    ///
    /// # Errors
    /// When the memory cannot be read.
    pub(super) fn begin_without_strangers(&mut self) -> Result<(), Failure> {
        if let Some(source) = &self.source {
            self.report.memory_before_mb = Some(source.memory_bytes()? as f64 / MB);
            self.watch = Some(Watch::begin(source.clone()));
        }
        self.began_ns = now_ns();
        Ok(())
    }

    /// Ends the measurement and notes the figures.
    ///
    /// # Errors
    /// When the system refuses to poll.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.end_within(STRANGERS_TIMES)
    }

    /// The same, where strangers may wait so many `times` as long as without the attack.
    ///
    /// # Errors
    /// As [`Scene::end`].
    pub(super) fn end_within(&mut self, times: f64) -> Result<(), Failure> {
        self.note_figures();
        if let Some(strangers) = self.strangers.take() {
            let outcome = strangers.end()?;
            self.judge_strangers(&outcome, times);
        }
        if let Some(status) = self.server.as_mut().and_then(Server::has_ended) {
            let seen = format!("it ended: {status}");
            self.check(Check::new("the server", false, seen, "it lives".into()));
        }
        Ok(())
    }

    /// Notes memory and time of an attack that is over; part of [`Scene::end`], and enough where
    /// the server is meant to have ended.
    pub(super) fn note_figures(&mut self) {
        if let (Some(source), Some(watch)) = (&self.source, self.watch.take()) {
            // Of a server that has ended only the peak is known.
            let now = source.memory_bytes().ok();
            let peak = watch.peak_bytes().max(now.unwrap_or_default());
            self.report.memory_peak_mb = Some(peak as f64 / MB);
            self.report.memory_after_mb = now.map(|it| it as f64 / MB);
        }
        self.report.seconds = (now_ns() - self.began_ns) as f64 / 1e9;
    }

    fn judge_strangers(&mut self, outcome: &Outcome, times: f64) {
        let latencies = |is_during: bool| {
            let samples = outcome.samples.iter();
            let samples = samples.filter(|it| (it.due_ns >= self.began_ns) == is_during);
            Latencies::of(samples.map(|it| it.latency_ns).collect())
        };
        let (before, during) = (latencies(false), latencies(true));
        self.report.strangers_before_ms = before.map(|it| (it.p50_ms, it.p99_ms));
        self.report.strangers_during_ms = during.map(|it| (it.p50_ms, it.p99_ms, it.max_ms));
        self.check(Check::strangers(before, during, times));
        if outcome.ended.is_some() || outcome.lost > 0 {
            let code = outcome
                .ended
                .map_or("not ended".into(), |it| format!("closed: {it}"));
            let seen = format!("{} messages lost, {code}", outcome.lost);
            let right = "all messages of strangers arrive".into();
            self.check(Check::new("strangers", false, seen, right));
        }
    }

    /// Memory may grow by so much, MB, while the attack goes on.
    ///
    /// # Errors
    /// [`Failure::Usage`] when nobody said where to read it.
    pub(super) fn check_memory(&mut self, growth_mb: f64) -> Result<(), Failure> {
        let (Some(before), Some(peak)) = (self.report.memory_before_mb, self.report.memory_peak_mb)
        else {
            return Err(missing("--server-pid or --admin"));
        };
        let what = "memory of the server grew by";
        self.check(Check::at_most(what, peak - before, growth_mb, "MB"));
        Ok(())
    }

    /// Notes what the attacker saw.
    pub(super) fn saw(&mut self, what: String) {
        self.report.saw.push(what);
    }

    /// Notes a check.
    pub(super) fn check(&mut self, check: Check) {
        self.report.checks.push(check);
    }

    /// CPU time of the server so far, seconds.
    ///
    /// # Errors
    /// [`Failure::Usage`] when nobody said where to read it.
    pub(super) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let source = self.source.as_ref();
        source
            .ok_or_else(|| missing("--server-pid or --admin"))?
            .cpu_seconds()
    }

    /// Resident memory of the server now, MB.
    ///
    /// # Errors
    /// As [`Scene::cpu_seconds`].
    pub(super) fn memory_mb(&self) -> Result<f64, Failure> {
        let source = self.source.as_ref();
        let source = source.ok_or_else(|| missing("--server-pid or --admin"))?;
        Ok(source.memory_bytes()? as f64 / MB)
    }
}
