// One channel that we are in, or want to be in: where it stands, and who else is there.
//
// It sends nothing and knows no connection. What always holds: every message up to `seq` of the
// numbering `epoch` was here, and what came ahead of a missing one is known, so that a replay from
// `seq` shows nothing twice.

/** Messages ahead of a missing one of which we keep that they were here. */
const AHEAD_MAX = 1_000;

export class Subscription {
  /** Who waits for the answer. */
  waiting = [];
  /** Whether this connection has asked for it, and whether the first answer is to come. */
  isAsked = false;
  isEntering = false;
  /** Whether another numbering has been noticed, and asked for. */
  isLearning = false;
  /** Whether it was ever there. */
  wasThere = false;
  /** The numbering that `seq` belongs to; null without history. */
  epoch = null;
  /** Everything up to this number was here. */
  seq = 0;
  /** The last message of the replay that is to come, 0 when there is none. */
  replayTo = 0;
  /** Publications that are repeated before the replay is asked for. */
  repeats = 0;
  /** The others in the channel, by id. */
  peers = new Map();
  /** Whether the next presence is a snapshot. */
  isSnapshotDue = false;
  /** Numbers behind `seq` that were here. */
  #ahead = new Set();

  constructor(options) {
    this.options = options;
  }

  /** What to ask for, so that nothing is missed. */
  get since() {
    const { since, last } = this.options;
    if (this.epoch) return { epoch: this.epoch, seq: this.seq };
    return since ?? (Number.isInteger(last) ? { last } : undefined);
  }

  startAt(epoch, seq) {
    Object.assign(this, { epoch, seq, replayTo: 0 });
    this.#ahead.clear();
  }

  /** Takes note of a number; returns whether it is here for the first time. */
  take(seq) {
    if (seq <= this.seq || this.#ahead.has(seq)) return false;
    this.#ahead.add(seq);
    while (this.#ahead.delete(this.seq + 1)) this.seq += 1;
    return true;
  }

  /** Gives up on numbers that others have long overtaken; returns how many. */
  skipMissing() {
    if (this.#ahead.size <= AHEAD_MAX) return 0;
    const before = this.seq;
    this.seq = Math.min(...this.#ahead) - 1;
    const missed = this.seq - before;
    while (this.#ahead.delete(this.seq + 1)) this.seq += 1;
    return missed;
  }

  /** A later ack: it tells of another numbering, if there is one. */
  renumber({ epoch = null, seq = 0 }) {
    this.isLearning = false;
    if (epoch !== this.epoch) this.startAt(epoch, seq);
  }

  /** Tells those who wait; returns whether somebody does. */
  answer(error, value) {
    const all = this.waiting.splice(0);
    for (const { resolve, reject } of all) {
      if (error) reject(error);
      else resolve(value);
    }
    return all.length > 0;
  }

  /** Begins as the `ack` says; returns the `gap` that it tells of, if any. */
  begin(ack, since) {
    const returns = this.wasThere || since?.epoch !== undefined;
    this.wasThere = true;
    this.options.since = this.options.last = undefined;
    const { epoch, seq, recovered } = ack;
    if (!epoch) {
      this.startAt(null, 0);
      // A server that knows of no history says nothing of one.
      return returns ? { reason: seq === undefined ? "unsupported" : "no-history" } : null;
    }
    if (since?.epoch && recovered) {
      // A server that died may go on under another name, with other messages from `seq` on.
      if (this.epoch !== epoch) this.startAt(epoch, since.seq);
      this.replayTo = seq > since.seq ? seq : 0;
      return null;
    }
    if (since?.last !== undefined) {
      this.startAt(epoch, seq - (ack.count ?? 0));
      this.replayTo = ack.count ? seq : 0;
      return null;
    }
    const isSame = since?.epoch === epoch;
    this.startAt(epoch, seq);
    if (!returns) return null;
    const reason = since?.epoch ? "lost" : "no-history";
    return isSame && seq > since.seq ? { reason, missed: seq - since.seq } : { reason };
  }

  /** Takes a presence; returns who came and who went. */
  presence({ joined, left }) {
    const gone = new Map(left.map((peer) => [peer.peerId, peer]));
    if (this.isSnapshotDue) {
      this.isSnapshotDue = false;
      const there = new Set(joined.map(({ peerId }) => peerId));
      for (const [id, peer] of this.peers) if (!there.has(id)) gone.set(id, peer);
    }
    const came = joined.filter(({ peerId }) => !this.peers.has(peerId));
    for (const peer of joined) this.peers.set(peer.peerId, peer);
    const went = [...gone.values()].filter(({ peerId }) => this.peers.delete(peerId));
    return { came, went };
  }
}
