// `SignallingClient` of the published client against the real server, at 1, 2 and 4 shards.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { OversizedPayloadError, SignallingConnectError } from "@metered-ca/realtime";

import { connectedAs, signallingClient, token } from "./harness/clients.js";
import { PUBLISHABLE_KEY, Server } from "./harness/server.js";
import { collect, next, until, within } from "./harness/wait.js";

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const OTHER_APPS = `
[[apps]]
id = "app_two_at_once"
[apps.plan]
max_concurrent_connections = 2
[[apps.keys]]
id = "pk_live_two_at_once"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]

[[apps]]
id = "app_three_messages"
[apps.plan]
max_messages_per_period = 3
[[apps.keys]]
id = "pk_live_three_messages"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]

[[apps]]
id = "app_slow"
[apps.limits]
message_rate = 1
message_burst = 5
[[apps.keys]]
id = "pk_live_slow"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
`;

for (const shards of [1, 2, 4]) {
  describe(`SignallingClient, shards: ${shards}`, () => {
    let server;
    before(async () => {
      server = await Server.start({ shards, apps: OTHER_APPS });
    });
    after(() => server.stop());

    it("connects with a publishable key", async (t) => {
      const client = signallingClient(t, server, { apiKey: PUBLISHABLE_KEY });
      const connected = next(client, "connected");
      await client.connect();
      const { peerId, serverTime, expiresAt, maxMessageSize, isReconnect } = await connected;
      assert.match(peerId, UUID_V4);
      assert.equal(expiresAt, null);
      assert.equal(maxMessageSize, 65_536);
      assert.equal(isReconnect, false);
      assert.ok(Math.abs(serverTime - Date.now() / 1000) < 60, `serverTime ${serverTime}`);
    });

    it("connects with a token", async (t) => {
      const iceServers = [{ urls: "turn:turn.example:3478", username: "u", credential: "c" }];
      const tokenProvider = async () => token("alice@example.com", { metadata: { iceServers } });
      const client = signallingClient(t, server, { tokenProvider });
      const connected = next(client, "connected");
      const before = Math.floor(Date.now() / 1000);
      await client.connect();
      const welcome = await connected;
      assert.equal(welcome.peerId, "alice@example.com");
      assert.ok(welcome.expiresAt >= before + 3600 && welcome.expiresAt < before + 3660);
      assert.deepEqual(welcome.iceServers, iceServers);
    });

    it("hears each snapshot of twenty parallel subscribes behind its ack", async (t) => {
      const heard = [];
      const host = await connectedAs(t, server, "host");
      const client = await connectedAs(t, server, "guest");
      const channels = Array.from({ length: 20 }, (_, n) => `parallel/${n}`);
      await Promise.all(channels.map((channel) => host.subscribe(channel)));
      await Promise.all(
        channels.map(async (channel) => {
          await client.subscribe(channel);
          // Listens only now, as the client's own `MeteredPeer` does.
          const { joined } = await next(client, "presence", (it) => it.channel === channel);
          assert.deepEqual(joined.map((peer) => peer.peerId), ["host"]);
          heard.push(channel);
        }),
      );
      assert.equal(heard.length, 20);
    });

    it("rejects a bad credential before the handshake", async (t) => {
      const credentials = [
        { apiKey: "pk_live_unknown" },
        { tokenProvider: async () => `${token("alice").slice(0, -2)}AA` },
        { tokenProvider: async () => token("alice", { lifeSec: -60 }) },
        { tokenProvider: async () => token("alice", { permissions: ["read"] }) },
      ];
      for (const options of credentials) {
        const client = signallingClient(t, server, options);
        const error = await client.connect().then(() => null, (error) => error);
        assert.ok(error instanceof SignallingConnectError, String(error));
        assert.equal(error.closeCode, 1006);
        assert.equal(client.state, "closed");
      }
    });

    it("delivers publications as they were sent, in one order, not to the sender", async (t) => {
      const channel = "app/a channel/with ünïcode ✓";
      const [alice, bob, carol] = await Promise.all(
        ["alice", "bob", "carol"].map((sub) => connectedAs(t, server, sub)),
      );
      await Promise.all([alice, bob, carol].map((client) => client.subscribe(channel)));
      const [toAlice, toBob, toCarol] = [alice, bob, carol].map((c) => collect(c, "message"));

      const sent = [null, 0, -1.5e300, "", "ünï ✓ 😀", [], {}, { deep: [{ er: [true] }] }];
      for (let n = 0; n < 100; n++) sent.push({ n });
      await Promise.all(sent.map((data) => alice.publish(channel, data)));
      await Promise.all(sent.map((data) => bob.publish(channel, data)));

      const all = 2 * sent.length;
      await until("carol has them all", [carol], ["message"], () => toCarol.length === all);
      await until("alice has bob's", [alice], ["message"], () => toAlice.length >= sent.length);
      await until("bob has alice's", [bob], ["message"], () => toBob.length >= sent.length);
      const from = (peerId) => sent.map((data) => ({ channel, from: peerId, data }));
      assert.deepEqual(toCarol, [...from("alice"), ...from("bob")]);
      assert.deepEqual(toAlice, from("bob"));
      assert.deepEqual(toBob, from("alice"));
    });

    it("delivers what concurrent publishers send in the same order to everybody", async (t) => {
      const publishers = await Promise.all(
        ["p0", "p1", "p2"].map((sub) => connectedAs(t, server, sub)),
      );
      const subscribers = await Promise.all(
        ["s0", "s1", "s2", "s3"].map((sub) => connectedAs(t, server, sub)),
      );
      const seen = subscribers.map((client) => collect(client, "message"));
      await Promise.all(subscribers.map((client) => client.subscribe("room-order")));
      const each = 200;
      const numbers = Array.from({ length: each }, (_, n) => n);
      await Promise.all(
        publishers.flatMap((p) => numbers.map((n) => p.publish("room-order", n))),
      );
      const all = each * publishers.length;
      await until("everybody has everything", subscribers, ["message"], () =>
        seen.every((messages) => messages.length === all),
      );
      for (const messages of seen) assert.deepEqual(messages, seen[0]);
      for (const publisher of ["p0", "p1", "p2"]) {
        const own = seen[0].filter(({ from }) => from === publisher);
        assert.deepEqual(own.map(({ data }) => data), numbers);
      }
    });

    it("stops delivering at the ack of an unsubscribe", async (t) => {
      const alice = await connectedAs(t, server, "alice");
      const bob = await connectedAs(t, server, "bob");
      const messages = collect(bob, "message");
      await bob.subscribe("room-unsubscribe");
      await alice.publish("room-unsubscribe", 1);
      await until("the first arrived", [bob], ["message"], () => messages.length === 1);
      await bob.unsubscribe("room-unsubscribe");
      await alice.publish("room-unsubscribe", 2);
      await bob.subscribe("room-unsubscribe");
      await alice.publish("room-unsubscribe", 3);
      await until("the third arrived", [bob], ["message"], () => messages.length >= 2);
      assert.deepEqual(messages.map(({ data }) => data), [1, 3]);
      // Of a channel never subscribed it is no error either.
      await bob.unsubscribe("room-never");
    });

    it("shows senders to those who ask for their metadata", async (t) => {
      const peerMetadata = { name: "Alice", tags: ["a"] };
      const alice = await connectedAs(t, server, "alice", { peerMetadata });
      const [plain, curious] = [
        await connectedAs(t, server, "plain"),
        await connectedAs(t, server, "curious"),
      ];
      await plain.subscribe("room-metadata");
      await curious.subscribe("room-metadata", { includeSenderMetadata: true });
      const messages = [next(plain, "message"), next(curious, "message")];
      await alice.publish("room-metadata", "hi");
      const sent = { channel: "room-metadata", from: "alice", data: "hi" };
      assert.deepEqual(await messages[0], sent);
      assert.deepEqual(await messages[1], { ...sent, fromMetadata: peerMetadata });
    });

    it("sends to every connection of a peer", async (t) => {
      const peerMetadata = { name: "Alice" };
      const alice = await connectedAs(t, server, "alice", { peerMetadata });
      const tabs = [await connectedAs(t, server, "bob"), await connectedAs(t, server, "bob")];
      const directs = tabs.map((tab) => next(tab, "direct"));
      await alice.send("bob", { hello: "bob" });
      for (const direct of directs) {
        const expected = { from: "alice", data: { hello: "bob" }, fromMetadata: peerMetadata };
        assert.deepEqual(await direct, expected);
      }
    });

    it("tells who is there, who comes and who goes", async (t) => {
      const channel = "room-presence";
      const alice = await connectedAs(t, server, "alice", { peerMetadata: { name: "A" } });
      const snapshot = next(alice, "presence");
      await alice.subscribe(channel);
      assert.deepEqual(await snapshot, { channel, joined: [], left: [] });

      const bob = await connectedAs(t, server, "bob");
      const joined = next(alice, "presence");
      const present = next(bob, "presence");
      await bob.subscribe(channel);
      assert.deepEqual(await joined, { channel, joined: [{ peerId: "bob" }], left: [] });
      const aliceEntry = { peerId: "alice", metadata: { name: "A" } };
      assert.deepEqual(await present, { channel, joined: [aliceEntry], left: [] });

      const left = next(alice, "presence");
      await bob.close();
      assert.deepEqual(await left, { channel, joined: [], left: [{ peerId: "bob" }] });
    });

    it("answers what it refuses with the documented codes", async (t) => {
      const all = signallingClient(t, server, { apiKey: PUBLISHABLE_KEY });
      await all.connect();
      const listener = await connectedAs(t, server, "listener", {
        permissions: ["subscribe"],
        channels: ["room-*"],
      });
      // 200 characters pass the client's own check; as UTF-8 they are 400 bytes.
      const long = "é".repeat(200);
      for (const [code, refused] of [
        ["invalid_channel", () => all.subscribe(long)],
        ["invalid_peer_id", () => all.send("é", 1)],
        ["channel_reserved", () => all.subscribe("_internal/room")],
        ["channel_reserved", () => all.publish("_SYSTEM/room", 1)],
        ["channel_not_authorized", () => all.subscribe("elsewhere")],
        ["channel_not_authorized", () => listener.subscribe("app/room")],
        ["action_not_permitted", () => listener.publish("room-1", 1)],
        ["action_not_permitted", () => listener.send("alice", 1)],
        ["peer_not_found", () => all.send("nobody", 1)],
      ]) {
        const error = await within(code, refused().then(() => null, (error) => error));
        assert.equal(error?.name, code, `${refused}: ${error}`);
        assert.ok(error.message, code);
      }
      assert.equal(all.state, "connected");
      assert.equal(listener.state, "connected");
    });

    it("limits the channels of a connection", async (t) => {
      const client = await connectedAs(t, server, "collector");
      const channels = Array.from({ length: 100 }, (_, n) => `room-${n}`);
      await Promise.all(channels.map((channel) => client.subscribe(channel)));
      await assert.rejects(client.subscribe("room-100"), { name: "channel_limit_exceeded" });
      await client.subscribe("room-0");
      await client.unsubscribe("room-0");
      await client.subscribe("room-100");
    });

    it("takes data of 65,536 bytes, and the client sends no more", async (t) => {
      const alice = await connectedAs(t, server, "alice");
      const bob = await connectedAs(t, server, "bob");
      const largest = "x".repeat(65_534);
      await bob.subscribe("room-large");
      const message = next(bob, "message");
      await alice.publish("room-large", largest);
      assert.equal((await message).data, largest);
      const direct = next(bob, "direct");
      await alice.send("bob", largest);
      assert.equal((await direct).data, largest);
      await assert.rejects(alice.publish("room-large", `${largest}x`), OversizedPayloadError);
    });

    it("answers the client's keep-alive, so that an idle connection lives on", async (t) => {
      // It pings each second, and closes unless something comes within three.
      const client = signallingClient(t, server, {
        apiKey: PUBLISHABLE_KEY,
        inactivityTimeoutMs: 3_000,
      });
      await client.connect();
      const [socket] = client.sockets;
      let pongs = 0;
      const idle = new Promise((resolve) => {
        socket.on("message", (text) => {
          assert.deepEqual(JSON.parse(text), { type: "pong" });
          pongs += 1;
          if (pongs === 4) resolve();
        });
      });
      await within("four pongs", idle);
      assert.equal(client.state, "connected");
      assert.equal(client.sockets.length, 1);
    });

    it("closes a connection that sends too fast", async (t) => {
      const client = signallingClient(t, server, { apiKey: "pk_live_slow" });
      await client.connect();
      await client.publish("fast", "the first of a burst of five");
      const disconnected = next(client, "disconnected");
      const outcomes = await Promise.allSettled(
        Array.from({ length: 20 }, (_, n) => client.publish("fast", n)),
      );
      assert.equal((await disconnected).code, 4011);
      assert.equal(outcomes.at(-1).reason.name, "DisconnectedError");
    });

    it("closes a connection over the app's limit", async (t) => {
      const clients = [0, 1, 2].map(() =>
        signallingClient(t, server, { apiKey: "pk_live_two_at_once" }),
      );
      await clients[0].connect();
      await clients[1].connect();
      await assert.rejects(clients[2].connect(), { closeCode: 4010 });
      await clients[0].close();
      // The server may still be taking its leave of the first.
      const third = async () => {
        for (;;) {
          try {
            return await clients[2].connect();
          } catch (error) {
            assert.equal(error.closeCode, 4010);
          }
        }
      };
      await within("a place becomes free", third());
    });

    it("drops messages over the app's quota", async (t) => {
      const client = signallingClient(t, server, { apiKey: "pk_live_three_messages" });
      await client.connect();
      for (const n of [1, 2, 3]) await client.publish("room", n);
      await assert.rejects(client.publish("room", 4), { name: "over_message_quota" });
      assert.equal(client.state, "connected");
    });

    it("ends with the key, and with the suspension of the app", async (t) => {
      await server.admin("POST", "/apps", { appId: "app_ending", name: "Ending" });
      const { keyId } = await server.admin("POST", "/apps/app_ending/keys", {
        type: "publishable",
        channelPatterns: ["**"],
        actions: ["subscribe"],
      });
      const suspended = signallingClient(t, server, { apiKey: keyId });
      await suspended.connect();
      const end = next(suspended, "disconnected");
      await server.admin("PATCH", "/apps/app_ending", { status: "suspended" });
      const { code, willReconnect } = await end;
      assert.deepEqual({ code, willReconnect }, { code: 4012, willReconnect: false });
      await assert.rejects(suspended.connect(), { closeCode: 4012 });

      await server.admin("PATCH", "/apps/app_ending", { status: "active" });
      const revoked = signallingClient(t, server, { apiKey: keyId });
      await revoked.connect();
      const revocation = next(revoked, "disconnected");
      await server.admin("DELETE", `/signalling/keys/${keyId}`);
      assert.equal((await revocation).code, 4001);
      await assert.rejects(revoked.connect(), { closeCode: 1006 });
    });

    it("announces its end, and gets its clients and their subscriptions back", async (t) => {
      const alice = await connectedAs(t, server, "alice");
      const bob = await connectedAs(t, server, "bob");
      // The first snapshot comes behind the ack: it must not be taken for a later one.
      const subscribed = next(bob, "presence");
      await bob.subscribe("room-again", { includeSenderMetadata: true });
      await subscribed;
      for (const [signal, code] of [
        ["SIGTERM", 1001],
        ["SIGKILL", 1006],
      ]) {
        const clients = [alice, bob];
        const announced = signal === "SIGTERM" && clients.map((c) => next(c, "going-away"));
        const ends = clients.map((client) => next(client, "disconnected"));
        const returns = clients.map((client) => next(client, "connected"));
        // The client subscribes again by itself, and gets a new snapshot for it.
        const resubscribed = next(bob, "presence");
        await server.restart(signal);
        for (const end of await Promise.all(ends)) {
          assert.deepEqual([end.code, end.willReconnect], [code, true], signal);
        }
        if (announced) {
          for (const { retryAfterMs } of await Promise.all(announced)) {
            assert.equal(retryAfterMs, 250);
          }
        }
        for (const { isReconnect } of await Promise.all(returns)) assert.ok(isReconnect);
        await resubscribed;
        const message = next(bob, "message");
        await alice.publish("room-again", signal);
        assert.equal((await message).data, signal);
      }
    });
  });
}

describe("SignallingClient, credentials refused by a close", () => {
  let server;
  before(async () => {
    server = await Server.start({ shards: 2, sections: { auth: { reject_with: "close" } } });
  });
  after(() => server.stop());

  it("reads why", async (t) => {
    const expired = async () => token("alice", { lifeSec: -60 });
    for (const [options, closeCode] of [
      [{ apiKey: "pk_live_unknown" }, 4001],
      [{ tokenProvider: expired }, 4002],
    ]) {
      await assert.rejects(signallingClient(t, server, options).connect(), { closeCode });
    }
  });
});
