// Channels with history, and the server's own client over connections that end at any moment.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { token } from "./harness/clients.js";
import { ownClient, servedClient, told, toldTimes } from "./harness/own_client.js";
import { Server } from "./harness/server.js";
import { next, within } from "./harness/wait.js";

const MESSAGES_KEPT = 400;
/** Of the app that every server of these tests has. */
const HISTORY = `
[[apps.history]]
pattern = "room-kept/**"
messages = ${MESSAGES_KEPT}
bytes = 1048576
ttl_sec = 3600
store = "memory"
`;

const data = (client) => told(client, "message").map((message) => message.data);
const upTo = (count) => Array.from({ length: count }, (_, number) => number);

for (const shards of [1, 2]) {
  describe(`a client of channels with history, shards: ${shards}`, () => {
    let server;
    let Client;
    before(async () => {
      server = await Server.start({ shards, apps: HISTORY });
      Client = (await servedClient(server)).SignallingClient;
    });
    after(() => server.stop());

    async function connectedAs(t, sub) {
      const client = ownClient(t, Client, server.url, { tokenProvider: async () => token(sub) });
      await client.connect();
      return client;
    }

    const cut = (client) => client.sockets.at(-1).terminate();

    it("hears everything once and in order, however often its connection ends", async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      await alice.subscribe("room-kept/cut");
      let cuts = 0;
      for (const number of upTo(300)) {
        await bob.publish("room-kept/cut", number);
        if (number % 20 !== 0) continue;
        // At any moment: in the middle of a handshake or of a replay, too.
        cut(alice);
        cuts += 1;
      }
      await toldTimes(alice, "message", 300);
      assert.deepEqual(data(alice), upTo(300));
      assert.deepEqual(told(alice, "gap"), []);
      assert.ok(alice.sockets.length > 3, `${alice.sockets.length} connections, ${cuts} cuts`);
      assert.equal(alice.position("room-kept/cut").seq, 300);
    });

    it("publishes everything once, however often its connection ends", async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      await alice.subscribe("room-kept/publish");
      // It hears of the channel's history with the first ack.
      await bob.publish("room-kept/publish", 0);
      const rest = upTo(200).slice(1);
      const published = rest.map((number) => bob.publish("room-kept/publish", number));
      for (const at of [20, 60, 100, 150]) {
        await published[at];
        cut(bob);
      }
      const places = await within("all acks", Promise.all(published));
      await toldTimes(alice, "message", 200);
      assert.deepEqual(data(alice), upTo(200));
      assert.deepEqual(places.map(({ seq }) => seq), rest.map((number) => number + 1));
    });

    it("says how many messages are gone", async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      await alice.subscribe("room-kept/gone");
      const since = alice.position("room-kept/gone");
      await alice.close();
      const count = MESSAGES_KEPT + 10;
      for (const number of upTo(count)) await bob.publish("room-kept/gone", number);
      const later = await connectedAs(t, "alice");
      const { recovered, seq } = await later.subscribe("room-kept/gone", { since });
      assert.deepEqual([recovered, seq], [false, count]);
      assert.deepEqual(told(later, "gap"), [
        { channel: "room-kept/gone", reason: "lost", missed: count },
      ]);
      await bob.publish("room-kept/gone", "afterwards");
      await toldTimes(later, "message", 1);
      assert.deepEqual(data(later), ["afterwards"]);
    });

    it("begins with the newest, and goes on in another page", async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      for (const number of upTo(30)) await bob.publish("room-kept/page", number);
      const { count, seq } = await alice.subscribe("room-kept/page", { last: 5 });
      assert.deepEqual([count, seq], [5, 30]);
      await toldTimes(alice, "message", 5);
      assert.deepEqual(data(alice), [25, 26, 27, 28, 29]);
      const since = alice.position("room-kept/page");
      await alice.close();
      for (const number of [30, 31]) await bob.publish("room-kept/page", number);
      const other = await connectedAs(t, "alice");
      const place = await other.subscribe("room-kept/page", { since });
      assert.deepEqual([place.recovered, place.count], [true, 2]);
      await toldTimes(other, "message", 2);
      assert.deepEqual(data(other), [30, 31]);
    });

    it("says so when the server has died with its history in memory", async (t) => {
      const [alice, bob] = [await connectedAs(t, "alice"), await connectedAs(t, "bob")];
      await alice.subscribe("room-kept/died");
      await bob.publish("room-kept/died", "before");
      await toldTimes(alice, "message", 1);
      let waiting;
      await server.restart("SIGKILL", async () => {
        waiting = bob.publish("room-kept/died", "while it was down");
      });
      assert.equal((await toldTimes(alice, "gap", 1))[0].reason, "lost");
      await within("the publication", waiting);
      await bob.publish("room-kept/died", "afterwards");
      await within("it", (async () => {
        while (data(alice).at(-1) !== "afterwards") await next(alice, "message");
      })());
    });
  });
}

for (const shards of [1, 2]) {
  it(`misses nothing over kills with history on disk, shards: ${shards}`, async (t) => {
    const apps = HISTORY.replace("memory", "disk");
    const server = await Server.start({ shards, sections: { history: { ack: "stored" } }, apps });
    t.after(() => server.stop());
    const Client = (await servedClient(server)).SignallingClient;
    const [alice, bob] = ["alice", "bob"].map((sub) =>
      ownClient(t, Client, server.url, { tokenProvider: async () => token(sub) }),
    );
    await Promise.all([alice.connect(), bob.connect()]);
    await alice.subscribe("room-kept/disk");
    const epochs = new Set();
    let count = 0;
    for (let kills = 0; kills < 3; kills += 1) {
      const publications = upTo(20).map(() => bob.publish("room-kept/disk", count++));
      const places = await within("acks", Promise.all(publications));
      epochs.add(places.at(-1).epoch);
      let waiting;
      await server.restart("SIGKILL", async () => {
        waiting = bob.publish("room-kept/disk", count++);
      });
      await within("the publication", waiting);
    }
    await toldTimes(alice, "message", count);
    assert.deepEqual(data(alice), upTo(count));
    assert.deepEqual(told(alice, "gap"), []);
    assert.equal(alice.position("room-kept/disk").seq, count);
    assert.equal(epochs.size, 3, "a kill is an end that gives a new epoch");
  });
}
