"""The same kernel and the same root by other ways than ours, in turn, with the commands to repeat it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.guests import BARE_LIMIT_S, BenchmarkError, Ready, Sample, bare, boot_by, through_bootmatrix
from bootmatrix.boot.command import by_hand
from bootmatrix.boot.forks import Forks
from bootmatrix.boot.snapshots import SnapshotCache
from bootmatrix.build.kernel import unpack_kernel
from bootmatrix.cell import Bench

COMMON, OURS, COLD = "bare QEMU, common settings", "bare QEMU, our settings", "bootmatrix, cold"
FORKED = "bootmatrix, forked"
COMMON_RATIO, OURS_RATIO, FORKED_RATIO = 0.7, 1.05, 0.15
"""What a cold cell may take of each of the first two, and a forked one of a cold one, at most."""
SETTINGS = Path(__file__).with_name("common.toml")
SNAPSHOTS_MIB = 1024
PEER_LIMIT_S = 60.0

Way = Callable[[], Sample]


@dataclass(frozen=True)
class Row:
    """A cell by each way: samples by the way's name, in the order of being taken; what was left out, and why."""

    cell: str
    samples: Mapping[str, list[Sample]]
    commands: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]


def known_to_others(arch: str) -> bool:
    """Whether there are common settings for an architecture."""
    return arch in _settings()


def measure(ready: Ready, bench: Bench, rounds: int) -> Row:
    """A cell by all ways, in turn, after one boot by each that fills the host's caches.

    A peer whose first boot does not come to its end is left out.
    """
    commands = {COMMON: common_command(ready, bench), OURS: by_hand(ready.machine, ready.bootable).arguments}
    peers, left_out = _peers(ready, bench)
    with _forked(ready, bench) as forked:
        ways: dict[str, Way] = {
            COMMON: lambda: boot_by(commands[COMMON], ready.cell.id, BARE_LIMIT_S),
            OURS: lambda: bare(ready),
            COLD: lambda: through_bootmatrix(ready, bench),
            FORKED: forked,
        }
        for way in ways.values():
            way()
        for name, command in peers.items():
            try:
                _boot_by_peer(command, ready)
            except (BenchmarkError, OSError, subprocess.TimeoutExpired):
                left_out[name] = "with this kernel and root, its guest does not come to its end"
            else:
                ways[name], commands[name] = _peer(command, ready), command
        samples: dict[str, list[Sample]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                samples[name].append(way())
    return Row(ready.cell.id, samples, _shown(commands, ready), left_out)


def common_command(ready: Ready, bench: Bench) -> tuple[str, ...]:
    """QEMU with settings as others have them, for the kernel as it comes in its package, and for our root."""
    settings = _settings()
    one = settings[ready.cell.arch]
    cmdline = " ".join((f"console={one['console']}", "panic=-1", *_our_words(ready)))
    assert ready.bootable.initrd
    boot = ("-kernel", _kernel(ready, bench), "-initrd", ready.bootable.initrd.path, "-append", cmdline)
    return (ready.machine.qemu, *settings["common"], *one["arguments"], *boot)


@contextmanager
def _forked(ready: Ready, bench: Bench) -> Iterator[Way]:
    forks = Forks(SnapshotCache(bench.builder.store), SNAPSHOTS_MIB, lambda _: None)
    forking = replace(bench, builder=replace(bench.builder, fork=True), forks=forks)
    cell = ready.cell.model_copy(update={"boot": "fork"})
    try:
        yield lambda: through_bootmatrix(replace(ready, cell=cell), forking)
    finally:
        forks.close()


def _peers(ready: Ready, bench: Bench) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Commands of the peers that know the architecture, by name; and those that cannot be run here, with the reason."""
    names = {
        "kernel": _kernel(ready, bench),
        "initrd": ready.bootable.initrd.path if ready.bootable.initrd else "",
        "words": " ".join(_our_words(ready)),
    }
    commands, left_out = {}, {}
    for name, peer in _settings()["peers"].items():
        device = peer["devices"].get(ready.cell.arch)
        missing = next((program for program in peer["programs"] if not _which(program)), "")
        if missing:
            left_out[name] = f"{missing} is not installed"
        elif device is None:
            left_out[f"{name} on {ready.cell.arch}"] = "it has no such machine"
        else:
            commands[name] = tuple(word.format(device=device, **names) for word in peer["command"])
    return commands, left_out


def _peer(command: tuple[str, ...], ready: Ready) -> Way:
    return lambda: _boot_by_peer(command, ready)


def _boot_by_peer(command: tuple[str, ...], ready: Ready) -> Sample:
    return boot_by(command, ready.cell.id, PEER_LIMIT_S)


def _which(program: str) -> bool:
    return any(os.access(Path(folder, program), os.X_OK) for folder in os.get_exec_path())


def _kernel(ready: Ready, bench: Bench) -> str:
    store = bench.builder.store
    return str(store.verified(unpack_kernel(ready.kernel, bench.builder.archive, store).image))


def _our_words(ready: Ready) -> list[str]:
    """What our init has to read on the kernel's command line."""
    words = by_hand(ready.machine, ready.bootable).cmdline.split()
    return [word for word in words if word.startswith("bootmatrix.")]


def _settings() -> dict[str, Any]:
    return tomllib.loads(SETTINGS.read_text(encoding="utf-8"))


def _shown(commands: Mapping[str, tuple[str, ...]], ready: Ready) -> dict[str, tuple[str, ...]]:
    """How to repeat each way by hand, without the paths of this host."""
    assert ready.bootable.kernel
    assert ready.bootable.initrd
    common = commands[COMMON]
    names = {common[common.index("-kernel") + 1]: "KERNEL", ready.bootable.kernel.path: "OURS"}
    names[ready.bootable.initrd.path] = "INITRD"
    # A kernel that is in no wrapping is the same file for both.
    plain = {way: tuple(names.get(word, word) for word in command) for way, command in commands.items()}
    ours = ("bootmatrix", "matrix", ready.cell.spec_name, "--arch", ready.cell.target, "--kernel", ready.cell.kernel)
    return {**plain, COLD: ours, FORKED: (*ours, "--boot", "fork")}
