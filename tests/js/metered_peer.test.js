// `MeteredPeer` of the published client against the real server, at 1, 2 and 4 shards.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { joinedAs, meteredPeer, token } from "./harness/clients.js";
import { PUBLISHABLE_KEY, Server } from "./harness/server.js";
import { collect, next, until } from "./harness/wait.js";

const ROSTER_EVENTS = ["peer-joined", "peer-left", "state-change"];

/** The ids of those that `peer` sees, sorted. */
const roster = (peer) => peer.remotePeers.map(({ id }) => id).sort();

/** Waits until each of `peers` is joined and sees exactly the others. */
function untilMutual(what, peers) {
  const ids = peers.map(({ peerId }) => peerId);
  const sees = (peer) => ids.filter((id) => id !== peer.peerId).sort();
  return until(what, peers, ROSTER_EVENTS, () =>
    peers.every((p) => p.state === "joined" && roster(p).join() === sees(p).join()),
  );
}

for (const shards of [1, 2, 4]) {
  describe(`MeteredPeer, shards: ${shards}`, () => {
    let server;
    before(async () => {
      server = await Server.start({ shards });
    });
    after(() => server.stop());

    it("joins with a publishable key", async (t) => {
      const peer = meteredPeer(t, server, { apiKey: PUBLISHABLE_KEY });
      const joined = next(peer, "joined");
      await peer.join("room-key");
      assert.deepEqual(await joined, { peerId: peer.peerId, channel: "room-key" });
      assert.deepEqual(roster(peer), []);
    });

    it("finds those who are there, and is found by those who come later", async (t) => {
      const channel = "room-three";
      const alice = await joinedAs(t, server, "alice", channel, { peerMetadata: { n: 1 } });
      const bob = await joinedAs(t, server, "bob", channel);
      await untilMutual("two see each other", [alice, bob]);
      const carol = await joinedAs(t, server, "carol", channel);
      await untilMutual("three see each other", [alice, bob, carol]);
      const seen = carol.remotePeers.find(({ id }) => id === "alice");
      assert.deepEqual(seen.metadata, { n: 1 });

      const left = [next(alice, "peer-left"), next(carol, "peer-left")];
      await bob.close();
      for (const { peer } of await Promise.all(left)) assert.equal(peer.id, "bob");
      await untilMutual("two are left", [alice, carol]);
    });

    it("sends to all and to one", async (t) => {
      const channel = "room-send";
      const peers = [];
      for (const sub of ["alice", "bob", "carol"]) {
        peers.push(await joinedAs(t, server, sub, channel, { peerMetadata: { sub } }));
      }
      const [alice, bob, carol] = peers;
      await untilMutual("three see each other", peers);
      const [toAlice, toBob, toCarol] = peers.map((peer) => collect(peer, "data"));

      await alice.send({ to: "all" });
      await alice.sendTo("bob", { to: "bob" });
      const toOne = carol.remotePeers.find(({ id }) => id === "bob");
      await toOne.send({ to: "bob again" });
      await until("bob has three", [bob], ["data"], () => toBob.length === 3);
      await until("carol has one", [carol], ["data"], () => toCarol.length === 1);

      const data = (sub, kind, data) => ({
        senderPeerId: sub,
        data,
        kind,
        senderMetadata: { sub },
      });
      const byText = (a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b));
      const expected = [
        data("alice", "broadcast", { to: "all" }),
        data("alice", "direct", { to: "bob" }),
        data("carol", "direct", { to: "bob again" }),
      ];
      assert.deepEqual(toBob.toSorted(byText), expected.toSorted(byText));
      assert.deepEqual(toCarol, [data("alice", "broadcast", { to: "all" })]);
      assert.deepEqual(toAlice, []);
    });

    it("sees the roster also where ws does not let promises run between frames", async (t) => {
      const channel = "room-default";
      await joinedAs(t, server, "host", channel);
      const guests = 20;
      let met = 0;
      for (let n = 0; n < guests; n++) {
        const tokenProvider = async () => token(`guest-${n}`);
        const guest = meteredPeer(t, server, { tokenProvider }, { allowSynchronousEvents: true });
        const snapshot = next(guest.client, "presence");
        await guest.join(channel);
        await snapshot;
        if (roster(guest).includes("host")) met += 1;
        await guest.close();
      }
      // The rest is for reads that came late, because this process had to wait for a core.
      assert.ok(met >= guests - 3, `${met} of ${guests} saw the host`);
    });

    for (const signal of ["SIGTERM", "SIGKILL"]) {
      it(`comes back after ${signal}, to those who came back as well`, async (t) => {
        const channel = `room-${signal}`;
        const [alice, bob] = [
          await joinedAs(t, server, "alice", channel),
          await joinedAs(t, server, "bob", channel),
        ];
        const carol = await joinedAs(t, server, "carol", channel);
        await untilMutual("three see each other", [alice, bob, carol]);
        const dropped = [alice, bob].map((peer) =>
          next(peer, "state-change", ({ to }) => to === "reconnecting"),
        );
        const ends = collect(alice, "left");
        await server.restart(signal, async () => {
          await Promise.all(dropped);
          await carol.close();
        });
        await untilMutual("two see each other again", [alice, bob]);
        const data = next(bob, "data");
        await alice.send("still here");
        assert.equal((await data).data, "still here");
        // Dave, who knows nothing of the restart, finds the same room.
        const dave = await joinedAs(t, server, "dave", channel);
        await untilMutual("three see each other", [alice, bob, dave]);
        assert.deepEqual(ends, []);
      });
    }

    it("renews a token that expires", async (t) => {
      const channel = "room-expiring";
      const bob = await joinedAs(t, server, "bob", channel);
      let minted = 0;
      const tokenProvider = async () => {
        minted += 1;
        return token("alice", { lifeSec: 3 });
      };
      const alice = meteredPeer(t, server, { tokenProvider });
      const ends = collect(alice.client, "disconnected");
      await alice.join(channel);
      await untilMutual("they see each other", [alice, bob]);
      await until("two renewals", [alice.client], ["connected"], () => minted === 3);
      await untilMutual("they see each other again", [alice, bob]);
      assert.deepEqual(ends.map(({ code }) => code), [4002, 4002]);
      const data = next(alice, "data");
      await bob.sendTo("alice", "renewed");
      assert.equal((await data).data, "renewed");
    });

    it("ends when its key is revoked", async (t) => {
      const { keyId } = await server.admin("POST", `/apps/${await ownApp(server)}/keys`, {
        type: "publishable",
        channelPatterns: ["**"],
        actions: ["publish", "subscribe", "presence", "send"],
      });
      const peer = meteredPeer(t, server, { apiKey: keyId });
      await peer.join("room-revoked");
      const [error, left] = [next(peer, "error"), next(peer, "left")];
      await server.admin("DELETE", `/signalling/keys/${keyId}`);
      assert.equal((await error).err.name, "invalid_token");
      assert.equal((await left).channel, "room-revoked");
      assert.equal(peer.state, "closed");
    });
  });
}

/** A new app; those of the configuration cannot be changed through the admin API. */
async function ownApp(server) {
  const { appId } = await server.admin("POST", "/apps", { name: "Of its own" });
  return appId;
}
