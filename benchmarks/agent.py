"""A command by the guest's agent: by itself from the start of a guest, in a guest that runs, and files."""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from benchmarks import guests
from benchmarks.results import Result, median

ARCHS = ("x86_64", "aarch64", "armv7", "ppc64le")
HELLO, IMAGE = "specs/hello.yml", "busybox"
TRUE = ["busybox", "true"]
COMMAND_RATIO = 0.6
"""CPU time of a guest that runs one command, by that of a cold `hello`."""
ROUND_TRIP_S, PUT_MB_S = 0.020, 40.0
ROUND_TRIPS = 50
PUT_BYTES = 100_000_000


def agent(args: argparse.Namespace) -> Iterator[Result]:
    """All of these, of each architecture that is measured."""
    for arch in ARCHS if args.arch == "all" else args.arch.split(","):
        yield from _from_start(args, arch)
        yield from _in_guest(args, arch)


def _from_start(args: argparse.Namespace, arch: str) -> Iterator[Result]:
    with guests.context_of(args, [HELLO], arch, args.kernel) as context:
        ready = guests.make_ready(guests.cells(args, [HELLO], arch, args.kernel)[0], context)
        anyio.run(_command, args, arch)
        pairs = [
            (anyio.run(_command, args, arch), guests.through_bootmatrix(ready, context)) for _ in range(args.pairs)
        ]
    ratio = median([one.cpu_s / other.cpu_s for one, other in pairs])
    yield Result(
        name=f"a guest for one command, {arch} ÷ hello, cold (CPU)",
        value=f"×{ratio:.3f}, {median([one.cpu_s for one, _ in pairs]):.2f} s",
        target=f"×{COMMAND_RATIO}",
        ok=ratio <= COMMAND_RATIO,
        details={"ratio": ratio},
    )


async def _command(args: argparse.Namespace, arch: str) -> guests.Sample:
    started, cpu_s = time.monotonic(), guests.used_cpu_s()
    async with guests.workspace_of(args).guest(IMAGE, arch=arch, kernel=args.kernel) as guest:
        await guest.run(TRUE)
    wall_s = time.monotonic() - started
    return guests.Sample(wall_s, guests.used_cpu_s() - cpu_s, wall_s)


def _in_guest(args: argparse.Namespace, arch: str) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data"
        file.write_bytes(bytes(PUT_BYTES))
        trips_s, put_s = anyio.run(functools.partial(_trips, args, arch, file))
    trip_s, speed = median(trips_s), PUT_BYTES / 1e6 / put_s
    yield Result(
        name=f"a command in a guest that runs, {arch}",
        value=f"{trip_s * 1000:.0f} ms",
        target=f"{ROUND_TRIP_S * 1000:.0f} ms",
        ok=trip_s <= ROUND_TRIP_S,
        details={"samples_s": trips_s},
    )
    name = f"put of {PUT_BYTES / 1e6:.0f} MB, {arch}"
    yield Result(name, f"{speed:.1f} MB/s", f"{PUT_MB_S:.0f} MB/s", speed >= PUT_MB_S)


async def _trips(args: argparse.Namespace, arch: str, file: Path) -> tuple[list[float], float]:
    async with guests.workspace_of(args).guest(IMAGE, arch=arch, kernel=args.kernel) as guest:
        await guest.run(TRUE)
        samples = []
        for _ in range(ROUND_TRIPS):
            started = time.monotonic()
            await guest.run(TRUE)
            samples.append(time.monotonic() - started)
        started = time.monotonic()
        await guest.put(file, "/tmp/data")
        return samples, time.monotonic() - started
