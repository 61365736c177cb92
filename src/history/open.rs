//! The start: all segments are read, what they hold is handed to whoever owns it now, and what
//! goes on otherwise than it ended is written down before anybody is told of it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ahash::RandomState;
use hashbrown::HashMap;

use super::epoch::Epoch;
use super::files::Files;
use super::index::{Graves, Segment};
use super::rebuild::{BoundsOf, Outcome, Rebuild, Rebuilt, Trust};
use super::segment::{HEADER_BYTES, Header, Mark, SegmentId, read_header, read_records};
use super::writer::{Fsync, Start, Writer};
use crate::planted::{Bug, planted};
use crate::proto::records::{self, ChannelKey, Numbering};

/// What the name of a damaged segment ends in.
const DAMAGED: &str = ".damaged";

/// How history is opened.
pub struct Options<'o> {
    /// Where the segments are.
    pub files: Arc<dyn Files>,
    /// Shards of this run.
    pub shards: u16,
    /// When what was written is made durable.
    pub fsync: Fsync,
    /// Bytes from which on a segment is not appended to any more.
    pub segment_bytes: u64,
    /// The process's keys of hashes.
    pub hasher: RandomState,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
    /// How long the id of a publication is remembered, in milliseconds.
    pub ids_ms: u64,
    /// What a channel keeps, by the app's id and its name; `None`: it has no history on disk.
    pub bounds: &'o BoundsOf<'o>,
    /// Which shard owns a channel.
    pub owner: &'o dyn Fn(&str, &str) -> u16,
    /// Draws an epoch.
    pub draw: &'o dyn Fn() -> Epoch,
}

/// What was found: of each shard its writer, and the channels that it owns.
pub struct Opened {
    /// By the number of the shard.
    pub shards: Vec<(Writer, Vec<Rebuilt>)>,
    /// Segments that were cut or put aside.
    pub damaged: usize,
    /// Bytes that were read.
    pub bytes: u64,
}

/// Why history cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// A file or the directory cannot be read.
    Unreadable(String, io::Error),
    /// A segment is of another version of the server.
    OtherVersion(String, u32),
    /// A full disk does not even let a file become shorter.
    ReadOnly(String, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what, error) => write!(
                f,
                "history cannot be read: {what}: {error}; mend the disk, or move the file away: \
                 what is in it is lost then"
            ),
            Self::OtherVersion(name, version) => write!(
                f,
                "history cannot be read: {name} has version {version} of the format, written by \
                 another version of the server; start that one, or move the file away"
            ),
            Self::ReadOnly(name, error) => write!(
                f,
                "history cannot be written: {name}: {error}; make the file system writable"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Reads all segments.
///
/// # Errors
/// See [`OpenError`]. Damage is none: it is cut off or put aside, and logged.
pub fn open(options: Options<'_>) -> Result<Opened, OpenError> {
    let mut scan = Scan::begin(&options)?;
    let mut ids = scan.ids.clone();
    ids.sort_unstable();
    let last_run = ids.last().map_or(0, |id| id.run);
    let last_run = last_run.max(scan.marked.map_or(0, |mark| mark.run));
    let run = last_run.saturating_add(1);
    let rebuild = Rebuild::new(&options);
    let rebuild = scan.read(&ids, rebuild)?;
    scan.make_durable(last_run);
    let trust = scan.trust(last_run);
    let (outcomes, graves) = rebuild.finish(&trust, options.draw);
    let (shards, all_begun) = share_out(outcomes, graves, &scan, run, &options);
    let count = options.shards.max(1);
    scan.mark(all_begun.then_some(Mark { run, shards: count }));
    if !all_begun {
        scan.reopen_lines()?;
    }
    Ok(Opened {
        shards,
        damaged: scan.damaged,
        bytes: scan.bytes,
    })
}

/// The segments of one shard in one run.
struct Line {
    run: u64,
    /// Nothing of it is damaged or missing.
    is_sound: bool,
    /// Something of it is, and it was not the end of the run that did it.
    is_damaged: bool,
    /// The last of its segments was cut off where nothing follows.
    is_torn: bool,
    /// The segment that says that nothing more follows, and its length before that.
    ended: Option<(SegmentId, usize)>,
}

/// Segments while they are read.
struct Scan<'o> {
    /// The mark of the last run that could leave one.
    marked: Option<Mark>,
    names: Vec<String>,
    files: &'o dyn Files,
    ids: Vec<SegmentId>,
    segments: Vec<Arc<Segment>>,
    lines: Vec<Line>,
    damaged: usize,
    bytes: u64,
}

impl<'o> Scan<'o> {
    fn begin(options: &'o Options<'_>) -> Result<Self, OpenError> {
        let files = &*options.files;
        let unreadable = |error| OpenError::Unreadable("the directory".to_owned(), error);
        let names = files.list().map_err(unreadable)?;
        Ok(Self {
            files,
            marked: names.iter().filter_map(|it| Mark::of_file(it)).max(),
            ids: names
                .iter()
                .filter_map(|it| SegmentId::of_file(it))
                .collect(),
            names,
            segments: Vec::new(),
            lines: Vec::new(),
            damaged: 0,
            bytes: 0,
        })
    }

    /// Reads segments in order.
    fn read<'r>(
        &mut self,
        ids: &[SegmentId],
        mut rebuild: Rebuild<'r>,
    ) -> Result<Rebuild<'r>, OpenError> {
        let mut bytes = Vec::new();
        for ids in ids.chunk_by(|a, b| a.line() == b.line()) {
            let mut line = Line {
                run: ids[0].run,
                is_sound: true,
                is_damaged: false,
                is_torn: false,
                ended: None,
            };
            let mut before = None;
            for id in ids {
                before = self.segment(*id, before, &mut bytes, &mut line, &mut rebuild)?;
            }
            self.lines.push(line);
        }
        Ok(rebuild)
    }

    /// Reads a segment, behind another one with that number and length. Returns its own.
    fn segment(
        &mut self,
        id: SegmentId,
        before: Option<(u32, u64)>,
        bytes: &mut Vec<u8>,
        line: &mut Line,
        rebuild: &mut Rebuild<'_>,
    ) -> Result<Option<(u32, u64)>, OpenError> {
        let name = id.file_name();
        self.files
            .read(&name, bytes)
            .map_err(|error| OpenError::Unreadable(name.clone(), error))?;
        line.ended = None;
        // A torn end is one only of the last segment.
        line.is_damaged |= std::mem::take(&mut line.is_torn);
        let damaged = self.damaged;
        let Some(before_bytes) = self.accept(id, bytes)? else {
            line.is_sound = false;
            line.is_damaged |= self.damaged > damaged;
            return Ok(None);
        };
        // One that is over may have been removed.
        let follows = |(number, bytes)| number + 1 != id.number || bytes == before_bytes;
        line.is_sound &= before.is_none_or(follows);
        line.is_damaged |= !before.is_none_or(follows);
        let segment = Arc::new(Segment::new(id));
        let (number, mut at) = (self.lines.len(), HEADER_BYTES);
        let whole_bytes = read_records(bytes, |payload| {
            let is_end = records::is_end(payload);
            line.ended = is_end.then_some((id, at));
            at += records::sealed_bytes(payload);
            is_end || rebuild.record(payload, &segment, number)
        });
        self.bytes += bytes.len() as u64;
        segment.bytes.store(whole_bytes as u64, Ordering::Relaxed);
        self.segments.push(segment);
        if whole_bytes < bytes.len() {
            line.is_sound = false;
            match something_follows(&bytes[whole_bytes..]) {
                true => line.is_damaged = true,
                false => line.is_torn = true,
            }
            self.cut(&name, whole_bytes, bytes.len());
        }
        Ok(Some((id.number, whole_bytes as u64)))
    }

    /// Makes durable what the last run has left: what this start believes must not be gone at the
    /// next one. Earlier starts have done so with what came before.
    fn make_durable(&self, run: u64) {
        for segment in self.segments.iter().filter(|it| it.id.run == run) {
            let name = segment.id.file_name();
            if let Err(error) = self.files.sync(&name) {
                tracing::warn!(file = name, %error, "a segment of history is not durable");
            }
        }
    }

    /// Returns of each line what can be believed of a channel whose last record is there.
    fn trust(&self, last_run: u64) -> Vec<Trust> {
        let is_damaged = |line: &Line| line.is_damaged || line.is_torn && line.run < last_run;
        let damaged_runs = self.lines.iter().filter(|line| is_damaged(line));
        let damaged_runs = damaged_runs.map(|line| line.run);
        let last_damaged = damaged_runs.chain(self.incomplete_run()).max();
        let is_whole = |line: &Line| {
            line.is_sound && line.ended.is_some() || planted(Bug::TornTailTakenForWhole)
        };
        let torn_runs = self.lines.iter().filter(|line| !is_whole(line));
        let last_torn = torn_runs.map(|line| line.run).max().max(last_damaged);
        let of = |line: &Line| {
            // Of another line of the same run it had nothing.
            if is_damaged(line) || last_damaged.is_some_and(|run| line.run < run) {
                Trust::Damaged
            } else if is_whole(line) && last_torn.is_none_or(|run| run <= line.run) {
                Trust::Whole
            } else {
                Trust::Torn
            }
        };
        self.lines.iter().map(of).collect()
    }

    /// The last run, if a line of it is missing: somebody has taken a segment away.
    fn incomplete_run(&self) -> Option<u64> {
        let Mark { run, shards } = self.marked?;
        let of_run = self.segments.iter().filter(|it| it.id.run == run);
        let there: BTreeSet<u16> = of_run.map(|it| it.id.shard).collect();
        let missing = (0..shards).find(|shard| !there.contains(shard))?;
        tracing::warn!(
            run,
            shard = missing,
            "segments of the last run are missing: channels go on in other epochs"
        );
        Some(run)
    }

    /// Leaves a mark of this run in place of those of earlier ones, or none, where not every shard
    /// could begin a segment.
    fn mark(&self, mark: Option<Mark>) {
        if let Some(mark) = mark
            && let Err(error) = self.files.create(&mark.file_name())
        {
            tracing::warn!(%error, "a run of history leaves no mark");
        }
        for name in self.names.iter().filter(|it| Mark::of_file(it).is_some()) {
            if let Err(error) = self.files.remove(name) {
                tracing::warn!(file = name, %error, "an old mark of history stays");
            }
        }
    }

    /// Takes back that lines have ended: this run cannot leave a trace of itself, and the next
    /// one must not take what they say for the last word.
    fn reopen_lines(&self) -> Result<(), OpenError> {
        let lines = self.segments.chunk_by(|a, b| a.id.line() == b.id.line());
        lines.filter_map(<[_]>::last).for_each(|it| it.set_stays());
        for (id, at) in self.lines.iter().filter_map(|line| line.ended) {
            let name = id.file_name();
            self.files
                .cut(&name, at as u64)
                .map_err(|error| OpenError::ReadOnly(name, error))?;
        }
        Ok(())
    }

    /// Looks at the header of a segment. Returns the length of the one before it if it
    /// can be read on.
    fn accept(&mut self, id: SegmentId, bytes: &[u8]) -> Result<Option<u64>, OpenError> {
        let name = id.file_name();
        match read_header(bytes, id) {
            Header::Sound(before_bytes) => Ok(Some(before_bytes)),
            Header::OtherVersion(version) => Err(OpenError::OtherVersion(name, version)),
            Header::Short => {
                // It was made when the server ended: there has never been anything in it.
                if let Err(error) = self.files.remove(&name) {
                    tracing::warn!(file = name, %error, "an empty segment stays");
                }
                Ok(None)
            }
            Header::Damaged => {
                self.damaged += 1;
                let moved = self.files.rename(&name, &format!("{name}{DAMAGED}"));
                let bytes = bytes.len();
                let error = moved.err().map(|error| error.to_string());
                tracing::warn!(
                    file = name,
                    bytes,
                    error,
                    "a damaged segment of history is put aside: what is in it is lost"
                );
                Ok(None)
            }
        }
    }

    fn cut(&mut self, name: &str, whole_bytes: usize, bytes: usize) {
        self.damaged += 1;
        let cut = self.files.cut(name, whole_bytes as u64);
        let error = cut.err().map(|error| error.to_string());
        tracing::warn!(
            file = name,
            at = whole_bytes,
            bytes = bytes - whole_bytes,
            error,
            "the damaged end of a segment of history is cut off"
        );
    }
}

/// Whether a whole record stands behind one that is not: then it was not the end of a run that
/// left that one so. A length that is damaged itself hides what follows.
fn something_follows(rest: &[u8]) -> bool {
    records::payloads(rest)
        .next()
        .and_then(|first| rest.get(records::sealed_bytes(first)..))
        .is_some_and(|behind| records::take_sealed(behind).is_some())
}

/// What one shard gets.
struct Share {
    channels: HashMap<Box<[u8]>, super::index::Held, RandomState>,
    rebuilt: Vec<Rebuilt>,
    segments: Vec<Arc<Segment>>,
    /// What is to be written first.
    news: Vec<u8>,
}

fn share_out(
    outcomes: Vec<Outcome>,
    graves: Graves,
    scan: &Scan<'_>,
    run: u64,
    options: &Options<'_>,
) -> (Vec<(Writer, Vec<Rebuilt>)>, bool) {
    let count = options.shards.max(1);
    let mut shares: Vec<_> = (0..count)
        .map(|_| Share {
            channels: HashMap::with_hasher(options.hasher.clone()),
            rebuilt: Vec::new(),
            segments: Vec::new(),
            news: Vec::new(),
        })
        .collect();
    for (number, segment) in scan.segments.iter().enumerate() {
        let share = &mut shares[number % usize::from(count)];
        share.segments.push(Arc::clone(segment));
    }
    for outcome in outcomes {
        let Some((app, channel)) = ChannelKey::of(&outcome.key).texts() else {
            continue;
        };
        let owner = (options.owner)(app, channel).min(count - 1);
        let share = &mut shares[usize::from(owner)];
        match outcome.rebuilt {
            Some(rebuilt) => {
                if outcome.is_renamed {
                    push_numbering(&mut share.news, &rebuilt);
                }
                share.rebuilt.push(rebuilt);
            }
            // Else the next start could go on with what this one did not.
            None if !outcome.held.is_empty() => {
                records::push_forgotten(&mut share.news, app, channel);
            }
            None => {}
        }
        if !outcome.held.is_empty() {
            share.channels.insert(outcome.key, outcome.held);
        }
    }
    let (mut graves, mut all_begun) = (Some(graves), true);
    let shares = shares.into_iter().enumerate();
    let begin = |(shard, mut share): (usize, Share)| {
        let next = SegmentId {
            run,
            // Shards are counted with 16 bits.
            shard: shard as u16,
            number: 0,
        };
        let mut writer = Writer::new(Start {
            files: Arc::clone(&options.files),
            next,
            fsync: options.fsync,
            segment_bytes: options.segment_bytes,
            ids_ms: options.ids_ms,
            channels: share.channels,
            graves: graves.take().unwrap_or_default(),
            segments: share.segments,
        });
        all_begun &= writer.begin(&mut share.news);
        (writer, share.rebuilt)
    };
    (shares.map(begin).collect(), all_begun)
}

fn push_numbering(batch: &mut Vec<u8>, it: &Rebuilt) {
    let earlier = it.earlier.iter();
    let numbering = Numbering {
        app: &it.app,
        channel: &it.channel,
        epoch: it.epoch.as_str(),
        last: it.last,
        earlier: earlier
            .map(|(epoch, last)| (epoch.as_str(), *last))
            .collect(),
    };
    records::push_numbering(batch, &numbering);
}
