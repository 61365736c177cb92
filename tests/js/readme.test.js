// The JavaScript programs of the documents, run as they stand there; only the address is changed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

import { signallingClient } from "./harness/clients.js";
import { REPOSITORY, Server } from "./harness/server.js";
import { next, within } from "./harness/wait.js";

/** The program whose first line is a comment with its file name. */
async function documentedProgram(name) {
  const pages = ["README.md", "src/docs/clients.md"];
  const texts = await Promise.all(pages.map((page) => readFile(join(REPOSITORY, page), "utf8")));
  const blocks = [...texts.join("\n").matchAll(/^```js\n(\/\/ (\S+)\n.*?)^```$/gms)];
  const found = blocks.filter(([, , title]) => title === name);
  assert.equal(found.length, 1, `${name} in ${pages}`);
  return found[0][1];
}

/** A program in a process of its own. */
class Program {
  #lines = [];
  #waiting = new Set();

  constructor(t, file, ...args) {
    this.child = spawn(process.execPath, [file, ...args], { stdio: ["pipe", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        this.#lines.push(line);
        for (const look of this.#waiting) look();
      });
    }
    t.after(() => this.child.kill("SIGKILL"));
  }

  type(line) {
    this.child.stdin.write(`${line}\n`);
  }

  /** Waits for a line that matches; returns the match. */
  async says(pattern) {
    const said = new Promise((resolve) => {
      const look = () => {
        const match = this.#lines.map((line) => pattern.exec(line)).find(Boolean);
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
  async function written(name) {
    const text = await documentedProgram(name);
    assert.ok(text.includes("127.0.0.1:8080"), `${name} names the default address`);
    const file = join(directory, name);
    await writeFile(file, text.replaceAll("127.0.0.1:8080", server.address));
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
