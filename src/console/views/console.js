// Connections as any peer, side by side, with the raw frames both ways.

import { h, put, text } from "../dom.js";
import { dateTime, shortKey } from "../format.js";
import {
  button, checkbox, emptyNote, field, input, live, pageHead, section, select, snippet,
} from "../widgets.js";
import { appPicker, clientUrl, nodeOf, ofApp, restUrl, withApp } from "../where.js";
import { pane } from "./pane.js";
import { Wire } from "./socket.js";

const ACTIONS = ["publish", "subscribe", "presence", "send"];
const NAMES = ["alice", "bob", "carol", "dave", "erin"];

export function show(context, into) {
  withApp(context, into, "Console", (apps, appId) => {
    const body = h("div", { class: "view" });
    const place = live(context, body, {
      ask: () => Promise.all([context.get(ofApp(appId, "/keys")), nodeOf(context)]),
      take: ([{ keys }, node]) => void put(body, desk(context, keys, node)),
    });
    const change = (app) => context.go("console", { app });
    into.append(pageHead("Console", appPicker(apps, appId, change, true)), place.node);
    place.again();
  });
}

/** The form that connects, and the connections side by side. */
function desk(context, keys, node) {
  const { signal, params } = context;
  const url = clientUrl(node) ?? `ws://${location.hostname}:8080`;
  const panes = h("div", { class: "panes" });
  const nothing = h("div", { class: "card" }, h("div", { class: "note" },
    emptyNote("No connection yet.",
      "Connect as one peer, then as another, and watch what each of them gets.")));
  const settle = () => (nothing.hidden = panes.childElementCount > 0);
  let number = 0;
  const connect = (credential) => {
    const wire = new Wire(`${credential.url}/v1?${credential.query}`);
    signal.addEventListener("abort", () => wire.end(), { once: true });
    const made = pane(wire, {
      ...credential, number: ++number, rest: restUrl(node), channel: params.channel,
      close() {
        wire.end();
        made.remove();
        settle();
      },
    });
    panes.append(made);
    settle();
  };
  const names = () => NAMES[number % NAMES.length];
  return [connectForm({ ...context, keys, url, connect, names }), nothing, panes];
}

function connectForm(options) {
  const { keys, url } = options;
  const has = (kind) => keys.some(({ type }) => type === kind);
  const way = select([
    has("secret") && ["mint", "as a peer: a token is made on the spot"],
    has("publishable") && ["publishable", "with a publishable key"],
    ["paste", "with a credential that I paste"],
  ].filter(Boolean), null, {});
  const address = input({ value: url, spellcheck: "false" });
  const parts = { mint: mintFields(options), publishable: keyFields(keys), paste: pasteFields() };
  const rest = h("div", {});
  const shown = h("div", {});
  const fault = h("p", { class: "fault", role: "alert", hidden: true });
  const change = () => put(rest, parts[way.value].node);
  way.addEventListener("change", change);
  change();
  const go = h("button", { class: "primary" }, "Connect");
  const submit = async (event) => {
    event.preventDefault();
    fault.hidden = true;
    go.disabled = true;
    try {
      const credential = await parts[way.value].credential();
      const place = address.value.trim().replace(/\/(v1\/?)?$/, "");
      warnOfMixed(place);
      options.connect({ ...credential, url: place });
      put(shown, credential.token && tokenShown(credential));
      parts.mint.next();
    } catch (error) {
      fault.hidden = false;
      text(fault, error.message);
    } finally {
      go.disabled = false;
    }
  };
  return section("Connect", {}, h("form", { class: "form", onsubmit: submit },
    h("div", { class: "fields" }, field("How", way), field("Server", address)), rest, fault,
    h("div", { class: "actions" }, go), shown));
}

/** A page of https may not open ws://, whatever the server allows. */
function warnOfMixed(url) {
  const isLocal = /^ws:\/\/(localhost|127\.)/.test(url);
  if (location.protocol !== "https:" || !url.startsWith("ws:") || isLocal) return;
  throw new Error("This page came over https, so the browser opens no ws:// from it. Use wss://, " +
    "or open the console over plain http on the server's own machine.");
}

const tokenShown = ({ token, expiresAt }) => h("details", {},
  h("summary", {}, `The token, good until ${dateTime(expiresAt)}`), snippet(token, "Token"));

const keyChoice = (keys) =>
  select(keys.map(({ keyId, name }) => [keyId, name || shortKey(keyId)]), keys[0]?.keyId, {});

/** A peer with a token that is made for this connection. */
function mintFields({ api, keys, names }) {
  const secret = keys.filter(({ type }) => type === "secret");
  const key = keyChoice(secret);
  const peer = input({ value: names() });
  const channels = input({ placeholder: "all of the key" });
  const boxes = ACTIONS.map((it) => checkbox(it, { value: it, checked: true }));
  const ticked = () => boxes.map((it) => it.firstChild).filter((it) => it.checked)
    .map((it) => it.value);
  return {
    node: h("div", { class: "form" },
      h("div", { class: "fields" }, field("Peer id", peer), field("Key", key),
        field("Channels", channels, "Patterns by commas.")),
      h("fieldset", {}, h("legend", {}, "May"), h("div", { class: "checks" }, boxes))),
    next: () => (peer.value = NAMES.includes(peer.value) ? names() : peer.value),
    async credential() {
      const wanted = channels.value.split(",").map((it) => it.trim()).filter(Boolean);
      const granted = secret.find(({ keyId }) => keyId === key.value)?.actions ?? ACTIONS;
      const body = { peerId: peer.value.trim() };
      if (wanted.length > 0) body.channels = wanted;
      // What is ticked and the key does not have is left out, as a token that claims it is refused.
      const own = ticked().filter((it) => granted.includes(it));
      if (own.length < granted.length) body.permissions = own;
      const { token, expiresAt } = await api.request("POST",
        `signalling/keys/${encodeURIComponent(key.value)}/tokens`, { body });
      return { name: body.peerId, query: `token=${encodeURIComponent(token)}`, token, expiresAt };
    },
  };
}

function keyFields(keys) {
  const publishable = keys.filter(({ type }) => type === "publishable");
  const key = keyChoice(publishable);
  return {
    node: h("div", { class: "fields" },
      field("Key", key, "The server gives the peer a random id.")),
    credential: async () => ({
      name: "guest", query: `key=${encodeURIComponent(key.value)}`, key: key.value,
    }),
  };
}

function pasteFields() {
  const pasted = input({ placeholder: "a token, or pk_live_…" });
  return {
    node: h("div", { class: "fields" }, field("Credential", pasted)),
    async credential() {
      const value = pasted.value.trim();
      if (!value) throw new Error("Paste a token or a publishable key first.");
      if (/^sk_/.test(value)) {
        throw new Error("That is a secret of a backend, and connects nobody. Paste a token.");
      }
      const isKey = value.startsWith("pk_");
      const query = `${isKey ? "key" : "token"}=${encodeURIComponent(value)}`;
      return { name: isKey ? "guest" : "pasted token", query, key: isKey ? value : null };
    },
  };
}
