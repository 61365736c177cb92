// The server's own client, as the server serves it, against that server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

import { SignallingClient as PublishedClient } from "@metered-ca/realtime";
import WebSocket from "ws";

import { token } from "./harness/clients.js";
import { fetched, ownClient, servedClient, told, toldTimes } from "./harness/own_client.js";
import { PUBLISHABLE_KEY, Server } from "./harness/server.js";
import { collect, next, until, within } from "./harness/wait.js";

/** What a page may spend on its client. */
const GZIP_BYTES_MAX = 12 * 1024;

const OTHER_APPS = `
[[apps]]
id = "app_slow"
[apps.limits]
message_rate = 20
message_burst = 20
[[apps.keys]]
id = "pk_live_slow"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
`;

const as = (sub, claims) => ({ tokenProvider: async () => token(sub, claims) });

describe("the client that the server serves", () => {
  let server;
  let Served;
  before(async () => {
    server = await Server.start({ shards: 2, apps: OTHER_APPS });
    Served = (await servedClient(server)).SignallingClient;
  });
  after(() => server.stop());

  async function connectedAs(t, sub, options = as(sub)) {
    const client = ownClient(t, Served, server.url, options);
    await client.connect();
    return client;
  }

  it("is one small module that any page may load, with types", async () => {
    for (const path of ["/v1/client.js", "/v1/client.d.ts"]) {
      const response = await fetched(server, path);
      const text = await response.text();
      assert.equal(response.headers.get("access-control-allow-origin"), "*");
      assert.equal(response.headers.get("content-encoding"), "gzip");
      const etag = response.headers.get("etag");
      assert.match(etag, /^"[0-9a-f]{16}"$/);
      const again = await fetched(server, path, { "if-none-match": etag });
      assert.equal(again.status, 304);
      assert.ok(gzipSync(text, { level: 9 }).length <= GZIP_BYTES_MAX, path);
      assert.ok(!/\bfrom "|\brequire\(|\bimport\(/.test(text), path);
    }
  });

  it("has types that hold for a program that uses all of it", async () => {
    const tsc = fileURLToPath(import.meta.resolve("typescript/bin/tsc"));
    const program = fileURLToPath(new URL("harness/typed_program.ts", import.meta.url));
    const flags = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"];
    const args = [tsc, ...flags, "--lib", "es2023", program];
    await promisify(execFile)(process.execPath, args).catch(({ stdout, message }) => {
      throw new Error(stdout || message);
    });
  });

  it("is changed over to in one line", async (t) => {
    for (const Client of [PublishedClient, Served]) {
      const webSocketFactory = (url) => new WebSocket(url);
      const make = (options) => new Client({ url: server.url, webSocketFactory, ...options });
      const [alice, bob] = [make({ apiKey: PUBLISHABLE_KEY }), make(as("bob"))];
      t.after(() => Promise.all([alice.close(), bob.close()]));
      const connected = next(alice, "connected");
      await Promise.all([alice.connect(), bob.connect()]);
      const { peerId, expiresAt, isReconnect, maxMessageSize } = await connected;
      assert.deepEqual([expiresAt, isReconnect, maxMessageSize], [null, false, 65_536]);
      const presence = next(alice, "presence", ({ joined }) => joined.length === 1);
      await alice.subscribe("room-one-line", { includeSenderMetadata: true });
      await bob.subscribe("room-one-line");
      assert.equal((await presence).joined[0].peerId, "bob");
      const message = next(alice, "message");
      await bob.publish("room-one-line", { text: "hello" });
      const { channel, from, data } = await message;
      assert.deepEqual([channel, from, data], ["room-one-line", "bob", { text: "hello" }]);
      const direct = next(bob, "direct");
      await alice.send("bob", [1]);
      assert.deepEqual(await direct, { from: peerId, data: [1] });
      await assert.rejects(alice.send("nobody", 1), { name: "peer_not_found" });
      await assert.rejects(alice.subscribe("hall"), { name: "channel_not_authorized" });
      await alice.unsubscribe("room-one-line");
      await alice.close();
      assert.equal(alice.state, "closed");
      await bob.close();
    }
  });

  it("keeps rosters, and tells who joins and who leaves", async (t) => {
    const alice = await connectedAs(t, "alice");
    await alice.subscribe("room-roster");
    const options = as("bob", { peerMetadata: { name: "Bob" } });
    const bob = await connectedAs(t, "bob", options);
    await bob.subscribe("room-roster");
    const [joined] = await toldTimes(alice, "peer-joined", 1);
    const entry = { peerId: "bob", metadata: { name: "Bob" } };
    assert.deepEqual(joined, { channel: "room-roster", ...entry });
    assert.deepEqual(alice.peers("room-roster"), [entry]);
    await toldTimes(bob, "peer-joined", 1);
    assert.deepEqual(bob.peers("room-roster"), [{ peerId: "alice" }]);
    await bob.close();
    await toldTimes(alice, "peer-left", 1);
    assert.deepEqual(alice.peers("room-roster"), []);
  });

  it("stays out after a kick, and says why", async (t) => {
    const alice = await connectedAs(t, "alice-kicked");
    const states = collect(alice, "state");
    const end = next(alice, "disconnected");
    await server.run("kick", "alice-kicked", "--yes", "--app", "app_tests");
    assert.deepEqual([(await end).code, (await end).willReconnect], [4020, false]);
    assert.match(states.at(-1).message, /ended this connection/);
    await alice.connect();
  });

  it("sends less after it was closed for sending too fast, and loses nothing", async (t) => {
    const options = { apiKey: "pk_live_slow", atLeastOnce: true };
    const [fast, other] = await Promise.all([1, 2].map(() => connectedAs(t, "", options)));
    await other.subscribe("c");
    const ends = collect(fast, "disconnected");
    const numbers = Array.from({ length: 60 }, (_, number) => number);
    await Promise.all(numbers.map((number) => fast.publish("c", number)));
    assert.ok(ends.some(({ code }) => code === 4011), "it was never too fast");
    const heard = () => new Set(told(other, "message").map(({ data }) => data)).size === 60;
    await until("all messages", [other], ["message"], heard);
  });

  it("is back in its channels after a restart, publishes what was waiting, and tells of gaps",
    async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      for (const client of [alice, bob]) await client.subscribe("room-restart");
      for (const signal of ["SIGTERM", "SIGKILL"]) {
        const lost = [alice, bob].map((client) => next(client, "disconnected"));
        const number = told(bob, "message").length;
        const gaps = told(bob, "gap").length;
        let waiting;
        await server.restart(signal, async () => {
          await Promise.all(lost);
          assert.equal(alice.state, "reconnecting");
          waiting = alice.publish("room-restart", signal);
        });
        await within("the publication", waiting);
        // Bob may have come back behind it; this one he has to hear.
        await toldTimes(bob, "gap", gaps + 1);
        await until("alice's return", [bob], ["presence"], () =>
          bob.peers("room-restart").some(({ peerId }) => peerId === "alice"));
        await alice.publish("room-restart", `${signal} again`);
        await toldTimes(bob, "message", number + 1);
        await until("the message", [bob], ["message"], () =>
          told(bob, "message").at(-1).data === `${signal} again`);
        const { channel, reason } = told(bob, "gap").at(-1);
        assert.equal(channel, "room-restart");
        assert.ok(["no-history", "unsupported"].includes(reason), reason);
      }
    });

  it("lives on behind the end of its first token", async (t) => {
    const lives = [4, 3600, 3600];
    const options = { tokenProvider: async () => token("erin", { lifeSec: lives.shift() }) };
    const erin = await connectedAs(t, "erin", options);
    await erin.subscribe("room-tokens");
    const renewed = new Promise((resolve) => {
      erin.on("refreshed", resolve);
      erin.on("connected", resolve);
    });
    const { expiresAt } = await within("another token", renewed);
    assert.ok(expiresAt > Date.now() / 1000 + 1_000, `${expiresAt}`);
    const other = await connectedAs(t, "other");
    const isBack = () => erin.state === "connected";
    await until("the channel again", [erin], ["state", "refreshed"], isBack);
    const message = next(erin, "message");
    let isHeard = false;
    message.then(() => (isHeard = true));
    // A subscription that is on its way does not count yet.
    while (!isHeard) await other.publish("room-tokens", "still there?");
    assert.equal((await message).data, "still there?");
  });
});
