// The server's own client on Node's `ws`, as the server serves it: one file, copied and imported.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import WebSocket from "ws";

import { within } from "./wait.js";

/** Fetches a path of `server`, and throws unless that succeeds. */
export async function fetched(server, path, headers = {}) {
  const response = await fetch(`http://${server.address}${path}`, { headers });
  if (response.status >= 400) throw new Error(`${path}: ${response.status}`);
  return response;
}

/** The module that `server` serves. */
export async function servedClient(server) {
  const text = await (await fetched(server, "/v1/client.js")).text();
  const directory = await mkdtemp(join(tmpdir(), "ringmesh-client-"));
  try {
    const file = join(directory, "client.mjs");
    await writeFile(file, text);
    return await import(pathToFileURL(file));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/**
 * A client of `url`, closed when the test is over, that comes back quickly. `options` are its
 * own; `sockets` collects what it opens, `heard` what it tells, as `[event, payload]`.
 */
export function ownClient(t, Client, url, options) {
  const sockets = [];
  const client = new Client({
    url,
    reconnect: { initialDelayMs: 20, maxDelayMs: 200 },
    webSocketFactory: (at) => {
      const socket = new WebSocket(at);
      sockets.push(socket);
      return socket;
    },
    ...options,
  });
  t.after(() => client.close());
  const heard = [];
  for (const event of TOLD) client.on(event, (payload) => heard.push([event, payload]));
  return Object.assign(client, { sockets, heard });
}

const TOLD = ["message", "gap", "recovered", "peer-joined", "peer-left", "unsubscribed"];

/** What a client has been told under one name. */
export const told = (client, event) =>
  client.heard.filter(([name]) => name === event).map(([, payload]) => payload);

/** Resolves once a client has been told `count` times of `event`; returns all of it. */
export async function toldTimes(client, event, count) {
  let look;
  const seen = new Promise((resolve) => {
    look = () => told(client, event).length >= count && resolve();
    client.on(event, look);
    look();
  });
  try {
    await within(`${count} times ${event}`, seen);
  } catch (error) {
    const heard = JSON.stringify(client.heard.slice(-20));
    throw new Error(`${error.message}; heard at last: ${heard}`);
  } finally {
    client.off(event, look);
  }
  return told(client, event);
}
