// Apps with their use and plan, and the keys of one. Secrets are shown once.

import { h, put } from "../dom.js";
import { count, dateTime, middle, plural, shortKey, whole } from "../format.js";
import {
  ask, badge, button, checkbox, copyButton, dialog, emptyNote, facts, field, formDialog, input,
  live, pageHead, section, select, snippet, table, toast, useOf,
} from "../widgets.js";
import { keepApp, nodeOf, ofApp, restUrl } from "../where.js";

const ACTIONS = ["publish", "subscribe", "presence", "send"];
const GRACES = [["0", "not at all"], ["3600", "1 hour"], ["86400", "1 day"], ["604800", "1 week"]];
const FOR_EVER = "This cannot be taken back.";

const keyPath = (keyId, rest = "") => `signalling/keys/${encodeURIComponent(keyId)}${rest}`;

export function show(context, into) {
  if (context.params.app) showApp(context, into, context.params.app);
  else showApps(context, into);
}

const statusOf = ({ status }) => badge(status, status === "active" ? "good" : "warn");

async function withUsage({ get, refreshApps }) {
  const usage = ({ appId }) => get(ofApp(appId, "/usage")).catch(() => null);
  return Promise.all((await refreshApps()).map(async (app) =>
    ({ ...app, usage: app.usage ?? await usage(app) })));
}

function showApps(context, into) {
  const { href, go } = context;
  const rows = table({
    caption: "Apps",
    keyOf: ({ appId }) => appId,
    open: ({ appId }) => go("apps", { app: appId }),
    columns: [
      { label: "App", class: "title", cell: ({ appId, name }) =>
        h("a", { href: href("apps", { app: appId }) }, name || appId) },
      { label: "Id", class: "mono", cell: ({ appId }) => middle(appId, 26) },
      { label: "State", cell: statusOf },
      { label: "Connections", cell: ({ usage, plan }) =>
        useOf(usage?.concurrentNow, plan.maxConcurrentConnections, count) },
      { label: "Messages of the period", cell: ({ usage, plan }) =>
        useOf(usage?.messagesUsed, plan.maxMessagesPerPeriod, count) },
    ],
  });
  const create = (props) => button("Create an app", () => editApp(context, null), props);
  const place = live(context, rows.node, {
    every: 5_000,
    ask: () => withUsage(context),
    take: (apps) => {
      rows.update(apps);
      return apps.length === 0;
    },
    empty: () => emptyNote("This server has no app yet.",
      "An app has its own channels, peers and keys.", create({ class: "primary" })),
  });
  into.append(pageHead("Apps and keys", create()),
    h("section", { class: "card", "aria-label": "Apps" }, place.node));
}

// --- one app ------------------------------------------------------------------------------------

function showApp(context, into, appId) {
  const { get, href } = context;
  const body = h("div", {});
  const actions = h("div", { class: "actions" });
  let shown = "";
  const place = live(context, body, {
    every: 5_000,
    async ask() {
      const [app, usage] = await Promise.all([get(ofApp(appId)), get(ofApp(appId, "/usage"))]);
      return { ...app, usage };
    },
    take(app) {
      keepApp(appId);
      put(body, factsOf(app));
      // The buttons stay the same ones while they do the same, so that they keep the focus.
      const now = JSON.stringify([app.status, app.plan, app.limits, app.name, app.directScope]);
      if (now !== shown) put(actions, actionsOf(context, app, place.again));
      shown = now;
    },
    empty: () => emptyNote(`There is no app ${appId}.`),
  });
  into.append(h("a", { class: "crumb", href: href("apps"), "data-key": "back" }, "← All apps"),
    pageHead(appId, actions), section("Plan and use", {}, place.node), keysOf(context, appId));
}

const bounded = (limit) => (limit ? whole(limit) : "no limit");

function factsOf({ name, plan, usage, limits, directScope, turn, createdAt, status, declaredIn }) {
  const { maxConcurrentConnections: most, maxMessagesPerPeriod: messages } = plan;
  return facts([
    ["Name", name || "–"],
    ["State", statusOf({ status })],
    ["Declared in", declaredIn],
    ["Connections now", useOf(usage.concurrentNow, most, count)],
    ["Most at once", whole(usage.peakConcurrent)],
    ["Messages of the period", useOf(usage.messagesUsed, messages, count)],
    ["Period", `until ${dateTime(usage.periodEndUnix)}`],
    ["Over the plan", plan.overagesAllowed && plan.overagesEnabled ? "is counted" : "is refused"],
    ["Message rate", limits ? `${bounded(limits.messageRate)}/s` : "the server's"],
    ["Messages at once", limits ? bounded(limits.messageBurst) : "the server's"],
    ["Direct messages", directScope === "app" ? "within the app" : "in a common channel only"],
    ["TURN", turn ? turn.urls.join(", ") : "none"],
    ["Created", dateTime(createdAt)],
  ]);
}

function actionsOf(context, app, done) {
  if (app.declaredIn) return badge(`read-only: declared in ${app.declaredIn}`);
  const danger = { class: "danger" };
  return [
    button("Edit", () => editApp(context, app, done)),
    app.status === "suspended"
      ? button("Resume", () => setStatus(context, app, "active", done))
      : button("Suspend", () => suspend(context, app, done), danger),
    button("Delete", () => deleteApp(context, app), danger),
  ];
}

async function setStatus({ api }, { appId }, status, done) {
  await api.request("PATCH", ofApp(appId), { body: { status } });
  toast(status === "active" ? "Resumed" : "Suspended");
  done();
}

/** How many connections an app has at this moment, in words. */
async function connectionsOf({ get }, { appId }) {
  const { concurrentNow } = await get(ofApp(appId, "/usage"));
  return plural(concurrentNow, "connection");
}

async function suspend(context, app, done) {
  const now = await connectionsOf(context, app);
  if (context.signal.aborted) return;
  ask(`Suspend ${app.name || app.appId}?`, [
    `${now} will be closed with 4012, and new ones are refused until the app is resumed.`,
    "Nothing is deleted.",
  ], `Suspend, and close ${now}`, () => setStatus(context, app, "suspended", done));
}

async function deleteApp(context, { appId, name }) {
  const { api, go, refreshApps } = context;
  const typed = input({});
  const now = await connectionsOf(context, { appId });
  if (context.signal.aborted) return;
  const { go: act } = formDialog(`Delete ${name || appId}?`, [
    h("p", {}, `${now} will be closed with 4001. All its keys end with it, and all tokens that ` +
      `they have signed. ${FOR_EVER}`),
    field(`Type ${appId} to go on`, typed),
  ], { action: "Delete for ever", danger: true, submit: async () => {
    await api.request("DELETE", ofApp(appId));
    await refreshApps();
    toast(`${appId} is deleted`);
    go("apps");
  } });
  act.disabled = true;
  typed.addEventListener("input", () => (act.disabled = typed.value !== appId));
}

const numberOf = (element) => (element.value.trim() === "" ? null : Number(element.value));
const numberInput = (value, placeholder = "no limit") =>
  input({ type: "number", min: "0", step: "1", value: value ?? "", placeholder });

/** Creates an app, or changes one. */
function editApp({ api, go, refreshApps }, app, done) {
  const id = input({ placeholder: "app_shop, or leave it empty" });
  const name = input({ value: app?.name ?? "", maxlength: 256 });
  const connections = numberInput(app?.plan.maxConcurrentConnections);
  const messages = numberInput(app?.plan.maxMessagesPerPeriod);
  const messageRate = numberInput(app?.limits?.messageRate, "the server's");
  const burst = numberInput(app?.limits?.messageBurst, "the server's");
  const { overagesAllowed, overagesEnabled } = app?.plan ?? {};
  const over = checkbox("Over the plan it goes on, and is counted",
    { checked: Boolean(overagesAllowed && overagesEnabled) });
  const scope = select([["app", "within the app"], ["shared-channel", "in a common channel only"]],
    app?.directScope ?? "app", {});
  const named = { appId: field("Id", id, "Letters, digits, _ and -. It never changes."),
    name: field("Name", name), limits: field("Messages a second of a connection", messageRate) };
  const submit = async () => {
    const limits = messageRate.value || burst.value
      ? { messageRate: numberOf(messageRate), messageBurst: numberOf(burst) } : null;
    const body = {
      name: name.value,
      plan: {
        maxConcurrentConnections: numberOf(connections),
        maxMessagesPerPeriod: numberOf(messages),
        overagesAllowed: over.firstChild.checked,
        overagesEnabled: over.firstChild.checked,
      },
      directScope: scope.value,
      ...(limits || app?.limits ? { limits } : {}),
    };
    if (!app && id.value) body.appId = id.value.trim();
    const [method, path] = app ? ["PATCH", ofApp(app.appId)] : ["POST", "apps"];
    const answer = await api.request(method, path, { body });
    await refreshApps();
    toast(app ? "Changed" : `${answer.appId} is created`);
    if (app) done();
    else go("apps", { app: answer.appId });
  };
  formDialog(app ? `Edit ${app.appId}` : "Create an app", [
    !app && named.appId, named.name,
    h("div", { class: "fields" }, field("Connections at once", connections),
      field("Messages of a period", messages)),
    over,
    h("div", { class: "fields" }, named.limits, field("Messages at once", burst)),
    field("Direct messages reach peers", scope),
  ], { action: app ? "Save" : "Create", submit, failed: (error) => complain(named, error) });
}

/** Shows an error at the field that it names. Returns whether there is one. */
function complain(named, error) {
  const found = Object.entries(named).find(([name]) => error.message.includes(name));
  for (const place of Object.values(named)) place.complain(null);
  found?.[1].complain(error.message);
  return Boolean(found);
}

// --- keys ---------------------------------------------------------------------------------------

function keysOf(context, appId) {
  const { get } = context;
  const rows = table({
    caption: "Keys",
    keyOf: ({ keyId }) => keyId,
    columns: [
      { label: "Key", class: "title", cell: ({ keyId, name }) => h("div", {},
        name, h("div", { class: "hint mono tight" }, shortKey(keyId))) },
      { label: "Kind", cell: ({ type }) => badge(type, type === "secret" ? "accent" : "") },
      { label: "Channels", class: "mono", cell: ({ channelPatterns: [one, two, ...more] }) =>
        `${one} ${two ?? ""}${more.length > 0 ? ` and ${more.length} more` : ""}` },
      { label: "May", cell: ({ actions }) => (actions.length === ACTIONS.length ? "everything"
        : actions.join(", ") || "nothing") },
      { label: "Pages of", cell: ({ allowedOrigins, type }) => (type === "secret" ? ""
        : allowedOrigins?.join(", ") || "any origin") },
      { label: "Change", cell: (key) => keyActions(context, key, place.again) },
    ],
  });
  const place = live(context, rows.node, {
    every: 15_000,
    ask: () => get(ofApp(appId, "/keys")),
    take({ keys }) {
      rows.update(keys);
      return keys.length === 0;
    },
    empty: () => emptyNote("No key yet.", "Clients connect with a publishable key, or with a " +
      "token that a secret key has signed."),
  });
  const create = button("Create a key", () => createKey(context, appId, place.again),
    { class: "small" });
  return section("Keys", { aside: create }, place.node);
}

function keyActions(context, key, done) {
  const used = h("a", { class: "button small",
    href: context.href("peers", { app: key.appId, key: key.keyId }) }, "Who uses it");
  const copy = copyButton(key.keyId, "Copy id");
  if (key.declaredIn) {
    return h("div", { class: "actions" }, used, copy, badge(`declared in ${key.declaredIn}`));
  }
  return h("div", { class: "actions" }, used, copy,
    key.type === "secret" &&
      button("Rotate", () => rotateKey(context, key, done), { class: "small" }),
    button("Revoke", () => revokeKey(context, key, done), { class: "small danger" }));
}

const linesOf = ({ value }) => value.split(/[\n,]/).map((it) => it.trim()).filter(Boolean);

function createKey(context, appId, done) {
  const type = select([["secret", "secret: for a backend, signs tokens"],
    ["publishable", "publishable: for web pages"]], "secret", {});
  const name = input({ maxlength: 256 });
  const channels = h("textarea", { rows: 3, spellcheck: "false" });
  channels.value = "**";
  const origins = h("textarea", { rows: 2, spellcheck: "false" });
  const boxes = ACTIONS.map((it) => checkbox(it, { value: it, checked: true }));
  const originField = field("Pages of these origins only", origins,
    "One a line. Empty: any page, and programs outside of browsers.");
  const change = () => {
    originField.hidden = type.value === "secret";
    boxes.at(-1).firstChild.checked = type.value === "secret";
  };
  type.addEventListener("change", change);
  change();
  const named = { name: field("Name", name), channelPatterns: field("Channels", channels,
    "Patterns, one a line: * is any run without /, ** any run."), allowedOrigins: originField };
  const submit = async () => {
    const body = {
      type: type.value, name: name.value, channelPatterns: linesOf(channels),
      actions: boxes.map((it) => it.firstChild).filter((it) => it.checked).map((it) => it.value),
    };
    if (type.value === "publishable") body.allowedOrigins = linesOf(origins);
    const key = await context.api.request("POST", ofApp(appId, "/keys"), { body });
    done();
    if (key.type === "secret") showSecrets(context, key, "The key is made");
    else toast("The key is made");
  };
  formDialog("Create a key", [field("Kind", type), named.name, named.channelPatterns,
    h("fieldset", {}, h("legend", {}, "May"), h("div", { class: "checks" }, boxes)), originField],
  { action: "Create", submit, failed: (error) => complain(named, error) });
}

function rotateKey(context, key, done) {
  const grace = select(GRACES, "86400", {});
  formDialog("Rotate the secrets?", [
    h("p", {}, `${key.name || shortKey(key.keyId)} gets a new pair of secrets. The old pair ` +
      "stays good for a while, so that backends can change over. Nobody is disconnected."),
    field("The old pair stays good for", grace),
  ], { action: "Rotate", submit: async () => {
    const body = { graceSeconds: Number(grace.value) };
    const fresh = await context.api.request("POST", keyPath(key.keyId, "/rotate"), { body });
    done();
    showSecrets(context, { ...key, ...fresh }, "New secrets");
  } });
}

const COUNTED_MAX = 200;

async function revokeKey({ api, get, signal }, { appId, keyId, type }, done) {
  const found = await get(ofApp(appId, "/connections"), { key: keyId, limit: COUNTED_MAX })
    .catch(() => null);
  if (signal.aborted) return;
  const number = found?.connections.length;
  const many = !found ? "All connections made with it"
    : plural(number, "connection") + (number === COUNTED_MAX ? " or more" : "");
  const tokens = type === "secret" ? "All tokens that it has signed end with it. " : "";
  ask("Revoke the key?",
    `${many} will be closed with 4001. ${tokens}${FOR_EVER}`, "Revoke for ever", async () => {
      await api.request("DELETE", keyPath(keyId));
      toast("The key is revoked");
      done();
    });
}

/** Shows secrets once: they are in this dialog only, and gone when it closes. */
async function showSecrets(context, key, title) {
  const node = await nodeOf(context);
  const env = [
    `RINGMESH_URL=${restUrl(node) ?? "http://HOST:8080"}`, `RINGMESH_KEY_ID=${key.keyId}`,
    `RINGMESH_SIGNING_SECRET=${key.signingSecret}`, `RINGMESH_API_SECRET=${key.apiSecret}`,
  ].join("\n");
  const part = (name, secret) => h("div", { class: "secret" }, h("h3", {}, name),
    snippet(secret, name));
  const close = button("I have kept them", () => box.close(), { class: "primary" });
  const box = dialog(title, [
    h("p", {}, "These secrets are shown now, and never again. Whoever has them acts for the app."),
    part("Signing secret, signs connect tokens", key.signingSecret),
    part("API secret, the bearer of the REST API", key.apiSecret),
    part("Both, as a file .env", env),
    key.previousValidUntil && h("p", { class: "hint" },
      `The old pair is good until ${dateTime(key.previousValidUntil)}.`),
  ], close, { wide: true });
}
