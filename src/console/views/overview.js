// What goes on, at a glance: warnings first, then figures, latencies, shards, memory, events.

import { Chart } from "../chart.js";
import { h, keyed, put, text } from "../dom.js";
import {
  ago, bytes, count, duration, micros, middle, moment, rate, whole, words,
} from "../format.js";
import {
  badge, emptyNote, facts, icon, live, pageHead, section, snippet, table, useOf,
} from "../widgets.js";
import {
  appPicker, appsOf, chosenApp, clientUrl, keepApp, noApp, nodeOf, ofApp, restUrl,
} from "../where.js";
import { recent } from "./channels.js";
import { ENDS, remedyOf } from "./event_rows.js";

const SAMPLES_MAX = 900;
const SECONDS = 900;
/** With more shards each gets less room. */
const STRIP_ROOMY_MAX = 8;
const STAGES = [
  ["handshake", "Handshake", "accept to welcome"],
  ["readToCommand", "Read to command", "parsed and allowed"],
  ["commandToOrder", "Command to order", "its place in the channel"],
  ["meshHop", "Hop between shards", ""],
  ["orderToLastWrite", "Order to last write", "of a publication"],
  ["fanOut", "Fan-out", "on one shard"],
  ["direct", "Direct message", ""],
  ["reply", "Reply", "ack or error"],
  ["snapshot", "Presence snapshot", ""],
  ["rest", "REST request", ""],
];

const QUANTILES = [
  ["p50", "p50Us"], ["p90", "p90Us"], ["p99", "p99Us"], ["p99.9", "p999Us"], ["max", "maxUs"],
];

/** Figure, and the lines of its small chart. */
const TILES = [
  { id: "connections", title: "Connections", lines: ["connections"], show: count,
    aside: (it) => `${whole(it.unauthenticated)} without a credential` },
  { id: "messagesIn", title: "Messages in", unit: "/s", lines: ["messagesIn"], show: rate,
    aside: (it) => `${bytes(it.bytesIn)}/s` },
  { id: "deliveries", title: "Deliveries", unit: "/s", lines: ["deliveries"], show: rate,
    aside: (it) => `${bytes(it.bytesOut)}/s out` },
  { id: "refused", title: "Refused", unit: "/s", lines: ["refused"], show: rate,
    aside: (it) => it.refusedBy },
  { id: "channels", title: "Channels", lines: ["channels", "subscriptions"],
    show: count,
    aside: (it) => `${count(it.subscriptions)} subscriptions` },
  { id: "peers", title: "Peers", lines: ["peers"], show: count, aside: () => "" },
  { id: "opened", title: "Opened and closed", unit: "/s", lines: ["opened", "closed"],
    show: rate, aside: (it) => `${rate(it.closed)}/s closed` },
  { id: "queue", title: "Waiting to be sent", lines: ["queue"], show: bytes,
    aside: (it) => `${whole(it.blocked)} connections blocked` },
];

/** One moment of the node, flat. */
export function sampleOf(stats) {
  const shards = stats.shards ?? [];
  const sum = (name) => stats[name] ?? shards.reduce((all, it) => all + (it[name] ?? 0), 0);
  const refused = {};
  for (const { totals } of shards) {
    for (const [cause, number] of Object.entries(totals?.handshakesRefused ?? {})) {
      refused[cause] = (refused[cause] ?? 0) + number;
    }
  }
  const causes = Object.entries(refused).filter(([, it]) => it > 0).sort((a, b) => b[1] - a[1]);
  return {
    at: stats.at ? moment(stats.at).getTime() : Date.now(),
    connections: sum("connections"),
    unauthenticated: sum("connectionsUnauthenticated"),
    channels: sum("channels"),
    peers: sum("peers"),
    blocked: sum("connectionsBlocked"),
    queue: stats.memory?.outboundQueues ?? sum("outboundQueueBytes"),
    resident: stats.memory?.resident,
    events: stats.memory?.events,
    subscriptions: stats.subscriptions,
    ...stats.rates,
    refusedBy: causes.slice(0, 2).map(([it, number]) => `${words(it)} ${count(number)}`).join(", "),
    latencies: stats.latencies,
  };
}

/** Looks at the node once a second, and keeps a quarter of an hour. */
class Samples {
  list = [];

  add(sample) {
    const last = this.list.at(-1);
    if (last && sample.at <= last.at) return;
    this.list.push(sample);
    if (this.list.length > SAMPLES_MAX) this.list.shift();
  }

  points(value) {
    const points = [];
    for (const sample of this.list) {
      const it = value(sample);
      if (typeof it === "number") points.push({ at: sample.at, value: it });
    }
    return points;
  }
}

export function show(context, into) {
  const { api, signal, get } = context;
  const samples = new Samples();
  const parts = [tiles(), latencies(), shards(), memory()];
  const warnings = h("div", { class: "warnings" });
  const calm = h("p", { class: "calm live", hidden: true }, badge("ok", "good"), " no warnings");
  const about = h("span", { class: "hint live" });
  const start = h("div", { hidden: true });
  into.append(pageHead("Overview", about), calm, warnings, start, parts[0].node,
    parts[1].node, h("div", { class: "columns" }, parts[2].node, parts[3].node),
    h("div", { class: "columns" }, topChannels(context),
      recent(context, { kind: ENDS }, "Last ends and changes", 10)));

  const update = (stats) => {
    samples.add(sampleOf(stats));
    for (const part of parts) part.update(samples, stats);
    const { uptimeMs, residentBytes } = stats.process ?? {};
    text(about, `up ${duration(uptimeMs)} · ${bytes(residentBytes)}`);
    welcome(context, start, samples.list.at(-1));
  };
  get("stats/history", { seconds: SECONDS }).then((answer) => {
    const before = (answer.samples ?? answer.history ?? []).map(sampleOf);
    samples.list = [...before, ...samples.list].sort((a, b) => a.at - b.at).slice(-SAMPLES_MAX);
  }, () => {}).finally(() => {
    if (signal.aborted) return;
    api.poll(signal, 1_000, () => get("stats"), update);
  });
  api.poll(signal, 10_000, () => get("warnings"), ({ warnings: found }) => {
    keyed(warnings, found, ({ code, since }) => code + since, warning);
    calm.hidden = found.length > 0;
  });
}

function warning() {
  const [what, remedy, when] = [h("p", { class: "strong" }), h("p", {}), h("p", { class: "hint" })];
  const node = h("div", { class: "warning" }, icon("warn"), what, remedy, when);
  node.refresh = (it) => {
    node.classList.toggle("critical", it.severity === "critical");
    put(what, it.severity === "critical" && [badge("critical", "bad"), " "], it.text,
      it.detail && `: ${it.detail}`);
    if (it.remedy !== node.remedy) put(remedy, remedyOf(it.remedy ?? ""));
    node.remedy = it.remedy;
    const times = it.count > 1 ? `×${whole(it.count)}, ` : "";
    text(when, `${times}for ${ago(it.since).replace(" ago", "")}`);
  };
  return node;
}

// --- figures ----------------------------------------------------------------------------------

const COLOURS = ["one", "two", "three", "four"];

function tiles() {
  const made = TILES.map((tile) => {
    const figure = h("span", {});
    const aside = h("p", { class: tile.id === "refused" ? "aside whole" : "aside" });
    const unit = tile.unit && h("small", {}, ` ${tile.unit}`);
    const node = h("div", { class: "tile" }, h("h2", {}, tile.title),
      h("p", { class: "figure live" }, figure, unit), aside);
    const lines = tile.lines.map((id, at) => ({ id: COLOURS[at], label: words(id) }));
    const format = (value) => tile.show(value) + (tile.unit ?? "");
    const chart = new Chart(node, { lines, seconds: SECONDS, format, spark: true });
    return { tile, figure, aside, chart };
  });
  return {
    node: h("section", { class: "tiles", "aria-label": "Figures" },
      made.map(({ figure }) => figure.closest(".tile"))),
    update(samples) {
      const now = samples.list.at(-1);
      for (const { tile, figure, aside, chart } of made) {
        text(figure, tile.show(now[tile.id]));
        text(aside, tile.aside(now) ?? "");
        const points = tile.lines.map((id, at) => [COLOURS[at], samples.points((it) => it[id])]);
        chart.set(Object.fromEntries(points), now.at);
      }
    },
  };
}

// --- latencies --------------------------------------------------------------------------------

/** Where a latency stands between 1 µs and 10 s, on a scale of powers. */
const onScale = (us) => `${(Math.min(1, Math.log10(Math.max(us, 1)) / 7) * 100).toFixed(1)}%`;

function range({ p50Us, p99Us, p999Us, maxUs }) {
  if (typeof p50Us !== "number") return null;
  const from = (a, b) => ({ left: onScale(a), width: `calc(${onScale(b)} - ${onScale(a)} + 4px)` });
  return h("div", { class: "range", "aria-hidden": "true" },
    h("i", { css: from(p50Us, p999Us) }), h("i", { class: "core", css: from(p50Us, p99Us) }),
    h("i", { class: "max", css: { left: onScale(maxUs) } }));
}

function latencies() {
  let chosen = "orderToLastWrite";
  let redraw = () => {};
  const stages = table({
    caption: "Latency of the last minute by stage",
    keyOf: ([id]) => id,
    compact: true,
    open: ([id]) => {
      chosen = id;
      redraw();
    },
    rowClass: ([id]) => (id === chosen ? "chosen" : ""),
    columns: [
      { label: "Stage", class: "title", cell: ([, name]) => name },
      { label: "1 µs to 10 s", class: "wide-only", cell: ([, , , it]) => range(it) ?? "" },
      ...QUANTILES.map(([label, field]) =>
        ({ label, num: true, cell: ([, , , it]) => micros(it[field]) })),
    ],
  });
  const place = h("div", { class: "live" });
  const title = h("h3", {});
  const chart = new Chart(place, {
    seconds: SECONDS, scale: "log", format: micros,
    lines: [
      { id: "one", label: "p50" }, { id: "two", label: "p99" }, { id: "three", label: "p99.9" },
    ],
  });
  const hint = h("span", { class: "hint" }, "of the last minute; choose a stage for its course");
  const node = section("Latency by stage", { aside: hint },
    h("div", { class: "list-place live" }, stages.node), title, place);
  return {
    node,
    update(samples, stats) {
      redraw = () => this.update(samples, stats);
      const found = stats.latencies ?? {};
      stages.update(STAGES.map(([id, name, hint]) => [id, name, hint, found[id] ?? {}]));
      const [, name, hint] = STAGES.find(([id]) => id === chosen);
      text(title, hint ? `${name}, ${hint}` : name);
      const of = (field) => samples.points((it) => it.latencies?.[chosen]?.[field]);
      const points = { one: of("p50Us"), two: of("p99Us"), three: of("p999Us") };
      chart.set(points, samples.list.at(-1).at);
    },
  };
}

// --- shards and memory ------------------------------------------------------------------------

function shards() {
  const strip = h("div", { class: "shards live" });
  const slowest = h("span", { class: "hint live" });
  const cpu = new Map();
  const make = () => {
    const values = ["connections", "lag p99", "CPU", "queue"].map((name) =>
      [h("dt", {}, name), h("dd", {})]);
    const name = h("h3", {});
    const node = h("div", { class: "shard" }, name,
      h("dl", {}, values.map((it) => h("div", {}, it))));
    node.refresh = (it) => {
      text(name, `Shard ${it.shard}`);
      const shown = [count(it.connections), micros(it.latencies?.loopLag?.p99Us),
        it.cpu === null ? "–" : `${Math.round(it.cpu * 100)}%`, bytes(it.outboundQueueBytes)];
      values.forEach(([, value], at) => text(value, shown[at]));
    };
    return node;
  };
  return {
    node: section("Shards", { aside: slowest }, strip),
    update(samples, stats) {
      const { at } = samples.list.at(-1);
      const items = (stats.shards ?? []).map((it) => {
        const before = cpu.get(it.shard);
        cpu.set(it.shard, { at, ms: it.cpuMs });
        const share = before && at > before.at ? (it.cpuMs - before.ms) / (at - before.at) : null;
        return { ...it, cpu: share };
      });
      strip.classList.toggle("dense", items.length > STRIP_ROOMY_MAX);
      const lag = (it) => it.latencies?.loopLag?.p99Us ?? 0;
      const [first] = [...items].sort((a, b) => lag(b) - lag(a));
      text(slowest, items.length > 1 && lag(first) > 0
        ? `slowest: shard ${first.shard}, lag p99 ${micros(lag(first))}` : "");
      keyed(strip, items, ({ shard }) => shard, make);
    },
  };
}

const MEMORY = [
  ["outboundQueues", "Queues to clients", "two"],
  ["events", "Events", "three"],
  ["connections", "Connections", "four"],
];

function memory() {
  const stack = h("div", { class: "stack", "aria-hidden": "true" });
  const rows = h("ul", { class: "legend" });
  const limits = h("div", {});
  const place = h("div", { class: "live" }, stack, rows);
  const chart = new Chart(place, {
    seconds: SECONDS, format: bytes, spark: true,
    lines: [{ id: "one", label: "resident" }, { id: "three", label: "events" }],
  });
  return {
    node: section("Memory and files", {}, place, limits),
    update(samples, stats) {
      const points = { one: samples.points((it) => it.resident),
        three: samples.points((it) => it.events) };
      chart.set(points, samples.list.at(-1).at);
      const held = stats.memory ?? {};
      const all = held.resident ?? stats.process?.residentBytes ?? 0;
      const parts = MEMORY.filter(([id]) => held[id] >= 0).map(([id, ...it]) => [...it, held[id]]);
      const rest = all - parts.reduce((sum, [, , size]) => sum + size, 0);
      parts.push(["All else", "one", Math.max(0, rest)]);
      put(stack, parts.map(([, colour, size]) =>
        h("i", { class: colour, css: { width: `${all && size / all * 100}%` } })));
      const row = (name, size, colour) => h("li", { class: colour },
        colour && h("span", { class: "swatch" }), h("span", { class: "what" }, name),
        h("strong", {}, bytes(size)));
      put(limits, limitsOf(stats.process ?? {}));
      put(rows, parts.map(([name, colour, size]) => row(name, size, colour)), row("Resident", all));
    },
  };
}

/** What the process has of what it may have. */
const limitsOf = ({ residentBytes, residentBytesMax, openFiles, openFilesMax }) => facts([
  ["Memory of its ceiling", useOf(residentBytes, residentBytesMax, bytes)],
  ["Open files", useOf(openFiles, openFilesMax, whole)],
]);

// --- channels -----------------------------------------------------------------------------------

function topChannels(context) {
  const { get, href, replace } = context;
  let appId = null;
  const rows = table({
    caption: "Channels with the most messages",
    keyOf: ({ channel }) => channel,
    columns: [
      { label: "Channel", class: "title", cell: ({ channel }) =>
        h("a", { href: href("channels", { app: appId, name: channel }) }, middle(channel, 40)) },
      { label: "Connections", num: true, cell: ({ connections }) => count(connections) },
      { label: "Messages/s", num: true, cell: (it) => rate(it.rate) },
    ],
  });
  const side = h("div", {});
  const place = live(context, rows.node, {
    every: 5_000,
    async ask() {
      if (!appId) {
        appId = await chosenApp(context);
        if (!side.firstChild) put(side, appPicker(await appsOf(context), appId, (it) => {
          appId = keepApp(it);
          replace({ app: it });
          place.again();
        }, true));
      }
      return appId ? get(ofApp(appId, "/channels"), { sort: "rate", limit: 8 }) : { channels: [] };
    },
    take({ channels }) {
      rows.update(channels);
      return channels.length === 0;
    },
    empty: () => (appId ? emptyNote("No channel has anybody in it.") : noApp(context)),
  });
  return section("Busiest channels", { aside: side }, place.node);
}

// --- nobody is here yet -----------------------------------------------------------------------

let told = null;

/** Three ways to connect, while nobody is connected. */
async function welcome(context, place, sample) {
  const { get, signal } = context;
  const nobody = sample.connections === 0 && !sample.messagesIn;
  if (!nobody || told === place) {
    place.hidden = !nobody;
    return;
  }
  told = place;
  const [node, appId] = await Promise.all([nodeOf(context), chosenApp(context)]).catch(() => []);
  if (signal.aborted || !appId) return;
  const answer = await get(ofApp(appId, "/keys")).catch(() => ({ keys: [] }));
  const key = answer.keys.find(({ type }) => type === "publishable")?.keyId ?? "pk_live_…";
  const url = clientUrl(node) ?? "ws://HOST:8080";
  put(place, section("Nobody is connected yet. Three ways to be the first", {},
    h("h3", {}, "A browser or Node"),
    snippet(`import { SignallingClient } from "@metered-ca/realtime";\n` +
      `const client = new SignallingClient({ url: "${url}", apiKey: "${key}" });\n` +
      `await client.connect();\nawait client.subscribe("room-42");`, "JavaScript"),
    h("h3", {}, "A terminal"),
    snippet(`ringmesh sub room-42 --key ${key} --url ${url}`, "Command line"),
    h("h3", {}, "Your backend"),
    snippet(`curl ${restUrl(node) ?? "http://HOST:8080"}/v1/channels/room-42/publish \\\n` +
      `  -H "Authorization: Bearer sk_live_…" -H "Content-Type: application/json" \\\n` +
      `  -d '{"data":"hello"}'`, "curl"),
    h("p", { class: "hint" }, "Or right here: ",
      h("a", { href: context.href("console") }, "the Console connects as any peer"), ".")));
  place.hidden = false;
}
