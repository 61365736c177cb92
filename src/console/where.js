// Where clients connect, and which app a view is about.

import { h, put } from "./dom.js";
import { emptyNote, field, live, pageHead, select } from "./widgets.js";

const KEPT = "ringmesh-app";

/** `127.0.0.1:8080` without a host that means "every address". */
const reachable = (address) => address.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, location.hostname);

/** The URL for clients, `ws://…` without a path, or null where nobody has told. */
export function clientUrl(node) {
  const given = node?.publicUrl;
  if (given) return given.replace(/^http/, "ws").replace(/\/(v1\/?)?$/, "");
  const all = (node?.listeners ?? []).map((it) => (typeof it === "string" ? { address: it } : it));
  const found = all.find(({ role }) => role !== "admin");
  return found ? `${found.tls ? "wss" : "ws"}://${reachable(found.address)}` : null;
}

export const restUrl = (node) => clientUrl(node)?.replace(/^ws/, "http");

/** The path of something that belongs to an app. */
export const ofApp = (appId, rest = "") => `apps/${encodeURIComponent(appId)}${rest}`;

/** The node and the apps, asked for once. */
export async function nodeOf(context) {
  context.shared.node ??= await context.get("node").catch(() => null);
  return context.shared.node;
}
export const appsOf = async ({ shared, refreshApps }) =>
  (shared.apps.length > 0 ? shared.apps : refreshApps());

/** Remembers the app that was chosen, for the views of this tab whose address names none. */
export function keepApp(appId) {
  try {
    sessionStorage.setItem(KEPT, appId);
  } catch {
    // Without storage the address alone knows.
  }
  return appId;
}

function keptApp() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null;
  }
}

/**
 * The app that a view is about: that of the address, else the one last chosen, else the one with
 * the most connections. Null where there is none, and where that of the address is none.
 */
export async function chosenApp(context) {
  const { app } = context.params;
  let apps = await appsOf(context);
  const has = (id) => apps.some(({ appId }) => appId === id);
  if (app) {
    // It may be a new one.
    if (!has(app)) apps = await context.refreshApps();
    return has(app) ? keepApp(app) : null;
  }
  const kept = keptApp();
  if (has(kept)) return kept;
  const now = ({ usage }) => usage?.concurrentNow ?? 0;
  return apps.reduce((most, it) => (!most || now(it) > now(most) ? it : most), null)?.appId ?? null;
}

/** What is said where there is no app to show. */
export const noApp = ({ params, href }) => (params.app
  ? emptyNote(`There is no app ${params.app}.`,
    h("a", { class: "button", href: href("apps") }, "All apps"))
  : emptyNote("This server has no app yet.", "Clients connect to an app, with a key.",
    h("a", { class: "button", href: href("apps") }, "Create the first")));

/** A view about one app: `then(apps, appId)`, when they are known and there is one. */
export function withApp(context, into, title, then) {
  const body = h("div", {});
  const place = live(context, body, {
    ask: async () => [await appsOf(context), await chosenApp(context)],
    take([apps, appId]) {
      if (context.signal.aborted) return false;
      if (!appId) return true;
      if (!context.params.app) {
        context.params.app = appId;
        context.replace(context.params);
      }
      put(into);
      then(apps, appId);
      return false;
    },
    empty: () => noApp(context),
  });
  put(into, pageHead(title), h("div", { class: "card" }, place.node));
  place.again();
}

/** A choice among apps, where there is more than one. */
export function appPicker(apps, appId, choose, bare = false) {
  if (apps.length < 2) return null;
  const options = apps.map((it) => [it.appId, it.name ? `${it.name} (${it.appId})` : it.appId]);
  if (!appId) options.unshift(["", "Choose an app"]);
  const picker = select(options, appId, { onchange: () => choose(picker.value),
    "aria-label": bare ? "App" : null });
  return bare ? picker : field("App", picker);
}

/** What is typed as a pattern: names that contain it, unless it has a star itself. */
export const patternOf = (typed) =>
  (!typed || typed.includes("*") ? typed : `**${typed.replace(/\\/g, "\\\\")}**`);
