//! Segments that nobody needs go, and what was forgotten does not come back with them.

use super::model::{End, Model, TTL_SEC};
use crate::history::Fsync;

#[test]
fn segments_go_when_all_of_them_is_evicted() {
    let mut model = Model::new(Fsync::Never, 500, 1);
    for _ in 0..200 {
        model.publish(1);
        model.turn(false);
        model.pass(100);
    }
    model.pass(1_000);
    model.turn(false);
    let names = model.segments();
    assert!(names.len() <= 5, "{names:?}");
    model.restart(End::Orderly, 2, |_| 0).unwrap();
    assert_eq!(model.kept(1), super::model::MESSAGES);
}

#[test]
fn segments_go_when_their_time_is_over() {
    let mut model = Model::new(Fsync::Never, 500, 2);
    for channel in 0..20 {
        model.publish(channel);
        model.turn(false);
    }
    let before = model.segments().len();
    model.pass(u64::from(TTL_SEC) * 1_000 - 1);
    model.turn(false);
    assert_eq!(model.segments().len(), before);
    model.pass(1_001);
    model.turn(false);
    // The ones that are appended to.
    assert_eq!(model.segments().len(), 2);
}

#[test]
fn segments_of_earlier_runs_go_too() {
    let mut model = Model::new(Fsync::Never, 500, 3);
    for channel in 0..20 {
        model.publish(channel);
        model.turn(false);
    }
    model.restart(End::Orderly, 2, |_| 0).unwrap();
    assert!(model.segments().len() > 6);
    for _ in 0..10 {
        for channel in 0..20 {
            model.publish(channel);
        }
        model.turn(false);
        model.pass(1_000);
    }
    model.pass(1_000);
    model.turn(false);
    let of_first_run =
        |names: Vec<String>| names.iter().filter(|it| it.starts_with("00000001")).count();
    assert_eq!(of_first_run(model.segments()), 0);
    model.restart(End::Killed, 1, |_| 0).unwrap();
    assert_eq!(model.kept(7), super::model::MESSAGES);
}

#[test]
fn what_was_forgotten_stays_so_for_as_long_as_it_is_there() {
    let mut model = Model::new(Fsync::Never, 300, 1);
    // One channel keeps the segment in which the other one is.
    model.publish(1);
    model.publish(2);
    model.turn(false);
    model.forget(2);
    model.turn(false);
    // These fill the segments behind, and go.
    for _ in 0..40 {
        model.publish(3);
        model.turn(false);
        model.pass(500);
    }
    let names = model.segments();
    assert!(names.len() < 12, "{names:?}");
    model.restart(End::Orderly, 1, |_| 0).unwrap();
    assert_eq!((model.kept(1), model.kept(2)), (1, 0));
    model.restart(End::Killed, 1, |_| 0).unwrap();
    assert_eq!((model.kept(1), model.kept(2)), (1, 0));
}
