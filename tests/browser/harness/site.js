// The web site of the tests: the pages, the published client as npm has it, and tokens.
//
// One server has two origins, `http://localhost:PORT` and `http://127.0.0.1:PORT`. Browsers take
// both for secure contexts, as WebRTC needs them.

import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { SECRET_KEY_ID, SIGNING_SECRET } from "../../js/harness/server.js";

const HTML = "text/html; charset=utf-8";
const JAVASCRIPT = "text/javascript";
const FILES = {
  "/room.html": [HTML, new URL("../pages/room.html", import.meta.url)],
  "/room.js": [JAVASCRIPT, new URL("../pages/room.js", import.meta.url)],
  "/client.html": [HTML, new URL("../pages/client.html", import.meta.url)],
  "/client.js": [JAVASCRIPT, new URL("../pages/client.js", import.meta.url)],
  "/realtime.mjs": [JAVASCRIPT, new URL(import.meta.resolve("@metered-ca/realtime"))],
};

/** Serves it: `origin` and `otherOrigin` are its origins. */
export async function startSite() {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return {
    origin: `http://localhost:${port}`,
    otherOrigin: `http://127.0.0.1:${port}`,
    stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/token") {
    response.end(token(searchParams.get("sub"), Number(searchParams.get("life")) || 3600));
  } else if (pathname in FILES) {
    const [type, file] = FILES[pathname];
    response.setHeader("content-type", type);
    response.end(await readFile(fileURLToPath(file)));
  } else {
    response.writeHead(pathname === "/favicon.ico" ? 204 : 404).end();
  }
}

/** A connect token for the peer `sub`, good for so many seconds. */
function token(sub, lifeSec) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const header = part({ alg: "HS256", typ: "JWT", kid: SECRET_KEY_ID });
  const claims = part({ sub, exp: Math.floor(Date.now() / 1000) + lifeSec });
  const signed = `${header}.${claims}`;
  return `${signed}.${createHmac("sha256", SIGNING_SECRET).update(signed).digest("base64url")}`;
}
