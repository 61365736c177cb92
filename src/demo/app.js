// The page: rooms, people, what is said, calls, and the round trips of all that.
//
// Rooms are channels below `demo/`. Peers tell who they are with a `hello`: to a room when they
// join it, and to each newcomer directly. Everything else one person tells another is a direct
// message: words, the signals of a call, a probe and its echo.

import { Bursts, sendMany } from "./burst.js";
import { Call } from "./call.js";
import { Chart } from "./chart.js";
import { Link } from "./link.js";
import {
  People, Room, channelOf, keepProfile, nameOf, ownProfile, roomOf, textOf,
} from "./people.js";
import {
  callCard, inviteCard, paintAvatar, showBadge, showFrame, showHead, showMessages, showPeople,
  showRooms, showState,
} from "./view.js";

const FIRST_ROOM = "lobby";
const PROBE_EVERY_MS = 1_000;
const CALLS_MAX = 8;
/** Messages of a room that somebody who enters gets to see. */
const EARLIER_MAX = 50;
const DAY_MS = 86_400_000;

const byId = (id) => document.getElementById(id);
const on = (id, event, act) => byId(id).addEventListener(event, act);

const link = new Link();
const people = new People();
const bursts = new Bursts();
const chart = new Chart(byId("chart"), {
  seconds: 60,
  gapMs: 4_000,
  quantiles: [0.5, 0.99],
  format: (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`,
  lines: [
    { id: "server", label: "to the server", hint: "ping and pong" },
    { id: "person", label: "to a person", hint: "through the server, and back", hidden: true },
    { id: "direct", label: "direct link", hint: "browser to browser", hidden: true },
  ],
});
const own = ownProfile();
const rooms = new Map();
const calls = new Map();
let room = null;
/** The key of the person in whose conversation we are, or null in the room's. */
let personKey = null;
let probeSent = 0;

const hello = () => ({ kind: "hello", key: own.key, name: own.name, hue: own.hue });
const tell = (to, data) => link.send(to, data).catch(() => null);
const publish = (name, data) => link.publish(channelOf(name), data).catch(() => null);
const person = () => (personKey ? people.withKey(personKey) : null);
const callWith = (peerId) => [...calls.values()].find(({ call }) => call.peerId === peerId);

// --- what is shown --------------------------------------------------------------------------

let shownPerson = null;
const conversation = () => (shownPerson ? people.thread(shownPerson.peerId) : room);
/** What is typed and not sent, by the conversation it is for. */
const drafts = new Map();
let drafted = null;

/** Each conversation keeps its own unsent text. */
function showDraft(talk) {
  if (drafted === talk) return;
  if (drafted) drafts.set(drafted, byId("text").value);
  byId("text").value = drafts.get(talk) ?? "";
  drafted = talk;
}

function showBadges() {
  const sum = (talks) => talks.reduce((all, { unread }) => all + unread, 0);
  showBadge("talk-badge", sum([...rooms.values()]));
  showBadge("people-badge", sum(people.threads()));
}

function show() {
  shownPerson = person() ?? (personKey ? shownPerson : null);
  const talk = conversation();
  showDraft(talk);
  if (talk && document.body.dataset.panel === "talk") talk.unread = 0;
  showBadges();
  showRooms(rooms, shownPerson ? null : room, enter);
  const others = [...(room?.members ?? [])].map((id) => people.get(id));
  others.sort((a, b) => a.name.localeCompare(b.name));
  const rows = others.map((profile) => ({
    profile,
    current: profile.key === personKey,
    unread: people.thread(profile.peerId).unread,
  }));
  showPeople([{ profile: own }, ...rows], talkTo);
  if (shownPerson) {
    const here = Boolean(person());
    const hint = here ? "Only the two of you see this." : "Not here at the moment.";
    const canCall = here && !callWith(shownPerson.peerId);
    showHead({ title: shownPerson.name, hint, person: shownPerson, room: room?.name, canCall });
  } else if (room) {
    showHead({ title: `#${room.name}`, hint: "Everybody in the room sees this." });
  }
  if (talk) showMessages(talk);
}

function add(talk, message) {
  talk.add(message);
  const isSeen = talk === conversation() && document.body.dataset.panel === "talk";
  if (!isSeen && !message.own && message.kind !== "event") talk.unread += 1;
  show();
}

function showPanel(name) {
  document.body.dataset.panel = name;
  for (const tab of document.querySelectorAll(".tabs button")) {
    if (tab.dataset.show === name) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  if (name === "talk" && conversation()) show();
}

function talkTo(profile) {
  personKey = profile.key;
  showPanel("talk");
  show();
}

// --- rooms ----------------------------------------------------------------------------------

function enter(next) {
  room = next;
  personKey = null;
  history.replaceState(null, "", `#${encodeURIComponent(next.name)}`);
  showPanel("talk");
  show();
}

/** Enters a room with the newest of what was said there. */
function subscribe(joined) {
  joined.isIn = true;
  link.subscribe(channelOf(joined.name), { last: EARLIER_MAX });
  publish(joined.name, hello());
}

function join(wish) {
  const name = roomOf(wish) || FIRST_ROOM;
  if (!rooms.has(name)) {
    rooms.set(name, new Room(name));
    if (link.state === "open") subscribe(rooms.get(name));
  }
  enter(rooms.get(name));
}

function leave() {
  if (!room) return;
  link.unsubscribe(channelOf(room.name));
  rooms.delete(room.name);
  const [next] = rooms.values();
  if (next) enter(next);
  else join(FIRST_ROOM);
}

const roomOfChannel = (channel) => rooms.get(channel.slice(channelOf("").length));

function presence({ channel, joined, left }) {
  const changed = roomOfChannel(channel);
  if (!changed) return;
  for (const { peerId } of joined) {
    if (changed.known) tell(peerId, hello());
    changed.members.add(peerId);
  }
  changed.known = true;
  for (const { peerId } of left) {
    changed.members.delete(peerId);
    if (people.get(peerId).key !== peerId) {
      add(changed, { kind: "event", text: `${people.get(peerId).name} left` });
    }
    if ([...rooms.values()].every(({ members }) => !members.has(peerId))) {
      callWith(peerId)?.call.otherLeft();
      people.forget(peerId);
    }
  }
  show();
}

/** Who said something before we came, as far as the message tells. */
function author(by, from) {
  const known = people.get(from);
  if (known.key !== from || typeof by !== "object" || !by) return known;
  const hue = Number.isInteger(by.hue) ? Math.abs(by.hue) % 360 : known.hue;
  return { ...known, name: nameOf(by.name) || known.name, hue };
}

function chatMessage(said, { from, data, replayed }) {
  const text = textOf(data.text);
  if (!replayed) return add(said, { from: people.get(from), text });
  const isTime = data.at <= Date.now() && data.at > Date.now() - DAY_MS;
  const at = isTime ? new Date(data.at) : new Date();
  const via = said.isBack ? "while you were away" : "earlier";
  add(said, { from: author(data.by, from), text, via, at });
}

function roomMessage(message) {
  const { channel, from, data, replayed } = message;
  const said = roomOfChannel(channel);
  if (!said || typeof data !== "object" || !data) return;
  if (data.kind === "chat" && textOf(data.text)) {
    chatMessage(said, message);
  } else if (data.kind === "burst") {
    // Of a burst that went on before we came, we do not have the beginning.
    const text = replayed && !said.isBack ? null : bursts.take(from, data);
    if (!text) return;
    add(said, { kind: "event", text: `${people.get(from).name}: ${text}` });
    tell(from, { kind: "counted", text });
  } else if (data.kind === "hello" && !replayed) {
    const before = people.get(from);
    people.learn(from, data, own.key);
    const { name } = people.get(from);
    const text = before.key === from ? `${name} joined` : `${before.name} is now ${name}`;
    if (before.key === from || before.name !== name) add(said, { kind: "event", text });
  }
}

/** Says where messages of a room may be missing. */
function gap({ channel, reason, missed }) {
  const where = roomOfChannel(channel);
  if (!where) return;
  const what = missed === undefined ? "Messages may be" : `${missed} messages are`;
  const isLost = reason === "lost";
  const why = isLost ? "the server does not have them any more" : "the server keeps none";
  add(where, { kind: "event", text: `${what} missing here: ${why}` });
}

// --- one to one -----------------------------------------------------------------------------

function directMessage({ from, data }) {
  if (typeof data !== "object" || !data) return;
  if (data.kind === "hello") {
    people.learn(from, data, own.key);
    show();
  } else if (data.kind === "chat" && textOf(data.text)) {
    add(people.thread(from), { from: people.get(from), text: textOf(data.text) });
  } else if (data.kind === "counted" && textOf(data.text)) {
    add(room, { kind: "event", text: `${people.get(from).name}: ${textOf(data.text)}` });
  } else if (data.kind === "probe") {
    tell(from, { kind: "echo", number: data.number });
  } else if (data.kind === "echo" && data.number === probeSent) {
    chart.add("person", performance.now() - probeSent);
  } else if (data.kind === "call" && typeof data.call === "string") {
    signal(from, data);
  }
}

/** How long it takes to somebody and back, through the server both times. */
function probe() {
  const to = person()?.peerId ?? [...(room?.members ?? [])][0];
  if (!to || link.state !== "open") return;
  probeSent = performance.now();
  tell(to, { kind: "probe", number: probeSent });
}

/** Says why a text is still in its field. */
function showUnsent(words) {
  byId("unsent").hidden = !words;
  byId("unsent").textContent = words;
}

/** Says something, and marks its message while and after that fails. */
function deliver(speak, message) {
  message.again = null;
  message.waits = link.state !== "open";
  const answered = speak().then(
    () => null,
    () => () => {
      deliver(speak, message);
      show();
    },
  );
  answered.then((again) => {
    const isNews = message.waits || again;
    Object.assign(message, { again, waits: false });
    if (isNews) show();
  });
}

function say(event) {
  event.preventDefault();
  const text = textOf(byId("text").value);
  const to = person();
  if (!text) return;
  const isOut = link.state === "out" || (link.state !== "open" && to);
  if (isOut) return showUnsent("Not connected: your text is kept here.");
  if (shownPerson && !to) return showUnsent(`${shownPerson.name} is not here: your text is kept.`);
  showUnsent("");
  byId("text").value = "";
  const call = to && callWith(to.peerId)?.call;
  const message = { from: own, own: true, text };
  if (call?.canSay) {
    call.say(text);
    return add(people.thread(to.peerId), { ...message, via: "direct link" });
  }
  const talk = to ? people.thread(to.peerId) : room;
  const by = { name: own.name, hue: own.hue };
  const data = { kind: "chat", text, ...(!to && { by, at: Date.now() }) };
  const channel = channelOf(room.name);
  const speak = () => (to ? link.send(to.peerId, data) : link.publish(channel, data));
  deliver(speak, talk.add(message));
  show();
}

async function burst() {
  const { name } = room;
  byId("send-many").disabled = true;
  const progress = (sent) => (byId("sent-many").textContent = `${sent} sent to #${name}`);
  const publishOne = (data) => {
    if (link.state !== "open") return false;
    publish(name, data);
    return true;
  };
  const whole = await sendMany(publishOne, progress);
  byId("send-many").disabled = false;
  const alone = rooms.get(name)?.members.size === 0;
  if (!whole) byId("sent-many").textContent = "Ended early: the connection was lost.";
  else if (alone) byId("sent-many").textContent = "Sent, and nobody else is here to count.";
}

// --- calls ----------------------------------------------------------------------------------

async function media(video) {
  if (!video) return null;
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
  } catch {
    // No camera, or it was refused: one can still see and hear the other.
    return new MediaStream();
  }
}

function newCall(id, peerId, video, state) {
  const send = (data) => tell(peerId, data);
  const call = new Call({ id, peerId, ownId: link.peerId, video, state, send });
  const thread = people.thread(peerId);
  const entry = { call, refresh: () => {}, card: null, invite: null };
  calls.set(id, entry);
  call.addEventListener("round-trip", ({ detail }) => chart.add("direct", detail));
  call.addEventListener("text", ({ detail }) => {
    const text = textOf(detail);
    if (text) add(thread, { from: people.get(peerId), text, via: "direct link" });
  });
  call.addEventListener("change", () => {
    entry.refresh();
    if (call.state !== "ended") return;
    entry.card?.remove();
    entry.invite?.remove();
    calls.delete(id);
    byId("calls").hidden = byId("calls").childElementCount === 0;
    add(thread, { kind: "event", text: "The call has ended" });
  });
  return entry;
}

function showCall(entry) {
  const { card, refresh } = callCard(entry.call, people.get(entry.call.peerId).name);
  Object.assign(entry, { card, refresh });
  byId("calls").append(card);
  byId("calls").hidden = false;
  show();
}

async function startCall(video) {
  const to = person();
  if (!to || callWith(to.peerId)) return;
  const id = crypto.getRandomValues(new Uint32Array(4)).join("-");
  const entry = newCall(id, to.peerId, video, "ringing");
  entry.call.invite(await media(video));
  showCall(entry);
}

function signal(from, data) {
  const known = calls.get(data.call);
  if (known) return known.call.peerId === from && known.call.take(data);
  if (data.do !== "invite" || calls.size >= CALLS_MAX || callWith(from)) return;
  const entry = newCall(data.call, from, data.video === true, "invited");
  const accept = async () => {
    entry.invite.remove();
    entry.call.accept(await media(entry.call.video));
    talkTo(people.get(from));
    showCall(entry);
  };
  const decline = () => entry.call.hangUp();
  entry.invite = inviteCard(entry.call, people.get(from).name, { accept, decline });
  byId("invites").append(entry.invite);
}

// --- the connection -------------------------------------------------------------------------

/** Since when there is no connection, while there is none. */
let lostAt = null;

link.addEventListener("state", () => {
  showState(link.state);
  const isOut = link.state === "out";
  byId("kicked").hidden = !isOut;
  if (isOut) {
    const { code, reason } = link.out;
    const what = code === 4020 ? "You were kicked" : "The app is suspended";
    byId("kicked-why").textContent = `${what}: the server closed with ${code} (${reason}). ` +
      "This page stays out until you want to come back.";
  }
  if (link.state === "open") showUnsent("");
  if (link.state === "lost") lostAt ??= Date.now();
});
link.addEventListener("wire", ({ detail }) => showFrame(detail));
link.addEventListener("welcome", () => {
  people.forgetAll();
  byId("fact-peer").textContent = `Your peer id is ${link.peerId}`;
  byId("kick-me").href = `/#/peers?id=${encodeURIComponent(link.peerId)}`;
  byId("kick-command").textContent = `ringmesh kick ${link.peerId}`;
  byId("fact-reconnects").textContent = String(link.welcomes - 1);
  const seconds = lostAt && ((Date.now() - lostAt) / 1_000).toFixed(1);
  const text = `The connection was lost, and is back after ${seconds} s`;
  lostAt = null;
  for (const joined of rooms.values()) {
    joined.members.clear();
    joined.known = false;
    if (seconds) joined.add({ kind: "event", text });
    // The client is back in its channels by itself.
    joined.isBack = joined.isIn;
    if (joined.isBack) publish(joined.name, hello());
    else subscribe(joined);
  }
  show();
});
const heard = { presence, message: roomMessage, direct: directMessage, gap };
for (const [event, act] of Object.entries(heard)) {
  link.addEventListener(event, ({ detail }) => act(detail));
}
link.addEventListener("round-trip", ({ detail }) => {
  chart.add("server", detail);
  byId("fact-in").textContent = String(link.received);
  byId("fact-out").textContent = String(link.sent);
});

// --- the page -------------------------------------------------------------------------------

function rename() {
  own.name = nameOf(byId("own-name").value) || own.name;
  byId("own-name").value = own.name;
  paintAvatar(byId("own-avatar"), own);
  keepProfile(own);
  for (const { name } of rooms.values()) publish(name, hello());
  show();
}

function joinFromAddress() {
  try {
    join(decodeURIComponent(location.hash.slice(1)));
  } catch {
    join(FIRST_ROOM);
  }
}

on("profile", "submit", (event) => {
  event.preventDefault();
  byId("own-name").blur();
});
on("own-name", "change", rename);
on("join", "submit", (event) => {
  event.preventDefault();
  if (roomOf(byId("join-name").value)) join(byId("join-name").value);
  byId("join-name").value = "";
});
on("say", "submit", say);
on("leave", "click", leave);
on("send-many", "click", burst);
on("come-back", "click", () => link.comeBack());
on("text", "input", () => link.state === "open" && showUnsent(""));
on("back", "click", () => enter(room));
on("share", "click", async () => {
  await navigator.clipboard?.writeText(location.href).catch(() => {});
  byId("talk-hint").textContent = location.href;
});
on("link-up", "click", () => startCall(false));
on("video", "click", () => startCall(true));
for (const tab of document.querySelectorAll(".tabs button")) {
  tab.addEventListener("click", () => showPanel(tab.dataset.show));
}
addEventListener("hashchange", joinFromAddress);

byId("own-name").value = own.name;
paintAvatar(byId("own-avatar"), own);
keepProfile(own);
joinFromAddress();
setInterval(probe, PROBE_EVERY_MS);
link.start();
