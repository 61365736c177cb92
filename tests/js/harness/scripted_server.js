// A WebSocket server that does what a test tells it, frame by frame: for what the real one does
// only in rare moments, such as losing an ack.

import { once } from "node:events";

import { WebSocketServer } from "ws";

import { within } from "./wait.js";

/** Things that come, for those who wait for them. */
class Inbox {
  #things = [];
  #waiting = [];

  put(thing) {
    const first = this.#waiting.shift();
    if (first) first(thing);
    else this.#things.push(thing);
  }

  take(what) {
    if (this.#things.length) return this.#things.shift();
    return within(what, new Promise((resolve) => this.#waiting.push(resolve)));
  }
}

/** One connection of a client. */
class Visit {
  #socket;
  #commands = new Inbox();

  constructor(socket, url) {
    this.#socket = socket;
    this.query = new URL(url, "ws://localhost").searchParams;
    this.ended = once(socket, "close").then(([code]) => code);
    socket.on("message", (text) => this.#commands.put(JSON.parse(text)));
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  welcome(peerId, more = {}) {
    const serverTime = Math.floor(Date.now() / 1000);
    const facts = { expiresAt: null, serverTime, maxMessageSize: 65_536 };
    this.send({ type: "welcome", peerId, ...facts, ...more });
  }

  /** The next command, which has to be of that type. */
  async receives(type) {
    const command = await this.#commands.take(`a ${type}`);
    if (command.type !== type) throw new Error(`no ${type}: ${JSON.stringify(command)}`);
    return command;
  }

  ack({ requestId }, more = {}) {
    this.send({ type: "ack", requestId, ...more });
  }

  refuse({ requestId }, code) {
    this.send({ type: "error", requestId, code, message: `refused: ${code}` });
  }

  message(channel, seq, data, from = "other") {
    this.send({ type: "message", channel, from, data, ...(seq && { seq }) });
  }

  presence(channel, joined, left = []) {
    const peers = (ids) => ids.map((peerId) => ({ peerId }));
    this.send({ type: "presence", channel, joined: peers(joined), left: peers(left) });
  }

  /** Ends it with a close frame, or without one. */
  close(code) {
    if (code) this.#socket.close(code, "as scripted");
    else this.#socket.terminate();
  }
}

export class ScriptedServer {
  #server;
  #visits = new Inbox();

  /** Starts one, which ends with the test. */
  static async start(t) {
    const scripted = new ScriptedServer();
    scripted.#server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    scripted.#server.on("connection", (socket, { url }) => {
      scripted.#visits.put(new Visit(socket, url));
    });
    await once(scripted.#server, "listening");
    t.after(() => {
      for (const socket of scripted.#server.clients) socket.terminate();
      scripted.#server.close();
    });
    return scripted;
  }

  get url() {
    return `ws://127.0.0.1:${this.#server.address().port}`;
  }

  /** The next connection. */
  visit() {
    return this.#visits.take("a connection");
  }

  /** The next connection, welcomed as that peer. */
  async welcomed(peerId, more) {
    const visit = await this.visit();
    visit.welcome(peerId, more);
    return visit;
  }
}
