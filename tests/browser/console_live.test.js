// The console against the real server: signing in, looking, kicking, making a key, raw frames.

import assert from "node:assert/strict";
import { after, before, it } from "node:test";

import { launch } from "./harness/browser.js";
import { accessFaults, consolePage, goTo, overhang, signedIn, VIEWS } from "./harness/console.js";
import { startDev } from "./harness/dev.js";

const FIRST_VIEW_BYTES_MAX = 150 * 1_024;

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

const open = (t, server, options) =>
  signedIn(t, browser, { url: server.admin, token: server.token, ...options });

/** Nothing but the page's own files was asked for, and nothing went wrong. */
function assertClean(page, server) {
  const own = page.complaints.filter((it) => !it.startsWith("Failed to load resource"));
  assert.deepEqual(own, []);
  assert.deepEqual(page.requests.filter((url) => !url.startsWith(server.admin)), []);
}

/** Connects in the Console as a peer; the pane of that connection. */
async function connect(page, server, peer) {
  await page.getByLabel("Server").fill(server.url);
  await page.getByLabel("Peer id").fill(peer);
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  const pane = page.getByRole("region", { name: peer, exact: true });
  await pane.getByText("open", { exact: true }).waitFor();
  await pane.locator(".in", { hasText: '"type":"welcome"' }).waitFor();
  return pane;
}

/** Sends a command from a pane, with the fields that it has. */
async function send(pane, command, fields = {}) {
  await pane.getByLabel("Command").selectOption(command);
  for (const [label, value] of Object.entries(fields)) await pane.getByLabel(label).fill(value);
  await pane.getByRole("button", { name: "Send" }).click();
}

it("signs in with the link of the command line, once", async (t) => {
  const server = await startDev(t);
  const response = await fetch(`${server.admin}api/internal/v1/session/code`, {
    method: "POST", headers: { authorization: `Bearer ${server.token}` },
  });
  const { code } = await response.json();
  const page = await consolePage(t, browser);
  await page.goto(`${server.admin}#login=${code}`);
  await page.waitForSelector("nav.side");
  assert.ok(!page.url().includes(code), "the code is still in the address");
  await page.reload();
  await page.waitForSelector("nav.side");
  const other = await consolePage(t, browser);
  await other.goto(`${server.admin}#login=${code}`);
  await other.getByText("The link did not sign in").waitFor();
  assertClean(page, server);
});

it("shows every view in both themes and widths, to everybody", async (t) => {
  const server = await startDev(t);
  for (const [theme, width] of [["light", 1280], ["dark", 390]]) {
    const page = await open(t, server, { theme, width });
    for (const name of Object.keys(VIEWS)) {
      await goTo(page, name);
      assert.deepEqual(await accessFaults(page), [], `${name}, ${theme}`);
      assert.ok((await overhang(page)) <= 0, `${name} is wider than ${width}`);
    }
    assertClean(page, server);
  }
});

it("needs little for its first view", async (t) => {
  const server = await startDev(t);
  const page = await open(t, server);
  await goTo(page, "overview");
  // All files are there when those of the other views are.
  await page.waitForFunction(() =>
    performance.getEntriesByType("resource").some(({ name }) => name.endsWith("/node.js")));
  const bytes = await page.evaluate(() =>
    ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
      .reduce((sum, { transferSize }) => sum + transferSize, 0));
  assert.ok(bytes > 0 && bytes <= FIRST_VIEW_BYTES_MAX, `${bytes} bytes`);
});

it("connects two peers, shows their frames and acks, and finds and kicks one", async (t) => {
  const server = await startDev(t);
  const page = await open(t, server);
  await goTo(page, "console");
  const alice = await connect(page, server, "alice");
  const bob = await connect(page, server, "bob");
  for (const pane of [alice, bob]) {
    await send(pane, "subscribe", { Channel: "room-7" });
    await pane.locator(".out .meta", { hasText: "ack" }).waitFor();
  }
  await alice.getByText("1 other peer").waitFor();
  await send(alice, "publish", { Channel: "room-7", Data: '{"n":1}' });
  await bob.locator(".in", { hasText: '"data":{"n":1}' }).waitFor();
  await send(bob, "raw", { "One frame a line": '{"type":"ping","requestId":"by-hand"}' });
  await bob.locator(".in", { hasText: "by-hand" }).waitFor();
  await alice.getByRole("button", { name: "curl" }).click();
  await alice.getByRole("button", { name: "Copied" }).waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(copied, /curl http:.*room-7.*publish/);

  const operator = await open(t, server);
  await goTo(operator, "channels");
  await operator.getByRole("link", { name: "room-7" }).click();
  await operator.getByRole("link", { name: "bob" }).click();
  await operator.getByText("connected", { exact: true }).waitFor();
  await operator.getByRole("button", { name: "Kick" }).click();
  await operator.getByRole("button", { name: "Close 1 connection" }).click();
  await bob.getByText("Closed 4020", { exact: true }).waitFor();
  await operator.getByText("not connected").waitFor();
  await goTo(operator, "events?kind=closed,kicked&peer=bob");
  await operator.locator(".events-list tbody tr", { hasText: "bob closed 4020" }).waitFor();
  await operator.locator(".events-list tbody tr", { hasText: "kicked" }).first().waitFor();
  assertClean(operator, server);
});

it("makes a key, shows its secrets once, and says what its tokens are good for", async (t) => {
  const server = await startDev(t);
  const page = await open(t, server);
  await goTo(page, "apps?app=app_dev");
  await page.getByRole("button", { name: "Create a key" }).click();
  await page.getByLabel("Name", { exact: true }).fill("Of a test");
  await page.getByLabel("Channels").fill("shop/*");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  const secret = page.getByText(/^sk_secret_/);
  const shown = await secret.textContent();
  await page.getByRole("button", { name: "I have kept them" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.ok(!(await page.content()).includes(shown), "the secret is still in the page");
  const keyId = await page.locator("tr", { hasText: "Of a test" }).locator(".mono").first()
    .textContent();
  assert.match(keyId, /^sk_id_/);

  await goTo(page, "console");
  await page.getByLabel("Key").selectOption({ label: "Of a test" });
  await connect(page, server, "carol");
  await page.getByText("The token, good until").click();
  const token = await page.getByLabel("Token", { exact: true }).textContent();
  await goTo(page, "token");
  await page.getByLabel("May it do this").selectOption("publish");
  await page.getByLabel("to this channel").fill("shop/1");
  await page.getByLabel("Token", { exact: true }).fill(token);
  await page.getByText("the token is good").waitFor();
  await page.getByText("It may publish to shop/1.").waitFor();
  await page.getByLabel("to this channel").fill("other");
  await page.getByText("It may not publish to other.").waitFor();
  await page.getByLabel("Token", { exact: true }).fill(server.secret);
  await page.getByText("wrong kind").waitFor();
  assertClean(page, server);
});

it("tells who was refused, and why", async (t) => {
  const server = await startDev(t);
  const page = await open(t, server);
  await goTo(page, "console");
  await page.getByLabel("How").selectOption("paste");
  await page.getByLabel("Server").fill(server.url);
  await page.getByLabel("Credential").fill("pk_live_of_nobody");
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await page.getByText(/Closed 400[12]/).waitFor();
  await goTo(page, "events?kind=refused");
  await page.locator(".events-list tbody tr", { hasText: "refused" }).first().waitFor();
});
