//! The store's file with damage: it is refused, or holds what was committed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use ringmesh::fuzzing::{make_store, read_store};

use super::Bytes;

const NAME: &str = "store.redb";
/// Damaged places of one file.
const PLACES_MAX: usize = 16;

/// A sound store, and what is in it.
struct Sound {
    dir: tempfile::TempDir,
    file: Vec<u8>,
    rows: String,
}

impl Sound {
    fn new() -> Self {
        // In memory, where an fsync costs nothing.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.expect("a directory");
        let rows = make_store(dir.path()).expect("a new store");
        let file = fs::read(dir.path().join(NAME)).expect("its file");
        Self { dir, file, rows }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub(crate) fn run(bytes: &[u8]) {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    let sound = SOUND.get_or_init(Sound::new);
    let mut file = sound.file.clone();
    let mut script = Bytes(bytes);
    for _ in 0..PLACES_MAX {
        if script.is_empty() || file.is_empty() {
            break;
        }
        let at = script.take(3).iter();
        let at = at.fold(0, |at, byte| at << 8 | usize::from(*byte)) % file.len();
        match script.byte() {
            // Nothing is there any more.
            0 => file.truncate(at),
            // A page of zeroes, as a file system may leave it.
            1 => file[at..].iter_mut().take(4_096).for_each(|byte| *byte = 0),
            bits => file[at] ^= bits,
        }
    }
    fs::write(sound.path().join(NAME), &file).expect("a file");
    match read_store(sound.path()) {
        Ok(rows) => assert_eq!(rows, sound.rows, "rows that nobody committed"),
        Err(reason) => assert!(!reason.is_empty(), "refused without a reason"),
    }
    let after = fs::metadata(sound.path().join(NAME)).expect("the file");
    assert!(!file.is_empty() || after.len() == 0, "made anew");
}
