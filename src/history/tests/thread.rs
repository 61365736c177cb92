//! The thread, and a directory of the file system.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use super::model::hasher;
use crate::history::{Bounds, Directory, Epoch, Files, Fsync, Opened, Options, open, start};
use crate::proto::records::{self, Publication};

fn open_at(path: &Path, fsync: Fsync) -> Opened {
    open(Options {
        files: Arc::new(Directory::open(path).unwrap()),
        shards: 1,
        fsync,
        segment_bytes: 10_000,
        hasher: hasher(),
        unix_ms: 1_000,
        ids_ms: 0,
        bounds: &|_, _| {
            Some(Bounds {
                messages: 5_000,
                bytes: 1 << 20,
                ttl_sec: 60,
            })
        },
        owner: &|_, _| 0,
        draw: &|| Epoch::new(b"drawn-00"),
    })
    .unwrap()
}

fn publish(batch: &mut Vec<u8>, seq: u64) {
    let frame = format!("frame {seq}");
    let publication = Publication {
        app: "app",
        channel: "room",
        epoch: "epoch-01",
        seq,
        first: 1,
        time_ms: 1_000,
        ttl_sec: 60,
        from: "ann",
        id: "m-1",
        metadata: r#"{"name":"Ann"}"#,
        frame: frame.as_bytes(),
    };
    records::push_publication(batch, &publication);
}

#[test]
fn all_that_was_handed_over_is_there_after_an_orderly_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history");
    for fsync in [Fsync::Never, Fsync::Interval, Fsync::Turn] {
        let (writer, _) = open_at(&path, fsync).shards.pop().unwrap();
        let mut writing = start(writer, Instant::now(), hasher(), None).unwrap();
        for seq in 1..=3_000 {
            let mut batch = Vec::new();
            publish(&mut batch, seq);
            writing.log.push(&mut batch);
            writing.log.send();
            while writing.log.next_settled().is_some() {}
        }
        drop(writing.log);
        writing.thread.join().unwrap();
        let (mut writer, channels) = open_at(&path, fsync).shards.pop().unwrap();
        let [channel] = &channels[..] else {
            panic!("{} channels", channels.len());
        };
        assert_eq!((channel.epoch.as_str(), channel.last), ("epoch-01", 3_000));
        assert_eq!(channel.items.len(), 3_000);
        let last = channel.items.back().unwrap().publication().unwrap();
        assert_eq!(
            (last.from, last.id, last.metadata),
            ("ann", "m-1", r#"{"name":"Ann"}"#)
        );
        assert_eq!(last.frame, b"frame 3000");
        writer.end(0);
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn whoever_waits_is_told_when_a_batch_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, _) = open_at(directory.path(), Fsync::Turn).shards.pop().unwrap();
    let (sender, told) = mpsc::channel();
    let tell = Box::new(move || sender.send(()).unwrap());
    let mut writing = start(writer, Instant::now(), hasher(), Some(tell)).unwrap();
    let mut batch = Vec::new();
    publish(&mut batch, 1);
    let number = writing.log.push(&mut batch);
    assert!(batch.is_empty());
    writing.log.send();
    told.recv().unwrap();
    assert_eq!(writing.log.next_settled(), Some((number, true)));
    assert_eq!(writing.log.next_settled(), None);
    assert!(!writing.log.has_backlog());
    // It is there although nothing has ended. The directory is the writer's alone.
    let copy = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600);
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let (_, channels) = open_at(copy.path(), Fsync::Turn).shards.pop().unwrap();
    assert_eq!(channels[0].items.len(), 1);
    let refused = Directory::open(directory.path()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
}

#[test]
fn what_is_no_file_in_place_of_a_segment_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000001-000-000000.segment");
    let made = rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR);
    made.unwrap();
    let files = Directory::open(directory.path()).unwrap();
    let refused = files.read("00000001-000-000000.segment", &mut Vec::new());
    assert_eq!(refused.unwrap_err().to_string(), "it is no file");
}
