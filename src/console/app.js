// The shell of the console: signing in, the way from view to view, keys, themes.
//
// Where one is stands in the fragment, `#/events?peer=alice`, so that it can be sent to others.

import { Api, pathOf } from "./api.js";
import { h, later, put, text } from "./dom.js";
import { clock } from "./format.js";
import { keyboard } from "./keys.js";
import { signInPage } from "./views/sign_in.js";
import { emptyNote, icon, mark, pageHead, say } from "./widgets.js";

/** In the order of the navigation: name, its module, title, the letter behind `g`. */
const VIEWS = [
  ["overview", () => import("./views/overview.js"), "Overview", "o"],
  ["events", () => import("./views/events.js"), "Events", "e"],
  ["channels", () => import("./views/channels.js"), "Channels", "c"],
  ["peers", () => import("./views/peers.js"), "Peers", "p"],
  ["apps", () => import("./views/apps.js"), "Apps and keys", "a"],
  ["console", () => import("./views/console.js"), "Console", "x"],
  ["token", () => import("./views/token.js"), "Token", "t"],
  ["node", () => import("./views/node.js"), "Node", "n"],
];
/** Views that narrow screens show at once; the others are behind "More". */
const NARROW = 4;
const OTHERS_AFTER_MS = 300;
const THEMES = ["auto", "light", "dark"];

const api = new Api();
const root = document.getElementById("app");
let leave = null;
let shell = null;
/** Apps and the node, which several views need; asked once in a while. */
const shared = { apps: [], node: null };

// --- themes -----------------------------------------------------------------------------------

function theme() {
  const kept = localStorage.getItem("ringmesh-theme");
  return THEMES.includes(kept) ? kept : "auto";
}

function useTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("ringmesh-theme", name);
}

function themeSwitch() {
  const label = h("span", {}, `Theme: ${theme()}`);
  const next = () => {
    useTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    text(label, `Theme: ${theme()}`);
  };
  return h("button", { type: "button", class: "nav-item", onclick: next }, icon("light"), label);
}

// --- the way ----------------------------------------------------------------------------------

/** The view and the parameters that the address names. */
function place() {
  const [path, query] = location.hash.slice(1).split("?");
  const name = path.replace(/^\//, "") || "overview";
  const [, load, label] = VIEWS.find(([it]) => it === name) ?? [null, missing, "No such page"];
  return { name, load, label, params: new URLSearchParams(query) };
}

/** What is shown where no view has the name of the address. */
async function missing() {
  const words = emptyNote(`There is no page ${location.hash.slice(1).split("?")[0]}.`,
    h("a", { class: "button", href: href("overview") }, "Overview"));
  return { show: (_, into) => into.append(pageHead("No such page"),
    h("div", { class: "card" }, h("div", { class: "note" }, words))) };
}

const href = (name, params) => `#/${pathOf(name, params)}`;

/** Changes the parameters without leaving the view. */
function replace(params) {
  history.replaceState(null, "", href(place().name, params));
}

function go(name, params) {
  location.hash = href(name, params);
}

async function show() {
  if (!api.hasSession) return showSignIn();
  shell ??= makeShell();
  leave?.abort();
  leave = new AbortController();
  const { name, load, label, params } = place();
  document.title = `${label} · ringmesh`;
  shell.current(name);
  const { signal } = leave;
  const get = (path, query) => api.get(path, query, { signal });
  const context = {
    api, get, signal, params: Object.fromEntries(params), href, go, replace, shared, refreshApps,
  };
  const content = h("div", { class: `view view-${load === missing ? "missing" : name}` });
  put(shell.content, content);
  scrollTo(0, 0);
  say(label);
  const view = await load();
  if (!signal.aborted) view.show(context, content);
  // The others come when this one is there, so that they need no server later.
  setTimeout(() => VIEWS.forEach(([, other]) => other().catch(() => {})), OTHERS_AFTER_MS);
}

async function refreshApps() {
  const { apps: found } = await api.get("apps", { include: "usage" }).catch((error) => {
    if (error.status !== 400) throw error;
    return api.get("apps");
  });
  shared.apps = found;
  return found;
}

// --- the shell --------------------------------------------------------------------------------

function navItem([name, , label, letter], extra = "") {
  return h("a", {
    class: `nav-item ${extra}`, href: href(name), data: { view: name },
    "aria-keyshortcuts": `g ${letter}`,
  }, icon(name), h("span", {}, label));
}

function makeShell() {
  const items = VIEWS.map((it, at) => navItem(it, at < NARROW ? "" : "wide-only"));
  const sheet = h("div", { class: "sheet", hidden: true, id: "more" },
    VIEWS.slice(NARROW).map((it) => navItem(it)), themeSwitch(), signOutItem());
  const more = h("button", {
    type: "button", class: "nav-item narrow-only", "aria-expanded": "false",
    "aria-controls": "more",
  }, icon("more"), h("span", {}, "More"));
  const open = (isOpen) => {
    sheet.hidden = !isOpen;
    more.setAttribute("aria-expanded", String(isOpen));
  };
  more.addEventListener("click", () => open(sheet.hidden));
  sheet.addEventListener("click", (event) => event.target.closest("a") && open(false));
  sheet.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(false);
    more.focus();
  });
  const about = h("p", { class: "about" });
  const nav = h("nav", { class: "side", "aria-label": "Views" },
    h("a", { class: "brand", href: href("overview") }, mark(24), "ringmesh"),
    h("div", { class: "nav-items" }, items, more), sheet,
    h("div", { class: "side-foot wide-only" }, about, themeSwitch(), signOutItem()));
  const away = h("p", { class: "away", role: "alert", hidden: true });
  const content = h("main", { id: "content", tabindex: "-1" });
  put(root, nav, h("div", { class: "page" }, away, content));
  const state = () => {
    away.hidden = !api.downSince;
    document.body.classList.toggle("down", Boolean(api.downSince));
    if (!api.downSince) return;
    text(away, `No answer since ${clock(api.downSince)}. It is asked again by itself.`);
  };
  api.addEventListener("down", state);
  api.addEventListener("up", state);
  state();
  tellNode(about);
  return { content, current: (name) => markCurrent(nav, name) };
}

function signOutItem() {
  const act = () => api.signOut().catch(() => {});
  return h("button", { type: "button", class: "nav-item", onclick: act }, icon("out"),
    h("span", {}, "Sign out"));
}

function markCurrent(nav, name) {
  for (const item of nav.querySelectorAll("[data-view]")) {
    if (item.dataset.view === name) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  const inSheet = VIEWS.findIndex(([it]) => it === name) >= NARROW;
  nav.querySelector(".narrow-only").classList.toggle("holds-current", inSheet);
}

async function tellNode(about) {
  try {
    shared.node = await api.get("node");
    const { node: name, version, mode } = shared.node;
    put(about, h("strong", {}, name ?? "node"), ` ${[mode, version].filter(Boolean).join(" · ")}`);
    if (mode === "dev") about.append(" · ", h("a", { href: "/demo" }, "demo"));
  } catch {
    // The views say what is the matter.
  }
}

// --- signing in -------------------------------------------------------------------------------

function showSignIn(fault) {
  leave?.abort();
  shell = null;
  document.title = "Sign in · ringmesh";
  document.body.classList.remove("down");
  put(root, signInPage({ fault, themeSwitch: themeSwitch(), signIn: async (credential) => {
    await api.signIn(credential);
    show();
  } }));
  root.querySelector("input")?.focus();
}

async function begin() {
  useTheme(theme());
  const code = new URLSearchParams(location.hash.slice(1)).get("login");
  if (!code) return show();
  history.replaceState(null, "", location.pathname);
  try {
    await api.signIn({ code });
    show();
  } catch (error) {
    showSignIn(`The link did not sign in: ${error.message}.`);
  }
}

function closeDialogs() {
  for (const open of document.querySelectorAll("dialog")) open.close();
}

api.addEventListener("signed-out", () => {
  closeDialogs();
  showSignIn();
});
addEventListener("hashchange", () => {
  closeDialogs();
  if (new URLSearchParams(location.hash.slice(1)).has("login")) return begin();
  show();
  later(leave?.signal, 0, () => root.querySelector("h1")?.focus({ preventScroll: true }));
});
keyboard({ views: VIEWS, go });
begin();
