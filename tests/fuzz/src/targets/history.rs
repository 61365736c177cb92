//! Segments of history: whatever is in the files, the start is refused in one line, or it finds
//! publications that are there, in their order and without gaps; and the next one finds the same.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use ahash::RandomState;
use ringmesh::history::{
    Bounds, Epoch, Files, Fsync, OpenError, Opened, Options, SegmentFile, open,
};

use super::Bytes;

/// The same time for all.
const NOW_MS: u64 = 1_800_000_000_000;
const MESSAGES: usize = 5;

/// Files in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

/// One of them, to be appended to.
struct Appended(Memory, String);

pub(crate) fn run(bytes: &[u8]) {
    let mut script = Bytes(bytes);
    let files = Memory::default();
    let mut valid = Vec::new();
    for number in 0..1 + script.below(2) as u32 {
        let content = segment(number, &mut script, &mut valid);
        let name = format!("00000001-000-{number:06}.segment");
        files.0.lock().unwrap().insert(name, content);
    }
    let first = match start(&files) {
        Ok(opened) => told(opened, &valid),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.is_empty() && !line.contains('\n'), "{line}");
            return;
        }
    };
    let second = start(&files).expect("what was read is read again");
    assert_eq!(first, told(second, &valid), "the next start finds the same");
}

fn start(files: &Memory) -> Result<Opened, OpenError> {
    open(Options {
        files: Arc::new(files.clone()),
        shards: 2,
        fsync: Fsync::Turn,
        segment_bytes: 1 << 20,
        hasher: RandomState::with_seeds(1, 2, 3, 4),
        unix_ms: NOW_MS,
        ids_ms: 120_000,
        bounds: &|_, _| {
            Some(Bounds {
                messages: MESSAGES,
                bytes: 1 << 20,
                ttl_sec: 3_600,
            })
        },
        owner: &|_, channel| channel.len() as u16 % 2,
        draw: &|| Epoch::new(b"drawn-00"),
    })
}

/// A publication: channel, epoch, number, frame.
type Found = (String, String, u64, Vec<u8>);

/// What a start has found, checked, and that its run ends in order.
fn told(opened: Opened, valid: &[Found]) -> Vec<Found> {
    let mut all = Vec::new();
    for (mut writer, channels) in opened.shards {
        writer.end(0);
        for channel in channels {
            assert!((1..=MESSAGES).contains(&channel.items.len()));
            let first = channel.last + 1 - channel.items.len() as u64;
            for (offset, item) in channel.items.iter().enumerate() {
                let it = item.publication().expect("what is kept is a publication");
                assert_eq!(it.seq, first + offset as u64, "no gaps");
                let found = (
                    it.channel.to_owned(),
                    it.epoch.to_owned(),
                    it.seq,
                    it.frame.to_owned(),
                );
                assert!(valid.contains(&found), "{found:?} is invented");
                all.push(found);
            }
        }
    }
    all.sort();
    all
}

/// Makes a segment: sound records as the script says, then whatever is left of its line.
fn segment(number: u32, script: &mut Bytes<'_>, valid: &mut Vec<Found>) -> Vec<u8> {
    let mut content = b"ringhist".to_vec();
    content.extend_from_slice(&1_u32.to_le_bytes());
    content.extend_from_slice(&[0; 4]);
    content.extend_from_slice(&1_u64.to_le_bytes());
    content.extend_from_slice(&number.to_le_bytes());
    content.extend_from_slice(&0_u64.to_le_bytes());
    content.extend_from_slice(&checksum(&content).to_le_bytes());
    for _ in 0..script.below(24) {
        let payload = record(script, valid);
        let mut sealed = (payload.len() as u32).to_le_bytes().to_vec();
        sealed.extend_from_slice(&payload);
        let sum = checksum(&sealed);
        content.extend_from_slice(&sealed[..4]);
        content.extend_from_slice(&sum.to_le_bytes());
        content.extend_from_slice(&payload);
    }
    // Damage: a byte that changes, an end that is missing, bytes that are nobody's.
    if script.below(2) == 1 {
        let at = script.byte() as usize * 251 + script.byte() as usize;
        let at = at % content.len();
        content[at] ^= script.byte();
    }
    let missing = script.below(64);
    content.truncate(content.len().saturating_sub(missing));
    let more = script.below(32);
    content.extend_from_slice(script.take(more));
    content
}

fn record(script: &mut Bytes<'_>, valid: &mut Vec<Found>) -> Vec<u8> {
    let channel = ["a", "bb", "chat/room"][script.below(3)];
    let epoch = ["epoch-01", "epoch-02"][script.below(2)];
    let seq = u64::from(script.byte() % 12);
    let kind = script.below(8);
    let code = [1, 1, 1, 1, 2, 3, 4, 9][kind];
    let mut payload = vec![code, 1];
    payload.extend_from_slice(&(channel.len() as u16).to_le_bytes());
    payload.extend_from_slice(b"x");
    payload.extend_from_slice(channel.as_bytes());
    match code {
        1 => {
            let first = seq.saturating_sub(script.below(4) as u64);
            let frame = [script.byte(); 3];
            let age_ms = [0, 1_000, 10_000_000][script.below(3)];
            payload.extend_from_slice(&60_u32.to_le_bytes());
            payload.extend_from_slice(&(NOW_MS - age_ms).to_le_bytes());
            payload.extend_from_slice(&first.to_le_bytes());
            payload.extend_from_slice(&seq.to_le_bytes());
            payload.extend_from_slice(&[8, 3, 0, 0, 0]);
            payload.extend_from_slice(epoch.as_bytes());
            payload.extend_from_slice(b"ann");
            payload.extend_from_slice(&frame);
            valid.push((channel.into(), epoch.into(), seq, frame.to_vec()));
        }
        2 => {
            for (name, last) in [(epoch, seq), ("epoch-01", u64::from(script.byte() % 12))] {
                payload.extend_from_slice(&last.to_le_bytes());
                payload.push(8);
                payload.extend_from_slice(name.as_bytes());
            }
        }
        4 => payload = vec![4, 0, 0, 0],
        _ => {}
    }
    payload
}

/// CRC-32, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = if sum & 1 == 1 { 0xEDB8_8320 } else { 0 };
            sum = sum >> 1 ^ carry;
        }
    }
    !sum
}

impl Files for Memory {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        let before = self.0.lock().unwrap().insert(name.into(), Vec::new());
        assert!(before.is_none(), "{name} is there");
        Ok(Box::new(Appended(self.clone(), name.into())))
    }

    fn read(&self, name: &str, into: &mut Vec<u8>) -> io::Result<()> {
        into.clone_from(&self.0.lock().unwrap()[name]);
        Ok(())
    }

    fn cut(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        files.get_mut(name).unwrap().truncate(bytes as usize);
        Ok(())
    }

    fn sync(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        let content = files.remove(from).unwrap();
        files.insert(to.into(), content);
        Ok(())
    }
}

impl SegmentFile for Appended {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.0.0.lock().unwrap();
        files.get_mut(&self.1).unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.0.cut(&self.1, bytes)
    }
}
