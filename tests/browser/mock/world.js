// What the mock tells: a node with nobody, with a few, or with very many. The same each time.

import {
  inspected, key, matches, node, patternOf, secrets, settings, warnings, wrongOf,
} from "./answers.js";

const MINUTE = 60_000;
const STAGES = {
  handshake: 310,
  readToCommand: 9,
  commandToOrder: 14,
  meshHop: 41,
  orderToLastWrite: 180,
  fanOut: 96,
  direct: 130,
  reply: 22,
  snapshot: 420,
  loopLag: 60,
  rest: 800,
};
const SIZES = {
  empty: { connections: 0, channels: 0, peers: 0, rows: 0, shards: 2, apps: 1, keys: 2 },
  few: { connections: 48, channels: 7, peers: 31, rows: 7, shards: 2, apps: 2, keys: 3 },
  many: {
    connections: 148_220,
    channels: 1_000_412,
    peers: 96_104,
    rows: 5_000,
    shards: 64,
    apps: 40,
    keys: 50,
  },
};
const HOSTILE = '<img src=x onerror="window.broken=1">';
const LONG = `tenant-${"0123456789abcdef".repeat(7)}`;

/** A little metadata, and very much of one peer. */
const metadataOf = (peerId) => ({
  name: peerId,
  ...(peerId === "alice" ? { about: "a long story, ".repeat(400) } : {}),
});

/** Numbers that look random, and are the same in each run. */
function random(seed) {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

export class World {
  #size;
  #random = random(7);
  #number = 0;
  #followers = new Set();
  #gone = new Set();
  warnings = [];

  constructor(size) {
    this.#size = SIZES[size];
    this.isEmpty = size === "empty";
    this.apps = Array.from({ length: this.#size.apps }, (_, at) => this.#app(at));
    this.keys = Array.from({ length: this.#size.keys }, (_, at) => key(at));
    this.channels = Array.from({ length: this.#size.rows }, (_, at) => this.#channel(at));
    this.connections = Array.from({ length: this.#size.rows }, (_, at) => this.#connection(at));
    this.events = this.isEmpty ? [] : this.#story();
    if (!this.isEmpty) this.warnings = warnings(size === "many" ? 5 : 3);
  }

  // --- what there is --------------------------------------------------------------------------

  #app(at) {
    const used = [0.31, 0.86, 1][at % 3];
    const most = at % 4 === 3 ? null : 200_000;
    return {
      appId: at === 0 ? "app_shop" : `app_${["chat", "games", "support"][at % 3]}_${at}`,
      name: ["The shop", "Team chat", "Games", "Support desk"][at % 4],
      status: at % 7 === 5 ? "suspended" : "active",
      plan: {
        name: "standard",
        maxConcurrentConnections: most,
        maxMessagesPerPeriod: 5_000_000,
        overagesAllowed: at % 2 === 0,
        overagesEnabled: false,
        periodStartUnix: null,
        periodDays: null,
      },
      directScope: "app",
      turn: null,
      limits: null,
      createdAt: 1_767_225_600 + at * 86_400,
      usage: {
        concurrentNow: at === 0 ? this.#size.connections : Math.round(used * 9),
        peakConcurrent: this.#size.connections * 2,
        messagesUsed: Math.round(used * 5_000_000),
        periodStartUnix: 1_767_225_600,
        periodEndUnix: 1_769_904_000,
      },
    };
  }

  #channel(at) {
    const names = [
      "room-42",
      "shop/orders",
      "shop/carts/7",
      "news",
      HOSTILE,
      LONG,
      "presence/lobby",
    ];
    const connections = Math.round(this.#random() * 900) + 1;
    return {
      channel: names[at] ?? `room-${String(at).padStart(5, "0")}`,
      peers: Math.ceil(connections * 0.7),
      connections,
      rate: this.#random() ** 4 * 310,
    };
  }

  #connection(at) {
    const names = ["alice", "bob", "carol", HOSTILE.slice(0, 30), LONG, "erin", "frank"];
    const slow = at % 9 === 1;
    return {
      connection: `${at % this.#size.shards}.${1_000 + at}.${at % 8}`,
      peerId: names[at] ?? `user-${at}`,
      address: `203.0.113.${at % 250}`,
      key: "sk_id_CqhXJZ3r7mPz1sVb",
      since: Date.now() / 1_000 - this.#random() * 40_000,
      queuedBytes: slow ? Math.round(this.#random() * 1_040_000) : 0,
      blockedMs: slow ? Math.round(this.#random() * 5_200) : 0,
      held: slow ? "replies" : null,
      bytesIn: Math.round(this.#random() * 90_000),
      bytesOut: Math.round(this.#random() * 9e7),
      messagesIn: Math.round(this.#random() * 4_000),
      channels: Math.ceil(this.#random() * 12),
    };
  }

  #event(kind, fields, ago = 0) {
    this.#number += 1;
    const { text = kind, ...others } = fields;
    return {
      id: `t9.0.e.${this.#number}`,
      time: new Date(Date.now() - ago).toISOString(),
      kind,
      node: "n1",
      shard: this.#number % 2,
      app: "app_shop",
      ...others,
      count: others.count ?? 1,
      text,
    };
  }

  #story() {
    const alice = {
      peer: "alice",
      connection: "0.1041.7",
      address: "203.0.113.9",
      key: "sk_id_Cqh…",
    };
    const slow = {
      ...alice,
      code: 1013,
      by: "server",
      cause: "slow_consumer",
      queuedBytes: 1_049_102,
      durationMs: 81_233,
      bytesIn: 4_120,
      bytesOut: 9_920_133,
      messagesIn: 31,
      channels: 12,
      text: "alice closed 1013: took too little of what it was sent (1.0 MiB queued)",
      remedy: "raise limits.outbound_queue_bytes, or publish less to its 12 channels",
    };
    const kinds = [
      ["node", { text: "started", cause: undefined }, 14 * MINUTE],
      ["rights", { text: "key sk_id_Cqh… was created", object: "key" }, 13 * MINUTE],
      ["opened", { ...alice, handshakeUs: 312, text: "alice connected" }, 6 * MINUTE],
      [
        "subscribed",
        { ...alice, channel: "room-42", tookUs: 210, text: "alice subscribed to room-42" },
        5 * MINUTE,
      ],
      [
        "slow",
        { ...alice, queuedBytes: 640_000, text: "alice takes too little (625.0 KiB queued)" },
        4.2 * MINUTE,
      ],
      ["closed", slow, 4 * MINUTE],
      [
        "refused",
        {
          peer: "bob",
          address: "198.51.100.4",
          cause: "token_expired",
          status: 401,
          count: 14,
          door: "connect",
          text: "bob refused 401: the token expired 12 min ago",
          remedy: "mint a new one: ringmesh token mint",
        },
        3 * MINUTE,
      ],
      [
        "error",
        {
          peer: "carol",
          connection: "1.1042.1",
          code: "channel_not_authorized",
          channel: HOSTILE,
          text: `carol got channel_not_authorized (${HOSTILE})`,
        },
        2 * MINUTE,
      ],
      [
        "kicked",
        { peer: "dave", closed: 2, text: "dave kicked by key sk_id_Cqh…: 2 connections closed" },
        MINUTE,
      ],
      [
        "closed",
        {
          peer: "erin",
          connection: "1.1050.1",
          code: 1000,
          by: "client",
          cause: "client_close",
          durationMs: 4_200_000,
          text: "erin closed 1000: the client closed",
        },
        20_000,
      ],
    ];
    const story = kinds.map(([kind, fields, ago]) => this.#event(kind, fields, ago));
    const extra = this.#size.rows > 1_000 ? 900 : 0;
    for (let at = 0; at < extra; at += 1) {
      story.push(
        this.#event(
          at % 3 ? "opened" : "refused",
          {
            peer: `user-${at}`,
            address: `203.0.113.${at % 250}`,
            cause: at % 3 ? undefined : "connect_rate",
            status: at % 3 ? undefined : 429,
            text: at % 3 ? `user-${at} connected` : `user-${at} refused 429: too many connects`,
          },
          15_000 - at * 10,
        ),
      );
    }
    return story;
  }

  /** Something that happens now, for those who follow. */
  happens(kind, fields) {
    const event = this.#event(kind, fields);
    this.events.push(event);
    for (const [params, send] of this.#followers) {
      if (matches(event, params)) send(event);
    }
    return event;
  }

  follow(params, send) {
    const entry = [params, send];
    this.#followers.add(entry);
    return () => this.#followers.delete(entry);
  }

  eventsOf(params) {
    const found = this.events.filter((event) => matches(event, params));
    return found.slice(-Number(params.get("limit") ?? 100));
  }

  // --- answers --------------------------------------------------------------------------------

  /** `[status, body]`, or null where there is nothing. */
  answer(method, path, params, body) {
    const [first, appId, what, more] = path.split("/");
    if (first === "apps" && what)
      return this.#ofApp(method, appId, [what, more].filter(Boolean).join("/"), params, body);
    if (first === "apps") return this.#ofApps(method, appId, body);
    if (first === "signalling") return this.#ofKey(method, path, body);
    const plain = {
      session: () => ({ role: "admin", expiresAt: Date.now() / 1_000 + 40_000, sessions: 2 }),
      node: () => node(this.#size.shards),
      stats: () => this.#stats(),
      "stats/history": () => this.#history(),
      warnings: () => ({ warnings: this.warnings }),
      events: () => ({
        events: this.eventsOf(params),
        cursor: "t9-x",
        complete: true,
        lost: 0,
        oldest: { ends: new Date(Date.now() - 14 * MINUTE).toISOString(), routine: null },
      }),
      why: () => this.#why(params.get("peer")),
      config: () => ({ settings: settings() }),
      reload: () => ({
        applied: ["limits.message_rate"],
        errors: [],
        needsRestart: [{ key: "server.shards", place: "/etc/ringmesh/ringmesh.toml:3" }],
      }),
      "tokens/inspect": () => inspected(body),
    }[path];
    return plain ? [200, plain()] : null;
  }

  #stats(ago = 0) {
    const { connections, channels, peers, shards } = this.#size;
    const at = Date.now() - ago;
    const wave = (period, depth) =>
      1 + depth * Math.sin(at / period) + depth * 0.3 * Math.sin((at / period) * 7.3);
    const spike = Math.floor(at / 1_000) % 300 === 77 ? 9 : 1;
    const busy = connections / 48;
    const latencies = (scale) =>
      Object.fromEntries(
        Object.entries(STAGES).map(([name, us]) => {
          if (connections === 0 && name !== "loopLag") return [name, { count: 0, p50Us: null }];
          const now = us * wave(90_000, 0.15) * scale;
          return [
            name,
            {
              count: 9,
              sumUs: 9 * now,
              p50Us: now,
              p90Us: now * 1.9,
              p99Us: now * 4.2,
              p999Us: now * 7 * spike,
              maxUs: now * 12 * spike,
            },
          ];
        }),
      );
    const share = (number) => Math.round(number / shards);
    return {
      version: "0.1.0",
      at: new Date(at).toISOString(),
      subscriptions: connections * 4,
      process: {
        uptimeMs: 14 * MINUTE,
        residentBytes: 18e6 + connections * 900,
        residentBytesMax: 1_800_000_000,
        openFiles: connections + 40,
        openFilesMax: 200_000,
      },
      rates: {
        messagesIn: busy * 12 * wave(40_000, 0.2),
        deliveries: busy * 330 * wave(40_000, 0.2) * (spike > 1 ? 4 : 1),
        bytesIn: busy * 2_100,
        bytesOut: busy * 51_000,
        opened: busy * 0.4 * wave(30_000, 0.6),
        closed: busy * 0.3 * wave(50_000, 0.6),
        refused: busy ? 0.07 * wave(20_000, 0.9) : 0,
      },
      memory: {
        resident: 18e6 + connections * 900,
        outboundQueues: connections * 120,
        events: connections ? 5.2e6 : 4e5,
      },
      latencies: latencies(1),
      shards: Array.from({ length: shards }, (_, shard) => ({
        shard,
        cpuMs: Math.round((at * (0.05 + (0.4 * (busy ? 1 : 0) * ((shard % 5) + 1)) / 9)) % 1e12),
        connections: share(connections * wave(70_000, 0.02)),
        connectionsUnauthenticated: 0,
        channels: share(channels),
        peers: share(peers),
        connectionsBlocked: shard === 1 && connections ? 2 : 0,
        outboundQueueBytes: share(connections * 120),
        latencies: latencies(1),
        totals: { handshakesRefused: connections ? { token_expired: 40, connect_rate: 3 } : {} },
      })),
    };
  }

  #history() {
    const samples = [];
    for (let ago = 900; ago >= 5; ago -= 5) samples.push(this.#stats(ago * 1_000));
    return { samples };
  }

  #ofApps(method, appId, body) {
    if (!appId) {
      if (method === "GET") return [200, { apps: this.apps }];
      if (body.appId === "app_shop")
        return [409, { error: "conflict", message: "appId: app_shop is taken" }];
      const app = {
        ...this.#app(0),
        ...body,
        appId: body.appId ?? "app_made",
        plan: { ...this.#app(0).plan, ...body.plan },
      };
      this.apps.push(app);
      return [201, app];
    }
    const at = this.apps.findIndex((app) => app.appId === appId);
    if (at < 0) return null;
    if (method === "DELETE") this.apps.splice(at, 1);
    if (method === "PATCH")
      Object.assign(this.apps[at], body, { plan: { ...this.apps[at].plan, ...body.plan } });
    return [200, this.apps[at] ?? {}];
  }

  #ofKey(method, path, body) {
    const [, , keyId, what] = path.split("/");
    if (what === "tokens")
      return [200, { token: `eyJ.${body.peerId}.sig`, expiresAt: Date.now() / 1_000 + 3_600 }];
    const at = this.keys.findIndex((it) => it.keyId === keyId);
    if (at < 0) return null;
    if (what === "rotate")
      return [
        200,
        {
          ...this.keys[at],
          ...secrets(),
          previousValidUntil: Date.now() / 1_000 + body.graceSeconds,
        },
      ];
    if (method === "DELETE") this.keys.splice(at, 1);
    return [200, {}];
  }

  #ofApp(method, appId, what, params, body) {
    const match = params.get("match");
    const wrong = wrongOf(params);
    if (wrong) return [400, { error: "invalid_request", message: wrong }];
    const limit = Number(params.get("limit") ?? 50);
    const of = (list, name) => list.filter((it) => !match || patternOf(match).test(it[name]));
    const by = (list, name) => [...list].sort((a, b) => b[name] - a[name]);
    const app = this.apps.find((it) => it.appId === appId);
    if (!app) return null;
    if (what === "usage") return [200, { appId, ...app.usage, plan: app.plan }];
    if (what === "keys" && method === "POST") {
      const made = {
        ...key(99),
        ...body,
        keyId: `${body.type === "secret" ? "sk_id_" : "pk_live_"}made`,
      };
      this.keys.push(made);
      return [201, body.type === "secret" ? { ...made, ...secrets() } : made];
    }
    if (what === "keys") return [200, { keys: this.keys }];
    if (what === "channels") {
      const sort = params.get("sort");
      const found = of(this.channels, "channel");
      const sorted = sort === "rate" || sort === "connections" ? by(found, sort) : found;
      const from = sorted.findIndex(({ channel }) => channel === params.get("after")) + 1;
      const page = sorted.slice(from, from + limit);
      const next = sorted.length > from + limit && sort === "name" ? page.at(-1).channel : null;
      return [200, { channels: page, next, walked: this.#size.channels, complete: !match }];
    }
    if (what === "channel") {
      const found = this.channels.find(({ channel }) => channel === params.get("name"));
      const homes = [
        { shard: 0, connections: 4 },
        { shard: 1, connections: 3 },
      ];
      return found ? [200, { ...found, published: 18_204, owner: 1, homes, joining: 0 }] : null;
    }
    if (what === "channel/members") {
      const members = of(this.connections, "peerId")
        .slice(0, limit)
        .map(({ peerId }, at) => ({
          peerId,
          connections: 1 + (at % 2),
          ...(at % 2 ? {} : { metadata: metadataOf(peerId) }),
        }));
      return [200, { members, next: null }];
    }
    const there = this.connections.filter(({ peerId }) => !this.#gone.has(peerId));
    if (what === "connections") {
      const sort = {
        queue: "queuedBytes",
        bytesOut: "bytesOut",
        messagesIn: "messagesIn",
        newest: "since",
      }[params.get("sort")];
      const found = of(there, "peerId").filter(
        ({ address }) => !params.get("address") || address === params.get("address"),
      );
      if (params.get("group")) return [200, byAddress(found, limit)];
      return [
        200,
        { connections: (sort ? by(found, sort) : found).slice(0, limit), complete: true },
      ];
    }
    if (what === "peers") {
      const found = of(there, "peerId");
      const from = found.findIndex(({ peerId }) => peerId === params.get("after")) + 1;
      const page = found.slice(from, from + limit);
      const next = found.length > from + limit ? page.at(-1).peerId : null;
      return [200, { peers: page.map(({ peerId }) => ({ peerId, connections: 1 })), next }];
    }
    if (what === "peer") return this.#peer(method, params.get("id"), there);
    return null;
  }

  #peer(method, peerId, there) {
    const own = there.filter((it) => it.peerId === peerId);
    if (method === "DELETE") {
      this.#gone.add(peerId);
      this.happens("kicked", {
        peer: peerId,
        closed: own.length,
        text: `${peerId} kicked by a console session: ${own.length} connection closed`,
      });
      return [200, { closed: own.length }];
    }
    const connections = own.map((it) => ({
      ...it,
      expiresAt: Date.now() / 1_000 + 1_800,
      lastReceivedMs: 1_240,
      channels: this.channels.slice(0, 7).map(({ channel }) => channel),
    }));
    const lastClosed =
      this.events.findLast((it) => it.kind === "closed" && it.peer === peerId) ?? null;
    return [200, { peerId, metadata: metadataOf(peerId), connections, lastClosed }];
  }

  #why(peer) {
    const own = this.events.filter((event) => event.peer === peer);
    const ends = own
      .filter(({ kind }) => kind === "closed" || kind === "refused")
      .reverse()
      .slice(0, 5);
    const stories = ends.map((end) => ({ end, before: own.filter(({ time }) => time < end.time) }));
    return { stories, connected: 1, oldest: { ends: null, routine: null } };
  }
}

/** Where connections come from, most first. */
function byAddress(connections, limit) {
  const sums = new Map();
  for (const { address } of connections) sums.set(address, (sums.get(address) ?? 0) + 1);
  const addresses = [...sums].map(([address, count]) => ({ address, connections: count }));
  addresses.sort((a, b) => b.connections - a.connections);
  return { addresses: addresses.slice(0, limit), distinct: addresses.length, complete: true };
}
