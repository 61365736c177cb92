// One connection at a time, which comes back by itself: credentials, back-off, requests and their
// answers, signs of life, and states that people can be shown.
//
// What channels and publications are is not known here. The hooks hear of each `welcome`, of each
// frame that is no answer, and of each end.

import { SignallingConnectError, named } from "./basics.js";

const MESSAGE_BYTES_MAX = 65_536;
/** The time between two commands after the server closed for too many; doubled each time. */
const PACE_MS_FIRST = 20;
const PACE_MS_MAX = 1_000;
/** A connection that lasted for so long was a good one: the back-off begins anew. */
const LASTED_MS = 5_000;
/** Closes after which only somebody else can help. */
const FINAL = new Set([4001, 4003, 4012, 4020]);
/** What to wait for at least, where the server is full or does not like what we do. */
const WAIT_MS_MIN = { 4010: 60_000, 1008: 5_000 };
/** What may mean that a connection has died, or can be had again. */
const WAKING = ["online", "offline", "visibilitychange"];
/** How long the answer may take that shows that it has not died. */
const PROBE_MS = 5_000;
const WHY = {
  1001: "the server shuts down",
  1013: "messages were read too slowly",
  4000: "the server was silent",
  4001: "the credential was refused",
  4002: "the token has expired",
  4010: "the app has as many connections as it may",
  4011: "too many messages were sent",
  4012: "the app is suspended",
  4020: "the app has ended this connection",
};

/** Where a browser tells of an event. */
const pageOf = (event) => (event === "visibilitychange" ? globalThis.document : globalThis);

export class Connection {
  #options;
  /**
   * `emit(event, payload)`, `welcome()`, `refreshed(ack)`, `frame(type, fields)`, `lost(code)`,
   * `ended()`.
   */
  #hooks;
  #socket = null;
  /** The present attempt to connect: an object that no other attempt has. */
  #attempt = null;
  #timers = {};
  /** Answers that are waited for, by `requestId`. */
  #requests = new Map();
  #requestCount = 0;
  #welcomes = 0;
  #welcomedAt = 0;
  #failures = 0;
  #refusals = 0;
  #tokenFailures = 0;
  /** A token that was asked for ahead of the next connection. */
  #nextToken = null;
  /** What the server said when it went away. */
  #retryAfterMs = 0;
  /** When to connect again at the earliest, while we wait for that. */
  #notBefore = null;
  /** Unix milliseconds of the server less those of `performance.now`. */
  #serverClock = 0;
  /** Times that we looked and had heard nothing. */
  #silence = 0;
  #paceMs = 0;
  #queue = [];
  /** The promise of `open`, while it is kept. */
  #opening = null;
  #wake = ({ type }) => {
    if (type !== "visibilitychange" || !document.hidden) this.#hurry();
  };
  state = "idle";
  peerId = null;
  maxMessageSize = MESSAGE_BYTES_MAX;

  constructor(options, hooks) {
    this.#options = options;
    this.#hooks = hooks;
  }

  /** Identifies the present connection; null while there is none. */
  get id() {
    return this.#socket;
  }

  /** Whether commands can be sent. */
  get isReady() {
    return this.state === "connected" && this.#socket !== null;
  }

  get isOver() {
    return this.state === "idle" || this.state === "closed";
  }

  open(retry) {
    this.#welcomes = this.#failures = this.#refusals = this.#retryAfterMs = 0;
    for (const event of WAKING) pageOf(event)?.addEventListener?.(event, this.#wake);
    return new Promise((resolve, reject) => {
      this.#opening = { resolve, reject, retry };
      this.#open();
    });
  }

  async close(code, reason) {
    const socket = this.#socket;
    const wasOver = this.isOver;
    this.#opening?.reject(named("DisconnectedError", "closed"));
    this.#end(code, reason);
    if (!wasOver) this.#hooks.emit("disconnected", { code, reason, willReconnect: false });
    if (!socket) return;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1_000);
      socket.addEventListener("close", () => resolve(clearTimeout(timer)));
      socket.close(code, reason);
    });
  }

  /** Sends a command; `done` hears the answer in the order of frames, as no promise would. */
  ask(command, done, data, waitMs = this.#options.ackTimeoutMs) {
    const requestId = String(++this.#requestCount);
    const head = JSON.stringify({ ...command, requestId });
    const request = { done };
    this.#requests.set(requestId, request);
    this.#queue.push(() => {
      request.timer = setTimeout(() => this.#drop("no answer came"), waitMs);
      this.#socket.send(data === undefined ? head : `${head.slice(0, -1)},"data":${data}}`);
    });
    if (this.#queue.length === 1) this.#sendNext();
  }

  /** The same for those who do not mind the order. */
  command(command, data) {
    return new Promise((resolve, reject) => {
      this.ask(command, (error, ack) => (error ? reject(error) : resolve(ack)), data);
    });
  }

  #sendNext() {
    this.#queue[0]();
    const goOn = () => this.#queue.shift() && this.#queue.length && this.#sendNext();
    if (this.#paceMs) this.#later("pace", this.#paceMs, goOn);
    else goOn();
  }

  #later(name, delayMs, act) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(act, delayMs);
  }

  #become(state, message, more) {
    const from = this.state;
    this.state = state;
    if (from !== state) this.#hooks.emit("state-change", { from, to: state });
    if (this.state === state) this.#hooks.emit("state", { state, message, ...more });
  }

  // --- coming ---------------------------------------------------------------------------------

  async #open() {
    const attempt = (this.#attempt = {});
    clearTimeout(this.#timers.retry);
    this.#notBefore = null;
    this.#become(this.#welcomes > 0 ? "reconnecting" : "connecting", "connecting");
    const { apiKey, url, webSocketFactory } = this.#options;
    try {
      const value = apiKey ?? this.#nextToken ?? (await this.#token());
      if (this.#attempt !== attempt) return;
      this.#nextToken = null;
      const name = apiKey ? "key" : "token";
      this.#listen(webSocketFactory(`${url}?${name}=${encodeURIComponent(value)}`));
    } catch (error) {
      if (this.#attempt === attempt) this.#lost(1006, "no token, or no WebSocket", error);
    }
  }

  #listen(socket) {
    this.#socket = socket;
    let fault = "";
    const on = (event, act) =>
      socket.addEventListener(event, (it) => this.#socket === socket && act(it));
    on("message", ({ data }) => this.#receive(data));
    // A close follows. Some runtimes say here which HTTP status they got.
    on("error", ({ message = "" }) => (fault = message));
    on("close", ({ code, reason }) => this.#lost(code, reason || fault));
    this.#later("welcome", this.#options.connectTimeoutMs, () => this.#drop("no welcome came"));
  }

  #receive(text) {
    this.#silence = 0;
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    const { type, ...fields } = frame;
    const request = this.#requests.get(fields.requestId);
    if (request) {
      this.#requests.delete(fields.requestId);
      clearTimeout(request.timer);
      const { code, message, requestId, ...more } = fields;
      if (type === "error") request.done(named(code, message ?? code, { code }));
      else request.done(null, more);
    } else if (type === "welcome") this.#welcome(fields);
    else if (type === "going_away") {
      this.#retryAfterMs = fields.retryAfterMs;
      this.#hooks.emit("going-away", fields);
    } else this.#hooks.frame(type, fields);
  }

  #welcome({ peerId, serverTime, expiresAt, maxMessageSize, metadata }) {
    if (this.state === "connected") return;
    clearTimeout(this.#timers.welcome);
    Object.assign(this, { peerId, maxMessageSize });
    this.#welcomedAt = Date.now();
    this.#refusals = this.#silence = 0;
    this.#serverClock = serverTime * 1_000 - performance.now();
    const isReconnect = this.#welcomes++ > 0;
    const opening = this.#opening;
    this.#opening = null;
    this.#watch();
    this.#planRefresh(expiresAt);
    this.#hooks.welcome();
    this.#become("connected", "connected");
    const iceServers = metadata?.iceServers;
    const more = { ...(iceServers && { iceServers }), ...(metadata && { metadata }) };
    const facts = { peerId, serverTime, expiresAt, isReconnect, maxMessageSize, ...more };
    this.#hooks.emit("connected", facts);
    opening?.resolve();
  }

  // --- going ----------------------------------------------------------------------------------

  /** Gives a connection up without waiting for its close. */
  #drop(reason) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(4000, reason);
    this.#lost(4000, reason);
  }

  #lost(code, reason, error) {
    const hadLasted = this.state === "connected" && Date.now() - this.#welcomedAt >= LASTED_MS;
    if (hadLasted) this.#failures = 0;
    if (code === 4001) this.#refusals += 1;
    if (code === 4011) this.#paceMs = Math.min(PACE_MS_MAX, this.#paceMs * 2 || PACE_MS_FIRST);
    this.#stop();
    this.#hooks.lost(code);
    const opening = this.#opening;
    const willReconnect = this.#mayReturn(code);
    if (willReconnect) this.#planReturn(code);
    else this.#end(code, reason);
    const notBefore = this.#notBefore;
    this.#hooks.emit("disconnected", { code, reason, willReconnect });
    if (!willReconnect) opening?.reject(error ?? new SignallingConnectError(code, reason));
    else if (this.#notBefore === notBefore) this.#tellReturn(code, reason);
  }

  #mayReturn(code) {
    const { reconnect, tokenProvider, backOff } = this.#options;
    if (this.#welcomes === 0 && !this.#opening?.retry) return false;
    if (reconnect === false || this.#failures >= backOff.maxAttempts) return false;
    // A new token is worth one more try.
    return !FINAL.has(code) || (code === 4001 && tokenProvider && this.#refusals < 2);
  }

  #planReturn(code) {
    const { initialDelayMs, multiplier, maxDelayMs } = this.#options.backOff;
    const most = Math.min(maxDelayMs, initialDelayMs * multiplier ** this.#failures++);
    const least = Math.max(this.#retryAfterMs, WAIT_MS_MIN[code] ?? 0);
    this.#retryAfterMs = 0;
    this.#notBefore = Date.now() + least;
    // Full jitter: those who lost the server together do not come back together.
    this.#later("retry", least + Math.random() * most, () => this.#open());
  }

  #tellReturn(code, reason) {
    const message = `${WHY[code] ?? "there is no connection"}; trying again`;
    this.#become(this.#welcomes > 0 ? "reconnecting" : "connecting", message, { code, reason });
  }

  /** Ends what belonged to the connection. */
  #stop() {
    this.#socket = null;
    for (const name of ["welcome", "watch", "refresh", "pace"]) clearTimeout(this.#timers[name]);
    this.#queue = [];
    const requests = [...this.#requests.values()];
    this.#requests.clear();
    for (const { done, timer } of requests) {
      clearTimeout(timer);
      done(named("DisconnectedError", "the connection ended before the answer"));
    }
  }

  #end(code, reason) {
    this.#attempt = this.#opening = this.#notBefore = null;
    this.#stop();
    clearTimeout(this.#timers.retry);
    for (const event of WAKING) pageOf(event)?.removeEventListener?.(event, this.#wake);
    this.#hooks.ended();
    this.#become("closed", WHY[code] ?? "closed", { code, reason });
  }

  /** The network has changed, or somebody looks at the page: now is a time to look, or to try. */
  #hurry() {
    if (this.#notBefore !== null) {
      if (globalThis.navigator?.onLine === false) return;
      this.#later("retry", Math.max(0, this.#notBefore - Date.now()), () => this.#open());
    } else if (this.isReady) {
      this.ask({ type: "ping" }, () => {}, undefined, PROBE_MS);
    }
  }

  #watch() {
    const everyMs = this.#options.inactivityTimeoutMs / 4;
    if (!(everyMs > 0 && everyMs < 2 ** 31)) return;
    this.#later("watch", everyMs, () => {
      if (this.#silence >= 3) return this.#drop("silence");
      if (this.#silence++ > 0) this.#socket.send('{"type":"ping"}');
      this.#watch();
    });
  }

  // --- tokens ---------------------------------------------------------------------------------

  async #token() {
    const { tokenProvider, tokenProviderTimeoutMs: waitMs } = this.#options;
    let timer;
    const late = new Promise((_, reject) => {
      const error = new Error(`tokenProvider did not resolve within ${waitMs} ms`);
      timer = setTimeout(() => reject(error), waitMs);
    });
    try {
      const token = await Promise.race([tokenProvider(), late]);
      this.#tokenFailures = 0;
      return token;
    } catch (error) {
      this.#tokenFailed(error, 3);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #tokenFailed(err, toldFrom) {
    const consecutiveFailures = ++this.#tokenFailures;
    if (consecutiveFailures < toldFrom) return;
    this.#hooks.emit("token-provider-error", { consecutiveFailures, err });
  }

  #planRefresh(expiresAt) {
    const leftMs = expiresAt * 1_000 - this.#serverClock - performance.now();
    if (!this.#options.tokenProvider || !(leftMs > 1_000)) return;
    // Not everybody at once, and with time left for another try.
    this.#later("refresh", leftMs * (0.7 + 0.2 * Math.random()), () => this.#refresh(expiresAt));
  }

  /** Has the token replaced; where the server cannot do that, a new connection has a new one. */
  async #refresh(expiresAt) {
    const socket = this.#socket;
    const token = await this.#token().catch(() => null);
    if (this.#socket !== socket) return;
    if (token === null) return this.#planRefresh(expiresAt);
    this.ask({ type: "refresh", token }, (error, ack) => {
      if (!error) {
        this.#hooks.refreshed(ack);
        this.#hooks.emit("refreshed", { expiresAt: ack.expiresAt });
        this.#planRefresh(ack.expiresAt);
      } else if (error.code === "unknown_type") {
        this.#nextToken = token;
        this.#drop("for a new token");
        this.#hurry();
      } else if (error.code) {
        this.#tokenFailed(error, 1);
        this.#planRefresh(expiresAt);
      }
    });
  }
}
