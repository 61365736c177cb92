// The comparison, small: what it says of deliveries, and that a wrong one is noticed. What it
// says of costs depends on the machine, and nothing here looks at it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { WebSocketServer } from "ws";

import { Room } from "./clients.mjs";

const COMPARE = fileURLToPath(new URL("compare.mjs", import.meta.url));

test("all servers that are not packages of the system deliver what was published", async () => {
  const sizes = { rounds: 1, subscribers: 20, messages: 10, bursts: 2, burst: 4, idle: 10 };
  const args = Object.entries(sizes).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const servers = ["--servers", "ringmesh,socket.io,ws", "--settle-ms", "100"];
  const { stdout } = await promisify(execFile)(process.execPath, [COMPARE, ...args, ...servers]);
  for (const name of ["ringmesh", "socket.io", "ws"]) {
    assert.match(stdout, new RegExp(`^\\| ${name} \\| \\d+\\.\\d+`, "m"));
  }
  // Two bursts to warm up, ten messages, two bursts; three servers.
  assert.match(stdout, new RegExp(`^${3 * 20 * (2 * 4 + 10 + 2 * 4)} deliveries`, "m"));
});

/** A server that has its own way with the messages of a burst, by their number. */
const WRONG = {
  lost: (text, number) => (number === 1 ? [] : [text]),
  "there twice": (text, number) => (number === 1 ? [text, text] : [text]),
  altered: (text, number) => [number === 1 ? text.replace("xx", "xy") : text],
  "at another's place": (text, number, all) => [all[number ^ 1] ?? text],
};

for (const [what, wrong] of Object.entries(WRONG)) {
  test(`a message that is ${what} is noticed`, async () => {
    const listener = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    const texts = [];
    listener.on("connection", (socket) => {
      socket.on("message", (data) => {
        if (texts.push(String(data)) < 4) return;
        const wire = texts.flatMap((text, number) => wrong(text, number, texts));
        for (const client of listener.clients) for (const text of wire) client.send(text);
      });
    });
    await once(listener, "listening");
    const room = new Room();
    const server = {
      name: "wrong",
      path: () => "/",
      subscribe: [["", null]],
      publisher: [["", null]],
      publish: (data) => data,
    };
    await room.open(server, listener.address().port, 2);
    await assert.rejects(room.inBursts(1, 4), /message \d is due, and @\d+ arrives/);
    room.close();
    listener.close();
    await once(listener, "close");
  });
}
