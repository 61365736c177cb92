//! Everybody is gone at once, and comes back as published clients do.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::abuse::exchange;
use crate::abuse::scene::Scene;
use crate::abuse::statistics::Latencies;
use crate::abuse::storm::crowd::Crowd;
use crate::abuse::storm::stayers::{Outcome, Sample, Stayers};
use crate::abuse::storm::town::Town;
use crate::abuse::verdict::Check;
use crate::clock::{now_ns, thread_cpu_ns};
use crate::failure::Failure;
use crate::limits;

/// Clients that drop and come back, and how many of them there are for each that stays.
const RETURNING: usize = 4_000;
const PER_STAYER: usize = 15;
/// How long they may take to come in the first place, and to come back, whatever the machine.
const GATHER_MAX: Duration = Duration::from_secs(180);
const RETURN_MAX: Duration = Duration::from_secs(120);
/// How long rosters may take to be right when everybody is there.
const KNOWN_MAX: Duration = Duration::from_secs(20);
/// How long those who stay are watched before a storm.
const QUIET: Duration = Duration::from_secs(4);
/// The goal for the return of all, s.
const RETURN_GOAL_S: f64 = 5.0;
/// How many times as long as before those who stay may wait.
const STAYING_TIMES: f64 = 5.0;
/// How long the server may take to come to rest, and what may stay resident then, MB.
const REST: Duration = Duration::from_secs(4);
const KEPT_MB: f64 = 50.0;
/// What the server says of a storm, of the last minute.
const STAGES: [&str; 6] = [
    "loop_lag",
    "read_to_command",
    "order_to_last_write",
    "reply",
    "snapshot",
    "handshake",
];

/// Clients drop by a reset and come back after 400 to 600 ms, while others stay.
pub(super) fn storm(scene: &mut Scene) -> Result<(), Failure> {
    return_of_all(scene, false)
}

/// The same, and each client resumes its TLS session, as browsers do.
pub(super) fn storm_resumed(scene: &mut Scene) -> Result<(), Failure> {
    return_of_all(scene, true)
}

fn return_of_all(scene: &mut Scene, resumes: bool) -> Result<(), Failure> {
    let count = scene.clients(RETURNING);
    let stayers = (count / PER_STAYER).max(2) / 2 * 2;
    let mut storm = Storm::prepare(scene, count, stayers, resumes)?;
    let stayers = Stayers::begin(&scene.place, &storm.town, scene.interrupt())?;
    let ready = scene.swarm.until(GATHER_MAX, |_| stayers.are_ready())?;
    if !ready || storm.crowd.until_known(&mut scene.swarm, KNOWN_MAX)? > 0 {
        // Says why, if they have given up.
        drop(stayers.end()?);
        let what = "not everybody knew everybody before the storm".to_owned();
        return Err(Failure::Incorrect(what));
    }
    scene.swarm.run(REST)?;
    let quiet_ns = now_ns();
    scene.swarm.run(QUIET)?;
    storm.begin(scene)?;
    storm.crowd.drop_all(&mut scene.swarm);
    let all_back = storm.crowd.until_all_back(&mut scene.swarm, RETURN_MAX)?;
    storm.end(scene, all_back)?;
    let outcome = stayers.end()?;
    judge_stayers(scene, &outcome, [quiet_ns, storm.began_ns, storm.back_ns]);
    storm.judge_memory(scene)
}

/// The server is killed and started again at once; everybody comes back.
pub(super) fn restart(scene: &mut Scene) -> Result<(), Failure> {
    scene.own_server()?;
    let count = scene.clients(RETURNING);
    let mut storm = Storm::prepare(scene, count, 0, false)?;
    if storm.crowd.until_known(&mut scene.swarm, KNOWN_MAX)? > 0 {
        let what = "not everybody knew everybody before the storm".to_owned();
        return Err(Failure::Incorrect(what));
    }
    scene.swarm.run(REST)?;
    storm.begin(scene)?;
    scene.own_server()?.kill();
    let mut listens_ns = 0;
    let Scene { server, swarm, .. } = scene;
    thread::scope(|scope| {
        let starts = scope.spawn(|| {
            let started = server.as_mut().map_or(Ok(()), |it| it.start_again());
            started.map(|()| now_ns())
        });
        while !starts.is_finished() {
            swarm.turn(Duration::from_millis(5))?;
            storm.crowd.until_all_back(swarm, Duration::ZERO)?;
        }
        let panicked = || Failure::Executor("the thread that starts the server panicked".into());
        listens_ns = starts.join().map_err(|_| panicked())??;
        Ok::<_, Failure>(())
    })?;
    scene.server_is_new()?;
    let all_back = storm.crowd.until_all_back(&mut scene.swarm, RETURN_MAX)?;
    scene.saw(format!(
        "the new server listened after {:.2} s",
        seconds(storm.began_ns, listens_ns)
    ));
    storm.cpu_seconds = 0.0;
    storm.end(scene, all_back)?;
    storm.judge_memory(scene)
}

/// A storm under way.
struct Storm {
    town: Arc<Town>,
    crowd: Crowd,
    began_ns: u64,
    back_ns: u64,
    /// CPU time of the server before it.
    cpu_seconds: f64,
    /// CPU time of this thread before it.
    own_cpu_ns: u64,
}

impl Storm {
    /// Everybody is there, and this thread keeps off the server's core.
    fn prepare(
        scene: &mut Scene,
        clients: usize,
        stayers: usize,
        resumes: bool,
    ) -> Result<Storm, Failure> {
        limits::stay_on(&limits::load_cores(None)?);
        let town = Arc::new(Town::new(clients, stayers));
        let mut crowd = Crowd::new(Arc::clone(&town), &scene.place, resumes)?;
        crowd.gather(&mut scene.swarm, GATHER_MAX)?;
        Ok(Storm {
            town,
            crowd,
            began_ns: 0,
            back_ns: 0,
            cpu_seconds: 0.0,
            own_cpu_ns: 0,
        })
    }

    fn begin(&mut self, scene: &mut Scene) -> Result<(), Failure> {
        scene.begin_without_strangers()?;
        self.cpu_seconds = scene.cpu_seconds()?;
        self.own_cpu_ns = thread_cpu_ns();
        self.began_ns = now_ns();
        Ok(())
    }

    /// Everybody is back, or was not in time.
    fn end(&mut self, scene: &mut Scene, all_back: bool) -> Result<(), Failure> {
        self.back_ns = now_ns();
        let took = seconds(self.began_ns, self.back_ns);
        let server_cpu = scene.cpu_seconds()? - self.cpu_seconds;
        let own_cpu = (thread_cpu_ns() - self.own_cpu_ns) as f64 / 1e9;
        let wrong = self.crowd.until_known(&mut scene.swarm, KNOWN_MAX)?;
        let Crowd {
            cut_off,
            refused,
            resumed,
            ..
        } = self.crowd;
        let clients = self.town.clients;
        scene.saw(format!(
            "{clients} clients, last welcome after {:.2} s, last ack {:.2} s, last snapshot \
             {took:.2} s, rosters right {:.2} s; {cut_off} cut off and {refused} refused meanwhile",
            seconds(self.began_ns, self.crowd.welcome_ns),
            seconds(self.began_ns, self.crowd.acked_ns),
            seconds(self.began_ns, now_ns()),
        ));
        scene.saw(format!(
            "CPU time: server {server_cpu:.2} s, {:.0} µs a client; the clients' thread \
             {own_cpu:.2} s",
            server_cpu * 1e6 / clients as f64
        ));
        if resumed > 0 {
            scene.saw(format!("{resumed} TLS handshakes resumed a session"));
        }
        stages(scene)?;
        let right = || "all come back".to_owned();
        let seen = if all_back {
            right()
        } else {
            "some did not".into()
        };
        scene.check(Check::new("the clients", all_back, seen, right()));
        scene.check(Check::at_most("all were back after", took, RETURN_GOAL_S, "s").timed());
        let what = "clients that do not know who is in their channels";
        scene.check(Check::equal(what, wrong as u64, 0));
        let all = 0..scene.swarm.peers().len();
        let slow = scene.swarm.closed_with(all, 1013);
        scene.check(Check::equal("closed with 1013", slow, 0));
        let bytes = self.crowd.bytes(&scene.swarm) as f64 / clients as f64;
        let what = "bytes that a client heard";
        scene.check(Check::at_most(what, bytes, self.town.bytes_max(), ""));
        scene.swarm.run(REST)?;
        scene.note_figures();
        Ok(())
    }

    fn judge_memory(&self, scene: &mut Scene) -> Result<(), Failure> {
        let before_mb = scene.report.memory_before_mb.unwrap_or_default();
        let kept_mb = scene.memory_mb()? - before_mb;
        scene.check(Check::at_most("memory kept", kept_mb, KEPT_MB, "MB"));
        Ok(())
    }
}

/// What the server says of the last minute, where it can be asked.
fn stages(scene: &mut Scene) -> Result<(), Failure> {
    let Some(admin) = scene.place.admin else {
        return Ok(());
    };
    let page = exchange::metrics(admin, scene.place.admin_token.as_deref())?;
    let of_stage = |stage: &&str| {
        let quantile = |it| exchange::quantile_ms(&page, stage, it);
        let (p99, most) = (quantile("0.99")?, quantile("1")?);
        Some(format!("{stage} {p99:.2}/{most:.1}"))
    };
    let stages: Vec<_> = STAGES.iter().filter_map(of_stage).collect();
    let stages = stages.join(", ");
    scene.saw(format!(
        "the server's stages, p99/max ms of the last minute: {stages}"
    ));
    Ok(())
}

fn judge_stayers(scene: &mut Scene, outcome: &Outcome, [quiet_ns, began_ns, back_ns]: [u64; 3]) {
    let of = |from: u64, to: u64, ns: fn(&Sample) -> u64| {
        let samples = outcome.samples.iter();
        let samples = samples.filter(|it| (from..to).contains(&it.sent_ns));
        Latencies::of(samples.map(ns).collect())
    };
    let took = |it: &Sample| it.took_ns;
    let (quiet, stormy) = (of(quiet_ns, began_ns, took), of(began_ns, back_ns, took));
    scene.report.strangers_before_ms = quiet.map(|it| (it.p50_ms, it.p99_ms));
    scene.report.strangers_during_ms = stormy.map(|it| (it.p50_ms, it.p99_ms, it.max_ms));
    let late = of(began_ns, back_ns, |it| it.late_ns);
    let unread = of(began_ns, back_ns, |it| it.unread_ns);
    if let (Some(late), Some(unread), Some(stormy)) = (late, unread, stormy) {
        scene.saw(format!(
            "{} messages of those who stay; not in their times, this program's own lag: sent late \
             by {:.2}/{:.1} ms, read late by {:.2}/{:.1} (p99/max)",
            stormy.count, late.p99_ms, late.max_ms, unread.p99_ms, unread.max_ms
        ));
    }
    scene.check(Check::strangers(quiet, stormy, STAYING_TIMES));
    let what = "of those who stay, messages lost";
    scene.check(Check::equal(what, outcome.lost, 0));
    scene.check(Check::equal(
        "doubled or out of order",
        outcome.disordered,
        0,
    ));
    scene.check(Check::equal("closed", outcome.ended, 0));
    let what = "wrong about who is in their channels";
    scene.check(Check::equal(what, outcome.wrong_rosters, 0));
}

fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}
