// The demo page of `ringmesh dev`, as people use it: chat, direct messages, calls, a phone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launch, newPage } from "./harness/browser.js";
import { startDev } from "./harness/dev.js";

const DEADLINE_MS = 30_000;
const HOSTILE = '<img src=x onerror="window.broken = 1"><b>bold</b>';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** The page of somebody with a name, connected. */
async function visitor(t, url, name) {
  const page = await newPage(t, browser);
  page.setDefaultTimeout(DEADLINE_MS);
  await page.goto(url);
  await page.fill("#own-name", name);
  await page.press("#own-name", "Enter");
  await page.waitForSelector('#status[data-state="open"]');
  return page;
}

const say = async (page, text) => {
  await page.fill("#text", text);
  await page.press("#text", "Enter");
};
const hears = (page, text) => page.locator(".said", { hasText: text }).first().waitFor();
const sees = (page, name) => page.locator("#here button", { hasText: name }).waitFor();

/** Nothing but the page's own files was asked for, and nothing went wrong. */
function assertClean(page, url) {
  const { origin } = new URL(url);
  assert.deepEqual(page.complaints, []);
  assert.deepEqual(page.requests.filter((it) => !it.startsWith(`${origin}/demo`)), []);
}

test("two people chat in a room and alone, and nothing is taken for markup", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, `${demo}#garden`, "Ann");
  const ben = await visitor(t, `${demo}#garden`, HOSTILE.slice(0, 30));
  await sees(ann, HOSTILE.slice(0, 20));
  await sees(ben, "Ann");
  await say(ann, "hello room");
  await hears(ben, "hello room");
  await say(ben, HOSTILE);
  await hears(ann, HOSTILE);
  await ann.locator("#here button").click();
  await say(ann, "only for you");
  await ben.locator("#here .unread").waitFor();
  await ben.locator("#here button").click();
  await hears(ben, "only for you");
  await ann.waitForFunction(() => document.querySelector(".line.person").getAttribute("d"));
  await ann.waitForFunction(() => document.querySelector(".line.server").getAttribute("d"));
  for (const page of [ann, ben]) {
    assert.equal(await page.evaluate(() => window.broken), undefined);
    assertClean(page, demo);
  }
});

test("a room is left and another joined, and its link leads there", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, demo, "Ann");
  await ann.fill("#join-name", "kitchen");
  await ann.press("#join-name", "Enter");
  const ben = await visitor(t, ann.url(), "Ben");
  await sees(ann, "Ben");
  await ben.click("#leave");
  await ann.locator("#here button").waitFor({ state: "detached" });
  await sees(ben, "Ann"); // both are in the lobby
  assertClean(ann, demo);
});

for (const [button, kind] of [["#link-up", "data channel"], ["#video", "video"]]) {
  test(`a ${kind} call connects two people and is hung up`, async (t) => {
    const { demo } = await startDev(t);
    const ann = await visitor(t, demo, "Ann");
    const ben = await visitor(t, demo, "Ben");
    await sees(ben, "Ann");
    await ann.locator("#here button").click();
    await ann.click(button);
    await ben.click(".invite .primary");
    for (const page of [ann, ben]) {
      await page.waitForSelector('.call[data-state="live"]');
      const drawn = () => document.querySelector(".line.direct").getAttribute("d");
      await page.waitForFunction(drawn);
    }
    if (kind === "video") {
      await ann.waitForFunction(() => document.querySelector("video.other").videoWidth > 0);
    }
    await say(ann, "past the server");
    await hears(ben, "past the server");
    await ben.locator(".via").first().waitFor();
    await ben.click(".call .danger");
    for (const page of [ann, ben]) await page.waitForSelector(".call", { state: "detached" });
    assertClean(ann, demo);
    assertClean(ben, demo);
  });
}

test("it fits a phone", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, demo, "Ann");
  await ann.setViewportSize({ width: 360, height: 640 });
  for (const panel of ["people", "live", "talk"]) {
    await ann.click(`.tabs [data-show="${panel}"]`);
    await ann.locator(`.panel.${panel}`).waitFor();
    const widths = () => [document.documentElement.scrollWidth, innerWidth];
    const [content, screen] = await ann.evaluate(widths);
    assert.ok(content <= screen, `${panel}: ${content} of ${screen}`);
  }
  await say(ann, "from a phone");
  await hears(ann, "from a phone");
});

/** Disconnects a peer, as a backend does. */
async function kick(server, peerId) {
  const base = server.url.replace(/^ws/, "http");
  const response = await fetch(`${base}/peers/${peerId}`, {
    method: "DELETE", headers: { authorization: `Bearer ${server.secret}` },
  });
  assert.ok(response.ok, `${response.status} ${await response.text()}`);
}

const peerId = async (page) => (await page.textContent("#fact-peer")).split(" ").at(-1);

test("who is kicked is told so, and stays out until asked back", async (t) => {
  const server = await startDev(t);
  const ann = await visitor(t, server.demo, "Ann");
  const ben = await visitor(t, server.demo, "Ben");
  await sees(ben, "Ann");
  await kick(server, await peerId(ann));
  await ann.getByText("You were kicked").waitFor();
  await ben.locator("#here button").waitFor({ state: "detached" });
  await ann.fill("#text", "still here");
  await ann.press("#text", "Enter");
  await ann.getByText("your text is kept").waitFor();
  assert.equal(await ann.inputValue("#text"), "still here");
  await ann.click("#come-back");
  await ann.waitForSelector('#status[data-state="open"]');
  await sees(ben, "Ann");
});

test("a thousand messages come, in order, and others say so", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, demo, "Ann");
  const ben = await visitor(t, demo, "Ben");
  await sees(ann, "Ben");
  await ann.click("#send-many");
  // It takes as long as the message rate makes it take, and on a busy machine longer.
  const patient = { timeout: 5 * DEADLINE_MS };
  await ann.getByText("Ben: 1000 of 1000 messages came, in order").waitFor(patient);
  await ben.getByText("Ann: 1000 of 1000 messages came, in order").waitFor();
  await ann.click(".wire summary");
  await ann.locator("#frames .out code", { hasText: '"type":"ping"' }).first().waitFor();
  assertClean(ann, demo);
});

test("on a phone a call is where one talks, and other tabs tell what is new", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, demo, "Ann");
  const ben = await visitor(t, demo, "Ben");
  for (const page of [ann, ben]) await page.setViewportSize({ width: 390, height: 700 });
  await ben.click('.tabs [data-show="live"]');
  await ann.click('.tabs [data-show="people"]');
  await ann.locator("#here button").click();
  await say(ann, "are you there?");
  await ben.locator("#people-badge", { hasText: "1" }).waitFor();
  await ann.click("#link-up");
  await ben.locator(".invite .primary").waitFor();
  const places = () => ["#invites", "#say"].map((it) => {
    const { top, bottom } = document.querySelector(it).getBoundingClientRect();
    return { top, bottom };
  });
  await ben.click('.tabs [data-show="talk"]');
  const [invite, composer] = await ben.evaluate(places);
  assert.ok(invite.bottom <= composer.top, "the invitation covers the composer");
  await ben.click(".invite .primary");
  for (const page of [ann, ben]) await page.locator('.call[data-state="live"]').waitFor();
  await ben.locator("#people-badge").waitFor({ state: "hidden" });
});

test("a click is not lost to what comes while the button is down", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, `${demo}#garden`, "Ann");
  const ben = await visitor(t, `${demo}#garden`, "Ben");
  await ann.fill("#join-name", "kitchen");
  await ann.press("#join-name", "Enter");
  const garden = ann.locator("#rooms button", { hasText: "garden" });
  await garden.hover();
  await ann.mouse.down();
  await say(ben, "meanwhile");
  await garden.locator(".unread").waitFor();
  await ann.mouse.up();
  await hears(ann, "meanwhile");
});

test("what is typed for one room stays with it", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, `${demo}#garden`, "Ann");
  await ann.fill("#text", "for the garden");
  await ann.fill("#join-name", "kitchen");
  await ann.press("#join-name", "Enter");
  await ann.waitForFunction(() => document.querySelector("#text").value === "");
  await ann.locator("#rooms button", { hasText: "garden" }).click();
  await ann.waitForFunction(() => document.querySelector("#text").value === "for the garden");
});

/** Takes the network away from a page while `act` runs. */
async function offline(page, act) {
  await page.context().setOffline(true);
  await page.waitForSelector('#status[data-state="lost"]');
  await act();
  await page.context().setOffline(false);
  await page.waitForSelector('#status[data-state="open"]');
}

test("a tab without a network shows what it missed, and sends what was typed", async (t) => {
  const { demo } = await startDev(t);
  const ann = await visitor(t, demo, "Ann");
  const ben = await visitor(t, demo, "Ben");
  await sees(ben, "Ann");
  await say(ben, "before that");
  await hears(ann, "before that");
  await offline(ann, async () => {
    await say(ben, "did you miss me?");
    await say(ann, "typed without a network");
    await ann.getByText("Waiting for the connection").waitFor();
  });
  await hears(ann, "did you miss me?");
  await hears(ben, "typed without a network");
  await ann.getByText("Waiting for the connection").waitFor({ state: "detached" });
  await ann.getByText("The connection was lost, and is back after").waitFor();
  const missed = ann.locator(".message", { hasText: "did you miss me?" });
  assert.equal(await missed.count(), 1);
  assert.match(await missed.textContent(), /Ben.*while you were away/);
  assert.equal(await ann.locator(".said", { hasText: "before that" }).count(), 1);
  assert.equal(await ann.getByText("missing here").count(), 0);
  // Who comes later sees it, too.
  const eve = await visitor(t, demo, "Eve");
  await hears(eve, "did you miss me?");
});

test("a tab without a network says where messages are missing", async (t) => {
  const server = await startDev(t);
  const ann = await visitor(t, server.demo, "Ann");
  const base = server.url.replace(/^ws/, "http");
  await offline(ann, async () => {
    // More than a server replays.
    for (let number = 0; number < 120; number += 1) {
      const response = await fetch(`${base}/channels/demo%2Flobby/publish`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.secret}`, "content-type": "application/json" },
        body: JSON.stringify({ data: { kind: "noise", text: "x".repeat(10_000) } }),
      });
      assert.ok(response.ok, `${response.status} ${await response.text()}`);
    }
  });
  const words = /^\d+ messages are missing here: the server does not have them any more$/;
  await ann.locator(".event", { hasText: words }).waitFor();
});
