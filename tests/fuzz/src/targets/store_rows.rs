//! Rows of the store: whatever stands in one, the start is refused or goes on, and nothing is
//! another row when it has been written and read again.

use ringmesh::fuzzing::{APP_ROW, KEY_ROW, USAGE_ROW, believe_rows};

use super::Bytes;

/// Years around this one, and the ends of time.
const NOW_UNIX: [u64; 4] = [1_800_000_000, 0, 253_402_300_800, u64::MAX];

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let now_unix = NOW_UNIX[script.below(NOW_UNIX.len())];
    // A line for each row; one that is empty is sound.
    let mut lines = script.0.split(|byte| *byte == b'\n');
    let mut line = |sound: &'static str| match lines.next() {
        None | Some([]) => sound.as_bytes(),
        Some(line) => line,
    };
    let (app, key, usage) = (line(APP_ROW), line(KEY_ROW), line(USAGE_ROW));
    if let Err(reason) = believe_rows(app, key, usage, now_unix) {
        assert!(!reason.is_empty(), "refused without a reason");
    }
}
