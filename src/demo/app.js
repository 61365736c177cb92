// The page: rooms, people, what is said, calls, and the round trips of all that.
//
// Rooms are channels below `demo/`. Peers tell who they are with a `hello`: to a room when they
// join it, and to each newcomer directly. Everything else one person tells another is a direct
// message: words, the signals of a call, a probe and its echo.

import { Call } from "./call.js";
import { Chart } from "./chart.js";
import { Link } from "./link.js";
import {
  People, Room, channelOf, keepProfile, nameOf, ownProfile, roomOf, textOf,
} from "./people.js";
import {
  callCard, inviteCard, paintAvatar, showHead, showMessages, showPeople, showRooms, showState,
} from "./view.js";

const FIRST_ROOM = "lobby";
const PROBE_EVERY_MS = 1_000;
const CALLS_MAX = 8;

const byId = (id) => document.getElementById(id);
const on = (id, event, act) => byId(id).addEventListener(event, act);

const link = new Link();
const people = new People();
const chart = new Chart(byId("chart"));
const own = ownProfile();
const rooms = new Map();
const calls = new Map();
let room = null;
/** The key of the person in whose conversation we are, or null in the room's. */
let personKey = null;
let probeSent = 0;

const hello = () => ({ kind: "hello", key: own.key, name: own.name, hue: own.hue });
const tell = (to, data) => link.attempt({ type: "send", to, data });
const publish = (name, data) =>
  link.attempt({ type: "publish", channel: channelOf(name), data });
const person = () => (personKey ? people.withKey(personKey) : null);
const callWith = (peerId) => [...calls.values()].find(({ call }) => call.peerId === peerId);

// --- what is shown --------------------------------------------------------------------------

let shownPerson = null;
const conversation = () => (shownPerson ? people.thread(shownPerson.peerId) : room);

function show() {
  shownPerson = person() ?? (personKey ? shownPerson : null);
  const talk = conversation();
  if (talk) talk.unread = 0;
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
  if (talk !== conversation()) talk.unread += 1;
  show();
}

function showPanel(name) {
  document.body.dataset.panel = name;
  for (const tab of document.querySelectorAll(".tabs button")) {
    if (tab.dataset.show === name) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
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

async function subscribe({ name }) {
  await link.attempt({ type: "subscribe", channel: channelOf(name) });
  publish(name, hello());
}

function join(wish) {
  const name = roomOf(wish) || FIRST_ROOM;
  if (!rooms.has(name)) {
    rooms.set(name, new Room(name));
    subscribe(rooms.get(name));
  }
  enter(rooms.get(name));
}

function leave() {
  if (!room) return;
  link.attempt({ type: "unsubscribe", channel: channelOf(room.name) });
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

function roomMessage({ channel, from, data }) {
  const said = roomOfChannel(channel);
  if (!said || typeof data !== "object" || !data) return;
  if (data.kind === "hello") {
    const before = people.get(from);
    people.learn(from, data, own.key);
    const { name } = people.get(from);
    const text = before.key === from ? `${name} joined` : `${before.name} is now ${name}`;
    if (before.key === from || before.name !== name) add(said, { kind: "event", text });
  } else if (data.kind === "chat" && textOf(data.text)) {
    add(said, { from: people.get(from), text: textOf(data.text) });
  }
}

// --- one to one -----------------------------------------------------------------------------

function directMessage({ from, data }) {
  if (typeof data !== "object" || !data) return;
  if (data.kind === "hello") {
    people.learn(from, data, own.key);
    show();
  } else if (data.kind === "chat" && textOf(data.text)) {
    add(people.thread(from), { from: people.get(from), text: textOf(data.text) });
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

function say(event) {
  event.preventDefault();
  const text = textOf(byId("text").value);
  const to = person();
  if (!text || (shownPerson && !to) || link.state !== "open") return;
  byId("text").value = "";
  if (!to) {
    publish(room.name, { kind: "chat", text });
    return add(room, { from: own, own: true, text });
  }
  const call = callWith(to.peerId)?.call;
  if (call?.canSay) call.say(text);
  else tell(to.peerId, { kind: "chat", text });
  const via = call?.canSay ? "direct link" : "";
  add(people.thread(to.peerId), { from: own, own: true, text, via });
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

link.addEventListener("state", () => showState(link.state));
link.addEventListener("welcome", () => {
  people.forgetAll();
  byId("fact-peer").textContent = `Your peer id is ${link.peerId}`;
  byId("fact-reconnects").textContent = String(link.welcomes - 1);
  for (const joined of rooms.values()) {
    joined.members.clear();
    joined.known = false;
    subscribe(joined);
  }
  show();
});
link.addEventListener("frame", ({ detail: frame }) => {
  if (frame.type === "presence") presence(frame);
  else if (frame.type === "message") roomMessage(frame);
  else if (frame.type === "direct") directMessage(frame);
});
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
