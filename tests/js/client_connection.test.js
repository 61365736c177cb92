// How the server's own client comes, stays and goes: what each close asks for, tokens, silence.

import assert from "node:assert/strict";
import { it } from "node:test";

import {
  OversizedPayloadError, SignallingClient, SignallingConnectError,
} from "../../src/client/client.js";
import { ownClient } from "./harness/own_client.js";
import { ScriptedServer } from "./harness/scripted_server.js";
import { collect, next, within } from "./harness/wait.js";

const KEY = { apiKey: "pk_live_x" };

/** A provider of numbered tokens: `t1`, `t2`, … */
function numbered() {
  let number = 0;
  return async () => `t${++number}`;
}

async function connected(t, options = KEY, welcome) {
  const server = await ScriptedServer.start(t);
  const client = ownClient(t, SignallingClient, server.url, options);
  const opened = client.connect();
  const visit = await server.welcomed("alice", welcome);
  await opened;
  return { server, client, visit };
}

/** Expiry for a `welcome`, so many seconds after it. */
function expiring(lifeSec) {
  const serverTime = Math.floor(Date.now() / 1000);
  return { serverTime, expiresAt: serverTime + lifeSec };
}

it("says what it is doing in words for people", async (t) => {
  const server = await ScriptedServer.start(t);
  const client = ownClient(t, SignallingClient, server.url, KEY);
  const states = collect(client, "state");
  const changes = collect(client, "state-change");
  assert.equal(client.state, "idle");
  const opened = client.connect();
  const visit = await server.welcomed("guest");
  assert.equal(visit.query.get("key"), "pk_live_x");
  await opened;
  assert.equal(client.peerId, "guest");
  visit.close(1013);
  await next(client, "disconnected");
  const back = next(client, "connected");
  await server.welcomed("guest-2");
  assert.equal((await back).isReconnect, true);
  await client.close();
  const told = states.map(({ state, message }) => `${state}: ${message}`);
  assert.deepEqual(told, [
    "connecting: connecting",
    "connected: connected",
    "reconnecting: messages were read too slowly; trying again",
    "reconnecting: connecting",
    "connected: connected",
    "closed: closed",
  ]);
  assert.deepEqual(changes.map(({ to }) => to), [
    "connecting", "connected", "reconnecting", "connected", "closed",
  ]);
});

for (const code of [4012, 4020, 4001]) {
  it(`stays out after ${code}, until asked back, and is in its channels then`, async (t) => {
    const { server, client, visit } = await connected(t);
    const joined = client.subscribe("c");
    visit.ack(await visit.receives("subscribe"));
    await joined;
    const pending = client.publish("c", 1);
    await visit.receives("publish");
    visit.close(code);
    await assert.rejects(pending, { name: "DisconnectedError" });
    assert.equal(client.state, "closed");
    await assert.rejects(client.publish("c", 2), { name: "NotConnectedError" });
    const again = client.connect();
    const second = await server.welcomed("alice");
    await again;
    assert.equal((await second.receives("subscribe")).channel, "c");
  });
}

it("gets one new token after a refusal, and stops if that is refused too", async (t) => {
  const { server, client, visit } = await connected(t, { tokenProvider: numbered() });
  assert.equal(visit.query.get("token"), "t1");
  visit.close(4001);
  const second = await server.visit();
  assert.equal(second.query.get("token"), "t2");
  const end = next(client, "disconnected");
  second.close(4001);
  assert.deepEqual([(await end).code, (await end).willReconnect], [4001, false]);
});

it("comes back with a new token when the old one has expired", async (t) => {
  const { server, visit } = await connected(t, { tokenProvider: numbered() });
  visit.close(4002);
  assert.equal((await server.visit()).query.get("token"), "t2");
});

it("comes back no sooner than the server asks for", async (t) => {
  const { server, client, visit } = await connected(t);
  const announced = next(client, "going-away");
  visit.send({ type: "going_away", retryAfterMs: 300 });
  assert.equal((await announced).retryAfterMs, 300);
  const end = next(client, "disconnected");
  visit.close(1001);
  await end;
  const from = performance.now();
  await server.visit();
  // Timers of Node may be a millisecond early.
  assert.ok(performance.now() - from >= 298, "it did not wait");
});

it("the first failure is final, unless asked to go on", async (t) => {
  const server = await ScriptedServer.start(t);
  const client = ownClient(t, SignallingClient, server.url, KEY);
  const failed = client.connect();
  (await server.visit()).close(4010);
  await assert.rejects(failed, (error) =>
    error instanceof SignallingConnectError && error.closeCode === 4010);
  assert.equal(client.state, "closed");
  const opened = client.connect({ retry: true });
  (await server.visit()).close(1013);
  (await server.visit()).close();
  await server.welcomed("alice");
  await opened;
  await assert.rejects(client.connect(), /invalid state 'connected'/);
});

it("gives up a connection without a welcome, and one without a sign of life", async (t) => {
  const server = await ScriptedServer.start(t);
  const options = { ...KEY, connectTimeoutMs: 200, inactivityTimeoutMs: 200 };
  const client = ownClient(t, SignallingClient, server.url, options);
  const opened = client.connect({ retry: true });
  assert.equal(await within("the end of it", (await server.visit()).ended), 4000);
  // On a busy machine one or the other welcome comes too late.
  let visit;
  const welcoming = (async () => {
    while (client.state !== "connected") visit = await server.welcomed("alice");
  })();
  await within("a connection", opened);
  const end = next(client, "disconnected");
  assert.deepEqual([(await end).code, (await end).willReconnect], [4000, true]);
  await client.close();
  assert.ok(visit);
  welcoming.catch(() => {});
});

it("gives up a connection on which a command stays without an answer", async (t) => {
  const { server, client, visit } = await connected(t, { ...KEY, ackTimeoutMs: 100 });
  let isIn = false;
  const joined = client.subscribe("c").then(() => (isIn = true));
  await visit.receives("subscribe");
  assert.equal(await within("its end", visit.ended), 4000);
  // On a busy machine the answer may be too late once more.
  const answering = (async () => {
    while (!isIn) {
      const later = await server.welcomed("alice");
      later.ack(await later.receives("subscribe"));
    }
  })();
  await within("the channel", joined);
  answering.catch(() => {});
});

it("sends at a pace after it was closed for too many messages, and in order", async (t) => {
  const { server, client, visit } = await connected(t, { ...KEY, atLeastOnce: true });
  visit.close(4011);
  await next(client, "disconnected");
  const all = Promise.all([1, 2, 3, 4, 5].map((number) => client.publish("c", number)));
  const second = await server.welcomed("alice");
  const from = performance.now();
  for (const number of [1, 2, 3, 4, 5]) {
    const publish = await second.receives("publish");
    assert.equal(publish.data, number);
    second.ack(publish);
  }
  await all;
  // Four pauses of 20 ms; timers of Node may be a millisecond early.
  assert.ok(performance.now() - from >= 70, "there was no pause");
});

it("has its token replaced before it expires", async (t) => {
  const provider = { tokenProvider: numbered() };
  const { client, visit } = await connected(t, provider, expiring(3));
  const refreshed = next(client, "refreshed");
  const command = await visit.receives("refresh");
  assert.equal(command.token, "t2");
  const { expiresAt } = expiring(3600);
  visit.ack(command, { expiresAt });
  assert.deepEqual(await refreshed, { expiresAt });
  assert.equal(client.state, "connected");
});

it("connects anew with the new token where the server cannot replace one", async (t) => {
  const provider = { tokenProvider: numbered() };
  const { server, client, visit } = await connected(t, provider, expiring(3));
  const back = next(client, "connected");
  visit.refuse(await visit.receives("refresh"), "unknown_type");
  const second = await server.welcomed("alice", expiring(3600));
  assert.equal(second.query.get("token"), "t2");
  assert.equal((await back).isReconnect, true);
});

it("tells of tokens that are refused or cannot be had", async (t) => {
  const { client, visit } = await connected(t, { tokenProvider: numbered() }, expiring(3));
  const refused = next(client, "token-provider-error");
  visit.refuse(await visit.receives("refresh"), "peer_mismatch");
  assert.equal((await refused).err.code, "peer_mismatch");

  const failing = { tokenProvider: async () => Promise.reject(new Error("no backend")) };
  const other = ownClient(t, SignallingClient, "ws://127.0.0.1:9", failing);
  const missing = next(other, "token-provider-error");
  const opened = other.connect({ retry: true });
  const { consecutiveFailures, err } = await missing;
  assert.deepEqual([consecutiveFailures, err.message], [3, "no backend"]);
  await other.close();
  await assert.rejects(opened, { name: "DisconnectedError" });
  await assert.rejects(other.connect(), { message: "no backend" });
});

it("joins nothing again where that was not wished, or came to nothing", async (t) => {
  const options = { ...KEY, autoResubscribe: false };
  const { server, client, visit } = await connected(t, options);
  const joined = client.subscribe("c");
  visit.ack(await visit.receives("subscribe"));
  await joined;
  const pending = client.subscribe("d");
  await visit.receives("subscribe");
  visit.close(1013);
  await assert.rejects(pending, { name: "DisconnectedError" });
  const second = await server.welcomed("alice");
  await next(client, "connected");
  const published = client.publish("c", 1);
  second.ack(await second.receives("publish"));
  await published;

  const other = ownClient(t, SignallingClient, server.url, KEY);
  const failed = other.connect();
  const vain = other.subscribe("e");
  (await server.visit()).close(4001);
  await assert.rejects(failed, SignallingConnectError);
  await assert.rejects(vain, { name: "DisconnectedError" });
  const opened = other.connect();
  const third = await server.welcomed("bob");
  await opened;
  const sent = other.publish("c", 2);
  third.ack(await third.receives("publish"));
  await sent;
});

it("refuses what cannot be sent", async (t) => {
  assert.throws(() => new SignallingClient({ url: "ws://x" }), TypeError);
  const both = { ...KEY, tokenProvider: numbered(), url: "ws://x" };
  assert.throws(() => new SignallingClient(both), TypeError);
  assert.throws(() => new SignallingClient({ ...KEY, webSocketFactory: () => {} }), TypeError);
  const idle = ownClient(t, SignallingClient, "ws://127.0.0.1:9", KEY);
  for (const call of ["publish", "subscribe", "send"]) {
    await assert.rejects(idle[call]("c", {}), { name: "NotConnectedError" });
  }
  const { client, visit } = await connected(t, KEY, { maxMessageSize: 10 });
  await assert.rejects(client.publish("c", "twelve bytes"), OversizedPayloadError);
  await assert.rejects(client.publish("c", undefined), TypeError);
  await assert.rejects(client.send("bob", "twelve bytes"), { size: 14, cap: 10 });
  const sent = client.send("bob", [1]);
  const command = await visit.receives("send");
  assert.deepEqual([command.to, command.data], ["bob", [1]]);
  visit.refuse(command, "peer_not_found");
  await assert.rejects(sent, { name: "peer_not_found" });
  assert.equal(JSON.stringify({ client }).includes("pk_live"), false);
});

it("one handler does not disturb another, and `off` finds what `once` was given", async (t) => {
  const { client, visit } = await connected(t);
  const seen = [];
  const never = () => seen.push("never");
  const complaints = t.mock.method(console, "error", () => {});
  client.once("direct", never).off("direct", never);
  client.on("direct", () => {
    throw new Error("a fault of the application");
  });
  client.once("direct", () => seen.push("once"));
  client.on("direct", ({ data }) => seen.push(data));
  for (const data of [1, 2]) visit.send({ type: "direct", from: "bob", data });
  await next(client, "direct", ({ data }) => data === 2);
  assert.deepEqual(seen, ["once", 1, 2]);
  assert.equal(complaints.mock.callCount(), 2);
});
