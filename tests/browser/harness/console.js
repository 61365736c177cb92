// The console in a browser: signing in, going to a view, what a machine can say of its access.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const AXE = fileURLToPath(import.meta.resolve("axe-core/axe.min.js"));
const DEADLINE_MS = 30_000;

/** The views, each with what has to be there when it is drawn. */
export const VIEWS = {
  overview: ".tile .figure",
  events: ".list-place",
  channels: ".list-place[aria-busy=false]",
  peers: ".list-place[aria-busy=false]",
  apps: ".list-place[aria-busy=false]",
  console: "form button.primary",
  token: "textarea",
  node: "table",
};

/** A page of its own in a theme and a width, signed in. */
export async function signedIn(t, browser, { url, token, width = 1280, theme = "light" }) {
  const page = await consolePage(t, browser, { width, theme });
  await page.goto(url);
  await page.fill("input[name=token]", token);
  await page.press("input[name=token]", "Enter");
  await page.waitForSelector("nav.side");
  return page;
}

/** A page that collects its complaints and what it asks for. */
export async function consolePage(t, browser, { width = 1280, theme = "light" } = {}) {
  const viewport = { width, height: 844 };
  const context = await browser.newContext({ viewport, colorScheme: theme });
  t.after(() => context.close());
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const [complaints, requests] = [[], []];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  return Object.assign(page, { complaints, requests });
}

/** Goes to a view as a link does, and waits until it is drawn. */
export async function goTo(page, place) {
  const name = place.split("?")[0];
  await page.evaluate((hash) => (location.hash = hash), `#/${place}`);
  await page.waitForSelector(`.view-${name}`);
  await page.locator(VIEWS[name]).first().waitFor({ state: "attached" });
  // Whatever says "Loading" has gone.
  await page.waitForFunction(() => !document.querySelector(".list-place[aria-busy=true]"));
}

/** What axe finds, in short. */
export async function accessFaults(page) {
  const isThere = await page.evaluate(() => "axe" in window);
  if (!isThere) await page.evaluate(await readFile(AXE, "utf8"));
  const options = { resultTypes: ["violations"] };
  const found = await page.evaluate((it) => window.axe.run(document, it), options);
  return found.violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 160)}: ${failureSummary}`));
}

/** By how many pixels a page is wider than its window. */
export const overhang = (page) =>
  page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
