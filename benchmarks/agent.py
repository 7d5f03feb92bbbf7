"""A command by the guest's agent: by itself from the start of a guest, in a guest that runs, and files."""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from benchmarks import guests
from benchmarks.results import Result, median
from bootmatrix.workspace.guest_boot import open_guest
from bootmatrix.workspace.guest_plan import plan_guest

ARCHS = ("x86_64", "aarch64", "armv7", "ppc64le")
HELLO, IMAGE = "specs/hello.yml", "busybox"
TRUE = ["busybox", "true"]
COMMAND_RATIOS = {"from power-on": 1.13, "forked": 0.19}
"""CPU time of a guest that runs one command, by that of a cold `hello`.

They are 0.6 and 0.1 of a `hello` whose init was a shell script, of which today's takes 0.53.
"""
ROUND_TRIP_S, PUT_MB_S = 0.020, 40.0
ROUND_TRIPS = 50
PUT_BYTES = 100_000_000
EXEC_S, KEPT_S = 0.6, 0.1
"""Time of `bootmatrix exec -- true` from a shell: in a guest of its own, and in one that is kept."""


def agent(args: argparse.Namespace) -> Iterator[Result]:
    """All of these, of each architecture that is measured."""
    for arch in ARCHS if args.arch == "all" else args.arch.split(","):
        yield from _from_start(args, arch)
        yield from _in_guest(args, arch)
        yield from _from_shell(args, arch)


def _from_start(args: argparse.Namespace, arch: str) -> Iterator[Result]:
    with guests.context_of(args, [HELLO], arch, args.kernel) as context:
        ready = guests.make_ready(guests.cells(args, [HELLO], arch, args.kernel)[0], context)
        ways = {"from power-on": False, "forked": True}
        for is_forked in ways.values():
            anyio.run(_command, args, arch, is_forked)
        rounds = [
            (
                {way: anyio.run(_command, args, arch, is_forked).cpu_s for way, is_forked in ways.items()},
                guests.through_bootmatrix(ready, context).cpu_s,
            )
            for _ in range(args.pairs)
        ]
    for way, limit in COMMAND_RATIOS.items():
        ratio = median([own_s[way] / hello_s for own_s, hello_s in rounds])
        yield Result(
            name=f"a guest for one command, {way}, {arch} ÷ hello, cold (CPU)",
            value=f"×{ratio:.3f}, {median([own_s[way] for own_s, _ in rounds]):.2f} s",
            target=f"×{limit}",
            ok=ratio <= limit,
            details={"ratio": ratio},
        )


async def _command(args: argparse.Namespace, arch: str, is_forked: bool) -> guests.Sample:
    started, cpu_s = time.monotonic(), guests.used_cpu_s()
    workspace = guests.workspace_of(args)
    planned, root = plan_guest(lambda spec: workspace.plan_single(spec, arch, args.kernel), IMAGE)
    planned = replace(planned, config=replace(planned.config, fork=is_forked))
    async with open_guest(planned, root) as guest:
        await guest.run(TRUE)
    wall_s = time.monotonic() - started
    return guests.Sample(wall_s, guests.used_cpu_s() - cpu_s, wall_s)


def _from_shell(args: argparse.Namespace, arch: str) -> Iterator[Result]:
    """The command as a user gives it, with Python's start; the snapshot and all files are in the cache."""
    with tempfile.TemporaryDirectory(prefix="bootmatrix-exec-") as folder:
        env = {**os.environ, "XDG_RUNTIME_DIR": folder}
        own_s = [_exec_s(args, arch, env) for _ in range(args.pairs + 1)][1:]
        kept_s = [_exec_s(args, arch, env, "--keep-alive", "1m") for _ in range(args.pairs + 1)][1:]
        subprocess.run([guests.PROGRAM, "guests", "stop"], env=env, check=True, capture_output=True)
    for what, samples, limit_s in (("a guest of its own", own_s, EXEC_S), ("a kept guest", kept_s, KEPT_S)):
        middle = median(samples)
        name = f"bootmatrix exec true in {what}, {arch}"
        yield Result(name, f"{middle:.2f} s", f"{limit_s} s", middle <= limit_s, details={"samples_s": samples})


def _exec_s(args: argparse.Namespace, arch: str, env: Mapping[str, str], *more: str) -> float:
    cache = ("--cache", str(args.cache)) if args.cache else ()
    words = ("exec", "--arch", arch, "--kernel", args.kernel, "--no-tree", *cache, *more, "--", "true")
    started = time.monotonic()
    subprocess.run([guests.PROGRAM, *words], env=env, check=True, capture_output=True)
    return time.monotonic() - started


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
