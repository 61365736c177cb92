// One WebSocket of the Console: its frames both ways, its acks, who is in its channels.

const FRAMES_MAX = 500;

/** What a client does after a close, by its code. */
export const DUTIES = {
  1000: "You closed. Nothing is to be done.",
  1001: "The server shuts down: reconnect, not before retryAfterMs of going_away.",
  1002: "The client broke the protocol: mend the client.",
  1003: "A binary message was sent: mend the client.",
  1006: "No close frame: the network, a proxy, or a refused handshake. Reconnect with back-off.",
  1007: "Text that is no UTF-8 was sent: mend the client.",
  1009: "A message was too long: send less at once.",
  1013: "Read too slowly, or the server is short of memory: reconnect with back-off, take less.",
  4001: "The credential is not good, or its key or app is gone: get another one first.",
  4002: "The token has expired: get a new one and reconnect.",
  4010: "The app has as many connections as its plan allows: reconnect after a minute.",
  4011: "More messages than the rate allows: slow down, then reconnect.",
  4012: "The app is suspended: do not retry.",
  4020: "Kicked by the backend or an operator: do not come back on your own.",
};

const encoder = new TextEncoder();

/** Events: "frame" (one more, or one changed), "state", "roster". */
export class Wire extends EventTarget {
  frames = [];
  state = "connecting";
  peerId = null;
  channels = new Map();
  close = null;
  counts = { in: 0, out: 0 };
  #socket;
  #number = 0;
  #request = 0;
  #waiting = new Map();
  #last = performance.now();

  constructor(url) {
    super();
    const { host } = new URL(url);
    const blocked = ({ blockedURI }) => {
      if (!blockedURI.includes(host)) return;
      this.#note("fact", "not allowed: this page connects to its own server only", "bad");
    };
    addEventListener("securitypolicyviolation", blocked);
    this.#socket = new WebSocket(url);
    this.#socket.onopen = () => this.#become("open");
    this.#socket.onmessage = ({ data }) => this.#received(data);
    this.#socket.onclose = ({ code, reason }) => {
      removeEventListener("securitypolicyviolation", blocked);
      this.close = { code, reason, duty: DUTIES[code] ?? "" };
      const words = `closed ${code}${reason ? ` ${reason}` : ""}`;
      this.#note("fact", words, code === 1000 ? null : "bad");
      this.#become("closed");
    };
  }

  get isOpen() {
    return this.state === "open";
  }

  /** Sends a command with a request id of its own, so that its ack can be timed. */
  command(command) {
    this.raw(JSON.stringify({ ...command, requestId: `c${++this.#request}` }));
  }

  /** Sends a text as it is. */
  raw(textToSend) {
    if (!this.isOpen) return false;
    this.#socket.send(textToSend);
    this.counts.out += 1;
    const frame = this.#note("out", textToSend);
    const { requestId, type, channel } = parsed(textToSend) ?? {};
    if (typeof requestId === "string") {
      this.#waiting.set(requestId, { frame, type, channel });
      if (this.#waiting.size > FRAMES_MAX) this.#waiting.delete(this.#waiting.keys().next().value);
    }
    return true;
  }

  end() {
    this.#socket.close(1000);
  }

  #received(data) {
    this.counts.in += 1;
    const frame = this.#note("in", typeof data === "string" ? data : "(binary)");
    const told = parsed(data);
    if (!told) return;
    frame.type = told.type;
    if (told.type === "welcome") {
      this.peerId = told.peerId;
      this.#become("open");
    }
    if (told.type === "presence") this.#presence(told);
    const asked = this.#waiting.get(told.requestId);
    if (!asked) return;
    this.#waiting.delete(told.requestId);
    asked.frame.ackMs = frame.at - asked.frame.at;
    asked.frame.failed = told.type === "error";
    if (told.type === "ack" && asked.type === "subscribe") this.#joined(asked.channel);
    if (told.type === "ack" && asked.type === "unsubscribe") this.#left(asked.channel);
    this.#tell("frame", asked.frame);
  }

  #joined(channel) {
    if (!this.channels.has(channel)) this.channels.set(channel, new Set());
    this.#tell("roster");
  }

  #left(channel) {
    this.channels.delete(channel);
    this.#tell("roster");
  }

  #presence({ channel, joined, left }) {
    const there = this.channels.get(channel) ?? new Set();
    for (const { peerId } of joined) there.add(peerId);
    for (const { peerId } of left) there.delete(peerId);
    this.channels.set(channel, there);
    this.#tell("roster");
  }

  #note(way, content, tone = null) {
    const at = performance.now();
    const frame = {
      id: ++this.#number, way, text: content, at, gapMs: at - this.#last, time: new Date(),
      bytes: way === "fact" ? null : encoder.encode(content).length, tone,
    };
    this.#last = at;
    this.frames.push(frame);
    if (this.frames.length > FRAMES_MAX) this.frames.shift();
    this.#tell("frame", frame);
    return frame;
  }

  #become(state) {
    this.state = state;
    this.#tell("state");
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

function parsed(content) {
  try {
    return JSON.parse(content);
  } catch {
    return null;
  }
}
