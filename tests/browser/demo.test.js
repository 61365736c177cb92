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
