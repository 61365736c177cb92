//! Files that were torn anywhere, or in which bits have changed.

use proptest::prelude::*;
use proptest::sample::Index;

use super::disk::Disk;
use super::model::{End, Model};
use crate::history::Fsync;

/// A store with several segments that has ended in order.
fn written() -> Model {
    let mut model = Model::new(Fsync::Interval, 400, 2);
    for round in 0..12 {
        for channel in 0..3 {
            model.publish(channel);
        }
        model.turn(false);
        if round == 6 {
            model.forget(2);
            model.restart(End::Orderly, 2, |_| 0).unwrap();
        }
    }
    model
}

/// Changes files behind the model's back, and starts.
fn start_with(change: impl FnOnce(&Disk)) -> Result<(), String> {
    let mut model = written();
    model.turn(false);
    model.is_damaged = true;
    let now_ms = model.now_ms;
    model.end(now_ms);
    change(&model.disk);
    model.start(1).map_err(|error| error.to_string())?;
    // What was cut off is not found again.
    model.publish(0);
    model
        .restart(End::Orderly, 2, |_| 0)
        .map_err(|error| error.to_string())
}

#[test]
fn a_file_that_ends_anywhere_is_read_up_to_there() {
    let disk = written().disk;
    for name in disk.names() {
        let bytes = disk.state().files[&name].bytes.len();
        // No record is a multiple of it long: all places in a record come up.
        for end in (0..bytes).step_by(7) {
            let cut = |disk: &Disk| {
                let mut state = disk.state();
                // The model writes the same each time, but for what ends a line.
                let file = state.files.get_mut(&name).unwrap();
                file.bytes.truncate(end.min(file.bytes.len()));
            };
            start_with(cut).unwrap();
        }
    }
}

/// A file, a byte of it and a bit of that.
fn flip() -> impl Strategy<Value = (Index, Index, u32)> {
    (any::<Index>(), any::<Index>(), 0..8_u32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn bits_that_change_invent_nothing(
        flips in prop::collection::vec(flip(), 1..6)
    ) {
        let outcome = start_with(|disk| {
            let mut state = disk.state();
            let segments = state.files.keys().filter(|it| it.contains(".segment"));
            let names: Vec<_> = segments.cloned().collect();
            for (file, byte, bit) in &flips {
                let content = state.files.get_mut(file.get(&names)).unwrap();
                let at = byte.index(content.bytes.len());
                content.bytes[at] ^= 1_u8 << bit;
            }
        });
        if let Err(line) = outcome {
            prop_assert!(!line.contains('\n') && line.contains("another version"), "{line}");
        }
    }
}

#[test]
fn a_segment_of_another_version_is_refused_in_one_line() {
    let outcome = start_with(|disk| {
        let mut state = disk.state();
        let content = state.files.values_mut().next().unwrap();
        content.bytes[8] = 2;
        let sum = crc32fast::hash(&content.bytes[..36]);
        content.bytes[36..40].copy_from_slice(&sum.to_le_bytes());
    });
    let line = outcome.unwrap_err();
    assert!(line.contains("version 2 of the format"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_damaged_header_puts_the_segment_aside_once() {
    let mut model = written();
    model.is_damaged = true;
    let now_ms = model.now_ms;
    model.end(now_ms);
    let name = model.segments()[0].clone();
    model.disk.state().files.get_mut(&name).unwrap().bytes[3] ^= 1;
    model.start(2).unwrap();
    assert!(model.segments().contains(&format!("{name}.damaged")));
    assert!(!model.segments().contains(&name));
}

#[test]
fn a_segment_that_somebody_took_away_is_missed() {
    for shards in [1, 2] {
        let mut model = Model::new(Fsync::Turn, 1 << 20, shards);
        for channel in 0..4 {
            model.publish(channel);
            model.turn(false);
        }
        model.restart(End::Orderly, shards, |_| 0).unwrap();
        for channel in 0..4 {
            model.publish(channel);
            model.turn(false);
        }
        let epochs: Vec<_> = (0..4).map(|it| model.epoch(it).to_owned()).collect();
        let now_ms = model.now_ms;
        model.end(now_ms);
        let newest = model.segments().pop().unwrap();
        model.disk.state().files.remove(&newest);
        model.is_damaged = true;
        // The model sees to it that nobody is told to have missed nothing who has.
        model.start(shards).unwrap();
        let is_new = |channel: &u8| model.epoch(*channel) != epochs[usize::from(*channel)];
        let others = (0..4).filter(is_new).count();
        assert_eq!(others, 4 / usize::from(shards), "{shards} shards");
    }
}

#[test]
fn nobody_goes_on_over_what_was_damaged_although_all_else_is_kept() {
    for end in [End::Orderly, End::Killed] {
        let mut model = Model::new(Fsync::Turn, 1 << 20, 1);
        for _ in 0..6 {
            model.publish(1);
            model.turn(false);
        }
        let epoch = model.epoch(1).to_owned();
        if end == End::Orderly {
            let now_ms = model.now_ms;
            model.end(now_ms);
        }
        let name = model.segments().pop().unwrap();
        // Within the fourth of six records.
        let at = 40 + 3 * (model.disk.state().files[&name].bytes.len() - 40) / 6 + 20;
        model.disk.state().files.get_mut(&name).unwrap().bytes[at] ^= 1;
        model.is_damaged = true;
        model.start(1).unwrap();
        assert_eq!(model.kept(1), 3, "{end:?}");
        for seq in 0..=3 {
            assert!(!model.goes_on_from(1, &epoch, seq), "{end:?}: {seq}");
        }
        // The next start goes on with what this one has kept.
        model.publish(1);
        model.turn(false);
        let now_ms = model.now_ms;
        model.end(now_ms);
        model.start(1).unwrap();
        assert_eq!(model.kept(1), 4, "{end:?}");
    }
}
