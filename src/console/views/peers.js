// Peers and their connections; the slowest readers; one peer, what it is in, how it last ended.

import { h, put } from "../dom.js";
import {
  ago, bytes, clock, count, dateTime, duration, middle, plural, shortKey, whole, words,
} from "../format.js";
import {
  ask, badge, button, copyButton, emptyNote, facts, field, listFoot, live, pageHead, searchField,
  section, select, snippet, table, toast,
} from "../widgets.js";
import { appPicker, ofApp, patternOf, withApp } from "../where.js";
import { helps, toneOf } from "./event_rows.js";

const PAGE = 50;
const SORTS = [
  ["queue", "Slowest first"], ["newest", "Newest"], ["oldest", "Oldest"],
  ["bytesOut", "Most bytes out"], ["messagesIn", "Most messages in"],
];
const IS_ADDRESS = /^(\d{1,3}(\.\d{1,3}){3}|[\da-f]*:[\da-f:]+)(\/\d+)?$/i;
const IS_CONNECTION = /^\d+\.\d+\.\d+$/;
const BLOCKED_LONG_MS = 2_000;

export function show(context, into) {
  withApp(context, into, "Peers", (apps, appId) => {
    if (context.params.id) showOne(context, into, appId, context.params.id);
    else showList(context, into, apps, appId);
  });
}

function showList(context, into, apps, appId) {
  const { params, href, replace, go } = context;
  const { q, key, list } = params;
  const asked = { app: appId, q, sort: params.sort ?? "queue", key, list, after: params.after };
  const hint = list === "peers" ? "peer id or pattern" : "peer id, pattern, address, connection";
  const search = searchField("Search peers", hint, q, (it) => change({ q: it }));
  const place = (LISTS[list] ?? connectionList)(context, appId, asked, search.complain);
  const change = (changes) => {
    Object.assign(asked, changes, { after: null });
    replace({ ...asked, sort: asked.sort === "queue" ? null : asked.sort });
    place.again();
  };
  const sort = select(SORTS, asked.sort, { onchange: () => change({ sort: sort.value }) });
  const tab = (name, label) => h("a", { class: "button small",
    href: href("peers", { app: appId, list: name }),
    "aria-current": (list ?? null) === name ? "true" : null }, label);
  into.append(
    pageHead("Peers", h("div", { class: "tabs" }, tab(null, "Connections"), tab("peers", "Peers"),
      tab("addresses", "Addresses"))),
    h("search", { class: "toolbar" },
      search, !(list in LISTS) && field("Order", sort),
      appPicker(apps, appId, (app) => go("peers", { app }))),
    h("p", { hidden: !key }, "With the key ",
      h("span", { class: "mono" }, shortKey(key ?? "")), ". ",
      h("a", { href: href("peers", { app: appId }) }, "All keys")),
    h("section", { class: "card", "aria-label": "List" }, place.node, place.foot));
}

/** What a search means: an address, a connection, or a pattern of peers. */
function meaning(q) {
  if (!q) return {};
  if (IS_CONNECTION.test(q)) return { connection: q };
  return IS_ADDRESS.test(q) ? { address: q } : { match: patternOf(q) };
}

const peerLink = ({ href }, appId) => ({ label: "Peer", class: "title", cell: ({ peerId }) =>
  h("a", { href: href("peers", { app: appId, id: peerId }) }, middle(peerId, 36)) });

function connectionList(context, appId, asked, complain) {
  const { get, href, go } = context;
  const rows = table({
    caption: "Connections",
    keyOf: ({ connection }) => connection,
    open: ({ peerId }) => go("peers", { app: appId, id: peerId }),
    columns: [
      peerLink(context, appId),
      { label: "Waiting", num: true, cell: ({ queuedBytes }) => bytes(queuedBytes) },
      { label: "Takes nothing for", num: true, cell: ({ blockedMs: ms }) =>
        (ms ? badge(duration(ms), ms > BLOCKED_LONG_MS ? "bad" : "warn") : "") },
      { label: "Held back", cell: ({ held }) => heldBy(held) ?? "" },
      { label: "Bytes out", num: true, cell: ({ bytesOut }) => bytes(bytesOut) },
      { label: "Messages in", num: true, cell: ({ messagesIn }) => count(messagesIn) },
      { label: "Channels", num: true, cell: ({ channels }) => whole(channels) },
      { label: "Connected", num: true, cell: ({ since }) => ago(since).replace(" ago", "") },
      { label: "Address", class: "tight", cell: ({ address }) =>
        (address ? h("a", { href: href("events", { address }) }, address) : "") },
    ],
  });
  const foot = h("p", { class: "hint" });
  const find = async () => {
    const { connection, ...wanted } = meaning(asked.q);
    if (connection) return oneConnection(context, appId, connection);
    const { key, sort } = asked;
    return get(ofApp(appId, "/connections"), { ...wanted, key, sort, limit: PAGE });
  };
  const place = live(context, rows.node, {
    every: 3_000,
    ask: find,
    take({ connections: { length }, connections, complete }) {
      rows.update(connections);
      put(foot, length >= PAGE ? `The first ${PAGE}; narrow the search to see others.`
        : `${plural(length, "connection")}.`,
      complete === false ? " Only a part was looked at in time." : "");
      return length === 0;
    },
    complain,
    empty: () => nothing(href, appId, asked),
  });
  return { ...place, foot };
}

/** Where connections come from, most first; of IPv6 a network of 64 bits. */
function addressList(context, appId, asked, complain) {
  const { get, href, go } = context;
  const from = (address) => ({ app: appId, q: address, key: asked.key });
  const rows = table({
    caption: "Addresses",
    keyOf: ({ address }) => address,
    open: ({ address }) => go("peers", from(address)),
    columns: [
      { label: "Address", class: "title", cell: ({ address }) =>
        h("a", { href: href("peers", from(address)) }, address) },
      { label: "Connections", num: true, cell: ({ connections }) => whole(connections) },
    ],
  });
  const foot = h("p", { class: "hint" });
  const place = live(context, rows.node, {
    every: 5_000,
    ask() {
      const { connection, ...wanted } = meaning(asked.q);
      return get(ofApp(appId, "/connections"), {
        ...wanted, match: connection ?? wanted.match, key: asked.key, group: "address", limit: PAGE,
      });
    },
    take({ addresses: { length }, addresses, distinct, complete }) {
      rows.update(addresses);
      put(foot, distinct > length ? `The first ${length} of ${whole(distinct)} addresses.`
        : `${plural(length, "address", "addresses")}.`,
      complete === false ? " Only a part was looked at in time." : "");
      return length === 0;
    },
    complain,
    empty: () => nothing(href, appId, asked),
  });
  return { ...place, foot };
}

const heldBy = (held) => (held ? badge(held === true ? "yes" : words(held), "warn") : null);

/** A connection by its id: of the peer that its events name. */
async function oneConnection({ get }, appId, connection) {
  const { events } = await get("events", { app: appId, connection, limit: 50 });
  const peerId = events.find(({ peer }) => peer)?.peer;
  if (!peerId) return { connections: [] };
  const { connections } = await get(ofApp(appId, "/peer"), { id: peerId });
  const own = connections.filter((it) => it.connection === connection);
  return { connections: own.map((it) => ({ ...it, peerId, channels: it.channelCount })) };
}

function nothing(href, appId, { q, key }) {
  if (!q) return emptyNote(key ? "Nobody is connected with this key." : "Nobody is connected.");
  return emptyNote(`Nobody who is connected matches ${q}.`,
    h("a", { class: "button small", href: href("peers", { app: appId, id: q }) },
      `How did ${middle(q)} last end?`));
}

function peerList(context, appId, asked, complain) {
  const { get, href, go } = context;
  const rows = table({
    caption: "Peers",
    keyOf: ({ peerId }) => peerId,
    open: ({ peerId }) => go("peers", { app: appId, id: peerId }),
    columns: [
      peerLink(context, appId),
      { label: "Connections", num: true, cell: ({ connections }) => whole(connections) },
    ],
  });
  const foot = listFoot((after) => href("peers", { ...asked, sort: null, after }));
  const place = live(context, rows.node, {
    every: 5_000,
    ask: () => get(ofApp(appId, "/peers"),
      { match: patternOf(asked.q), limit: PAGE, after: asked.after }),
    take({ peers, next }) {
      rows.update(peers);
      const { after } = asked;
      foot.update(next && !after && `The first ${PAGE}; narrow the search to see others.`,
        { after, next });
      return peers.length === 0;
    },
    complain,
    empty: () => nothing(href, appId, asked),
  });
  return { ...place, foot: foot.node };
}

/** The lists beside that of connections. */
const LISTS = { peers: peerList, addresses: addressList };

// --- one peer -----------------------------------------------------------------------------------

function showOne(context, into, appId, id) {
  const { api, get, href } = context;
  let connected = 0;
  const kick = button("Kick", () => ask(`Kick ${id}?`, [
    `${plural(connected, "connection")} of ${id} will be closed with 4020, which tells clients ` +
      "not to come back by themselves.",
    "Its credential stays good: to keep it out, stop minting tokens for it.",
  ], `Close ${plural(connected, "connection")}`, async () => {
    const path = `${ofApp(appId, "/peer")}?id=${encodeURIComponent(id)}`;
    const { closed } = await api.request("DELETE", path);
    toast(`${plural(closed, "connection")} closed`);
    place.again();
  }), { class: "danger small", disabled: true });
  const [body, about] = [h("div", { class: "view" }), h("div", { hidden: true })];
  const place = live(context, h("div", { class: "view" }, body, about), {
    every: 2_000,
    ask: () => get(ofApp(appId, "/peer"), { id }),
    take(peer) {
      connected = peer.connections.length;
      kick.disabled = connected === 0;
      put(body, connected > 0 ? present(context, appId, peer) : gone(peer));
      showMetadata(about, connected > 0 ? peer.metadata : undefined);
    },
  });
  const events = href("events", { app: appId, peer: id });
  into.append(h("a", { class: "crumb", href: href("peers", { app: appId }), "data-key": "back" },
    "← All peers"),
  pageHead(id, copyButton(id, "Copy id"), h("a", { class: "button small", href: events }, "Events"),
    kick),
    section("Now", {}, place.node), stories(context, appId, id));
}

/** Shows all metadata of a peer; it stays as it is, and what is selected of it, while it does. */
function showMetadata(place, metadata) {
  const now = metadata === undefined || metadata === null ? "" : JSON.stringify(metadata, null, 2);
  place.hidden = !now;
  if (now === place.shown) return;
  place.shown = now;
  put(place, h("h3", {}, "Metadata that others see"), snippet(now, "Metadata that others see"));
}

function present({ href }, appId, { connections }) {
  const link = (view, params, label) => label && h("a", { href: href(view, params) }, label);
  return [
    h("p", {}, badge("connected", "good"), ` with ${plural(connections.length, "connection")}`),
    connections.map((it) => h("div", { class: "story" }, facts([
      ["Connection", link("events", { connection: it.connection }, it.connection)],
      ["Address", link("events", { address: it.address }, it.address)],
      ["Key", it.key && h("span", { class: "mono tight", title: it.key },
        link("apps", { app: appId }, middle(it.key, 22)))],
      ["Connected", it.since && `${ago(it.since)}, ${dateTime(it.since)}`],
      ["Token expires", it.expiresAt ? `${ago(it.expiresAt)}, ${dateTime(it.expiresAt)}` : "never"],
      ["Last heard", it.lastReceivedMs >= 0 ? `${duration(it.lastReceivedMs)} ago` : null],
      ["Waiting to be sent", bytes(it.queuedBytes)],
      ["Takes nothing for", it.blockedMs ? badge(duration(it.blockedMs), "warn") : null],
      ["Held back by", heldBy(it.held)],
      ["Bytes in / out", `${bytes(it.bytesIn)} / ${bytes(it.bytesOut)}`],
      ["Messages in", whole(it.messagesIn)],
    ]), channelsOf(it, (name) => href("channels", { app: appId, name })))),
  ];
}

function channelsOf({ channels, channelCount }, href) {
  if (!channels?.length) return h("p", { class: "hint" }, "In no channel.");
  const more = (channelCount ?? 0) - channels.length;
  return h("div", { class: "chips" }, h("span", { class: "hint" }, "In"),
    channels.map((name) => h("a", { class: "badge accent", href: href(name) }, middle(name, 40))),
    more > 0 && h("span", { class: "hint" }, `and ${whole(more)} more`));
}

function gone({ lastClosed }) {
  if (!lastClosed) {
    return [h("p", {}, badge("not connected")), h("p", { class: "hint" },
      "No close of this peer is remembered: it was never here, or too long ago.")];
  }
  const { time, text } = lastClosed;
  return [h("p", {}, badge("not connected"), ` closed ${ago(time)}: ${text}`), helps(lastClosed)];
}

/** The last closes and refusals, each with what came before. */
function stories(context, appId, id) {
  const list = h("div", {});
  let last = null;
  const place = live(context, list, {
    every: 5_000,
    ask: () => context.get("why", { app: appId, peer: id }),
    take({ stories: found }) {
      const now = found.map(({ end }) => end.id).join();
      // What is opened stays open while nothing new has ended.
      if (now !== last) put(list, found.map(story));
      last = now;
      return found.length === 0;
    },
    empty: () => emptyNote("No close and no refusal is remembered."),
  });
  return section("How it ended before", {}, place.node);
}

function story({ end, before }) {
  const rows = before.slice(-12).map((event) => h("li", {},
    h("time", { datetime: event.time }, clock(event.time)), h("span", {}, event.text)));
  return h("article", { class: "story" },
    h("p", {}, badge(words(end.kind), toneOf(end)), " ", h("strong", {}, end.text)),
    h("p", { class: "hint" }, `${ago(end.time)}, ${dateTime(end.time)}`), helps(end),
    rows.length > 0 && h("details", {},
      h("summary", {}, `What came before (${plural(before.length, "event")})`), h("ol", {}, rows)));
}
