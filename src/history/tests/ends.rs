//! Runs that end in every way, with disks that are full or fail in between.

use proptest::prelude::*;

use super::model::{End, Model};
use crate::history::Fsync;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Forget(u8),
    Turn {
        late: bool,
    },
    Pass(u64),
    Full(Option<usize>),
    SyncFails(bool),
    Restart {
        end: End,
        shards: u16,
        picks: Vec<usize>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let channel = 0..4_u8;
    let end = prop_oneof![Just(End::Orderly), Just(End::Killed), Just(End::PowerLost)];
    let picks = prop::collection::vec(0..400_usize, 8);
    prop_oneof![
        12 => channel.clone().prop_map(Step::Publish),
        1 => channel.prop_map(Step::Forget),
        6 => prop::bool::weighted(0.1).prop_map(|late| Step::Turn { late }),
        1 => (0..30_000_u64).prop_map(Step::Pass),
        1 => prop::option::of(0..300_usize).prop_map(Step::Full),
        1 => prop::bool::weighted(0.3).prop_map(Step::SyncFails),
        2 => (end, 1..4_u16, picks)
            .prop_map(|(end, shards, picks)| Step::Restart { end, shards, picks }),
    ]
}

fn run(steps: Vec<Step>, fsync: Fsync) {
    let mut model = Model::new(fsync, 600, 2);
    for step in steps {
        match step {
            Step::Publish(channel) => model.publish(channel),
            Step::Forget(channel) => model.forget(channel),
            Step::Turn { late } => model.turn(late),
            Step::Pass(ms) => model.pass(ms),
            Step::Full(room) => model.disk.state().full_after = room,
            Step::SyncFails(fails) => model.disk.state().sync_fails = fails,
            Step::Restart { end, shards, picks } => {
                let mut picks = picks.into_iter().cycle();
                let pick = |end: usize| picks.next().unwrap() % end;
                model.restart(end, shards, pick).unwrap();
            }
        }
    }
    model.restart(End::Killed, 1, |_| 0).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn nothing_promised_is_lost_and_nobody_misses_anything_untold(
        steps in prop::collection::vec(step(), 1..120),
        fsync in prop_oneof![Just(Fsync::Never), Just(Fsync::Interval), Just(Fsync::Turn)],
    ) {
        run(steps, fsync);
    }
}

#[test]
fn an_orderly_end_keeps_the_epoch_and_a_kill_continues_it_under_another_name() {
    let mut model = Model::new(Fsync::Interval, 1 << 20, 2);
    for _ in 0..3 {
        model.publish(1);
        model.turn(false);
    }
    let epoch = model.epoch(1).to_owned();
    model.restart(End::Orderly, 3, |_| 0).unwrap();
    assert_eq!((model.epoch(1), model.kept(1)), (&*epoch, 3));
    model.restart(End::Killed, 2, |_| 0).unwrap();
    assert_ne!(model.epoch(1), epoch);
    assert_eq!(model.kept(1), 3);
    // The one before has not published, but could have.
    let epoch = model.epoch(1).to_owned();
    model.restart(End::Killed, 1, |_| 0).unwrap();
    assert_ne!(model.epoch(1), epoch);
}

#[test]
fn a_disk_that_was_full_gets_what_it_lacks() {
    let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
    model.publish(1);
    model.turn(false);
    model.disk.state().full_after = Some(7);
    for _ in 0..3 {
        model.publish(1);
        model.publish(2);
        model.turn(false);
    }
    assert_eq!(model.behind(0), 2);
    model.disk.state().full_after = None;
    model.publish(1);
    model.turn(false);
    assert_eq!(model.behind(0), 2, "it is tried again in a second");
    model.pass(1_000);
    model.turn(false);
    model.turn(false);
    assert_eq!(model.behind(0), 0);
    model.publish(1);
    model.turn(false);
    model.restart(End::Killed, 1, |_| 0).unwrap();
    assert_eq!((model.kept(1), model.kept(2)), (6, 3));
}

#[test]
fn what_was_stored_before_a_disk_was_full_is_there_although_it_stays_full() {
    for end in [End::Orderly, End::Killed, End::PowerLost] {
        let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
        for _ in 0..3 {
            model.publish(1);
            model.turn(false);
        }
        let epoch = model.epoch(1).to_owned();
        model.disk.state().full_after = Some(0);
        model.publish(1);
        model.turn(false);
        model.disk.state().full_after = None;
        model.restart(end, 1, |_| 0).unwrap();
        assert_eq!(model.kept(1), 3);
        assert_ne!(model.epoch(1), epoch, "the fourth one was delivered");
    }
}

#[test]
fn a_segment_whose_making_failed_half_way_is_made_again() {
    let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
    model.publish(1);
    model.turn(false);
    model.disk.state().sync_fails = true;
    for _ in 0..3 {
        // The segment is given up, and another one is begun each second.
        model.publish(1);
        model.turn(false);
        model.pass(1_000);
    }
    model.disk.state().sync_fails = false;
    model.publish(1);
    model.turn(false);
    let counters = model.writer(0).counters();
    assert!(!counters.failing.load(std::sync::atomic::Ordering::Relaxed));
    model.publish(1);
    model.turn(false);
    model.restart(End::Killed, 1, |_| 0).unwrap();
    assert!(model.kept(1) >= 1, "what was stored since is kept");
}

#[test]
fn what_could_not_be_made_durable_leaves_no_gap() {
    let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
    model.publish(0);
    model.turn(false);
    model.publish(0);
    model.disk.state().sync_fails = true;
    model.turn(false);
    model.pass(1_000);
    model.publish(0);
    model.disk.state().sync_fails = false;
    for _ in 0..3 {
        model.turn(false);
    }
    model.restart(End::PowerLost, 1, |_| 0).unwrap();
    assert_eq!(model.kept(0), 3);
}

#[test]
fn a_start_that_leaves_no_trace_takes_back_that_the_last_run_has_ended() {
    let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
    model.publish(1);
    let epoch = model.epoch(1).to_owned();
    model.disk.state().full_after = None;
    model.restart(End::Orderly, 1, |_| 0).unwrap();
    assert_eq!(model.epoch(1), epoch);
    model.turn(false);
    // An orderly end, then a start with a full disk.
    let mut full = model;
    full.restart(End::Orderly, 1, |_| 0).unwrap();
    full.restart_full(End::Orderly).unwrap();
    assert_eq!(full.epoch(1), epoch, "nothing was lost so far");
    full.publish(1);
    full.turn(false);
    full.disk.state().full_after = None;
    full.restart(End::Killed, 1, |_| 0).unwrap();
    assert_ne!(
        full.epoch(1),
        epoch,
        "a run was there of which there is no trace"
    );
    full.restart(End::Orderly, 1, |_| 0).unwrap();
    full.disk.state().read_only = true;
    let refused = full.start(1).unwrap_err().to_string();
    assert!(
        refused.contains("make the file system writable"),
        "{refused}"
    );
}

#[test]
fn a_run_that_could_not_begin_is_none_that_somebody_took_away() {
    let mut model = Model::new(Fsync::Turn, 1 << 20, 2);
    for channel in 0..4 {
        model.publish(channel);
        model.turn(false);
    }
    let epochs: Vec<_> = (0..4).map(|it| model.epoch(it).to_owned()).collect();
    model.turn(false);
    let now_ms = model.now_ms;
    model.end(now_ms);
    model.disk.state().sync_fails = true;
    model.start(2).unwrap();
    model.disk.state().sync_fails = false;
    model.restart(End::Killed, 2, |_| 0).unwrap();
    for (channel, epoch) in (0..4).zip(&epochs) {
        assert!(model.goes_on_from(channel, epoch, 1), "{channel}");
    }
}
