"""Several architectures at once, each a boot of its own process: a matrix of ours, and a peer's runs side by side."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks import guests
from benchmarks.beside import COLD, TUXRUN
from benchmarks.peers import boot_by_peer, known_archs, peers_of
from benchmarks.results import Result, median

HELLO = "specs/hello.yml"
RATIO = 0.3
"""Time of the whole by that of the peer's runs."""


def together(args: argparse.Namespace) -> Iterator[Result]:
    """`hello` on all architectures: one `bootmatrix matrix`, and the peer once for each, all of them at once."""
    with guests.context_of(args, [HELLO], args.arch, args.kernel) as context, ExitStack() as stack:
        cells = guests.cells(args, [HELLO], args.arch, args.kernel)
        known = [cell for cell in cells if cell.machine_is_default and cell.arch in known_archs()]
        ready = [guests.make_ready(cell, context) for cell in known]
        peers = [stack.enter_context(peers_of(one, context)) for one in ready]
        why = next((reason for peer in peers for name, reason in peer.left_out.items() if TUXRUN in name), "")
        if why:
            print(f"left out: {TUXRUN}: {why}", file=sys.stderr)
            return
        commands = [peer.commands[TUXRUN] for peer in peers]
        words = [HELLO, "--arch", ",".join(cell.arch for cell in known), "--kernel", args.kernel]
        pairs = [(_ours(args, words), _theirs(commands, ready)) for _ in range(args.pairs)]
    yield _result(len(ready), pairs)


def _ours(args: argparse.Namespace, words: list[str]) -> guests.Sample:
    with tempfile.TemporaryDirectory() as folder:
        return guests.whole_matrix(args, words, Path(folder))


def _theirs(commands: list[tuple[str, ...]], ready: list[guests.Ready]) -> guests.Sample:
    started, cpu_s = time.monotonic(), guests.used_cpu_s()
    with ThreadPoolExecutor(len(ready)) as pool:
        list(pool.map(boot_by_peer, commands, ready))
    wall_s = time.monotonic() - started
    return guests.Sample(wall_s, guests.used_cpu_s() - cpu_s, wall_s)


def _result(count: int, pairs: list[tuple[guests.Sample, guests.Sample]]) -> Result:
    ratio = median([one.wall_s / other.wall_s for one, other in pairs])
    cpu_ratio = median([one.cpu_s / other.cpu_s for one, other in pairs])
    ours, theirs = ([pair[index].wall_s for pair in pairs] for index in (0, 1))
    return Result(
        name=f"hello, {count} architectures at once, {COLD} ÷ {TUXRUN}",
        value=f"{median(ours):.1f} s, {median(theirs):.1f} s: ×{ratio:.3f} (CPU ×{cpu_ratio:.3f})",
        target=f"×{RATIO}",
        ok=ratio <= RATIO,
        details={"ours_s": ours, "theirs_s": theirs, "ratio": ratio, "cpu_ratio": cpu_ratio},
    )
