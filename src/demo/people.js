// Who is who, in which room, and what they said.
//
// A publishable key gives nobody a name: people tell theirs to each other. Everything told by
// others is cut to size here and shown as text only. A name is a claim, not a proof.

const MESSAGES_MAX = 300;
const PEOPLE_MAX = 2_000;
const NAME_LENGTH_MAX = 32;
const TEXT_LENGTH_MAX = 2_000;
const ROOM_LENGTH_MAX = 40;
/** Control characters, and those that turn the direction of what follows. */
// eslint-disable-next-line no-control-regex
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

const FIRST = "Amber Azure Brisk Calm Clever Coral Dapper Eager Gentle Jolly Lucky Mellow Nimble \
Quick Quiet Sunny Swift Tidy Vivid Witty".split(" ");
const LAST = "Badger Crane Dolphin Falcon Finch Fox Gecko Heron Ibex Koala Lynx Marten Otter \
Panda Puffin Raven Seal Stoat Tapir Wren".split(" ");

const printable = (text, length) =>
  typeof text === "string"
    ? [...text.slice(0, 4 * length)].slice(0, length).join("").replace(UNPRINTABLE, " ").trim()
    : "";

export const textOf = (text) => printable(text, TEXT_LENGTH_MAX);
export const nameOf = (name) => printable(name, NAME_LENGTH_MAX);
export const roomOf = (name) => printable(name, ROOM_LENGTH_MAX);
export const channelOf = (room) => `demo/${room}`;

/** A colour for whoever has not told one: the same for the same id everywhere. */
export function hueOf(id) {
  let hash = 7;
  for (const char of id) hash = (hash * 31 + char.codePointAt(0)) % 36_000;
  return hash % 360;
}

/** This tab's own name and colour, kept over reloads. Without storage they are new each time. */
export function ownProfile() {
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  let stored = {};
  try {
    stored = JSON.parse(sessionStorage.getItem("ringmesh-demo")) ?? {};
  } catch {
    // As good as none.
  }
  const key = typeof stored.key === "string" ? stored.key : crypto.getRandomValues(
    new Uint32Array(3)).join("-");
  return {
    key,
    name: nameOf(stored.name) || `${pick(FIRST)} ${pick(LAST)}`,
    hue: Number.isInteger(stored.hue) ? stored.hue : Math.floor(Math.random() * 360),
  };
}

export function keepProfile(profile) {
  try {
    sessionStorage.setItem("ringmesh-demo", JSON.stringify(profile));
  } catch {
    // Private windows may refuse; the name lasts as long as the page then.
  }
}

/** Something that was said in a room or to one person, or that happened there. */
class Conversation {
  messages = [];
  unread = 0;

  /** Adds a message, and returns it as it is kept. */
  add(message) {
    const kept = { at: new Date(), ...message };
    this.messages.push(kept);
    if (this.messages.length > MESSAGES_MAX) this.messages.shift();
    return kept;
  }
}

export class Room extends Conversation {
  /** The peer ids of the others. */
  members = new Set();
  /** Whether the roster of this connection has come. */
  known = false;
  /** Whether we have asked to be in it, and whether that was on an earlier connection. */
  isIn = false;
  isBack = false;

  constructor(name) {
    super();
    this.name = name;
  }
}

export class People {
  /** Profiles by peer id. */
  #profiles = new Map();
  #threads = new Map();

  get(peerId) {
    return (
      this.#profiles.get(peerId) ?? {
        peerId,
        key: peerId,
        name: `Guest ${peerId.slice(0, 4)}`,
        hue: hueOf(peerId),
      }
    );
  }

  /**
   * Takes in what a peer tells about itself. Its key, which outlasts its connections, finds an
   * earlier conversation again, unless somebody present has the same key.
   */
  learn(peerId, told, ownKey) {
    if (this.#profiles.size >= PEOPLE_MAX && !this.#profiles.has(peerId)) return;
    const claimed = printable(told.key, 64);
    const taken =
      claimed === ownKey ||
      [...this.#profiles.values()].some((it) => it.key === claimed && it.peerId !== peerId);
    const before = this.get(peerId);
    this.#profiles.set(peerId, {
      peerId,
      key: before.key !== peerId ? before.key : claimed && !taken ? claimed : peerId,
      name: nameOf(told.name) || before.name,
      hue: Number.isInteger(told.hue) ? ((told.hue % 360) + 360) % 360 : before.hue,
    });
  }

  forget(peerId) {
    this.#profiles.delete(peerId);
  }

  forgetAll() {
    this.#profiles.clear();
  }

  /** The present peer with a key. */
  withKey(key) {
    return [...this.#profiles.values()].find((it) => it.key === key);
  }

  /** The conversations with one person each. */
  threads() {
    return [...this.#threads.values()];
  }

  thread(peerId) {
    const { key } = this.get(peerId);
    if (!this.#threads.has(key)) this.#threads.set(key, new Conversation());
    return this.#threads.get(key);
  }
}
