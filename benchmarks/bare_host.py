"""A host that has sshd, Python and QEMU alone, in a network namespace: the time until it has given a verdict."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import guests
from benchmarks.results import Result

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from ssh_hosts import ssh_hosts, write_hosts

FIRST_S = 15.0


def bare_host(args: argparse.Namespace) -> Iterator[Result]:
    """A whole run of `hello` on a host with an empty home, after one that has filled this host's cache.

    Raises BenchmarkError if a cell is not as expected, or this is not root.
    """
    if os.geteuid():
        raise guests.BenchmarkError("a network namespace with sshd needs root")
    with tempfile.TemporaryDirectory() as folder, ssh_hosts(Path(folder) / "hosts", 1) as (host,):
        cluster = write_hosts(Path(folder) / "hosts.yml", [host])
        words = ["hello", "--arch", "x86_64", "--executor", "dask", "--cluster", str(cluster)]
        guests.whole_matrix(args, words, Path(folder) / "warm", offline=False)
        shutil.rmtree(host.home)
        host.home.mkdir()
        sample = guests.whole_matrix(args, words, Path(folder) / "runs")
    name = "bare host: hello by ssh, from the command to its end"
    is_soon = sample.wall_s <= FIRST_S
    yield Result(name, f"{sample.wall_s:.1f} s", f"{FIRST_S:.0f} s", is_soon, {"wall_s": sample.wall_s})
