//! What is known of the numberings of channels: what each number is, and which positions the
//! server must go on from. Knows nothing of how the server keeps anything.

use std::collections::BTreeMap;

/// What a reader has of a channel: everything up to a number.
#[derive(Clone, Debug)]
pub(super) struct Position {
    pub epoch: String,
    pub seq: u64,
    /// What follows was not published before; see [`Numberings::aged_ms`].
    pub since_ms: u64,
}

/// Positions of an epoch, from one to another.
#[derive(Clone, Debug)]
struct Span {
    epoch: String,
    low: u64,
    high: u64,
}

/// What must be true of the first epoch that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Any,
    /// One that was never told.
    New,
    Same(String),
}

/// The publications of an epoch.
#[derive(Default)]
struct Epoch {
    numbered: BTreeMap<u64, u64>,
    places: BTreeMap<u64, u64>,
}

#[derive(Default)]
struct Channel {
    epochs: BTreeMap<String, Epoch>,
    /// The epoch that holds.
    current: Option<String>,
    expected: Option<Expected>,
    /// The last number of that epoch that was seen.
    newest: u64,
    /// When the channel was used last, and published in last, as far as is known.
    used_ms: u64,
    published_ms: u64,
    /// Positions that this run must go on from, beside those of the present epoch.
    held: Vec<Span>,
    /// Those that are promised to the next run.
    promised: Vec<Span>,
}

/// A publication that was sent.
struct Sent {
    channel: usize,
    ms: u64,
}

/// See the top of this file.
pub(super) struct Numberings {
    channels: Vec<Channel>,
    sent: BTreeMap<u64, Sent>,
    /// How much older things may have become since the beginning, by either clock.
    pub aged_ms: u64,
    ttl_ms: u64,
}

impl Numberings {
    pub(super) fn new(channels: usize, ttl_ms: u64) -> Self {
        Self {
            channels: (0..channels).map(|_| Channel::default()).collect(),
            sent: BTreeMap::new(),
            aged_ms: 0,
            ttl_ms,
        }
    }

    /// A publication is sent for the first time.
    pub(super) fn sent(&mut self, number: u64, channel: usize) {
        let ms = self.aged_ms;
        self.sent.insert(number, Sent { channel, ms });
    }

    /// Where a publication was sent to, and when first.
    pub(super) fn sent_to(&self, number: u64) -> (usize, u64) {
        let sent = &self.sent[&number];
        (sent.channel, sent.ms)
    }

    /// Whether something from then may be over its time.
    pub(super) fn may_be_over(&self, ms: u64) -> bool {
        self.aged_ms - ms >= self.ttl_ms
    }

    /// A number of the present epoch is that publication.
    pub(super) fn note(&mut self, channel: usize, epoch: &str, seq: u64, number: u64) {
        let sent = self.sent.get(&number).expect("invented");
        assert_eq!(sent.channel, channel, "in another channel");
        let it = &mut self.channels[channel];
        it.used_ms = it.used_ms.max(sent.ms);
        it.published_ms = it.published_ms.max(sent.ms);
        it.epochs
            .entry(epoch.to_owned())
            .or_default()
            .note(seq, number);
        if it.current.as_deref() == Some(epoch) {
            it.newest = it.newest.max(seq);
        }
    }

    /// A channel is said to be at a number of an epoch, by an answer to what was asked at `ms`.
    /// Returns whether it is the first time that this epoch is told.
    pub(super) fn told(&mut self, channel: usize, epoch: &str, seq: u64, ms: u64) -> bool {
        let it = &mut self.channels[channel];
        it.used_ms = it.used_ms.max(ms);
        let is_first = it.current.is_none();
        if is_first {
            match it.expected.take() {
                Some(Expected::New) => {
                    let is_new = !it.epochs.contains_key(epoch);
                    assert!(is_new, "the epoch of an end that was none in order goes on");
                }
                Some(Expected::Same(known)) => {
                    assert_eq!(known, epoch, "the numbering of room-{channel} has changed");
                }
                Some(Expected::Any) | None => {}
            }
            (it.current, it.newest) = (Some(epoch.to_owned()), 0);
            it.epochs.entry(epoch.to_owned()).or_default();
        }
        let current = it.current.as_deref();
        assert_eq!(
            current,
            Some(epoch),
            "the numbering of room-{channel} has changed"
        );
        it.newest = it.newest.max(seq);
        is_first
    }

    /// A reader goes on in an epoch from what it has: all of that is the same there.
    pub(super) fn goes_on(&mut self, channel: usize, from: &Position, epoch: &str) {
        let epochs = &mut self.channels[channel].epochs;
        if from.epoch == epoch {
            return;
        }
        let known = epochs.get(&from.epoch).into_iter();
        let known = known.flat_map(|it| it.numbered.range(..=from.seq));
        let known: Vec<(u64, u64)> = known.map(|(seq, number)| (*seq, *number)).collect();
        let into = epochs.entry(epoch.to_owned()).or_default();
        known
            .into_iter()
            .for_each(|(seq, number)| into.note(seq, number));
    }

    /// Whether the server must know where that is, if what follows is kept.
    pub(super) fn must_know(&self, channel: usize, from: &Position) -> bool {
        let it = &self.channels[channel];
        let is_held =
            |span: &Span| span.epoch == from.epoch && (span.low..=span.high).contains(&from.seq);
        it.current.as_ref() == Some(&from.epoch) || it.held.iter().any(is_held)
    }

    /// The publication of a number was acked as one that the next run will have.
    pub(super) fn promise(&mut self, channel: usize, epoch: &str, seq: u64) {
        self.channels[channel].promise(epoch, seq - 1, seq);
    }

    /// Where a run begins is written: what it must go on from, the next one must, too.
    pub(super) fn promise_again(&mut self, channel: usize) {
        let it = &mut self.channels[channel];
        if let Some((span, epoch)) = it.held.last().cloned().zip(it.current.clone()) {
            it.promise(&epoch, span.low, span.high);
        }
    }

    /// A position of which the server was heard to have promised what follows.
    pub(super) fn newest_promised(&self, channel: usize) -> Option<Position> {
        let it = &self.channels[channel];
        let span = it.promised.last().or(it.held.last())?;
        let seq = span.high.checked_sub(1)?;
        let number = it.epochs.get(&span.epoch)?.numbered.get(&span.high)?;
        Some(Position {
            epoch: span.epoch.clone(),
            seq,
            since_ms: self.sent[number].ms,
        })
    }

    /// Nothing is promised to the next run any more.
    pub(super) fn break_promises(&mut self) {
        self.channels.iter_mut().for_each(|it| it.promised.clear());
    }

    /// Everything that was acked is promised to the next run.
    pub(super) fn promise_all(&mut self) {
        for it in &mut self.channels {
            if let Some(epoch) = it.current.clone().filter(|_| it.newest > 0) {
                it.promise(&epoch, 0, it.newest);
            }
        }
    }

    /// Another run begins, which must go on from what was promised. Its epochs are the same if
    /// that is `in_order`, and other ones if not; `None`: neither is sure.
    pub(super) fn restart(&mut self, in_order: Option<bool>) {
        let (aged_ms, ttl_ms) = (self.aged_ms, self.ttl_ms);
        for it in &mut self.channels {
            if aged_ms - it.published_ms >= ttl_ms {
                it.promised.clear();
            }
            it.held.clone_from(&it.promised);
            let same = it.current.take().filter(|_| !it.held.is_empty());
            let before = it.expected.take();
            it.expected = Some(match (in_order, same, before) {
                (Some(false), ..) => Expected::New,
                (Some(true), Some(epoch), _) => Expected::Same(epoch),
                // Nobody has asked in the run before.
                (Some(true), None, Some(before)) => before,
                _ => Expected::Any,
            });
        }
    }

    /// Channels may have ended: those that nobody has used for as long as anything is kept, or all.
    pub(super) fn may_have_ended(&mut self, all: bool) {
        let (aged_ms, ttl_ms) = (self.aged_ms, self.ttl_ms);
        for it in &mut self.channels {
            if all || aged_ms - it.used_ms >= ttl_ms {
                it.held.clear();
                it.promised.clear();
                (it.current, it.expected, it.newest) = (None, None, 0);
            }
        }
    }

    /// The present position of a channel, as far as is known.
    pub(super) fn newest(&self, channel: usize) -> (Option<&str>, u64) {
        let it = &self.channels[channel];
        (it.current.as_deref(), it.newest)
    }
}

impl Channel {
    fn promise(&mut self, epoch: &str, low: u64, high: u64) {
        match self.promised.iter_mut().find(|it| it.epoch == epoch) {
            Some(span) => {
                span.low = span.low.min(low);
                span.high = span.high.max(high);
            }
            None => self.promised.push(Span {
                epoch: epoch.to_owned(),
                low,
                high,
            }),
        }
    }
}

impl Epoch {
    fn note(&mut self, seq: u64, number: u64) {
        let known = self.numbered.entry(seq).or_insert(number);
        assert_eq!(*known, number, "two publications with one number");
        let place = self.places.entry(number).or_insert(seq);
        assert_eq!(*place, seq, "a publication with two numbers");
    }
}
