// Debian's Chromium, headless, for the tests of one file.

import { chromium } from "playwright-core";

const EXECUTABLE = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";

/**
 * Starts Chromium. It trusts the server key `publicKeyHash` (see `certificate.js`) besides those
 * that the system trusts, and shows its loopback addresses in WebRTC: no mDNS and no other
 * network is needed for two pages to find each other.
 */
export function launch({ publicKeyHash } = {}) {
  const args = [
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
  ];
  if (publicKeyHash) args.push(`--ignore-certificate-errors-spki-list=${publicKeyHash}`);
  return chromium.launch({ executablePath: EXECUTABLE, args });
}

/**
 * A new page that shares nothing with others, closed when the test is over. `complaints` collects
 * what it writes to the console as an error, and what it throws; `requests` the URLs it asks for.
 */
export async function newPage(t, browser) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const [complaints, requests] = [[], []];
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));
  return Object.assign(page, { complaints, requests });
}
