// The JavaScript client of ringmesh: one connection that comes back by itself and misses nothing.
//
// An ES module without dependencies, for browsers, Node 20 (with `ws`) and 22, Deno and Bun. The
// server that it speaks to serves it as one file at `/v1/client.js`, and its types at
// `/v1/client.d.ts`. Names and events are those of `@metered-ca/realtime`, and some more. How
// messages look is in `src/docs/protocol.md`; what they mean to an application is not known here.
//
// What always holds: a channel with history shows each message once and in order, from the first
// subscription on, over all connections; or a `gap` event comes where that cannot be. A
// publication is in the channel once its promise is fulfilled.

import { Emitter, OversizedPayloadError, bytesOf, named } from "./basics.js";
import { Connection } from "./connection.js";
import { Subscription } from "./subscription.js";

export { OversizedPayloadError, SignallingConnectError } from "./basics.js";

/** Where this file came from: the server, if it was not copied. */
const ORIGIN = import.meta.url.startsWith("http") ? import.meta.url : undefined;
/** Errors after which the same command may succeed. */
const PASSING = new Set(["backend_error", "internal_error"]);
const againInMs = () => 500 + 1_000 * Math.random();

export class SignallingClient extends Emitter {
  #options;
  #connection;
  #subscriptions = new Map();
  /** Publications that are not acked, in their order. */
  #outbox = new Set();
  #idPrefix = Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) =>
    part.toString(36)).join("");
  #idCount = 0;
  /** Channels that have history, as far as acks have told. */
  #withHistory = new Set();

  constructor(options = {}) {
    super();
    const { apiKey, tokenProvider, url = ORIGIN, webSocketFactory } = options;
    if (!apiKey === !tokenProvider) throw new TypeError("give either apiKey or tokenProvider");
    if (!url) throw new TypeError("url is missing");
    if (!webSocketFactory && typeof WebSocket === "undefined") {
      throw new TypeError("there is no WebSocket here: give webSocketFactory");
    }
    const { protocol, host } = new URL(url);
    const { initialDelayMs = 1_000, multiplier = 2, maxDelayMs = 30_000, maxAttempts = Infinity } =
      options.reconnect || {};
    this.#options = {
      autoResubscribe: true,
      atLeastOnce: false,
      ackTimeoutMs: 20_000,
      connectTimeoutMs: 15_000,
      inactivityTimeoutMs: 60_000,
      publishTimeoutMs: 60_000,
      tokenProviderTimeoutMs: 10_000,
      webSocketFactory: (at) => new WebSocket(at),
      ...options,
      url: `${protocol.replace("http", "ws")}//${host}/v1`,
      backOff: { initialDelayMs, multiplier, maxDelayMs, maxAttempts },
    };
    this.#connection = new Connection(this.#options, {
      emit: (event, payload) => this.emit(event, payload),
      welcome: () => this.#catchUp(),
      refreshed: (ack) => this.#refreshed(ack),
      frame: (type, fields) => this.#frame(type, fields),
      lost: (code) => this.#lost(code),
      ended: () => this.#ended(),
    });
  }

  /** idle, connecting, connected, reconnecting or closed. */
  get state() {
    return this.#connection.state;
  }

  /** The id that others know this connection by. */
  get peerId() {
    return this.#connection.peerId;
  }

  /**
   * Connects; fulfilled with the first `welcome`. Without `retry` the first failure is final, as
   * it is in the published client.
   */
  connect({ retry = false } = {}) {
    if (this.#connection.isOver) return this.#connection.open(retry);
    return Promise.reject(new Error(`SignallingClient.connect: invalid state '${this.state}'`));
  }

  /** Ends the connection for good; fulfilled when it is closed, after a second at most. */
  async close(code = 1000, reason = "client requested close") {
    const closed = this.#connection.close(code, reason);
    this.#subscriptions.clear();
    await closed;
  }

  /**
   * Joins a channel, now or as soon as there is a connection, and again on each later one.
   * `since` (what `position` has returned) or `last` ask for messages of the past.
   */
  subscribe(channel, options = {}) {
    if (this.#connection.isOver) return Promise.reject(this.#notConnected());
    const known = this.#subscriptions.get(channel);
    const subscription = known ?? new Subscription({ ...options });
    subscription.options.includeSenderMetadata = options.includeSenderMetadata;
    this.#subscriptions.set(channel, subscription);
    return new Promise((resolve, reject) => {
      subscription.waiting.push({ resolve, reject });
      if (this.#connection.isReady) this.#enter(channel, subscription);
    });
  }

  async unsubscribe(channel) {
    const subscription = this.#subscriptions.get(channel);
    this.#subscriptions.delete(channel);
    subscription?.answer(named("Unsubscribed", `unsubscribed from ${channel}`));
    this.#release(channel);
    if (!this.#connection.isReady) return;
    await this.#connection.command({ type: "unsubscribe", channel });
  }

  /** Where a channel with history stands, to be kept for `since`; null without history. */
  position(channel) {
    const { epoch, seq } = this.#subscriptions.get(channel) ?? {};
    return epoch ? { epoch, seq } : null;
  }

  /** Who else is in a channel. */
  peers(channel) {
    return [...(this.#subscriptions.get(channel)?.peers.values() ?? [])];
  }

  /**
   * Publishes, now or when there is a connection again. Fulfilled with the message's place once
   * the channel has it. What a lost connection left without an answer is repeated where the server
   * can tell a repetition (`atLeastOnce`: everywhere), and else rejected as `DisconnectedError`.
   */
  publish(channel, data, options = {}) {
    if (this.#connection.isOver) return Promise.reject(this.#notConnected());
    const { atLeastOnce, publishTimeoutMs } = { ...this.#options, ...options };
    return new Promise((resolve, reject) => {
      const text = this.#json(data);
      const id = `${this.#idPrefix}-${++this.#idCount}`;
      const entry = { channel, text, id, atLeastOnce, resolve, reject, sentAs: null };
      const late = "the publication was not acknowledged in time";
      const giveUp = () => this.#settle(entry, named("TimeoutError", late));
      entry.timer = setTimeout(giveUp, publishTimeoutMs);
      entry.isHeld = [...this.#outbox].some((it) => it.isHeld && it.channel === channel);
      this.#outbox.add(entry);
      if (this.#connection.isReady && !entry.isHeld) this.#post(entry);
    });
  }

  /** Sends to one peer; never repeated. */
  async send(to, data) {
    const text = this.#json(data);
    if (!this.#connection.isReady) throw this.#notConnected();
    await this.#connection.command({ type: "send", to }, text);
  }

  /** What a log shows of this: no credential. */
  toJSON() {
    return { state: this.state, peerId: this.peerId };
  }

  #notConnected() {
    return named("NotConnectedError", `SignallingClient: not connected (state=${this.state})`);
  }

  #json(data) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("data is no JSON value");
    const [size, cap] = [bytesOf(text), this.#connection.maxMessageSize];
    if (size > cap) throw new OversizedPayloadError(size, cap);
    return text;
  }

  // --- what the connection tells --------------------------------------------------------------

  /** There is a new one: publications without an ack, and all channels, from where they were. */
  #catchUp() {
    const held = new Set();
    for (const entry of this.#outbox) {
      const { channel, sentAs } = entry;
      const isKept = this.#withHistory.has(channel);
      if (!sentAs || (isKept && sentAs === this.peerId)) continue;
      // The server takes a repetition by another peer for a new one: the replay will tell.
      if (isKept && this.#subscriptions.get(channel)?.epoch) held.add(channel);
      else if (!entry.atLeastOnce) this.#giveUp(entry);
    }
    for (const entry of this.#outbox) {
      entry.isHeld = held.has(entry.channel);
      const subscription = this.#subscriptions.get(entry.channel);
      // Its place has to be known before the replay, which shows it too.
      entry.isRepeat = Boolean(entry.sentAs && subscription && !entry.isHeld);
      if (entry.isRepeat) subscription.repeats += 1;
      if (!entry.isHeld) this.#post(entry);
    }
    for (const [channel, it] of this.#subscriptions) if (!it.repeats) this.#enter(channel, it);
  }

  /** Where presence is allowed again, each channel is shown anew. */
  #refreshed({ snapshots }) {
    if (!snapshots) return;
    for (const it of this.#subscriptions.values()) it.isSnapshotDue = true;
  }

  #frame(type, fields) {
    if (type === "message") this.#message(fields);
    else if (type === "presence") this.#presence(fields);
    else if (type === "direct") this.emit("direct", fields);
    else if (type !== "error") return;
    else if (this.#subscriptions.has(fields.channel)) this.#leave(fields.channel, fields);
    else this.emit("server-error", fields);
  }

  #lost(code) {
    for (const it of this.#subscriptions.values()) {
      it.repeats = 0;
      it.isAsked = it.isEntering = it.isLearning = false;
    }
    for (const entry of this.#outbox) {
      entry.isRepeat = false;
      const mayRepeat = entry.atLeastOnce || this.#withHistory.has(entry.channel);
      // What was too long would be too long again.
      if (entry.sentAs && (!mayRepeat || code === 1009)) this.#giveUp(entry);
    }
    if (this.#options.autoResubscribe) return;
    this.#rejectJoins();
    this.#subscriptions.clear();
  }

  #ended() {
    for (const entry of this.#outbox) this.#giveUp(entry);
    this.#rejectJoins();
  }

  /** Whoever waits to be in a channel does not get there, and another connection will not try. */
  #rejectJoins() {
    for (const [channel, it] of this.#subscriptions) {
      const isWaitedFor = it.answer(named("DisconnectedError", "the connection has ended"));
      if (isWaitedFor && !it.wasThere) this.#subscriptions.delete(channel);
    }
  }

  // --- channels -------------------------------------------------------------------------------

  #enter(channel, subscription) {
    const { includeSenderMetadata } = subscription.options;
    // Only the first one on a connection has a replay.
    const isFirst = !subscription.isAsked;
    const since = isFirst ? subscription.since : undefined;
    subscription.isAsked = true;
    if (isFirst) subscription.isEntering = true;
    const wish = { includeSenderMetadata, since, position: true };
    this.#connection.ask({ type: "subscribe", channel, ...wish }, (error, ack) => {
      if (this.#subscriptions.get(channel) !== subscription) return;
      if (error) return this.#notEntered(channel, subscription, error);
      if (isFirst) this.#entered(channel, subscription, ack, since);
      else if (!subscription.isEntering) subscription.renumber(ack);
      subscription.isSnapshotDue = true;
      const { epoch = null, seq = 0, recovered = false, count = 0 } = ack;
      subscription.answer(null, { epoch, seq, recovered, count });
    });
  }

  #entered(channel, subscription, ack, since) {
    subscription.isEntering = false;
    if (ack.epoch) this.#withHistory.add(channel);
    else this.#withHistory.delete(channel);
    const gap = subscription.begin(ack, since);
    if (gap) this.emit("gap", { channel, ...gap });
    else if (since && ack.recovered) this.emit("recovered", { channel, count: ack.count });
    if (!subscription.replayTo) this.#release(channel);
  }

  #notEntered(channel, subscription, error) {
    if (!error.code) return;
    const { id } = this.#connection;
    subscription.isAsked = false;
    if (PASSING.has(error.code)) {
      const again = () => this.#connection.id === id && this.#enter(channel, subscription);
      setTimeout(again, againInMs());
    } else if (subscription.answer(error)) this.#subscriptions.delete(channel);
    else this.#leave(channel, error);
  }

  /** A channel has ended without being asked to. */
  #leave(channel, { code, message }) {
    this.#subscriptions.delete(channel);
    this.#release(channel);
    this.emit("unsubscribed", { channel, code, message });
  }

  #message(message) {
    const { channel, seq } = message;
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    if (seq === undefined || !subscription.epoch) {
      if (seq !== undefined) this.#learn(channel, subscription);
      return this.emit("message", message);
    }
    const replayed = seq <= subscription.replayTo;
    const isNew = subscription.take(seq);
    const isOwn = isNew && replayed && this.#findOwn(message);
    if (!isOwn && (isNew || !replayed)) {
      this.emit("message", replayed ? { ...message, replayed } : message);
    }
    if (seq === subscription.replayTo) {
      subscription.replayTo = 0;
      this.#release(channel);
    }
    // Somebody had the history forgotten: its numbers begin anew.
    if (!isNew && !replayed) this.#learn(channel, subscription);
    const missed = subscription.skipMissing();
    if (missed) this.emit("gap", { channel, reason: "lost", missed });
  }

  /** The numbers are not those that we know: asks which they are, once. */
  #learn(channel, subscription) {
    if (subscription.isLearning) return;
    subscription.isLearning = true;
    this.#enter(channel, subscription);
  }

  #presence({ channel, joined, left }) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    const { came, went } = subscription.presence({ joined, left });
    this.emit("presence", { channel, joined, left });
    for (const peer of came) this.emit("peer-joined", { channel, ...peer });
    for (const peer of went) this.emit("peer-left", { channel, ...peer });
  }

  // --- publications ---------------------------------------------------------------------------

  #post(entry) {
    const { channel, id, text } = entry;
    entry.sentAs = this.peerId;
    const command = { type: "publish", channel, id, position: true };
    this.#connection.ask(command, (error, ack) => this.#answered(entry, error, ack), text);
  }

  #answered(entry, error, ack) {
    const { channel } = entry;
    const subscription = this.#subscriptions.get(channel);
    if (!error) {
      if (ack.epoch) this.#withHistory.add(channel);
      if (ack.epoch && ack.epoch === subscription?.epoch) subscription.take(ack.seq);
      this.#settle(entry, null, ack);
    } else if (PASSING.has(error.code) && (entry.atLeastOnce || this.#withHistory.has(channel))) {
      const { id } = this.#connection;
      const isDue = () => this.#connection.id === id && this.#outbox.has(entry);
      setTimeout(() => isDue() && this.#post(entry), againInMs());
    } else if (error.code) this.#settle(entry, error);
    else return;
    if (!entry.isRepeat) return;
    entry.isRepeat = false;
    if (subscription && --subscription.repeats === 0) this.#enter(channel, subscription);
  }

  /** Whether a message of the replay is a publication of ours whose ack was lost. */
  #findOwn({ channel, from, seq, data }) {
    const text = JSON.stringify(data);
    const isIt = (it) =>
      it.isHeld && it.channel === channel && it.sentAs === from && it.text === text;
    const entry = [...this.#outbox].find(isIt);
    if (entry) this.#settle(entry, null, { epoch: this.position(channel).epoch, seq });
    return Boolean(entry);
  }

  #release(channel) {
    for (const entry of this.#outbox) {
      if (!entry.isHeld || entry.channel !== channel) continue;
      entry.isHeld = false;
      if (this.#connection.isReady) this.#post(entry);
    }
  }

  #settle(entry, error, ack) {
    clearTimeout(entry.timer);
    if (!this.#outbox.delete(entry)) return;
    if (error) entry.reject(error);
    else entry.resolve(ack);
  }

  #giveUp(entry) {
    const wasSent = entry.sentAs !== null;
    const text = wasSent ? "the publication may or may not have arrived" : "it was not sent";
    this.#settle(entry, named("DisconnectedError", text, { wasSent }));
  }
}
