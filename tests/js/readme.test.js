// The JavaScript programs of the documents, run as they stand there; only the address is changed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { signallingClient } from "./harness/clients.js";
import { fetched } from "./harness/own_client.js";
import { REPOSITORY, Server } from "./harness/server.js";
import { next, within } from "./harness/wait.js";

/** Node 20 has the global `WebSocket` of Node 22 behind this flag. */
const AS_NODE_22 = typeof WebSocket === "undefined" ? ["--experimental-websocket"] : [];

/** The program whose first line is a comment with its file name. */
async function documentedProgram(name) {
  const pages = ["README.md", "src/docs/clients.md"];
  const texts = await Promise.all(pages.map((page) => readFile(join(REPOSITORY, page), "utf8")));
  const blocks = [...texts.join("\n").matchAll(/^```js\n(\/\/ (\S+)\n.*?)^```$/gms)];
  const found = blocks.filter(([, , title]) => title === name);
  assert.equal(found.length, 1, `${name} in ${pages}`);
  return found[0][1];
}

/** The text as a pattern of itself. */
function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** A program in a process of its own; `file` may have flags of Node before it. */
class Program {
  #lines = [];
  #waiting = new Set();
  #ended;

  constructor(t, file, ...args) {
    const all = [file, ...args].flat();
    this.child = spawn(process.execPath, all, { stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        this.#lines.push(line);
        for (const look of this.#waiting) look();
      });
    }
    this.#ended = once(this.child, "exit").then(([code]) => code);
    t.after(() => this.child.kill("SIGKILL"));
  }

  /** The exit code, once there is one. */
  get code() {
    return within("its end", this.#ended);
  }

  /** Waits for one more line that matches than there are by now. */
  async saysAgain(pattern) {
    const number = this.#lines.filter((line) => pattern.test(line)).length;
    await this.says(pattern, number);
  }

  type(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Waits for a line that matches; returns the match. */
  async says(pattern, skipped = 0) {
    const said = new Promise((resolve) => {
      const look = () => {
        const match = this.#lines.map((line) => pattern.exec(line)).filter(Boolean)[skipped];
        if (!match) return;
        this.#waiting.delete(look);
        resolve(match);
      };
      this.#waiting.add(look);
      look();
    });
    return within(`a line like ${pattern}`, said).catch((error) => {
      throw new Error(`${error.message}; it said:\n${this.#lines.join("\n")}`);
    });
  }
}

/** A way to the server that can be cut and mended. */
async function breakableLink(t, server) {
  const sockets = new Set();
  let isCut = false;
  const listener = createServer((near) => {
    if (isCut) return near.destroy();
    const [host, port] = server.address.split(":");
    const far = connect(Number(port), host);
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.pipe(other);
      socket.on("error", () => {});
      socket.on("close", () => other.destroy());
    }
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const cut = () => {
    isCut = true;
    for (const socket of sockets) socket.destroy();
  };
  t.after(() => {
    cut();
    listener.close();
  });
  const address = `127.0.0.1:${listener.address().port}`;
  return { address, cut, mend: () => (isCut = false) };
}

describe("README", () => {
  let server;
  let directory;
  before(async () => {
    server = await Server.dev();
    directory = await mkdtemp(join(tmpdir(), "ringmesh-readme-"));
    const modules = fileURLToPath(new URL("node_modules", import.meta.url));
    await symlink(modules, join(directory, "node_modules"));
  });
  after(async () => {
    await server.stop();
    await rm(directory, { recursive: true });
  });

  /** Writes the program to where its packages are found; returns the file. */
  async function written(name, address = server.address) {
    const text = await documentedProgram(name);
    assert.ok(text.includes("127.0.0.1:8080"), `${name} names the default address`);
    const file = join(directory, name);
    await writeFile(file, text.replaceAll("127.0.0.1:8080", address));
    return file;
  }

  it("two terminals talk", async (t) => {
    const file = await written("chat.mjs");
    const key = await server.prints(/pk_live_\w+/);
    const terminals = [new Program(t, file, key), new Program(t, file, key)];
    for (const terminal of terminals) await terminal.says(/^You are in room-42\.$/);
    terminals[0].type("hello");
    await terminals[1].says(/^[0-9a-f-]{36}: hello$/);
    terminals[1].type("hello yourself");
    await terminals[0].says(/^[0-9a-f-]{36}: hello yourself$/);
  });

  it("two terminals talk without ws, as Node 22 can", async (t) => {
    const file = await written("chat.mjs");
    const text = await readFile(file, "utf8");
    const own = text.replace(/^import WebSocket from "ws";\n/m, "")
      .replace(/^ +webSocketFactory: .* \/\/ not needed in browsers and Node 22\n/m, "");
    assert.equal(text.split("\n").length - own.split("\n").length, 2, own);
    const bare = join(directory, "chat-22.mjs");
    await writeFile(bare, own);
    const key = await server.prints(/pk_live_\w+/);
    const start = () => new Program(t, [...AS_NODE_22, bare], key);
    const terminals = [start(), start()];
    for (const terminal of terminals) await terminal.says(/^You are in room-42\.$/);
    terminals[0].type("hello");
    await terminals[1].says(/^[0-9a-f-]{36}: hello$/);
  });

  it("a wrong key, a kick and a restart look as the page shows them", async (t) => {
    const page = await readFile(join(REPOSITORY, "README.md"), "utf8");
    const shown = [...page.matchAll(/^Closed: .*$/gm)].map(([line]) => line);
    assert.equal(shown.length, 3, shown.join("\n"));
    const [wrong, kicked, restarted] = shown.map((line) => new RegExp(`^${escaped(line)}$`));
    const file = await written("chat.mjs");
    const stranger = new Program(t, file, "pk_live_wrong");
    await stranger.says(wrong);
    assert.equal(await stranger.code, 1);

    const key = await server.prints(/pk_live_\w+/);
    const terminals = [new Program(t, file, key), new Program(t, file, key)];
    const [, peer] = await terminals[0].says(/^You are ([0-9a-f-]{36})\.$/);
    for (const terminal of terminals) await terminal.says(/^You are in room-42\.$/);
    assert.equal(await server.run("kick", peer, "--yes"), `closed 1 connection of ${peer}\n`);
    await terminals[0].says(kicked);
    assert.equal(await terminals[0].code, 1);
    const why = await server.run("why", peer);
    assert.ok(why.includes(`${peer} closed 4020: `), why);

    await server.restart("SIGTERM");
    await terminals[1].says(restarted);
    await terminals[1].saysAgain(/^You are [0-9a-f-]{36}\.$/);
  });

  it("whoever follows a channel misses nothing, or is told so", async (t) => {
    const link = await breakableLink(t, server);
    const text = await (await fetched(server, "/v1/client.js")).text();
    await writeFile(join(directory, "client.mjs"), text);
    const file = await written("follow.mjs", link.address);
    const secret = await server.prints(/sk_live_\w+/);
    const publish = async (data) => {
      const response = await fetch(`http://${server.address}/v1/channels/demo%2Flobby/publish`, {
        method: "POST",
        headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
        body: JSON.stringify({ data }),
      });
      assert.equal(response.status, 200);
    };
    await publish("before it came");
    const program = new Program(t, file, await server.prints(/pk_live_\w+/));
    await program.says(/^1: before it came$/);
    link.cut();
    await program.says(/^\(there is no connection; trying again\)$/);
    for (const data of ["two", { text: "three" }]) await publish(data);
    link.mend();
    await program.says(/^2: two$/);
    await program.says(/^3: three$/);
    await server.restart("SIGKILL");
    await program.says(/^some messages are gone$/);
    await publish("four");
    await program.says(/^1: four$/);
  });

  for (const [node, flags] of [["Node 20", []], ["Node 22", AS_NODE_22]]) {
    it(`what dev prints runs on ${node} as it is printed`, (t) => runPrinted(t, node, flags));
  }

  async function runPrinted(t, version, flags) {
    const printed = await server.prints(/A browser, or Node 22[^]*?\nA backend:/);
    const [browser, node] = printed.split(/^Node 20 has no WebSocket.*$/m);
    const code = (text) => text.split("\n").filter((line) => line.startsWith("  ")).join("\n");
    // On Node 22 the first part alone does.
    const before = version === "Node 20" ? code(node) : "";
    const file = join(directory, "printed.mjs");
    await writeFile(file, `${before}\n${code(browser)}\nconsole.log("subscribed");\n`);
    const program = new Program(t, [...flags, file]);
    await program.says(/^subscribed$/);
    const secret = await server.prints(/sk_live_\w+/);
    const response = await fetch(`http://${server.address}/v1/channels/room-42/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ data: "hello" }),
    });
    assert.equal(response.status, 200);
    await program.says(/^hello$/);
  }

  it("a backend mints, publishes, lists and kicks", async (t) => {
    const apiKey = await server.prints(/pk_live_\w+/);
    const guest = signallingClient(t, server, { apiKey });
    const connected = next(guest, "connected");
    await guest.connect();
    const { peerId } = await connected;
    await guest.subscribe("room-42");
    const message = next(guest, "message");
    const end = next(guest, "disconnected");

    const file = await written("backend.mjs");
    const backend = new Program(t, file, await server.prints(/sk_live_\w+/), peerId);
    assert.equal((await message).data, "hello from the backend");
    await backend.says(new RegExp(`^In room-42: .*${peerId}`));
    await backend.says(new RegExp(`^Closed 1 of ${peerId}$`));
    assert.equal((await end).code, 4020);

    const [, token] = await backend.says(/^Alice connects with (\S+)$/);
    const alice = signallingClient(t, server, { tokenProvider: async () => token });
    const welcome = next(alice, "connected");
    await alice.connect();
    assert.equal((await welcome).peerId, "alice");
    await assert.rejects(alice.subscribe("room-43"), { name: "channel_not_authorized" });
  });
});
