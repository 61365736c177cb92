// What a delivery and an idle connection cost ringmesh, and the servers that people would pick
// instead: `node bench/others/compare.mjs`. Everything runs on this machine, over loopback.
//
// Costs are CPU time and resident memory of the server's processes, which other load on the
// machine moves less than it moves times. The clients are sockets without a library, the same for
// all servers, and count for nothing. Each delivery is checked: its text, and its place.

import { cpus, release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { Room, connectMany } from "./clients.mjs";
import { cpuNs, residentBytes, withServer } from "./processes.mjs";
import { SERVERS } from "./servers.mjs";

/** Bursts before anything is counted, and connections: what they set up is not theirs. */
const WARM_UP_BURSTS = 8;
const FIRST_CONNECTIONS = 20;

const number = (value) => ({ type: "string", default: String(value) });
const { values } = parseArgs({
  options: {
    servers: { type: "string", default: SERVERS.map(({ name }) => name).join() },
    rounds: number(5),
    subscribers: number(500),
    messages: number(100), // each alone, at most `rate` per second
    rate: number(50),
    bursts: number(16), // of `burst` messages
    burst: number(16),
    idle: number(1000),
    "settle-ms": number(3000),
  },
});
const { servers: names, ...rest } = values;
const options = Object.fromEntries(Object.entries(rest).map(([key, it]) => [key, Number(it)]));

/** µs of CPU for a delivery while `load` runs. */
async function perDelivery(pid, room, load) {
  const [cpu, delivered] = [cpuNs(pid), room.delivered];
  await load();
  return (cpuNs(pid) - cpu) / 1000 / (room.delivered - delivered);
}

async function measureDeliveries(server, pid, port) {
  const { subscribers, messages, rate, bursts, burst } = options;
  const room = new Room();
  await room.open(server, port, subscribers);
  await room.inBursts(Math.min(WARM_UP_BURSTS, bursts), burst);
  const single = await perDelivery(pid, room, () => room.steadily(messages, rate));
  const together = await perDelivery(pid, room, () => room.inBursts(bursts, burst));
  // What comes once too often has come by now.
  await sleep(100);
  await room.arrived();
  room.close();
  return { single, together, delivered: room.delivered };
}

/** Bytes of resident memory that a connection adds which has joined the room and then is idle. */
async function measureIdle(server, pid, port) {
  const ignore = () => () => {};
  const sockets = await connectMany(server, port, FIRST_CONNECTIONS, ignore);
  await sleep(options["settle-ms"]);
  const before = residentBytes(pid);
  sockets.push(...(await connectMany(server, port, options.idle, ignore, FIRST_CONNECTIONS)));
  await sleep(options["settle-ms"]);
  const bytes = (residentBytes(pid) - before) / options.idle;
  for (const socket of sockets) socket.terminate();
  return bytes;
}

/** The servers that are asked for; says which of them are not on this machine. */
function present() {
  const asked = names.split(",");
  const unknown = asked.filter((name) => !SERVERS.some((server) => server.name === name));
  if (unknown.length > 0) throw new Error(`there is no ${unknown}`);
  const servers = SERVERS.filter(({ name }) => asked.includes(name));
  for (const { name, install } of servers.filter(({ binary }) => !binary)) {
    console.log(`${name} is left out, as it is not here: ${install}`);
  }
  return servers.filter(({ binary }) => binary);
}

/** The median, and in brackets the least and the most. */
function spread(values, digits, unit) {
  const sorted = values.toSorted((a, b) => a - b);
  const text = (at) => sorted[Math.floor(at)].toFixed(digits);
  return `${text(sorted.length / 2)} ${unit} (${text(0)} to ${text(sorted.length - 1)})`;
}

function report(servers, results) {
  const { rounds, subscribers, messages, rate, bursts, burst, idle } = options;
  console.log(`
${new Date().toISOString().slice(0, 10)}, ${cpus().length} × ${cpus()[0].model}, Linux ${release()}
${rounds} rounds, median (least to most); 128 bytes to ${subscribers} subscribers;
single: ${messages} messages, each alone, at most ${rate}/s; together: ${bursts} bursts of ${burst}

| server | version | CPU, single | CPU, together | memory of ${idle} idle, each |
| --- | --- | --- | --- | --- |`);
  for (const server of servers) {
    const of = (key, digits, unit) =>
      spread(results.get(server).map((it) => it[key]), digits, unit);
    const version = server.version(server.binary);
    const figures = [of("single", 2, "µs"), of("together", 3, "µs"), of("idle", 0, "B")];
    console.log(`| ${[server.name, version, ...figures].join(" | ")} |`);
  }
  const delivered = [...results.values()].flat().reduce((sum, it) => sum + it.delivered, 0);
  console.log(`\n${delivered} deliveries, each checked: none missing, none twice, all in order`);
}

// So that no server is left behind: see `withServer`.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

const servers = present();
const results = new Map(servers.map((server) => [server, []]));
for (let round = 0; round < options.rounds; round += 1) {
  // Another one begins each round.
  for (const [at] of servers.entries()) {
    const server = servers[(at + round) % servers.length];
    const idle = await withServer(server, (pid, port) => measureIdle(server, pid, port));
    const run = (pid, port) => measureDeliveries(server, pid, port);
    const result = { ...(await withServer(server, run)), idle };
    results.get(server).push(result);
    const { single, together } = result;
    const figures = [single.toFixed(2), together.toFixed(3), idle.toFixed(0)].join(" ");
    console.error(`round ${round + 1}: ${server.name} ${figures}`);
  }
}
report(servers, results);
