// The page's connection: the server's own client, and what a demo wants to see besides.
//
// Each frame is shown as it is, both ways, and a ping each second measures the way to the server.
// What the messages mean is not known here. Events: "state" (connecting, open, lost, out),
// "welcome", "round-trip", "wire" for each frame, and those of the client under their names.

import { SignallingClient } from "./client.js";

const RECONNECT = { initialDelayMs: 250, maxDelayMs: 4_000 };
/** A connection on which nothing comes for so long is given up. */
const SILENCE_MS_MAX = 8_000;
const PING_EVERY_MS = 1_000;
const CONFIG_EVERY_MS = 1_000;
/** The server does not know the key: it has begun anew, and has another one. */
const KEY_REFUSED = 4001;
const STATES = { connected: "open", reconnecting: "lost", connecting: "connecting", closed: "out" };
const PASSED_ON = ["message", "direct", "presence", "recovered", "gap"];

export class Link extends EventTarget {
  #client = null;
  #settings = null;
  #socket = null;
  #pings = new Map();
  #pingCount = 0;
  state = "connecting";
  received = 0;
  sent = 0;
  welcomes = 0;
  /** The code and the reason of the close after which we stay out. */
  out = null;

  async start() {
    setInterval(() => this.#ping(), PING_EVERY_MS);
    while (!(await this.#configure())) {
      await new Promise((resolve) => setTimeout(resolve, CONFIG_EVERY_MS));
    }
    this.#client = new SignallingClient({
      apiKey: "in the settings",
      url: location.origin,
      reconnect: RECONNECT,
      inactivityTimeoutMs: SILENCE_MS_MAX,
      webSocketFactory: () => this.#tapped(),
    });
    for (const event of PASSED_ON) this.#client.on(event, (detail) => this.#tell(event, detail));
    this.#client.on("connected", () => {
      this.welcomes += 1;
      this.#become("open");
      this.#tell("welcome");
    });
    this.#client.on("disconnected", (close) => this.#lost(close));
    this.#client.on("state", ({ state }) => state !== "closed" && this.#become(STATES[state]));
    this.comeBack();
  }

  get peerId() {
    return this.#client?.peerId ?? null;
  }

  /** Comes, also back from outside when somebody wants that. */
  comeBack() {
    this.#client?.connect({ retry: true }).catch(() => {});
  }

  subscribe(channel, options) {
    return this.#client?.subscribe(channel, options).catch(() => null);
  }

  unsubscribe(channel) {
    this.#client?.unsubscribe(channel).catch(() => null);
  }

  /** Publishes, now or when the connection is back. */
  async publish(channel, data) {
    if (!this.#client) throw new Error("not connected");
    return this.#client.publish(channel, data);
  }

  async send(to, data) {
    if (!this.#client) throw new Error("not connected");
    return this.#client.send(to, data);
  }

  /** The server's address and key: another server may have others. */
  async #configure() {
    try {
      const response = await fetch("/demo/config.json", { cache: "no-store" });
      this.#settings = await response.json();
    } catch {
      // It may be on its way back; its settings were good before.
    }
    return this.#settings !== null;
  }

  async #lost({ code, reason, willReconnect }) {
    this.#socket = null;
    this.#pings.clear();
    this.#tell("wire", { way: "fact", text: `closed ${code} ${reason}`, at: new Date() });
    if (willReconnect) return this.#configure();
    if (code !== KEY_REFUSED) {
      this.out = { code, reason };
      return this.#become("out");
    }
    this.#become("lost");
    await new Promise((resolve) => setTimeout(resolve, CONFIG_EVERY_MS));
    await this.#configure();
    this.comeBack();
  }

  /** A socket whose frames are shown. */
  #tapped() {
    const { scheme, host, port, key } = this.#settings;
    const address = `${scheme}://${host ?? location.hostname}:${port}`;
    const socket = new WebSocket(`${address}/v1?key=${encodeURIComponent(key)}`);
    const send = socket.send.bind(socket);
    socket.send = (text) => {
      this.sent += 1;
      this.#tell("wire", { way: "out", text, at: new Date() });
      send(text);
    };
    socket.addEventListener("message", ({ data }) => {
      this.received += 1;
      this.#tell("wire", { way: "in", text: data, at: new Date() });
      if (data.startsWith('{"type":"pong"')) this.#pong(JSON.parse(data).requestId);
    });
    this.#socket = socket;
    return socket;
  }

  #ping() {
    if (this.state !== "open" || this.#socket?.readyState !== WebSocket.OPEN) return;
    const requestId = `ping-${++this.#pingCount}`;
    this.#pings.set(requestId, performance.now());
    this.#socket.send(JSON.stringify({ type: "ping", requestId }));
  }

  #pong(requestId) {
    const asked = this.#pings.get(requestId);
    this.#pings.delete(requestId);
    if (asked !== undefined) this.#tell("round-trip", performance.now() - asked);
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.#tell("state");
  }
}
