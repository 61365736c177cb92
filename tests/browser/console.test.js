// The console against a server that is made up: nothing, few and very many rows, errors, silence.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";

import { launch } from "./harness/browser.js";
import { accessFaults, consolePage, goTo, overhang, signedIn, VIEWS } from "./harness/console.js";
import { startMock, TOKEN } from "./mock/server.js";

const BYTES_MAX = 150 * 1_024;
const EVENTS_MAX = 500;
const THEMES = ["light", "dark"];
const WIDTHS = [1280, 390];
/** Every view, and those behind a row. */
const PLACES = [
  ...Object.keys(VIEWS), "channels?app=app_shop&name=room-42", "peers?app=app_shop&id=alice",
  "peers?list=peers", "peers?list=addresses", "peers?app=app_shop&id=nobody",
  "apps?app=app_shop", "events?kind=closed",
];

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

const open = (t, mock, options) =>
  signedIn(t, browser, { url: mock.url, token: TOKEN, ...options });

function assertClean(page, mock) {
  // A status of an answer is no complaint of the page: nobody is in a channel, 404.
  const own = page.complaints.filter((it) => !it.startsWith("Failed to load resource"));
  assert.deepEqual(own, []);
  assert.deepEqual(page.requests.filter((url) => !url.startsWith(mock.url)), []);
}

/** The bytes of some files, and of all that they import at once. */
async function weight(directory, names) {
  const [found, left] = [new Map(), names.map((name) => new URL(name, directory).href)];
  while (left.length > 0) {
    const url = left.pop();
    if (found.has(url)) continue;
    const text = await readFile(new URL(url), "utf8");
    found.set(url, Buffer.byteLength(text));
    const imports = text.matchAll(/^(?:import|\}) .*from "(.*)";$|^import "(.*)";$/gm);
    for (const [, from] of imports) left.push(new URL(from, url).href);
  }
  return [...found.values()].reduce((sum, bytes) => sum + bytes, 0);
}

describe("every view of the console", () => {
  for (const theme of THEMES) {
    for (const width of WIDTHS) {
      it(`is for everybody, in ${theme} at ${width} pixels`, async (t) => {
        const mock = await startMock(t, "few");
        const page = await open(t, mock, { theme, width });
        for (const place of PLACES) {
          await goTo(page, place);
          assert.deepEqual(await accessFaults(page), [], place);
          assert.ok((await overhang(page)) <= 0, `${place} is wider than the window`);
        }
        assert.equal(await page.evaluate(() => window.broken), undefined);
        assertClean(page, mock);
      });
    }
  }

  for (const size of ["empty", "many"]) {
    it(`takes a server with ${size === "empty" ? "nothing" : "very many rows"}`, async (t) => {
      const mock = await startMock(t, size);
      const page = await open(t, mock);
      for (const width of [1280, 320]) {
        await page.setViewportSize({ width, height: 844 });
        for (const place of PLACES) {
          await goTo(page, place);
          assert.ok((await overhang(page)) <= 0, `${place} is wider than ${width}`);
        }
      }
      assertClean(page, mock);
    });
  }

  it("says what to do next where there is nothing", async (t) => {
    const mock = await startMock(t, "empty");
    const page = await open(t, mock);
    await page.getByText("Nobody is connected yet").waitFor();
    await page.getByText("pk_live_").first().waitFor();
    mock.world.apps.length = 0;
    await goTo(page, "apps");
    await page.getByRole("button", { name: "Create the first" }).or(
      page.locator(".note").getByRole("button", { name: "Create an app" })).first().waitFor();
    await goTo(page, "channels?q=shop");
    await page.getByText("This server has no app yet").or(
      page.getByText("Nothing matches")).first().waitFor();
  });

  it("needs at most 150 KiB, whichever is the first", async () => {
    const directory = new URL("../../src/console/", import.meta.url);
    const page = await readFile(new URL("index.html", directory), "utf8");
    const shell = page.length + (await weight(directory, ["style.css", "app.js", "icon.svg"]));
    for (const name of Object.keys(VIEWS)) {
      const own = await weight(directory, ["style.css", "app.js", "icon.svg", `views/${name}.js`]);
      assert.ok(own > shell - page.length, name);
      assert.ok(page.length + own <= BYTES_MAX, `${name}: ${page.length + own} bytes`);
    }
  });
});

describe("signing in", () => {
  it("tells nothing without the token, and says what is wrong", async (t) => {
    const mock = await startMock(t, "few");
    const page = await consolePage(t, browser);
    await page.goto(`${mock.url}#/events`);
    await page.waitForSelector("input[name=token]");
    assert.deepEqual(await accessFaults(page), []);
    assert.deepEqual(mock.asked, []);
    await page.fill("input[name=token]", "wrong");
    await page.press("input[name=token]", "Enter");
    await page.getByText("not the admin token").waitFor();
    await page.fill("input[name=token]", TOKEN);
    await page.press("input[name=token]", "Enter");
    await page.waitForSelector(".view-events");
  });

  it("begins again when the session has ended", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    mock.fail(401);
    await page.waitForSelector("input[name=token]");
    assert.equal(await page.locator("nav.side").count(), 0);
  });

  it("is over after signing out, in this tab and after a reload", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await page.getByRole("button", { name: "Sign out" }).first().click();
    await page.waitForSelector("input[name=token]");
    await page.reload();
    await page.waitForSelector("input[name=token]");
  });
});

describe("the console and its server", () => {
  it("goes grey when no server answers, and on when one is back", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "overview");
    const figure = page.locator(".figure").first();
    await page.waitForFunction(() => /\d/.test(document.querySelector(".figure").textContent));
    await mock.silence();
    await page.getByText(/No answer since \d\d:\d\d:\d\d/).waitFor();
    assert.match(await figure.textContent(), /\d/);
    assert.match(await figure.evaluate((it) => getComputedStyle(it).filter), /grayscale/);
    await page.evaluate(() => (location.hash = "#/channels"));
    await page.getByText("no server answers").waitFor();
    await mock.speak();
    await page.locator("table a", { hasText: "room-42" }).first().waitFor();
    await page.waitForSelector(".away", { state: "hidden" });
  });

  it("shows an error where it happened, with a way on", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    mock.fail(503);
    await page.evaluate(() => (location.hash = "#/node"));
    await page.getByText("made to fail").first().waitFor();
    mock.fail(0);
    await page.getByRole("button", { name: "Try again" }).first().click();
    await page.getByText("/var/lib/ringmesh").waitFor();
  });

  it("asks nothing while its tab is hidden", async (t) => {
    const mock = await startMock(t, "few");
    const [hidden, seen] = [await open(t, mock), await open(t, mock)];
    await goTo(hidden, "overview");
    await goTo(seen, "peers");
    await hidden.evaluate(() => {
      Object.defineProperty(document, "hidden", { value: true });
      document.dispatchEvent(new Event("visibilitychange"));
    });
    // What was under way has been answered when the other page has asked twice more.
    const asked = (path) => mock.asked.filter((it) => it === path).length;
    const until = async (path, number) => {
      while (asked(path) < number) await seen.waitForResponse((it) => it.url().includes(path));
    };
    const connections = "apps/app_shop/connections";
    await until(connections, asked(connections) + 2);
    const before = asked("stats");
    await until(connections, asked(connections) + 2);
    assert.equal(asked("stats"), before);
  });
});

describe("questions", () => {
  it("name what they are about as the admin API reads it, with a space or a plus", async () => {
    const text = await readFile(new URL("../../src/console/api.js", import.meta.url), "base64");
    const { pathOf } = await import(`data:text/javascript;base64,${text}`);
    const asked = pathOf("channel", { name: "a b+c&d", after: null, q: "" });
    assert.equal(asked, "channel?name=a%20b%2Bc%26d");
  });
});

describe("events", () => {
  const rows = (page) => page.locator(".events-list tbody tr");

  it("come live, stop at a pause, and are filtered by the address", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "events");
    await page.getByText("live", { exact: true }).waitFor();
    mock.world.happens("closed", { peer: "zoe", code: 1013, text: "zoe closed 1013: slow" });
    await rows(page).filter({ hasText: "zoe closed" }).waitFor();
    await page.keyboard.press("p");
    await page.getByText("paused, 0 new ones").waitFor();
    mock.world.happens("opened", { peer: "late", text: "late connected" });
    await page.getByText("paused, 1 new one").waitFor();
    assert.equal(await rows(page).filter({ hasText: "late connected" }).count(), 0);
    await page.getByRole("button", { name: "Go on" }).click();
    await rows(page).filter({ hasText: "late connected" }).waitFor();
    await page.selectOption("form select", "peer");
    await page.getByLabel("Value").fill("zoe");
    await page.getByRole("button", { name: "Add" }).click();
    await page.waitForFunction(() => location.hash === "#/events?peer=zoe");
    const isOne = () => document.querySelectorAll(".events-list tbody tr").length === 1;
    await page.waitForFunction(isOne);
    await page.reload();
    await rows(page).filter({ hasText: "zoe closed" }).waitFor();
    await page.getByRole("button", { name: "Remove the filter Peer" }).click();
    await rows(page).filter({ hasText: "late connected" }).waitFor();
  });

  it("open to all fields with what helps, by the keyboard alone", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await page.keyboard.press("g");
    await page.keyboard.press("e");
    await page.waitForSelector(".view-events");
    await rows(page).filter({ hasText: "alice closed 1013" }).waitFor();
    for (let at = 0; at < 5; at += 1) await page.keyboard.press("j");
    await page.keyboard.press("Enter");
    await page.getByText("raise limits.outbound_queue_bytes").waitFor();
    assert.deepEqual(await accessFaults(page), []);
    await page.keyboard.press("Enter");
    await page.getByText("raise limits.outbound_queue_bytes").waitFor({ state: "detached" });
    await page.keyboard.press("/");
    assert.equal(await page.evaluate(() => document.activeElement.dataset.key), "search");
    await page.keyboard.press("Escape");
    await page.keyboard.press("?");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
  });

  it("are no more than 500 on the page, whatever comes", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "events");
    await page.getByText("live", { exact: true }).waitFor();
    for (let number = 1; number <= 2 * EVENTS_MAX; number += 1) {
      mock.world.happens("opened", { peer: `p${number}`, text: `p${number} connected` });
    }
    await rows(page).filter({ hasText: `p${2 * EVENTS_MAX} connected` }).waitFor();
    assert.equal(await rows(page).count(), EVENTS_MAX);
  });
});

describe("what changes something", () => {
  it("keeps the focus in its dialog, and returns it", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "peers?app=app_shop&id=bob");
    const kick = page.getByRole("button", { name: "Kick" });
    await page.waitForFunction(() => document.querySelector("button.danger")?.disabled === false);
    await kick.focus();
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.getByText("1 connection of bob will be closed with 4020").waitFor();
    assert.deepEqual(await accessFaults(page), []);
    for (let step = 0; step < 8; step += 1) {
      await page.keyboard.press("Tab");
      const inside = () => document.activeElement === document.body ||
        Boolean(document.activeElement.closest("dialog"));
      assert.ok(await page.evaluate(inside), "the focus has left the dialog");
    }
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Kick");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Close 1 connection" }).click();
    await page.getByText("not connected").waitFor();
  });

  it("asks for the name before an app is deleted, and says how many it ends", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "apps?app=app_shop");
    await page.getByRole("button", { name: "Delete" }).click();
    await page.getByText("48 connections will be closed with 4001").waitFor();
    const act = page.getByRole("button", { name: "Delete for ever" });
    assert.ok(await act.isDisabled());
    await page.getByLabel("Type app_shop to go on").fill("app_shop");
    await act.click();
    await page.getByText("app_shop is deleted").first().waitFor();
    assert.equal(mock.world.apps.some(({ appId }) => appId === "app_shop"), false);
  });

  it("says at the field what the server refuses", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "apps");
    await page.getByRole("button", { name: "Create an app" }).click();
    await page.getByLabel("Id", { exact: true }).fill("app_shop");
    await page.getByRole("button", { name: "Create", exact: true }).click();
    await page.getByText("app_shop is taken").waitFor();
    assert.equal(await page.getByLabel("Id", { exact: true }).getAttribute("aria-invalid"), "true");
    assert.deepEqual(await accessFaults(page), []);
  });
});

describe("themes", () => {
  it("are switched, and remembered", async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    const name = /^Theme/;
    await page.getByRole("button", { name }).first().click();
    await page.getByRole("button", { name }).first().click();
    await page.getByRole("button", { name: "Theme: dark" }).first().waitFor();
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.reload();
    await page.waitForSelector("nav.side");
    assert.equal(await ground(), dark);
  });
});
