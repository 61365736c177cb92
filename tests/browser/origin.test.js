// A publishable key with allowed origins, as a browser sees it.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { within } from "../js/harness/wait.js";
import { launch } from "./harness/browser.js";
import { makeCertificate } from "./harness/certificate.js";
import { holds, openRoom } from "./harness/rooms.js";
import { startTls } from "./harness/server.js";
import { startSite } from "./harness/site.js";

const KEY = "pk_live_one_origin";

/** An app whose only key is for pages of `origin`. */
const app = (origin) => `
[[apps]]
id = "app_one_origin"
[[apps.keys]]
id = "${KEY}"
channel_patterns = ["**"]
actions = ["publish", "subscribe", "presence", "send"]
allowed_origins = ["${origin}"]
`;

describe("a key for the pages of one origin", () => {
  let certificate, site, browser;
  before(async () => {
    certificate = await makeCertificate();
    site = await startSite();
    browser = await launch(certificate);
  });
  after(async () => {
    await browser?.close();
    site?.stop();
    await certificate?.remove();
  });

  /** A server that refuses as `reject_with` says. */
  async function serverThatRejectsWith(t, how) {
    const sections = { auth: { reject_with: how } };
    const server = await startTls(certificate, { sections, apps: app(site.origin) });
    t.after(() => server.stop());
    return server;
  }

  /** Begins to join from a page of `origin`, with the key. */
  async function join(page, server) {
    const options = { url: server.wss, channel: "room-origin", apiKey: KEY };
    // The page's promise is left alone: a client that is refused tries again and again.
    await page.evaluate((options) => {
      window.room.join(options).catch((error) => (window.refusal = error.closeCode));
    }, options);
  }

  async function allowedPageJoins(t, server) {
    const page = await openRoom(t, { browser, origin: site.origin, sub: "allowed" });
    await join(page, server);
    await holds(page, "joins", () => window.room.state === "joined");
  }

  it("is refused to others with HTTP 401", async (t) => {
    const server = await serverThatRejectsWith(t, "http");
    const page = await openRoom(t, { browser, origin: site.otherOrigin, sub: "refused" });
    const failure = new Promise((resolve) => {
      page.on("websocket", (socket) => socket.on("socketerror", resolve));
    });
    await join(page, server);
    // Chromium's words for 401; for other statuses it says "Unexpected response code".
    assert.match(await within("the handshake fails", failure), /HTTP Authentication failed/);
    await allowedPageJoins(t, server);
    assert.notEqual(await page.evaluate(() => window.room.state), "joined");
  });

  it("is refused to others with close code 4001", async (t) => {
    const server = await serverThatRejectsWith(t, "close");
    const page = await openRoom(t, { browser, origin: site.otherOrigin, sub: "refused" });
    await join(page, server);
    await holds(page, "is refused", () => window.refusal === 4001);
    await allowedPageJoins(t, server);
  });
});
