// One WebSocket to the server that comes back by itself.
//
// Speaks the wire protocol: requests and their acks, pings and their pongs. What the messages
// mean is not known here. Events: "state" (connecting, open, lost), "welcome", "frame".

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 4_000;
/** A connection on which a ping stays unanswered for so long is given up. */
const SILENCE_MS_MAX = 8_000;
const PING_EVERY_MS = 1_000;

export class Link extends EventTarget {
  #socket = null;
  #settings = null;
  #attempts = 0;
  #next = 0;
  #requests = new Map();
  #retry = 0;
  state = "connecting";
  peerId = null;
  received = 0;
  sent = 0;
  welcomes = 0;

  start() {
    setInterval(() => this.#keepAlive(), PING_EVERY_MS);
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    this.#connect();
  }

  /** Sends a command; resolves with its answer and the time that took, in milliseconds. */
  request(command) {
    if (this.state !== "open") return Promise.reject(new Error("not connected"));
    const requestId = String(++this.#next);
    const asked = performance.now();
    const answer = new Promise((resolve, reject) => {
      this.#requests.set(requestId, { asked, resolve, reject });
    });
    this.#socket.send(JSON.stringify({ ...command, requestId }));
    this.sent += 1;
    return answer;
  }

  /** Like `request`, for those who do not mind when it fails. */
  attempt(command) {
    return this.request(command).catch(() => null);
  }

  async #connect() {
    clearTimeout(this.#retry);
    this.#become("connecting");
    try {
      const response = await fetch("/demo/config.json", { cache: "no-store" });
      this.#settings = await response.json();
    } catch {
      // The server may be on its way back; its settings were good before.
      if (!this.#settings) return this.#later();
    }
    const { scheme, host, port, key } = this.#settings;
    const address = `${scheme}://${host ?? location.hostname}:${port}`;
    const socket = new WebSocket(`${address}/v1?key=${encodeURIComponent(key)}`);
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    socket.onclose = () => {
      if (this.#socket === socket) this.#later();
    };
  }

  #receive(frame) {
    this.received += 1;
    if (frame.type === "welcome") {
      this.peerId = frame.peerId;
      this.welcomes += 1;
      this.#attempts = 0;
      this.#become("open");
      this.dispatchEvent(new Event("welcome"));
      return;
    }
    const waiting = this.#requests.get(frame.requestId);
    if (waiting) {
      this.#requests.delete(frame.requestId);
      if (frame.type === "error") waiting.reject(new Error(frame.code));
      else waiting.resolve({ ms: performance.now() - waiting.asked });
      return;
    }
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  #later() {
    this.#socket = null;
    for (const { reject } of this.#requests.values()) reject(new Error("connection lost"));
    this.#requests.clear();
    this.#become("lost");
    const most = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** this.#attempts++);
    this.#retry = setTimeout(() => this.#connect(), most * (0.5 + Math.random() / 2));
  }

  #hurry() {
    if (this.state === "lost") this.#connect();
  }

  #keepAlive() {
    if (this.state !== "open") return;
    const oldest = this.#requests.values().next().value;
    if (oldest && performance.now() - oldest.asked > SILENCE_MS_MAX) {
      const dead = this.#socket;
      this.#later();
      dead.close();
      return;
    }
    this.request({ type: "ping" }).then(
      ({ ms }) => this.dispatchEvent(new CustomEvent("round-trip", { detail: ms })),
      () => {},
    );
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
