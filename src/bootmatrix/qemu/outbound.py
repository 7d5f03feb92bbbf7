"""A network outside, and nowhere near: passt behind a packet filter.

passt makes ordinary connections of this host for a guest. Between QEMU and it, each packet of the guest is looked at:
IPv4 to a public address passes, all else is dropped. So a guest reaches neither this host, nor its link, nor a private
network, whatever is routed there.
"""

import asyncio
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import anyio
import anyio.lowlevel

from bootmatrix.errors import HostError, ToolMissing
from bootmatrix.qemu.sandbox import LEASH, environment
from bootmatrix.qemu.version import install_hint

PROGRAM = "passt"
HEAD = struct.Struct(">I")
"""Length of a frame, before each one (QEMU's net/socket.c)."""
MAX_FRAME_BYTES = 128 << 10
PIECE_BYTES = 32 << 10
"""The kernel queues this much at once (UNIX_SKB_FRAGS_SZ of net/unix/af_unix.c), or nothing of it.

passt before 2024 loses its place in the stream when it reads a part of a frame. Content of a frame would then be taken
for frames, past the filter. So it gets whole frames only, and none that is longer.
"""
MTU, QUEUE_BYTES = "32000", 256 << 10
ETHERNET_BYTES, ADDRESS_AT, LEAST_IP_BYTES = 14, 30, 34
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
READ_BYTES = 256 << 10
GUEST_ADDRESS, GATEWAY, PREFIX = "100.64.0.2", "100.64.0.1", "24"
"""Of the guest's own link, which exists between passt and the guest only."""
RESOLVERS = ("9.9.9.9", "1.1.1.1")
"""Public resolvers, for hosts whose own are on a network that guests do not reach."""
NEVER = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
        ),
    )
)
"""Networks that are not public (IANA's registry of special-purpose addresses), multicast, and the last: a machine in
Azure has its host's services there, with the settings of the machine."""
DHCP = b"\xff\xff\xff\xff"
ROUTES, LOCAL_ADDRESSES, RESOLV_CONF = Path("/proc/net/route"), Path("/proc/net/fib_trie"), Path("/etc/resolv.conf")


class PacketFilter:
    """Decide which frames leave; `near` are this host's networks."""

    def __init__(self, near: Iterable[IPv4Network] = ()) -> None:
        networks = (*NEVER, *near)
        self._masked = [(int(network.netmask), int(network.network_address)) for network in networks]

    def allows(self, frame: bytes) -> bool:
        """Return whether a frame may leave: ARP, DHCP, and IPv4 to the internet."""
        kind = frame[12:ETHERNET_BYTES]
        if kind == ARP:
            return True
        if kind != IPV4 or len(frame) < LEAST_IP_BYTES or frame[ETHERNET_BYTES] >> 4 != 4:
            return False
        target = frame[ADDRESS_AT:LEAST_IP_BYTES]
        if target == DHCP:
            return _is_dhcp(frame)
        number = int.from_bytes(target)
        return not any(number & mask == network for mask, network in self._masked)


def _is_dhcp(frame: bytes) -> bool:
    """Return whether it is a whole UDP datagram of DHCP, without IP options."""
    return frame[14] == 0x45 and frame[23] == 17 and frame[20:22] in {b"\0\0", b"\x40\0"} and frame[34:38] == b"\0D\0C"


def near_networks() -> list[IPv4Network]:
    """Return this host's own addresses, and the networks of its links."""
    routes = ROUTES.read_text("ascii").splitlines()[1:] if ROUTES.exists() else []
    fields = [line.split() for line in routes]
    links = [
        IPv4Network((_little(words[1]), bin(int(words[7], 16)).count("1")), strict=False)
        for words in fields
        if len(words) > 7 and words[2] == "00000000" and words[7] != "00000000"
    ]
    lines = LOCAL_ADDRESSES.read_text("ascii").splitlines() if LOCAL_ADDRESSES.exists() else []
    own = [IPv4Network(above.split()[1]) for above, line in itertools.pairwise(lines) if "host LOCAL" in line]
    return [*links, *own]


def _little(text: str) -> int:
    return int.from_bytes(int(text, 16).to_bytes(4, "little"))


def resolvers(near: Iterable[IPv4Network]) -> list[str]:
    """Return the host's public resolvers, or well-known ones."""
    text = RESOLV_CONF.read_text("utf-8", "replace") if RESOLV_CONF.exists() else ""
    words = [line.split() for line in text.splitlines()]
    named = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    networks = (*NEVER, *near)
    public = [name for name in named if _is_public(name, networks)]
    return public[:3] or list(RESOLVERS)


def _is_public(name: str, networks: Iterable[IPv4Network]) -> bool:
    try:
        return not any(IPv4Address(name) in network for network in networks)
    except ValueError:
        return False


def find_passt() -> str:
    """Return passt's path. Raises ToolMissing if it is not installed."""
    path = shutil.which(PROGRAM)
    if path is None:
        raise ToolMissing("passt is not installed, which gives guests an outbound network", install_hint(PROGRAM))
    return path


@asynccontextmanager
async def outbound_network() -> AsyncIterator[socket.socket]:
    """Start a network; yield QEMU's end of it. It ends with the context.

    Raises ToolMissing if passt is not installed.
    """
    near = near_networks()
    ours, theirs = socket.socketpair()
    inner, passts = socket.socketpair()
    with ours, theirs, inner, passts:
        process = await anyio.open_process(
            [*LEASH, "--", *_command(passts.fileno(), near)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(os.environ),
            start_new_session=True,
            pass_fds=(passts.fileno(),),
        )
        passts.close()
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES)
        for end in (ours, inner):
            end.setblocking(False)
        # Tasks of their own: a task group would wrap the errors of those who use the network.
        work = [
            asyncio.create_task(pass_filtered(ours, inner, PacketFilter(near))),
            asyncio.create_task(_relayed(inner, ours)),
        ]
        try:
            yield theirs
            if process.returncode is not None:
                raise HostError(f"{PROGRAM} ended while the guest used its network: status {process.returncode}")
        finally:
            with anyio.CancelScope(shield=True):
                for task in work:
                    task.cancel()
                await asyncio.wait(work)
                with suppress(ProcessLookupError):
                    process.kill()
                await process.aclose()


def _command(descriptor: int, near: Iterable[IPv4Network]) -> list[str]:
    servers = (word for name in resolvers(near) for word in ("--dns", name))
    return [
        *(find_passt(), "--foreground", "--quiet", "--stderr", "--ipv4-only", "--no-map-gw"),
        *("--fd", str(descriptor), "--tcp-ports", "none", "--udp-ports", "none"),
        *("--address", GUEST_ADDRESS, "--netmask", PREFIX, "--gateway", GATEWAY, "--mtu", MTU),
        *servers,
    ]


async def pass_filtered(source: socket.socket, target: socket.socket, allowed: PacketFilter) -> None:
    """Pass the guest's frames that are allowed, until an end is closed."""
    buffer = bytearray()
    while data := await _receive(source):
        buffer += data
        frames, used = _frames(buffer)
        for piece in _pieces(frame for frame in frames if allowed.allows(frame[HEAD.size :])):
            if not await _send_whole(target, piece):
                return
        del buffer[:used]
        if len(buffer) >= HEAD.size and HEAD.unpack_from(buffer)[0] > MAX_FRAME_BYTES:
            return


def _frames(buffer: bytearray) -> tuple[list[bytes], int]:
    """Return a buffer's whole frames with lengths, and their size together."""
    addresses: list[bytes] = []
    at = 0
    while len(buffer) - at >= HEAD.size:
        (size,) = HEAD.unpack_from(buffer, at)
        end = at + HEAD.size + size
        if size > MAX_FRAME_BYTES or len(buffer) < end:
            break
        addresses.append(bytes(buffer[at:end]))
        at = end
    return addresses, at


def _pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Join frames to pieces that the kernel queues; drop longer ones."""
    piece = bytearray()
    for frame in frames:
        if len(frame) > PIECE_BYTES:
            continue
        if len(piece) + len(frame) > PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
        piece += frame
    if piece:
        yield bytes(piece)


async def _send_whole(end: socket.socket, piece: bytes) -> bool:
    """Send a piece in one call; False if closed, or sent in part: the end."""
    while True:
        try:
            return end.send(piece) == len(piece)
        except BlockingIOError:
            await anyio.wait_writable(end)
        except OSError:
            return False


async def _relayed(source: socket.socket, target: socket.socket) -> None:
    while data := await _receive(source):
        if not await _send(target, data):
            return


async def _receive(end: socket.socket) -> bytes:
    """Return what came, empty at the end; other tasks run in between."""
    await anyio.lowlevel.checkpoint()
    while True:
        try:
            return end.recv(READ_BYTES)
        except BlockingIOError:
            await anyio.wait_readable(end)
        except OSError:
            return b""


async def _send(end: socket.socket, data: bytes) -> bool:
    view = memoryview(data)
    while view:
        try:
            view = view[end.send(view) :]
        except BlockingIOError:
            await anyio.wait_writable(end)
        except OSError:
            return False
    return True
