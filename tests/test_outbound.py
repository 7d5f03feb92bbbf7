"""The outbound network: packets leave to public addresses only. Real passt, real listeners, frames by hand."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

import anyio
import anyio.lowlevel
import pytest

from bootmatrix.qemu.outbound import GUEST_ADDRESS, PacketFilter, near_networks, outbound_network, pass_filtered

PUBLIC, INSIDE, OUTSIDE = "203.0.113.1", "10.233.7.2", "10.233.7.1"
SPACE = f"bmout{os.getpid()}"
GUEST_MAC, GATE_MAC = b"\x52\x54\0\x12\x34\x56", b"\x9a\x55\x9a\x55\x9a\x55"


def checksum(data: bytes) -> int:
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(target: str, protocol: int, payload: bytes, kind: bytes = b"\x08\0") -> bytes:
    ends = IPv4Address(GUEST_ADDRESS).packed + IPv4Address(target).packed
    head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol)
    whole = head + struct.pack(">H", checksum(head + b"\0\0" + ends)) + ends
    return GATE_MAC + GUEST_MAC + kind + whole + payload


def syn(target: str, port: int, source: int) -> bytes:
    ends = IPv4Address(GUEST_ADDRESS).packed + IPv4Address(target).packed
    head = struct.pack(">HHIIBBH", source, port, 1000, 0, 0x50, 2, 8192)
    pseudo = ends + struct.pack(">BBH", 0, 6, 20)
    whole = head + struct.pack(">HH", checksum(pseudo + head + b"\0\0\0\0"), 0)
    return packet(target, 6, whole)


@pytest.mark.parametrize(
    ("target", "is_allowed"),
    [
        *((address, True) for address in ("203.0.113.1", "9.9.9.9", "172.32.0.1", "11.0.0.1", "100.128.0.1")),
        *((address, False) for address in ("127.0.0.1", "127.9.9.9", "10.0.2.2", "10.255.255.255", "192.168.1.1")),
        *((address, False) for address in ("172.16.0.1", "172.31.255.255", "169.254.169.254", "100.64.0.1", "0.0.0.0")),
        *((address, False) for address in ("224.0.0.251", "255.255.255.255", "198.18.0.1", "8.8.8.8")),
        ("168.63.129.16", False),
    ],
)
def test_addresses(target: str, is_allowed: bool) -> None:
    near = PacketFilter([IPv4Network("8.8.8.0/24")])
    assert near.allows(packet(target, 6, bytes(20))) is is_allowed
    assert not near.allows(packet(target, 6, bytes(20), kind=b"\x81\0")), "a tag of a VLAN"
    assert not near.allows(packet(target, 6, bytes(20), kind=b"\x86\xdd")), "IPv6"


def test_other_frames() -> None:
    allows = PacketFilter().allows
    dhcp = struct.pack(">HHHH", 68, 67, 8, 0)
    assert allows(packet("255.255.255.255", 17, dhcp))
    assert not allows(packet("255.255.255.255", 17, struct.pack(">HHHH", 68, 7, 8, 0)))
    assert not allows(packet("255.255.255.255", 6, dhcp))
    assert allows(GATE_MAC + GUEST_MAC + b"\x08\x06" + bytes(28))
    assert not any(allows(packet("9.9.9.9", 6, bytes(20))[:size]) for size in range(34)), "a packet that is cut"
    assert not allows(GATE_MAC + GUEST_MAC + b"\x08\0" + b"\x65" + bytes(40)), "another version of IP"


def framed(frame: bytes) -> bytes:
    return struct.pack(">I", len(frame)) + frame


def test_each_read_of_passt_gets_whole_frames() -> None:
    """passt that reads a part of a frame would take what follows for frames, past the filter."""
    sizes = random.Random(7)
    frames = [framed(packet(PUBLIC, 17, bytes(sizes.randrange(100, 65000)))) for _ in range(400)]
    frames += [framed(packet(PUBLIC, 17, b"end"))]

    async def read(end: socket.socket) -> int:
        count = 0
        while True:
            await anyio.wait_readable(end)
            await anyio.sleep(0.005)  # the queue fills up
            data = end.recv(8 << 20)
            at = 0
            while at < len(data):
                assert data[at + 16 : at + 18] == b"\x08\0"
                (size,) = struct.unpack_from(">I", data, at)
                at, count = at + 4 + size, count + 1
            assert at == len(data), "a part of a frame"
            if data.endswith(b"end"):
                return count

    async def work() -> int:
        guest, ours = socket.socketpair()
        inner, passts = socket.socketpair()
        with guest, ours, inner, passts:
            for end in (guest, ours, inner, passts):
                end.setblocking(False)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pass_filtered, ours, inner, PacketFilter())
                tasks.start_soon(asyncio.get_running_loop().sock_sendall, guest, b"".join(frames))
                with anyio.fail_after(60):
                    count = await read(passts)
                tasks.cancel_scope.cancel()
        return count

    assert anyio.run(work) == sum(len(frame) <= 32 << 10 for frame in frames)


def test_a_flood_of_frames_that_are_dropped_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.qemu.outbound.READ_BYTES", 1)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async def work() -> None:
        ours, guest = socket.socketpair()
        inner, passts = socket.socketpair()
        with ours, guest, inner, passts:
            for end in (ours, inner):
                end.setblocking(False)
            frame = syn(INSIDE, 80, 1000)
            guest.sendall((struct.pack(">I", len(frame)) + frame) * 20)
            guest.close()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(count)
                await pass_filtered(ours, inner, PacketFilter())
                tasks.cancel_scope.cancel()

    anyio.run(work)
    assert turns > 500


def test_the_hosts_own_networks_are_near() -> None:
    near = near_networks()
    assert any(IPv4Address("127.0.0.1") in network for network in near)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.200", 9))
        own = IPv4Address(probe.getsockname()[0])
    assert any(own in network for network in near)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def public_host() -> Iterator[None]:
    """A namespace with a public address, and a private one that this host is linked to."""
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", f"{SPACE}o", "type", "veth", "peer", "name", f"{SPACE}i", "netns", SPACE)
        ip("addr", "add", f"{OUTSIDE}/30", "dev", f"{SPACE}o")
        ip("link", "set", f"{SPACE}o", "up")
        for words in (("lo", "up"), (f"{SPACE}i", "up")):
            ip("-n", SPACE, "link", "set", *words)
        ip("-n", SPACE, "addr", "add", f"{INSIDE}/30", "dev", f"{SPACE}i")
        ip("-n", SPACE, "addr", "add", f"{PUBLIC}/32", "dev", "lo")
        ip("-n", SPACE, "route", "add", "default", "via", OUTSIDE)
        ip("route", "add", f"{PUBLIC}/32", "via", INSIDE)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", SPACE], check=False)


async def answers(end: socket.socket, frame: bytes, source: int, within_s: float) -> bool:
    """Return whether a SYN of this port is answered by an ACK of it."""
    end.sendall(struct.pack(">I", len(frame)) + frame)
    data = bytearray()
    with anyio.move_on_after(within_s):
        while True:
            await anyio.wait_readable(end)
            data += end.recv(1 << 16)
            while len(data) >= 4 and len(data) >= 4 + (size := struct.unpack_from(">I", data)[0]):
                reply = bytes(data[4 : 4 + size])
                del data[: 4 + size]
                is_tcp = reply[12:14] == b"\x08\0" and reply[23] == 6
                if is_tcp and reply[36:38] == struct.pack(">H", source) and reply[47] & 0x12 == 0x12:
                    return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace")
def test_a_guest_reaches_the_internet_and_nothing_near() -> None:
    listen = (
        "import socket; s = socket.create_server(('0.0.0.0', 8099)); print('up', flush=True); s.accept(); s.accept()"
    )

    async def work(near: list[str]) -> None:
        async with outbound_network() as end:
            end.setblocking(False)
            arp = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + GUEST_MAC + IPv4Address(GUEST_ADDRESS).packed
            arp = b"\xff" * 6 + GUEST_MAC + b"\x08\x06" + arp + bytes(6) + IPv4Address("100.64.0.1").packed
            end.sendall(struct.pack(">I", len(arp)) + arp)
            for number, address in enumerate(near):
                assert not await answers(end, syn(address, 8099, 41000 + number), 41000 + number, 0.5), address
            assert await answers(end, syn(PUBLIC, 8099, 42000), 42000, 20)

    with public_host():
        program = ["python3", "-c", listen]
        with (
            subprocess.Popen(program, stdout=subprocess.PIPE) as here,
            subprocess.Popen(["ip", "netns", "exec", SPACE, *program], stdout=subprocess.PIPE) as there,
        ):
            try:
                for process in (here, there):
                    assert process.stdout
                    assert process.stdout.readline() == b"up\n"
                socket.create_connection((INSIDE, 8099), 5).close()  # this host could
                anyio.run(work, ["127.0.0.1", OUTSIDE, INSIDE, "100.64.0.1", "10.0.2.2"])
            finally:
                here.kill()
                there.kill()
