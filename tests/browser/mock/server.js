// An admin listener that is none: the console's files as they are, and answers that are made up.
// It shows what a real server shows seldom: nothing at all, very many rows, errors, silence.
//
// `node mock/server.js [empty|few|many] [PORT]` serves it for a look.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

import { wrongOf } from "./answers.js";
import { World } from "./world.js";

const FILES = new URL("../../../src/console/", import.meta.url);
const API = "/api/internal/v1/";
const TYPES = {
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".html": "text/html; charset=utf-8",
};
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
  "connect-src 'self' ws://127.0.0.1:8080; frame-ancestors 'none'; base-uri 'none'; " +
  "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
export const TOKEN = "mock-admin-token";
const HALF = "mock-half";

/**
 * Starts it with a world of `empty`, `few` or `many` rows. `url` is where it is; `world` may be
 * changed; `fail(status)` makes all questions fail, 0 mends them; `silence()` and `speak()` take
 * the listener away and bring it back to the same port; `asked` are the paths asked for.
 */
export async function startMock(t, size = "few", port = 0) {
  const mock = new Mock(size);
  await mock.speak(port);
  t?.after(() => mock.silence());
  return mock;
}

class Mock {
  asked = [];
  #failing = 0;
  #server = null;
  #port = 0;

  constructor(size) {
    this.world = new World(size);
  }

  get url() {
    return `http://127.0.0.1:${this.#port}/`;
  }

  async speak(port = this.#port) {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error) => {
        response.writeHead(500).end(String(error));
      });
    });
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
    this.#port = this.#server.address().port;
  }

  async silence() {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  fail(status) {
    this.#failing = status;
  }

  async #answer(request, response) {
    const url = new URL(request.url, this.url);
    response.setHeader("Content-Security-Policy", POLICY);
    response.setHeader("Cache-Control", "no-store");
    if (!url.pathname.startsWith(API)) return file(url.pathname, response);
    const path = decodeURIComponent(url.pathname.slice(API.length));
    this.asked.push(path);
    const text = await bodyOf(request);
    const body = text ? JSON.parse(text) : null;
    const isLooking = request.method === "GET";
    if (path === "session" && !isLooking) return this.#session(request, response, body);
    if (request.headers["x-ringmesh-session"] !== HALF) {
      return json(response, 401, { error: "unauthorized", message: "no session" });
    }
    if (this.#failing) {
      const message = "made to fail";
      return json(response, this.#failing, { error: "internal_error", message });
    }
    const wrong = path === "events" && wrongOf(url.searchParams);
    if (wrong) return json(response, 400, { error: "invalid_request", message: wrong });
    if (path === "events" && request.headers.accept?.includes("event-stream")) {
      return this.#stream(request, response, url.searchParams);
    }
    const found = this.world.answer(request.method, path, url.searchParams, body);
    const [status, answer] = found ?? [404, { error: "not_found", message: "nothing is here" }];
    json(response, status, answer);
  }

  #session(request, response, body) {
    if (request.method === "DELETE") return json(response, 200, {});
    if (body.token !== TOKEN) {
      return json(response, 401, { error: "unauthorized", message: "a wrong token" });
    }
    json(response, 200, { half: HALF, expiresAt: Date.now() / 1_000 + 3_600, role: "admin" });
  }

  #stream(request, response, params) {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const send = (event) => {
      response.write(`event: ${event.kind}\ndata: ${JSON.stringify(event)}\nid: ${event.id}\n\n`);
    };
    this.world.eventsOf(params).forEach(send);
    response.write(":\n\n");
    const stop = this.world.follow(params, send);
    request.on("close", stop);
  }
}

async function bodyOf(request) {
  let text = "";
  for await (const part of request) text += part;
  return text;
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

async function file(path, response) {
  const name = path === "/" ? "index.html" : path.replace(/^\/console\/files\//, "");
  const content = await readFile(fileURLToPath(new URL(name, FILES))).catch(() => null);
  if (!content || name.includes("..")) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "text/plain" });
  response.end(content);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , size = "few", port = "7465"] = process.argv;
  const mock = await startMock(null, size, Number(port));
  console.log(`${mock.url}  token: ${TOKEN}`);
}
