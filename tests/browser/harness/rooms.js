// Pages in a room, and what the tests wait for in them.

import { newPage } from "./browser.js";

const DEADLINE_MS = 30_000;

/** A page of `origin` with the application loaded, in no room yet. `page.sub` is its peer id. */
export async function openRoom(t, { browser, origin, sub }) {
  const page = await newPage(t, browser);
  await page.goto(`${origin}/room.html`);
  await holds(page, "the application is loaded", () => window.room !== undefined);
  return Object.assign(page, { sub });
}

/** A page that has joined `channel` as the peer `sub`. */
export async function joinedAs(t, { browser, origin, server, channel, sub }) {
  const page = await openRoom(t, { browser, origin, sub });
  await page.evaluate((options) => window.room.join(options), { url: server.wss, channel, sub });
  return page;
}

/** Waits until `condition(argument)`, which runs in the page, is true. */
export async function holds(page, what, condition, argument) {
  const options = { polling: 50, timeout: DEADLINE_MS };
  await page.waitForFunction(condition, argument, options).catch(async (error) => {
    const room = await page.evaluate(describeRoom).catch(String);
    const complaints = page.complaints.join("\n");
    throw new Error(`${page.sub}: ${what}: ${error.message}\n${room}\n${complaints}`);
  });
}

/** Waits until each of `pages` is joined and sees exactly the others. */
export async function untilMutual(pages) {
  for (const [page, others] of pairs(pages)) {
    await holds(page, `sees ${others}`, isIn, others.sort());
  }
}

/** Waits until each of `pages` has an open data channel with each of the others. */
export async function untilLinked(pages) {
  for (const [page, others] of pairs(pages)) {
    const linked = (ids) => ids.every((id) => window.room.isLinked(id));
    await holds(page, `is linked to ${others}`, linked, others);
  }
}

/** Waits until `page` has `message` (`{from, data}`) from the server. */
export const untilReceived = (page, message) =>
  holds(page, `receives ${JSON.stringify(message)}`, wasReceived, message);

/** Waits until `page` has `message` (`{from, label, text}`) from the other page. */
export const untilHeard = (page, message) =>
  holds(page, `hears ${JSON.stringify(message)}`, wasHeard, message);

/** Publishes from `page`; the others of `pages` have to receive it. */
export async function publishReaches(page, pages, data) {
  await page.evaluate((data) => window.room.publish(data), data);
  for (const other of pages) {
    if (other !== page) await untilReceived(other, { from: page.sub, data });
  }
}

/** Talks both ways over the data channel of two pages. */
export async function talk(one, other, label = "chat") {
  for (const [from, to] of [[one, other], [other, one]]) {
    const text = `${label}: ${from.sub} to ${to.sub}, ${crypto.randomUUID()}`;
    const say = ({ id, text, label }) => window.room.say(id, text, label);
    await from.evaluate(say, { id: to.sub, text, label });
    await untilHeard(to, { from: from.sub, label, text });
  }
}

/** Opens another data channel between two pages, and talks over it. */
export async function dial(one, other, label) {
  await one.evaluate(([id, label]) => window.room.dial(id, label), [other.sub, label]);
  for (const [page, { sub }] of [[one, other], [other, one]]) {
    const linked = ([id, label]) => window.room.isLinked(id, label);
    await holds(page, `is linked to ${sub} by ${label}`, linked, [sub, label]);
  }
  await talk(one, other, label);
}

const pairs = (pages) =>
  pages.map((page) => [page, pages.filter((p) => p !== page).map(({ sub }) => sub)]);

// What runs in the page.

function isIn(others) {
  return window.room.state === "joined" && window.room.roster.join() === others.join();
}

function wasReceived({ from, data }) {
  return window.room.received.some((m) => m.from === from && m.data === data);
}

function wasHeard({ from, label, text }) {
  return window.room.heard.some((m) => m.from === from && m.label === label && m.text === text);
}

function describeRoom() {
  const { state, roster, received, heard, closeCode } = window.room;
  return JSON.stringify({ state, roster, received, heard, closeCode });
}
