// The server's own client in Chromium: networks that go, servers that die, tabs that sleep.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Server } from "../js/harness/server.js";
import { launch, newPage } from "./harness/browser.js";
import { startSite } from "./harness/site.js";

const DEADLINE_MS = 30_000;
/** Of the app that the server has. */
const HISTORY = `
[[apps.history]]
pattern = "room-kept/**"
`;

describe("the client that the server serves, in a page of another site", () => {
  let site, server, browser;
  before(async () => {
    site = await startSite();
    server = await Server.start({ shards: 2, apps: HISTORY });
    browser = await launch();
  });
  after(async () => {
    await browser?.close();
    await server?.stop();
    site?.stop();
  });

  /** A page whose client is connected as `sub` and in `channel`. */
  async function pageOf(t, sub, channel, life = "") {
    const page = await newPage(t, browser);
    const query = new URLSearchParams({ server: `http://${server.address}`, sub, life });
    await page.goto(`${site.origin}/client.html?${query}`);
    await page.waitForFunction(() => window.app);
    await page.evaluate(async (channel) => {
      await window.app.client.connect();
      await window.app.client.subscribe(channel);
    }, channel);
    return Object.assign(page, { sub, channel });
  }

  /** Waits until `condition(argument)` holds in the page. */
  async function holds(page, what, condition, argument) {
    const options = { polling: 50, timeout: DEADLINE_MS };
    await page.waitForFunction(condition, argument, options).catch(async (error) => {
      const told = await page.evaluate(() => JSON.stringify(window.app.heard)).catch(String);
      throw new Error(`${page.sub}: ${what}: ${error.message}\n${told.slice(0, 2_000)}`);
    });
  }

  const isState = (state) => window.app.client.state === state;
  const wasTold = ([event, count]) => window.app.heard[event].length >= count;
  const publish = (page, data) =>
    page.evaluate(([channel, data]) => window.app.client.publish(channel, data).then(() => {}),
      [page.channel, data]);
  const hears = (page, data) => holds(page, `hears ${data}`,
    (data) => window.app.heard.message.some((message) => message.data === data), data);

  it("talks", async (t) => {
    const [ann, ben] = [await pageOf(t, "ann", "room-talk"), await pageOf(t, "ben", "room-talk")];
    await publish(ann, "hello");
    await hears(ben, "hello");
    await holds(ann, "sees ben", () => window.app.client.peers("room-talk").length === 1);
    assert.deepEqual(ann.complaints, []);
  });

  it("notices that the network is gone, and misses nothing", async (t) => {
    const channel = "room-kept/net";
    const [ann, ben] = [await pageOf(t, "ann", channel), await pageOf(t, "ben", channel)];
    await ann.context().setOffline(true);
    await holds(ann, "notices", isState, "reconnecting");
    for (const data of ["one", "two"]) await publish(ben, data);
    await ann.context().setOffline(false);
    await holds(ann, "is back", isState, "connected");
    await hears(ann, "two");
    await publish(ben, "three");
    await hears(ann, "three");
    const { message, gap } = await ann.evaluate(() => window.app.heard);
    assert.deepEqual(message.map(({ data }) => data), ["one", "two", "three"]);
    assert.deepEqual(gap, []);
  });

  it("is back after the server was killed, and publishes what was waiting", async (t) => {
    const channel = "room-kept/kill";
    const [ann, ben] = [await pageOf(t, "ann", channel), await pageOf(t, "ben", channel)];
    await server.restart("SIGKILL", async () => {
      for (const page of [ann, ben]) await holds(page, "notices", isState, "reconnecting");
      await ann.evaluate(() => {
        window.waiting = window.app.client.publish("room-kept/kill", "while it was down");
      });
    });
    await ann.evaluate(() => window.waiting.then(() => {}));
    await holds(ben, "is back", wasTold, ["connected", 2]);
    await holds(ben, "tells of the gap", wasTold, ["gap", 1]);
    await publish(ann, "afterwards");
    await hears(ben, "afterwards");
    assert.equal(await ben.evaluate(() => window.app.heard.gap[0].reason), "lost");
  });

  it("is there again after a sleep, and has missed nothing", async (t) => {
    const channel = "room-kept/sleep";
    const [ann, ben] = [await pageOf(t, "ann", channel), await pageOf(t, "ben", channel)];
    const devtools = await ann.context().newCDPSession(ann);
    await devtools.send("Page.setWebLifecycleState", { state: "frozen" });
    for (let number = 1; number <= 100; number += 1) await publish(ben, number);
    await devtools.send("Page.setWebLifecycleState", { state: "active" });
    await publish(ben, "awake");
    await hears(ann, "awake");
    const { message, gap } = await ann.evaluate(() => window.app.heard);
    assert.deepEqual(message.map(({ seq }) => seq), Array.from({ length: 101 }, (_, at) => at + 1));
    assert.deepEqual(gap, []);
  });

  it("outlives its token", async (t) => {
    const ben = await pageOf(t, "ben", "room-life");
    const ann = await pageOf(t, "ann", "room-life", "3");
    await holds(ann, "has another token", () =>
      window.app.heard.refreshed.length + window.app.heard.connected.length > 1);
    await holds(ann, "is connected", isState, "connected");
    await holds(ann, "is in its channel", () => window.app.client.peers("room-life").length === 1);
    await publish(ann, "yes");
    await hears(ben, "yes");
  });
});
