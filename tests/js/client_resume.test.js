// The server's own client where connections end at the worst moment: nothing is shown twice or
// missed without a word, and nothing is published twice.

import assert from "node:assert/strict";
import { it } from "node:test";

import { SignallingClient } from "../../src/client/client.js";
import { ownClient, told, toldTimes } from "./harness/own_client.js";
import { ScriptedServer } from "./harness/scripted_server.js";
import { next } from "./harness/wait.js";

const EPOCH = "q7Zk2wAb";
const at = (seq, more) => ({ epoch: EPOCH, seq, ...more });
const tokenProvider = async () => "a.b.c";

/** A client that is connected as `peerId`, and the connection as the server has it. */
async function connected(t, options = { tokenProvider }, peerId = "alice", welcome = {}) {
  const server = await ScriptedServer.start(t);
  const client = ownClient(t, SignallingClient, server.url, options);
  const opened = client.connect();
  const visit = await server.welcomed(peerId, welcome);
  await opened;
  return { server, client, visit };
}

/** The same, in the channel `c` from message 41 on. */
async function inChannel(t, options, peerId, welcome) {
  const all = await connected(t, options, peerId, welcome);
  const joined = all.client.subscribe("c");
  const command = await all.visit.receives("subscribe");
  assert.equal(command.position, true);
  assert.equal(command.since, undefined);
  all.visit.ack(command, at(41));
  const place = await joined;
  assert.deepEqual(place, { ...at(41), recovered: false, count: 0 });
  return all;
}

const texts = (client) => told(client, "message").map(({ data }) => data);

it("goes on from where it was, over several connections", async (t) => {
  const { server, client, visit } = await inChannel(t);
  visit.message("c", 42, "m42");
  await toldTimes(client, "message", 1);
  visit.close();
  const second = await server.welcomed("alice");
  let command = await second.receives("subscribe");
  assert.deepEqual(command.since, at(42));
  second.ack(command, at(45, { recovered: true, count: 3 }));
  second.message("c", 43, "m43");
  second.message("c", 44, "m44");
  await toldTimes(client, "message", 3);
  // It is lost in the middle of the replay.
  second.close();
  const third = await server.welcomed("alice");
  command = await third.receives("subscribe");
  assert.deepEqual(command.since, at(44));
  third.ack(command, at(45, { recovered: true, count: 1 }));
  third.message("c", 45, "m45");
  third.message("c", 46, "m46");
  await toldTimes(client, "message", 5);
  assert.deepEqual(texts(client), ["m42", "m43", "m44", "m45", "m46"]);
  const replayed = told(client, "message").map((message) => message.replayed === true);
  assert.deepEqual(replayed, [false, true, true, true, false]);
  assert.deepEqual(told(client, "gap"), []);
  assert.deepEqual(told(client, "recovered").map(({ count }) => count), [3, 1]);
  assert.deepEqual(client.position("c"), at(46));
});

for (const [what, ack, gap] of [
  ["what was missed is gone", at(90, { recovered: false }), { reason: "lost", missed: 49 }],
  ["the numbering is another", { epoch: "other123", seq: 3, recovered: false }, { reason: "lost" }],
  ["the history was switched off", { epoch: null, seq: 0, recovered: false },
    { reason: "no-history" }],
  ["the server is an older one", {}, { reason: "unsupported" }],
]) {
  it(`says where messages are missing: ${what}`, async (t) => {
    const { server, client, visit } = await inChannel(t);
    visit.close();
    const second = await server.welcomed("alice");
    second.ack(await second.receives("subscribe"), ack);
    assert.deepEqual(await toldTimes(client, "gap", 1), [{ channel: "c", ...gap }]);
    const place = ack.epoch ? { epoch: ack.epoch, seq: ack.seq } : null;
    assert.deepEqual(client.position("c"), place);
    second.message("c", place && place.seq + 1, "afterwards");
    await toldTimes(client, "message", 1);
    assert.deepEqual(told(client, "recovered"), []);
  });
}

it("goes on under the name that a restarted server has given to its numbers", async (t) => {
  const { server, client, visit } = await inChannel(t);
  visit.message("c", 43, "not on disk"); // 42 is on its way
  await toldTimes(client, "message", 1);
  visit.close();
  const second = await server.welcomed("alice");
  const command = await second.receives("subscribe");
  assert.deepEqual(command.since, at(41));
  second.ack(command, { epoch: "restarted", seq: 43, recovered: true, count: 2 });
  second.message("c", 42, "m42");
  second.message("c", 43, "another m43");
  await toldTimes(client, "message", 3);
  assert.deepEqual(texts(client), ["not on disk", "m42", "another m43"]);
  assert.deepEqual(client.position("c"), { epoch: "restarted", seq: 43 });
  assert.deepEqual(told(client, "gap"), []);
});

it("begins with the newest, or from where another page has stopped", async (t) => {
  const { client, visit } = await connected(t);
  const newest = client.subscribe("newest", { last: 2 });
  let command = await visit.receives("subscribe");
  assert.deepEqual(command.since, { last: 2 });
  visit.ack(command, at(57, { recovered: true, count: 2 }));
  visit.message("newest", 56, "m56");
  visit.message("newest", 57, "m57");
  visit.message("newest", 58, "m58");
  assert.equal((await newest).count, 2);
  const later = client.subscribe("later", { since: at(7) });
  command = await visit.receives("subscribe");
  assert.deepEqual(command.since, at(7));
  visit.ack(command, at(9, { recovered: false }));
  assert.equal((await later).recovered, false);
  assert.deepEqual(await toldTimes(client, "gap", 1), [
    { channel: "later", reason: "lost", missed: 2 },
  ]);
  await toldTimes(client, "message", 3);
  const seen = told(client, "message").map(({ data, replayed = false }) => [data, replayed]);
  assert.deepEqual(seen, [["m56", true], ["m57", true], ["m58", false]]);
});

it("does not show its own publications again, and does not miss what lay between", async (t) => {
  const { server, client, visit } = await inChannel(t);
  const [first, second] = [client.publish("c", "own 42"), client.publish("c", "own 44")];
  visit.ack(await visit.receives("publish"), at(42));
  visit.ack(await visit.receives("publish"), at(44));
  assert.deepEqual([(await first).seq, (await second).seq], [42, 44]);
  // The connection is lost before 43, of somebody else, has come.
  visit.close();
  const later = await server.welcomed("alice");
  const command = await later.receives("subscribe");
  assert.deepEqual(command.since, at(42));
  later.ack(command, at(44, { recovered: true, count: 2 }));
  later.message("c", 43, "m43");
  later.message("c", 44, "own 44", "alice");
  later.message("c", 45, "m45");
  await toldTimes(client, "message", 2);
  assert.deepEqual(texts(client), ["m43", "m45"]);
});

it("repeats a publication whose ack was lost, and knows it in the replay", async (t) => {
  const { server, client, visit } = await inChannel(t);
  const published = client.publish("c", { text: "once" });
  const command = await visit.receives("publish");
  assert.equal(typeof command.id, "string");
  visit.close();
  const second = await server.welcomed("alice");
  const again = await second.receives("publish");
  assert.deepEqual([again.id, again.data], [command.id, { text: "once" }]);
  second.ack(again, at(43, { duplicate: true }));
  assert.deepEqual(await published, at(43, { duplicate: true }));
  const subscribe = await second.receives("subscribe");
  assert.deepEqual(subscribe.since, at(41));
  second.ack(subscribe, at(43, { recovered: true, count: 2 }));
  second.message("c", 42, "m42");
  second.message("c", 43, { text: "once" }, "alice");
  second.message("c", 44, "m44");
  await toldTimes(client, "message", 2);
  assert.deepEqual(texts(client), ["m42", "m44"]);
});

it("with a publishable key finds its publication in the replay instead", async (t) => {
  const { server, client, visit } = await inChannel(t, { apiKey: "pk_live_x" }, "guest-1");
  const there = client.publish("c", "there");
  const lost = client.publish("c", "lost");
  await visit.receives("publish");
  await visit.receives("publish");
  visit.close();
  // The next connection is another peer, whose repetition would be published again.
  const second = await server.welcomed("guest-2");
  const subscribe = await second.receives("subscribe");
  const behind = client.publish("c", "behind");
  second.ack(subscribe, at(43, { recovered: true, count: 2 }));
  second.message("c", 42, "there", "guest-1");
  second.message("c", 43, "lost", "somebody else");
  assert.deepEqual(await there, at(42));
  for (const [data, seq] of [["lost", 44], ["behind", 45]]) {
    const publish = await second.receives("publish");
    assert.equal(publish.data, data);
    second.ack(publish, at(seq));
  }
  assert.deepEqual([(await lost).seq, (await behind).seq], [44, 45]);
  assert.deepEqual(texts(client), ["lost"]);
  assert.deepEqual(client.position("c"), at(45));
});

it("does not repeat where the server cannot tell a repetition, unless asked to", async (t) => {
  const { server, client, visit } = await connected(t);
  const plain = client.publish("c", "plain");
  const stubborn = client.publish("c", "stubborn", { atLeastOnce: true });
  for (const _ of [1, 2]) await visit.receives("publish");
  visit.close();
  await assert.rejects(Promise.resolve(plain), { name: "DisconnectedError", wasSent: true });
  const queued = client.publish("c", "not sent before");
  const second = await server.welcomed("alice");
  for (const data of ["stubborn", "not sent before"]) {
    const publish = await second.receives("publish");
    assert.equal(publish.data, data);
    second.ack(publish);
  }
  assert.deepEqual([await stubborn, await queued], [{}, {}]);
});

it("gives up when the time is over, and tries again what may succeed", async (t) => {
  const { client, visit } = await inChannel(t);
  const patient = client.publish("c", "patient");
  const first = await visit.receives("publish");
  visit.refuse(first, "backend_error");
  const again = await visit.receives("publish");
  assert.equal(again.id, first.id);
  visit.ack(again, at(42));
  assert.equal((await patient).seq, 42);
  const late = client.publish("c", "late", { publishTimeoutMs: 1 });
  await assert.rejects(late, { name: "TimeoutError" });
  const refused = client.publish("c", "refused");
  await visit.receives("publish");
  visit.refuse(await visit.receives("publish"), "over_message_quota");
  await assert.rejects(refused, { name: "over_message_quota", code: "over_message_quota" });
});

it("takes up another numbering of a live channel", async (t) => {
  const { server, client, visit } = await inChannel(t);
  visit.message("c", 1, "first of the new ones");
  const learn = await visit.receives("subscribe");
  assert.equal(learn.since, undefined);
  visit.message("c", 2, "second");
  visit.ack(learn, { epoch: "another1", seq: 2 });
  visit.message("c", 3, "third");
  await toldTimes(client, "message", 3);
  assert.deepEqual(client.position("c"), { epoch: "another1", seq: 3 });
  visit.close();
  const second = await server.welcomed("alice");
  const command = await second.receives("subscribe");
  assert.deepEqual(command.since, { epoch: "another1", seq: 3 });
});

it("keeps the roster over connections, and tells only of changes", async (t) => {
  const { server, client, visit } = await inChannel(t);
  visit.presence("c", ["bob", "carol"]);
  visit.presence("c", ["dave"], ["bob"]);
  await toldTimes(client, "peer-joined", 3);
  visit.close();
  const second = await server.welcomed("alice");
  second.ack(await second.receives("subscribe"), at(41, { recovered: true, count: 0 }));
  second.presence("c", ["dave", "erin"]);
  await toldTimes(client, "peer-joined", 4);
  const ids = (event) => told(client, event).map(({ peerId }) => peerId);
  assert.deepEqual(ids("peer-joined"), ["bob", "carol", "dave", "erin"]);
  assert.deepEqual(ids("peer-left"), ["bob", "carol"]);
  assert.deepEqual(client.peers("c").map(({ peerId }) => peerId), ["dave", "erin"]);
});

it("takes what follows a token that allows presence again for snapshots", async (t) => {
  const serverTime = Math.floor(Date.now() / 1_000);
  const welcome = { serverTime, expiresAt: serverTime + 3 };
  const { client, visit } = await inChannel(t, undefined, undefined, welcome);
  visit.presence("c", ["bob", "carol"]);
  const refresh = await visit.receives("refresh");
  visit.ack(refresh, { expiresAt: serverTime + 3_600, snapshots: 1 });
  visit.presence("c", ["carol", "dave"]);
  visit.presence("c", [], ["carol"]);
  await toldTimes(client, "peer-left", 2);
  const ids = (event) => told(client, event).map(({ peerId }) => peerId);
  assert.deepEqual(ids("peer-joined"), ["bob", "carol", "dave"]);
  assert.deepEqual(ids("peer-left"), ["bob", "carol"]);
  assert.deepEqual(client.peers("c").map(({ peerId }) => peerId), ["dave"]);
});

it("leaves a channel that a new token does not open, and says so", async (t) => {
  const { client, visit } = await inChannel(t);
  const error = { type: "error", code: "channel_not_authorized", channel: "c", message: "no" };
  visit.send(error);
  assert.deepEqual(await toldTimes(client, "unsubscribed", 1), [
    { channel: "c", code: "channel_not_authorized", message: "no" },
  ]);
  visit.message("c", 42, "too late");
  visit.send({ type: "direct", from: "bob", data: 1 });
  await next(client, "direct");
  assert.deepEqual(texts(client), []);
});
