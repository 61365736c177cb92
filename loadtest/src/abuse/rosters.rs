//! Rosters as connections are told of them, kept as what is enough to compare: how many members
//! each has, and a sum over their ids. A member that is told twice, left out or forgotten makes
//! another sum.

/// How a presence frame begins, before the name of its channel.
const BEGINNING: &[u8] = b"{\"type\":\"presence\",\"channel\":\"";
const JOINED: &[u8] = b"\",\"joined\":[";
const LEFT: &[u8] = b"],\"left\":[";
const END: &[u8] = b"]}";
/// How an entry begins, before the id of its peer; those of an attack have no metadata.
const ENTRY: &[u8] = b"{\"peerId\":\"";
const ENTRY_END: &[u8] = b"\"}";

/// A set of peer ids, for comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Digest {
    /// How many there are.
    pub count: i64,
    sum: u64,
}

impl Digest {
    /// With this peer too.
    pub(super) fn add(&mut self, id: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash(id));
    }

    /// Without it.
    pub(super) fn remove(&mut self, id: &[u8]) {
        self.count -= 1;
        self.sum = self.sum.wrapping_sub(hash(id));
    }
}

/// FNV-1a, mixed so that sums of hashes of similar ids differ.
fn hash(id: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in id {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
}

#[derive(Debug)]
struct Roster {
    channel: Box<[u8]>,
    digest: Digest,
}

/// The rosters of one connection.
#[derive(Debug, Default)]
pub(super) struct Rosters {
    known: Vec<Roster>,
    /// Frames that are not presence as the protocol has it.
    pub faults: u32,
    /// Peers named in all frames.
    pub named: u64,
}

impl Rosters {
    /// Takes a presence frame: the first of a channel is its snapshot, others are changes.
    pub(super) fn take(&mut self, frame: &[u8]) {
        if self.read(frame).is_none() {
            self.faults += 1;
        }
    }

    fn read(&mut self, frame: &[u8]) -> Option<()> {
        let rest = frame.strip_prefix(BEGINNING)?.strip_suffix(END)?;
        let (channel, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
        let rest = rest.strip_prefix(JOINED)?;
        // No id has a bracket.
        let (joined, left) = rest.split_at_checked(memchr::memchr(b']', rest)?)?;
        let left = left.strip_prefix(LEFT)?;
        let at = self.known.iter().position(|it| *it.channel == *channel);
        let at = match at {
            Some(at) => at,
            None if left.is_empty() => {
                self.known.push(Roster {
                    channel: channel.into(),
                    digest: Digest::default(),
                });
                self.known.len() - 1
            }
            None => return None,
        };
        let digest = &mut self.known[at].digest;
        self.named += each_id(joined, |id| digest.add(id))?;
        self.named += each_id(left, |id| digest.remove(id))?;
        Some(())
    }

    /// Channels whose snapshots have come.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether the roster of a channel is exactly this.
    pub(super) fn is(&self, channel: &str, right: Digest) -> bool {
        let mut known = self.known.iter();
        let roster = known.find(|it| *it.channel == *channel.as_bytes());
        self.faults == 0 && roster.is_some_and(|it| it.digest == right)
    }
}

/// Calls `then` with each id of a list. Returns how many there were.
fn each_id(mut list: &[u8], mut then: impl FnMut(&[u8])) -> Option<u64> {
    let mut count = 0;
    while !list.is_empty() {
        let rest = list.strip_prefix(ENTRY)?;
        let (id, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
        let rest = rest.strip_prefix(ENTRY_END)?;
        then(id);
        count += 1;
        list = match rest {
            [] => rest,
            [b',', more @ ..] if !more.is_empty() => more,
            _ => return None,
        };
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(channel: &str, joined: &[&str], left: &[&str]) -> Vec<u8> {
        let list = |ids: &[&str]| {
            let entries: Vec<_> = ids
                .iter()
                .map(|id| format!(r#"{{"peerId":"{id}"}}"#))
                .collect();
            entries.join(",")
        };
        format!(
            r#"{{"type":"presence","channel":"{channel}","joined":[{}],"left":[{}]}}"#,
            list(joined),
            list(left)
        )
        .into_bytes()
    }

    fn digest(ids: &[&str]) -> Digest {
        let mut digest = Digest::default();
        ids.iter().for_each(|id| digest.add(id.as_bytes()));
        digest
    }

    #[test]
    fn a_snapshot_and_changes_make_a_roster() {
        let mut rosters = Rosters::default();
        rosters.take(&presence("a", &["p1", "p2", "p3"], &[]));
        rosters.take(&presence("b", &[], &[]));
        rosters.take(&presence("a", &["p4"], &["p2", "p1"]));
        assert!(rosters.is("a", digest(&["p3", "p4"])));
        assert!(rosters.is("b", digest(&[])));
        assert!(!rosters.is("c", digest(&[])), "nothing was told of it");
        assert_eq!((rosters.named, rosters.faults), (6, 0));
    }

    #[test]
    fn whoever_is_told_twice_or_wrongly_is_seen() {
        let right = digest(&["p1", "p2"]);
        for (joined, left) in [
            (&["p2", "p2"][..], &[][..]),
            (&[], &[]),
            (&["p3"], &[]),
            (&["p2", "p4"], &["p5"]),
        ] {
            let mut rosters = Rosters::default();
            rosters.take(&presence("a", &["p1"], &[]));
            rosters.take(&presence("a", joined, left));
            assert!(!rosters.is("a", right), "{joined:?} {left:?}");
        }
        let mut rosters = Rosters::default();
        rosters.take(&presence("a", &[], &["p1"]));
        assert_eq!(rosters.faults, 1, "changes before the snapshot");
        rosters.take(&presence("a", &["p1"], &[])[1..]);
        assert_eq!(rosters.faults, 2);
        rosters.take(&presence("a", &["p1", "p2"], &[]));
        assert!(!rosters.is("a", right), "what was wrong once stays so");
    }
}
