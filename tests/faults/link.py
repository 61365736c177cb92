"""A network between two namespaces whose packets a program carries, loses, delays and doubles.

The ends are TUN devices, so that neither netem nor any other module of the kernel is needed, and
the host's own network is not touched.
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
LIBC = ctypes.CDLL(None, use_errno=True)
# Addresses of the two ends, and the networks that they are in.
CLIENT, CLIENT_NETS = {4: "10.77.0.1", 6: "fd77::1"}, {4: "10.77.0.0/24", 6: "fd77::/64"}
SERVER = {4: "10.77.1.1", 6: "fd77:0:0:1::1"}
SERVER_NETS = {4: "10.77.1.0/24", 6: "fd77:0:0:1::/64"}


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def enter(descriptor):
    """Moves the calling thread into a network namespace."""
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


class Faults:
    """What the link does to packets; may be changed while it carries."""

    def __init__(self, loss=0.0, doubled=0.0, delay_sec=(0.0, 0.0)):
        self.loss, self.doubled, self.delay_sec = loss, doubled, delay_sec
        # Addresses in whose packets, to and fro, nothing arrives.
        self.cut = set()


class Link:
    """Two namespaces and what is between them, to be used as a context manager.

    Whoever enters it is in the clients' namespace until it leaves.
    """

    def __init__(self, seed):
        self.faults = Faults()
        self.carried = self.lost = self.overtaken = 0
        self._random = random.Random(seed)
        self._names = [f"ringmesh-{os.getpid()}-{end}" for end in ("clients", "server")]
        self._stopping = threading.Event()

    def __enter__(self):
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._ends = []
        try:
            for at, name in enumerate(self._names):
                ip("netns", "add", name)
                self._ends.append(self._device(name))
                own, other = [(CLIENT_NETS, SERVER_NETS), (SERVER_NETS, CLIENT_NETS)][at]
                address = [CLIENT, SERVER][at]
                ip("-n", name, "link", "set", "lo", "up")
                ip("-n", name, "link", "set", "dev", "wire", "mtu", "1400", "up")
                for family in (4, 6):
                    prefix = own[family].split("/")[1]
                    # No one else is there who could have the same address.
                    words = ["nodad"] if family == 6 else []
                    self.add_address(f"{address[family]}/{prefix}", at, *words)
                    ip("-n", name, "route", "add", other[family], "dev", "wire")
            self._carrier = threading.Thread(target=self._carry, daemon=True)
            self._carrier.start()
            clients = os.open(f"/run/netns/{self._names[0]}", os.O_RDONLY)
            enter(clients)
            os.close(clients)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        enter(self._home)
        os.close(self._home)
        self._stopping.set()
        if hasattr(self, "_carrier"):
            self._carrier.join()
        for end in self._ends:
            os.close(end)
        for name in self._names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def add_address(self, address, end=0, *words):
        """Gives an end one more address: the clients', unless told otherwise."""
        ip("-n", self._names[end], "addr", "add", address, "dev", "wire", *words)

    def wrapper(self):
        """Words before a command that is to live at the server's end."""
        return ["ip", "netns", "exec", self._names[1]]

    def _device(self, name):
        namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            enter(namespace)
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH14x", b"wire", IFF_TUN | IFF_NO_PI)
            fcntl.ioctl(end, TUNSETIFF, request)
            return end
        finally:
            enter(self._home)
            os.close(namespace)

    def _carry(self):
        waiting, count, newest = [], 0, [0, 0]
        while not self._stopping.is_set():
            pause = 0.05
            if waiting:
                pause = min(pause, max(0, waiting[0][0] - time.monotonic()))
            for end in select.select(self._ends, [], [], pause)[0]:
                for packet in packets(end):
                    for due in self._fate(packet):
                        count += 1
                        heapq.heappush(waiting, (due, count, end, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, number, end, packet = heapq.heappop(waiting)
                side = self._ends.index(end)
                self.overtaken += number < newest[side]
                newest[side] = max(newest[side], number)
                self.carried += 1
                try:
                    os.write(self._ends[1 - side], packet)
                except OSError:
                    self.lost += 1

    def _fate(self, packet):
        """When a packet arrives, for each time that it does."""
        faults, draw = self.faults, self._random
        is_cut = not faults.cut.isdisjoint(addresses(packet))
        if is_cut or draw.random() < faults.loss:
            self.lost += 1
            return
        for _ in range(1 + (draw.random() < faults.doubled)):
            yield time.monotonic() + draw.uniform(*faults.delay_sec)


def packets(end):
    """What can be read from an end without waiting."""
    while True:
        try:
            yield os.read(end, 65_536)
        except BlockingIOError:
            return


def addresses(packet):
    """Source and destination, in bytes."""
    if packet[0] >> 4 == 4:
        return packet[12:16], packet[16:20]
    return packet[8:24], packet[24:40]
