// The clients of a server: sockets that speak its protocol by hand, a room of subscribers and one
// publisher, and the check of every delivery.

import { setTimeout as sleep } from "node:timers/promises";

import WebSocket from "ws";

import { DEADLINE_MS, within } from "./wait.mjs";

const AT_ONCE = 50;
const PAYLOAD_BYTES = 128;
const MARK = "@".charCodeAt(0);

/** Number `sequence` of the messages: 128 bytes, which nothing around them looks like. */
const payload = (sequence) => `@${String(sequence).padStart(7, "0")}`.padEnd(PAYLOAD_BYTES, "x");

/** A socket that has gone through `steps`; every later message goes to `receive`. */
async function connect(server, port, role, steps, receive) {
  const url = `ws://127.0.0.1:${port}${server.path(role)}`;
  const socket = new WebSocket(url, server.protocols ?? [], {
    perMessageDeflate: false,
    skipUTF8Validation: true,
  });
  const waiting = [...steps];
  const ready = new Promise((resolve, reject) => {
    const step = (text) => {
      if (waiting.length === 0 || !text.includes(waiting[0][0])) return;
      const [, answer] = waiting.shift();
      if (answer === null) resolve();
      else socket.send(answer);
    };
    socket.on("open", () => waiting[0][0] === "" && step(""));
    socket.on("error", reject);
    socket.on("close", (code) => {
      reject(new Error(`closed with ${code}`));
      receive.closed?.(code);
    });
    socket.on("message", (data) => {
      const beat = data.length <= 8 && server.heartbeats?.[data.latin1Slice()];
      if (beat) socket.send(beat);
      else if (waiting.length > 0) step(data.latin1Slice());
      else receive(data);
    });
  });
  await within(`${server.name} lets a client in`, ready);
  return socket;
}

/** So many subscribers, beside `others` that are there; `receiver` makes what one does. */
export async function connectMany(server, port, many, receiver, others = 0) {
  const sockets = [];
  while (sockets.length < many) {
    const few = Array.from({ length: Math.min(AT_ONCE, many - sockets.length) }, () =>
      connect(server, port, "subscribe", server.subscribe, receiver()),
    );
    sockets.push(...(await Promise.all(few)));
  }
  const began = performance.now();
  while (server.members && (await server.members(port)) < many + others) {
    if (performance.now() - began > DEADLINE_MS) throw new Error("not all have joined");
    await sleep(50);
  }
  return sockets;
}

/** One publisher and its subscribers: publishes, and checks what arrives. */
export class Room {
  published = 0;
  delivered = 0;
  #payloads = [];
  #wanted = Infinity;
  #wake = null;
  #failure = null;

  async open(server, port, subscribers) {
    this.server = server;
    this.subscribers = await connectMany(server, port, subscribers, () => this.#receiver());
    this.publisher = await connect(server, port, "publish", server.publisher, () => {});
  }

  /** Takes the stream of one subscriber: messages may share a frame, or be cut by one. */
  #receiver() {
    let next = 0;
    let left = null;
    const receive = (data) => {
      const bytes = left ? Buffer.concat([left, data]) : data;
      left = null;
      for (let at = 0; (at = bytes.indexOf(MARK, at)) >= 0; at += PAYLOAD_BYTES) {
        if (bytes.length - at < PAYLOAD_BYTES) {
          left = bytes.subarray(at);
          break;
        }
        const text = bytes.latin1Slice(at, at + PAYLOAD_BYTES);
        if (text !== this.#payloads[next]) {
          this.#fail(`message ${next} is due, and ${text.slice(0, 8)} arrives`);
        }
        next += 1;
        this.delivered += 1;
      }
      if (this.delivered >= this.#wanted) this.#wake?.();
    };
    receive.closed = (code) => this.#fail(`a subscriber was closed with ${code}`);
    return receive;
  }

  #fail(what) {
    this.#failure ??= new Error(what);
    this.#wake?.();
  }

  publish() {
    const text = payload(this.published);
    this.#payloads.push(text);
    this.published += 1;
    this.publisher.send(this.server.publish(text));
  }

  /** Waits until everybody has everything. */
  async arrived() {
    const wanted = this.published * this.subscribers.length;
    if (this.delivered < wanted && !this.#failure) {
      this.#wanted = wanted;
      const there = new Promise((resolve) => (this.#wake = resolve));
      await within(`${wanted} deliveries`, there);
    }
    if (this.#failure) throw this.#failure;
  }

  /** Publishes when one is due and everybody has the one before. */
  async steadily(messages, rate) {
    const began = performance.now();
    for (let sent = 0; sent < messages; sent += 1) {
      await sleep(began + (sent * 1000) / rate - performance.now());
      this.publish();
      await this.arrived();
    }
  }

  /** Publishes so many at once, in one write, and the next when everybody has all of them. */
  async inBursts(bursts, messages) {
    const wire = this.publisher._socket;
    for (let sent = 0; sent < bursts; sent += 1) {
      wire.cork();
      for (let one = 0; one < messages; one += 1) this.publish();
      wire.uncork();
      await this.arrived();
    }
  }

  close() {
    for (const socket of [this.publisher, ...this.subscribers]) {
      socket.removeAllListeners("close");
      socket.terminate();
    }
  }
}
