// The ways through the console: which app, which page, back again, and filters that are refused.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";

import { launch } from "./harness/browser.js";
import { accessFaults, goTo, overhang, signedIn } from "./harness/console.js";
import { startMock, TOKEN } from "./mock/server.js";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

const open = (t, mock, options) =>
  signedIn(t, browser, { url: mock.url, token: TOKEN, ...options });

it("keeps to the app that was chosen, begins with the busiest, names one that is not there",
  async (t) => {
    const mock = await startMock(t, "few");
    mock.world.apps.reverse();
    const page = await open(t, mock);
    await goTo(page, "channels");
    await page.waitForFunction(() => location.hash === "#/channels?app=app_shop");
    await page.getByLabel("App").selectOption("app_games_1");
    await page.waitForFunction(() => location.hash === "#/channels?app=app_games_1");
    await goTo(page, "peers");
    await page.waitForFunction(() => location.hash === "#/peers?app=app_games_1");
    for (const view of ["channels", "peers", "console"]) {
      await page.evaluate((it) => (location.hash = `#/${it}?app=nope`), view);
      await page.getByText("There is no app nope.").waitFor();
    }
    await page.evaluate(() => (location.hash = "#/nope"));
    await page.getByText("There is no page /nope.").waitFor();
    assert.deepEqual(await accessFaults(page), []);
  });

it("has an address for each page of a list, and says where a list ends", async (t) => {
  const mock = await startMock(t, "many");
  const page = await open(t, mock);
  await goTo(page, "channels?app=app_shop");
  await page.getByText("The first 50; narrow the pattern to see others.").waitFor();
  await page.getByRole("link", { name: "Next page" }).click();
  await page.getByText("50 channels of a further page.").waitFor();
  assert.match(page.url(), /after=/);
  await page.goBack();
  await page.getByText("The first 50; narrow the pattern to see others.").waitFor();
  assert.match(page.url(), /#\/channels\?app=app_shop$/);
  await page.getByRole("link", { name: "Next page" }).click();
  await page.getByRole("link", { name: "First page" }).click();
  await page.getByText("The first 50; narrow the pattern to see others.").waitFor();
  await goTo(page, "channels?app=app_shop&q=shop/orders");
  await page.getByText("1 channel. Only a part of the channels was looked at in time.").waitFor();
});

it("closes a dialog when one goes elsewhere", async (t) => {
  const mock = await startMock(t, "few");
  const page = await open(t, mock);
  await goTo(page, "apps");
  await page.getByRole("button", { name: "Create an app" }).click();
  await page.getByRole("dialog").waitFor();
  await page.evaluate(() => (location.hash = "#/node"));
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

it("shows a refused filter at its field, and asks again when it is changed", async (t) => {
  const mock = await startMock(t, "few");
  const page = await open(t, mock);
  await goTo(page, "peers?app=app_shop&q=10.0.0.0/99");
  const search = page.getByLabel("Search peers");
  await page.getByText("address: no address and no CIDR").waitFor();
  assert.equal(await search.getAttribute("aria-invalid"), "true");
  assert.deepEqual(await accessFaults(page), []);
  await search.fill("alice");
  await page.locator("table a", { hasText: "alice" }).waitFor();
  assert.equal(await search.getAttribute("aria-invalid"), null);
  await goTo(page, "events?since=banana");
  await page.getByText("since: a span such as 10m").waitFor();
  // What stands beside a field with a fault stays where it was.
  const [first, second] = await page.locator("form.toolbar label").all();
  assert.equal((await first.boundingBox()).y, (await second.boundingBox()).y);
  const value = page.getByLabel("Value");
  assert.equal(await value.inputValue(), "banana");
  await value.fill("1h");
  await page.getByRole("button", { name: "Add" }).click();
  await page.getByText("live", { exact: true }).waitFor();
});

it("shows the ids of keys on one line", async (t) => {
  const mock = await startMock(t, "few");
  const page = await open(t, mock);
  for (const [place, id] of [["apps?app=app_shop", "td .hint.mono"],
    ["peers?app=app_shop&id=alice", ".facts .mono a"]]) {
    await goTo(page, place);
    const found = page.locator(id).first();
    await found.waitFor();
    const { height } = await found.boundingBox();
    assert.ok(height < 24, `${place}: ${height} pixels high`);
    assert.ok((await overhang(page)) <= 0, place);
  }
});

it("says from which address most connections come, and shows these", async (t) => {
  const mock = await startMock(t, "few");
  mock.world.connections.slice(0, 3).forEach((it) => (it.address = "198.51.100.7"));
  const page = await open(t, mock);
  await goTo(page, "peers?app=app_shop");
  await page.getByRole("link", { name: "Addresses" }).click();
  const rows = page.locator("tbody tr");
  await rows.first().filter({ hasText: "198.51.100.7" }).waitFor();
  assert.match(await rows.first().textContent(), /198\.51\.100\.7\s*3$/);
  assert.deepEqual(await accessFaults(page), []);
  await page.getByRole("link", { name: "198.51.100.7" }).click();
  await page.getByText("3 connections.").waitFor();
  assert.equal(await page.getByLabel("Search peers").inputValue(), "198.51.100.7");
});

for (const width of [1280, 390]) {
  it(`cuts long metadata in a list, and has it whole for the peer, at ${width} pixels`,
    async (t) => {
      const mock = await startMock(t, "few");
      const page = await open(t, mock, { width });
      await goTo(page, "channels?app=app_shop&name=room-42");
      const members = page.getByRole("region", { name: "Members" });
      const row = members.locator("tr", { hasText: "a long story" });
      await row.waitFor();
      const { height } = await row.boundingBox();
      assert.ok(height < 120, `${height} pixels high`);
      assert.ok((await overhang(page)) <= 0);
      await row.getByRole("link", { name: "alice" }).click();
      const whole = page.getByLabel("Metadata that others see");
      assert.equal(JSON.parse(await whole.textContent()).name, "alice");
      assert.ok((await overhang(page)) <= 0);
    });
}

it("leads from a warning to its events, and shows memory and files against their limits",
  async (t) => {
    const mock = await startMock(t, "few");
    const page = await open(t, mock);
    await goTo(page, "overview");
    await page.getByText("88 of 200,000").waitFor();
    await page.getByRole("link", { name: "ringmesh events --cause slow_consumer" }).click();
    await page.waitForFunction(() => location.hash === "#/events?cause=slow_consumer");
    await page.getByText("alice closed 1013").waitFor();
  });
