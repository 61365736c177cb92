// Pages in Chromium with the published client call each other through the server, over wss.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { launch } from "./harness/browser.js";
import { makeCertificate } from "./harness/certificate.js";
import * as rooms from "./harness/rooms.js";
import { startTls } from "./harness/server.js";
import { startSite } from "./harness/site.js";

for (const shards of [1, 2]) {
  describe(`pages in a room over wss, shards: ${shards}`, () => {
    let certificate, site, server, browser;
    before(async () => {
      certificate = await makeCertificate();
      site = await startSite();
      server = await startTls(certificate, { shards });
      browser = await launch(certificate);
    });
    after(async () => {
      await browser?.close();
      await server?.stop();
      site?.stop();
      await certificate?.remove();
    });

    /** A page that has joined `channel` as `sub`. */
    const joinedAs = (t, channel, sub) =>
      rooms.joinedAs(t, { browser, origin: site.origin, server, channel, sub });

    it("talk over a data channel, also with one who joins late", async (t) => {
      const channel = "room-call";
      const alice = await joinedAs(t, channel, "alice");
      const bob = await joinedAs(t, channel, "bob");
      await rooms.untilMutual([alice, bob]);
      await rooms.untilLinked([alice, bob]);
      await rooms.talk(alice, bob);
      await rooms.publishReaches(alice, [alice, bob], "hello");

      const carol = await joinedAs(t, channel, "carol");
      const all = [alice, bob, carol];
      await rooms.untilMutual(all);
      await rooms.untilLinked(all);
      await rooms.talk(carol, alice);
      await rooms.talk(carol, bob);
      await rooms.talk(alice, bob);
      await rooms.publishReaches(carol, all, "hello from carol");
      for (const page of all) assert.deepEqual(page.complaints, []);
    });

    for (const signal of ["SIGTERM", "SIGKILL"]) {
      it(`recover by themselves after ${signal}`, async (t) => {
        const channel = `room-${signal}`;
        const all = [];
        for (const sub of ["alice", "bob", "carol"]) all.push(await joinedAs(t, channel, sub));
        const [alice, bob, carol] = all;
        await rooms.untilMutual(all);
        await rooms.untilLinked(all);
        await server.restart(signal, async () => {
          for (const page of all) {
            const lost = () => window.room.state === "reconnecting";
            await rooms.holds(page, "notices that the server is gone", lost);
          }
          // What goes from page to page does not need the server; but those who are told that
          // others leave, as a server that closes tells them, hang up.
          if (signal === "SIGKILL") await rooms.talk(alice, bob);
        });
        await rooms.untilMutual(all);
        for (const page of all) await rooms.publishReaches(page, all, `${page.sub} is back`);
        await rooms.untilLinked(all);
        await rooms.dial(carol, alice, "after the restart");
        const dave = await joinedAs(t, channel, "dave");
        await rooms.untilMutual([...all, dave]);
        await rooms.untilLinked([...all, dave]);
        await rooms.talk(dave, bob);
      });
    }
  });
}
