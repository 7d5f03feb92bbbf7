"""The same kernel and the same root by other ways than ours, in turn, with the commands to repeat it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.guests import (
    BARE_LIMIT_S,
    BenchmarkError,
    Ready,
    Sample,
    bare,
    boot_by,
    our_words,
    package_kernel,
    through_bootmatrix,
)
from benchmarks.peers import boot_by_peer, peers_of, settings
from bootmatrix.cell.run import RunContext
from bootmatrix.qemu.command import interactive
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.snapshot.pool import SnapshotPool

COMMON, OURS, COLD = "bare QEMU, common settings", "bare QEMU, our settings", "bootmatrix, cold"
FORKED, TUXRUN = "bootmatrix, forked", "tuxrun with a command"
COMMON_RATIO, OURS_RATIO, FORKED_RATIO = 0.7, 1.05, 0.15
"""What a cold cell may take of each of the first two, and a forked one of a cold one, at most."""
SNAPSHOTS_MIB = 1024

Way = Callable[[], Sample]


@dataclass(frozen=True)
class Row:
    """A cell by each way: samples by the way's name, in the order of being taken; what was left out, and why."""

    cell: str
    samples: Mapping[str, list[Sample]]
    commands: Mapping[str, tuple[str, ...]]
    left_out: Mapping[str, str]


def measure(ready: Ready, context: RunContext, rounds: int) -> Row:
    """A cell by all ways, in turn, after one boot by each that fills the host's caches.

    A peer whose first boot does not come to its end is left out.
    """
    commands = {COMMON: common_command(ready, context), OURS: interactive(ready.machine, ready.bootable).arguments}
    with _forked(ready, context) as forked, peers_of(ready, context) as peers:
        left_out = dict(peers.left_out)
        ways: dict[str, Way] = {
            COMMON: lambda: boot_by(commands[COMMON], ready.cell.id, BARE_LIMIT_S),
            OURS: lambda: bare(ready),
            COLD: lambda: through_bootmatrix(ready, context),
            FORKED: forked,
        }
        for way in ways.values():
            way()
        for name, command in peers.commands.items():
            try:
                boot_by_peer(command, ready)
            except BenchmarkError:
                left_out[name] = ": ".join(
                    filter(None, ("with this kernel, its guest does not come to its end", peers.fails[name]))
                )
            else:
                ways[name], commands[name] = partial(boot_by_peer, command, ready), command
        samples: dict[str, list[Sample]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                samples[name].append(way())
    return Row(ready.cell.id, samples, _shown(commands, ready), left_out)


def common_command(ready: Ready, context: RunContext) -> tuple[str, ...]:
    """QEMU with settings as others have them, for the kernel as it comes in its package, and for our root."""
    common = settings()
    one = common[ready.cell.arch]
    cmdline = " ".join((f"console={one['console']}", "panic=-1", *our_words(ready)))
    assert ready.bootable.initrd
    boot = ("-kernel", package_kernel(ready, context), "-initrd", ready.bootable.initrd.path, "-append", cmdline)
    return (ready.machine.qemu, *common["common"], *one["arguments"], *boot)


@contextmanager
def _forked(ready: Ready, context: RunContext) -> Iterator[Way]:
    forks = SnapshotPool(SnapshotCache(context.builder.store), SNAPSHOTS_MIB, lambda _: None)
    forking = replace(context, builder=replace(context.builder, fork=True), forks=forks)
    cell = ready.cell.model_copy(update={"boot": "fork"})
    try:
        yield lambda: through_bootmatrix(replace(ready, cell=cell), forking)
    finally:
        forks.close()


def _shown(commands: Mapping[str, tuple[str, ...]], ready: Ready) -> dict[str, tuple[str, ...]]:
    """How to repeat each way by hand, without the paths of this host."""
    assert ready.bootable.kernel
    assert ready.bootable.initrd
    common = commands[COMMON]
    names = {common[common.index("-kernel") + 1]: "KERNEL", ready.bootable.kernel.path: "OURS"}
    names[ready.bootable.initrd.path] = "INITRD"
    # A kernel that is in no wrapping is the same file for both.
    plain = {
        way: tuple("ROOT" if word.endswith("/root.cpio") else names.get(word, word) for word in command)
        for way, command in commands.items()
    }
    ours = ("bootmatrix", "matrix", ready.cell.spec_name, "--arch", ready.cell.target, "--kernel", ready.cell.kernel)
    return {**plain, COLD: ours, FORKED: (*ours, "--boot", "fork")}
