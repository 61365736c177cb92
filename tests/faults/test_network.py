"""A network that loses, delays, reorders and doubles packets, and peers that vanish without a word.
"""

import asyncio
import ipaddress
import json
import os
import subprocess
import time
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from link import CLIENT, SERVER, Faults, Link
from machine import DEADLINE_SEC, KEY, MachineTest, metric, token, until

# Loss as in a bad mobile network; delays that let packets overtake each other.
BAD = {"loss": 0.03, "doubled": 0.02, "delay_sec": (0.001, 0.02)}
MEMBERS, MESSAGES = 6, 60
PING_MS, DROP_MS = 500, 2_500
VICTIMS = 5


async def member(address, query, **options):
    socket = await connect(
        f"ws://{address}/v1?{query}",
        open_timeout=DEADLINE_SEC,
        ping_interval=None,
        close_timeout=1,
        proxy=None,
        **options,
    )
    await until_kind(socket, "welcome")
    return socket


async def recv(socket):
    return json.loads(await asyncio.wait_for(socket.recv(), DEADLINE_SEC))


async def until_kind(socket, kind):
    while (message := await recv(socket))["type"] != kind:
        pass
    return message


async def subscribe(socket, presence=False):
    command = {"type": "subscribe", "channel": "room", "requestId": "s", "presence": presence}
    await socket.send(json.dumps(command))
    await until_kind(socket, "ack")


async def publish(socket, data):
    await socket.send(json.dumps({"type": "publish", "channel": "room", "data": data}))


class Network(MachineTest):
    def setUp(self):
        if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
            self.skipTest("namespaces and TUN devices need root and /dev/net/tun")
        try:
            self.link = self.enterContext(Link(seed=1))
        except (OSError, subprocess.CalledProcessError) as error:
            self.skipTest(f"no network namespaces, or no TUN devices in them: {error}")

    def start_there(self, settings=None):
        listen = [f"{SERVER[4]}:7000", f"[{SERVER[6]}]:7000"]
        admin = f"{SERVER[4]}:7001"
        settings = {"server.listen": listen, "admin.listen": admin, **(settings or {})}
        server = self.start(settings, wrapper=self.link.wrapper())
        server.address = listen[0]
        return server, {4: listen[0], 6: listen[1]}

    def test_order_and_completeness_hold(self):
        server, addresses = self.start_there()
        self.link.faults = Faults(**BAD)
        asyncio.run(self.all_hear_all(addresses))
        # It was a bad network.
        self.assertGreater(self.link.lost, 20)
        self.assertGreater(self.link.overtaken, 20)
        self.assertEqual(metric(server, "dropped_total"), 0)

    async def all_hear_all(self, addresses):
        families = [4, 6] * (MEMBERS // 2)
        members = [await member(addresses[family], f"key={KEY}") for family in families]
        await asyncio.gather(*map(subscribe, members))
        expected = (MEMBERS - 1) * MESSAGES

        async def talk(number, socket):
            for at in range(MESSAGES):
                await publish(socket, [number, at])

        async def listen(socket):
            return [(await until_kind(socket, "message"))["data"] for _ in range(expected)]

        heard, _ = await asyncio.gather(
            asyncio.gather(*map(listen, members)),
            asyncio.gather(*(talk(*it) for it in enumerate(members))),
        )
        for own, messages in enumerate(heard):
            for number in set(range(MEMBERS)) - {own}:
                of_one = [at for who, at in messages if who == number]
                self.assertEqual(of_one, list(range(MESSAGES)), (own, number))
            # All see one order: without what the two have published themselves it is the same.
            for other, others in enumerate(heard[:own]):
                mine = [it for it in messages if it[0] != other]
                theirs = [it for it in others if it[0] != own]
                self.assertEqual(mine, theirs, (own, other))
        for socket in members:
            await socket.close()

    def test_who_vanishes_is_dropped_and_told_once(self):
        server, addresses = self.start_there(
            {"limits.ping_after_ms": PING_MS, "limits.drop_after_ms": DROP_MS}
        )
        asyncio.run(self.victims_vanish(server, addresses))

    async def victims_vanish(self, server, addresses):
        # Who watches answers pings as long as somebody reads for it.
        watcher = await member(addresses[4], f"token={token('watcher')}")
        events = asyncio.Queue()

        async def watch():
            while True:
                await events.put(json.loads(await watcher.recv()))

        await subscribe(watcher, presence=True)
        watching = asyncio.create_task(watch())
        victims, own = [], []
        for number in range(VICTIMS):
            family = 4 if number % 2 else 6
            address = str(ipaddress.ip_address(CLIENT[family]) + 16 + number)
            words = ["nodad"] if family == 6 else []
            self.link.add_address(f"{address}/{32 if family == 4 else 128}", 0, *words)
            own.append(ipaddress.ip_address(address).packed)
            query = f"token={token(f'victim{number}')}"
            victims.append(await member(addresses[family], query, local_addr=(address, 0)))
            await subscribe(victims[-1])

        async def told(field):
            """Who is told of, once each."""
            found = []
            while len(found) < VICTIMS:
                event = await asyncio.wait_for(events.get(), DEADLINE_SEC)
                self.assertEqual(event["type"], "presence", event)
                found += [it["peerId"] for it in event[field] if it["peerId"] != "watcher"]
            self.assertEqual(sorted(found), [f"victim{at}" for at in range(VICTIMS)])

        await told("joined")
        self.link.faults.cut = set(own)
        began = time.monotonic()
        await told("left")
        lasted = time.monotonic() - began
        # Each was heard of last when it was last pinged, or joined.
        self.assertGreater(lasted, (DROP_MS - PING_MS) / 1_000 * 0.8)
        self.assertLess(lasted, DROP_MS / 1_000 + DEADLINE_SEC)
        # They come back, and find that they are gone.
        self.link.faults.cut = set()
        for victim in victims:
            with self.assertRaises((ConnectionClosed, OSError)):
                await publish(victim, "lost")
                while True:
                    await recv(victim)
        await publish(watcher, "others")
        self.assertTrue(events.empty(), events)
        until("nobody else is there", lambda: metric(server, "connections") == 1)
        watching.cancel()
        await watcher.close()

    def test_a_short_outage_drops_nobody_and_loses_nothing(self):
        server, addresses = self.start_there(
            {"limits.ping_after_ms": PING_MS, "limits.drop_after_ms": 20_000}
        )
        asyncio.run(self.outage(addresses))

    async def outage(self, addresses):
        members = [await member(addresses[family], f"key={KEY}") for family in (4, 6, 4, 6)]
        await asyncio.gather(*map(subscribe, members[1:]))
        self.link.faults.loss = 1.0
        for number in range(MESSAGES):
            await publish(members[0], number)
        await asyncio.sleep(1.5)
        self.link.faults.loss = 0.0
        for socket in members[1:]:
            heard = [(await until_kind(socket, "message"))["data"] for _ in range(MESSAGES)]
            self.assertEqual(heard, list(range(MESSAGES)))
        for socket in members:
            await socket.close()
