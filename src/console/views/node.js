// The node: version, listeners, certificate; its configuration with origins; reload; sessions.

import { h, put } from "../dom.js";
import { ago, clock, dateTime, moment, plural } from "../format.js";
import {
  ask, badge, button, emptyNote, facts, live, pageHead, searchField, section, table,
} from "../widgets.js";
import { recent } from "./channels.js";

const DAY_MS = 86_400_000;
const CERTIFICATE_WARN_MS = 14 * DAY_MS;
const RELOADS = { kind: "admin", cause: "reload,reload_failed" };

export function show(context, into) {
  into.append(pageHead("Node"), about(context), reload(context),
    recent(context, RELOADS, "Last reloads", 3, "None since the start."),
    configuration(context), sessions(context));
}

function about(context) {
  const body = h("div", {});
  const place = live(context, body, {
    every: 30_000,
    ask: () => context.get("node"),
    take: (node) => void put(body, factsOf(node)),
  });
  return section("This node", {}, place.node);
}

function factsOf(node) {
  const listeners = (node.listeners ?? []).map((it) => (typeof it === "string" ? it
    : [it.address, it.tls && "TLS", it.role].filter(Boolean).join(" ")));
  return facts([
    ["Name", node.node],
    ["Version", node.commit ? `${node.version} (${node.commit.slice(0, 9)})` : node.version],
    ["Mode", node.mode],
    ["Started", node.startedAt && `${ago(node.startedAt)}, ${dateTime(node.startedAt)}`],
    ["Shards", node.shards?.length ?? node.shards],
    ["Listeners", listeners.join(", ") || null],
    ["Public URL", node.publicUrl ?? "not set"],
    ["Certificate", certificate(node.certificate)],
    ["Data", node.dataDir],
    ["Configuration file", node.configFile ?? "none"],
  ]);
}

function certificate(it) {
  if (!it) return "none";
  const left = moment(it.notAfter) - Date.now();
  const tone = left < 0 ? "bad" : left < CERTIFICATE_WARN_MS ? "warn" : "good";
  const days = Math.floor(left / DAY_MS);
  const ends = left < 0 ? "expired"
    : days < 1 ? "ends within a day" : `${plural(days, "day")} left`;
  return [(it.names ?? []).join(", "), " until ", dateTime(it.notAfter), " ", badge(ends, tone)];
}

function configuration(context) {
  const { get, params, replace } = context;
  const state = { settings: [], q: params.q ?? "", set: params.set === "1" };
  const rows = table({
    caption: "Configuration",
    keyOf: ({ key }) => key,
    columns: [
      { label: "Key", class: "title mono", cell: ({ key }) => key },
      { label: "Value", class: "mono", cell: ({ value }) => value },
      { label: "Default", class: "mono", cell: (it) =>
        (it.value === it.default ? "" : it.default) },
      { label: "From", cell: ({ origin }) =>
        (origin === "default" ? "" : badge(origin, "accent")) },
    ],
  });
  const place = live(context, rows.node, {
    ask: async () => {
      state.settings = (await get("config")).settings;
    },
    take: () => draw(),
    empty: () => emptyNote("No key matches."),
  });
  const draw = () => {
    const wanted = state.q.toLowerCase();
    const found = state.settings.filter(({ key, value, origin }) =>
      (!state.set || origin !== "default") &&
      `${key} ${value} ${origin}`.toLowerCase().includes(wanted));
    rows.update(found);
    place.settle(found.length === 0, emptyNote("No key matches."));
    return found.length === 0;
  };
  const change = (changes) => {
    Object.assign(state, changes);
    replace({ q: state.q, set: state.set ? "1" : null });
    draw();
  };
  const only = button("Only what was set", () => {
    change({ set: !state.set });
    only.setAttribute("aria-pressed", String(state.set));
  }, { class: "small", "aria-pressed": String(state.set) });
  place.again();
  return section("Configuration", { aside: only },
    searchField("Search the configuration", "limits.message_rate", state.q, (q) => change({ q })),
    place.node);
}

function reload({ api, shared }) {
  const answer = h("div", { role: "status" });
  // What the last one has said is there also after another view.
  const said = () => shared.reload && put(answer, h("p", { class: "hint" },
    `Read at ${clock(shared.reload.at)}:`), reported(shared.reload.report));
  said();
  const act = button("Read the configuration again", () => ask("Read the configuration again?",
    "Values that a running server can follow hold at once, for all connections. Others are " +
      "named, and hold from the next start on.",
    "Read it", async () => {
      const report = await api.request("POST", "reload", { body: {} });
      shared.reload = { report, at: new Date() };
      said();
    }), { class: "small" });
  return section("Reload", { aside: act },
    h("p", { class: "hint" }, "The file, the environment and the certificate, as SIGHUP does."),
    answer);
}

function reported({ applied, needsRestart, errors }) {
  const part = (title, tone, items) => items.length > 0 && [
    h("p", {}, badge(title, tone), ` ${plural(items.length, "entry", "entries")}`),
    h("ul", {}, items.map((it) => h("li", { class: "mono" }, it)))];
  if (applied.length + needsRestart.length + errors.length === 0) {
    return h("p", {}, badge("ok", "good"), " Nothing had changed.");
  }
  return [part("applied", "good", applied), part("failed", "bad", errors),
    part("needs a restart", "warn", needsRestart.map(({ key, place }) => `${key} (${place})`))];
}

function sessions(context) {
  const { api, get } = context;
  const body = h("p", {});
  const place = live(context, body, {
    every: 30_000,
    ask: () => get("session"),
    take: ({ role, expiresAt, sessions: all }) => void put(body,
      `Signed in as ${role} until ${dateTime(expiresAt)}; ${plural(all, "session")} in all.`),
  });
  const everywhere = () => ask("Sign out everywhere?",
    "All sessions of the console end, this one too. Programs with the admin token go on.",
    "End all sessions", () => api.signOut(true));
  return section("Sessions", {}, place.node,
    h("p", { class: "hint" },
      "A session ends after an hour without use, after twelve hours, and with the server."),
    h("div", { class: "actions" }, button("Sign out", () => api.signOut().catch(() => {})),
      button("Sign out everywhere", everywhere, { class: "danger" })));
}
