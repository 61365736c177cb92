// Answers of the mock that are the same for every world.

const MINUTE = 60_000;

export const patternOf = (pattern) =>
  new RegExp(
    `^${pattern
      .split(/\*+/)
      .map(RegExp.escape ?? escaped)
      .join(".*")}$`,
  );
function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

export function matches(event, params) {
  for (const [name, value] of params) {
    if (["limit", "since", "until", "after", "before"].includes(name)) continue;
    const list = value.replace(/^-/, "").split(",");
    const has =
      list.includes(String(event[name]).replace(/^-/, "")) ||
      list.map((it) => it.replace(/^-/, "")).includes(String(event[name]));
    if (value.startsWith("-") ? has : !has) return false;
  }
  return true;
}

/** What is wrong with a filter, or null. */
export function wrongOf(params) {
  if (params.get("since") === "banana") return "since: a span such as 10m";
  const [, bits] = (params.get("address") ?? "").split("/");
  return Number(bits) > 32 ? "address: no address and no CIDR" : null;
}

export function key(at) {
  const secret = at % 2 === 0;
  return {
    keyId: secret ? `sk_id_CqhXJZ3r7mPz1sVb${at}` : `pk_live_bJnZJRnuNvuM3UaJFw${at}`,
    appId: "app_shop",
    type: secret ? "secret" : "publishable",
    name: ["Backend", "Web page", ""][at % 3],
    channelPatterns: at % 3 === 1 ? ["shop/*", "room-*", "news", "presence/**"] : ["**"],
    actions: secret ? ["publish", "subscribe", "presence", "send"] : ["subscribe", "presence"],
    allowedOrigins: secret ? [] : ["https://shop.example"],
    autoInjectTurn: true,
    createdAt: 1_767_225_600,
  };
}

export const secrets = () => ({
  signingSecret: "sk_secret_GH83aRW8Lv0XS9AjEj024fpW",
  apiSecret: "sk_live_TboAOiBr7oOWdSPH7LRAXyW",
});

export function node(shards) {
  return {
    node: "n1",
    version: "0.1.0",
    commit: "94d2764c1f",
    mode: "serve",
    startedAt: Date.now() - 14 * MINUTE,
    shards,
    listeners: [{ role: "public", address: "127.0.0.1:8080", tls: false }],
    publicUrl: null,
    certificate: {
      names: ["rt.example.com"],
      notAfter: new Date(Date.now() + 9 * 86_400_000).toISOString(),
    },
    dataDir: "/var/lib/ringmesh",
    configFile: "/etc/ringmesh/ringmesh.toml",
  };
}

export function settings() {
  return [
    ["server.listen", '["0.0.0.0:8080"]', '["127.0.0.1:8080"]', "/etc/ringmesh/ringmesh.toml:2"],
    ["server.shards", "2", "0", "RINGMESH_SERVER__SHARDS"],
    ["limits.message_rate", "100", "100", "default"],
    ["limits.outbound_queue_bytes", "1048576", "1048576", "default"],
    ["admin.token_file", "set", '""', "/etc/ringmesh/ringmesh.toml:9"],
    ["events.memory_per_shard", "8388608", "8388608", "default"],
  ].map(([name, value, standard, origin]) => ({ key: name, value, default: standard, origin }));
}

export function warnings(number) {
  const since = new Date(Date.now() - 11 * MINUTE).toISOString();
  return [
    {
      code: "certificate_expires",
      severity: "critical",
      count: 1,
      text: "the certificate for rt.example.com expires in 9 days",
      remedy: "renew it, then run ringmesh reload",
    },
    {
      code: "forwarded_for_untrusted",
      severity: "warn",
      count: 4_120,
      text: "10.0.0.5 sends X-Forwarded-For, and is no trusted proxy: its clients share a limit",
      remedy: "add 10.0.0.5 to server.trusted_proxies",
    },
    {
      code: "slow_consumers",
      severity: "warn",
      count: 31,
      text: "31 connections take too little of what they are sent",
      remedy: "ringmesh events --cause slow_consumer says whose; or publish less",
    },
    {
      code: "shard_lag",
      severity: "warn",
      count: 2,
      text: "shard 3 is 24 ms behind",
      remedy: "give it a core of its own",
    },
    {
      code: "events_short",
      severity: "warn",
      count: 1,
      text: "ends are kept for 48 s only",
      remedy: "raise events.memory_per_shard",
    },
  ]
    .slice(0, number)
    .map((it) => ({ ...it, since, last: since }));
}

export function inspected({ token, channel, action }) {
  if (!token.startsWith("eyJ")) {
    return {
      verdict: "refused",
      cause: "wrong_kind",
      text: "this is no token, but the API secret of a key",
      header: null,
      claims: null,
      key: null,
      effective: null,
      checks: [{ check: "form", ok: false, text: "this is no token, but the API secret of a key" }],
    };
  }
  const names = [
    "a JWT with HS256 that names a key",
    "the key is a secret one, and is there",
    "signed with the secret of the key",
  ];
  const old = token.includes("old");
  const checks = names.map((text) => ({ check: "c", ok: true, text }));
  if (old) checks.push({ check: "expiry", ok: false, text: "it expired 12 s ago" });
  return {
    verdict: old ? "refused" : "good",
    cause: old ? "token_expired" : null,
    text: old ? "it expired 12 s ago" : "the token is good",
    header: { alg: "HS256", kid: "sk_id_CqhXJZ3r7mPz1sVb0" },
    claims: { sub: "alice", exp: 1_767_229_200, channels: ["shop/*"] },
    key: { keyId: "sk_id_CqhXJZ3r7mPz1sVb0", name: "Backend", appId: "app_shop", status: "active" },
    effective: old
      ? null
      : {
          channels: ["shop/*"],
          actions: ["publish", "subscribe"],
          expiresAt: Date.now() / 1_000 + 1_700,
        },
    checks,
    ...(channel || action ? { may: !old && (channel ?? "shop/1").startsWith("shop/") } : {}),
  };
}
