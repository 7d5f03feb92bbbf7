"""The same kernel and the same root by other ways than ours, in turn, with the commands to repeat it."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.guests import BARE_LIMIT_S, Ready, Sample, bare, boot_by, through_bootmatrix
from benchmarks.results import Result, median
from bootmatrix.boot.command import by_hand
from bootmatrix.build.kernel import unpack_kernel
from bootmatrix.cell import Bench

COMMON, OURS, COLD = "bare QEMU, common settings", "bare QEMU, our settings", "bootmatrix, cold"
COMMON_RATIO, OURS_RATIO = 0.7, 1.05
"""What a cold cell may take of each, at most."""
PEERS = ("tuxrun", "virtme-ng")
SETTINGS = Path(__file__).with_name("common.toml")


@dataclass(frozen=True)
class Row:
    """A cell by each way: samples by the way's name, in the order in which they were taken."""

    cell: str
    samples: Mapping[str, list[Sample]]

    def ratio(self, over: str, clock: str = "wall_s") -> float:
        """Median of a cold cell's time divided by another way's, pair by pair."""
        pairs = zip(self.samples[COLD], self.samples[over], strict=True)
        return median([getattr(one, clock) / getattr(other, clock) for one, other in pairs])


def common_command(ready: Ready, bench: Bench) -> tuple[str, ...]:
    """QEMU with settings as others have them, for the kernel as it comes in its package, and for our root."""
    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    one = settings[ready.cell.arch]
    store = bench.builder.store
    kernel = store.verified(unpack_kernel(ready.kernel, bench.builder.archive, store).image)
    words = by_hand(ready.machine, ready.bootable).cmdline.split()
    cmdline = " ".join([f"console={one['console']}", "panic=-1", *(w for w in words if w.startswith("bootmatrix."))])
    assert ready.bootable.initrd
    boot = ("-kernel", str(kernel), "-initrd", ready.bootable.initrd.path, "-append", cmdline)
    return (ready.machine.qemu, *settings["common"], *one["arguments"], *boot)


def known_to_others(arch: str) -> bool:
    """Whether there are common settings for an architecture."""
    return arch in tomllib.loads(SETTINGS.read_text(encoding="utf-8"))


def measure(ready: Ready, bench: Bench, rounds: int) -> Row:
    """A cell by all ways, in turn, after one boot that fills the host's caches."""
    common = common_command(ready, bench)
    ways: dict[str, Callable[[], Sample]] = {
        COMMON: lambda: boot_by(common, ready.cell.id, BARE_LIMIT_S),
        OURS: lambda: bare(ready),
        COLD: lambda: through_bootmatrix(ready, bench),
    }
    ways[OURS]()
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            samples[name].append(way())
    return Row(ready.cell.id, samples)


def results(rows: list[Row]) -> list[Result]:
    """The figures, against their targets."""
    common = median([row.ratio(COMMON) for row in rows])
    found = [
        Result(
            f"cold hello ÷ {COMMON}, median of {len(rows)}",
            f"×{common:.3f} (CPU ×{median([row.ratio(COMMON, 'cpu_s') for row in rows]):.3f})",
            f"×{COMMON_RATIO}",
            common <= COMMON_RATIO,
            {row.cell: row.ratio(COMMON) for row in rows},
        )
    ]
    for row in rows:
        ratio = row.ratio(OURS)
        value = f"×{ratio:.3f} (CPU ×{row.ratio(OURS, 'cpu_s'):.3f})"
        found.append(
            Result(f"{row.cell} cold ÷ {OURS}", value, f"×{OURS_RATIO}", ratio <= OURS_RATIO, {"ratio": ratio})
        )
    return found


def page(rows: list[Row], commands: Mapping[str, Mapping[str, tuple[str, ...]]], host: Mapping[str, str]) -> str:
    """The whole as Markdown."""
    rounds = len(rows[0].samples[COLD])
    wall, cpu = (median([row.ratio(COMMON, clock) for row in rows]) for clock in ("wall_s", "cpu_s"))
    lines = [
        "# Beside others",
        "",
        f"Written by `make bench` on {host['cpus']} cores ({host['cpu']}). A row is a cell, {rounds} times each way,",
        "in turn. Seconds of the wall clock and of the CPU are medians; ratios are medians of pairs, which a busy host",
        "moves less. In brackets: the CPU's time, which it moves least.",
        "",
        f"| cell | {COMMON} | {OURS} | {COLD} | cold ÷ common (CPU) | cold ÷ ours (CPU) |",
        "|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
        f"Cold ÷ common settings, median of all: **{wall:.2f}** by the wall clock, {cpu:.2f} by the CPU's.",
        "",
        f"Not measured: {', '.join(PEERS)}.",
        "",
        "## The commands",
        "",
        "KERNEL is the kernel of the package, OURS the same one as `bootmatrix build` writes it, with its INITRD.",
    ]
    for cell, ways in commands.items():
        lines += ["", f"### {cell}", "", *(f"    {shlex.join(command)}" for command in ways.values())]
    return "\n".join(lines) + "\n"


def commands_of(ready: Ready, bench: Bench) -> dict[str, tuple[str, ...]]:
    """How to repeat each way by hand, without the paths of this host."""
    assert ready.bootable.kernel and ready.bootable.initrd
    common, ours = common_command(ready, bench), by_hand(ready.machine, ready.bootable).arguments
    names = {common[common.index("-kernel") + 1]: "KERNEL", ready.bootable.kernel.path: "OURS"}
    names[ready.bootable.initrd.path] = "INITRD"
    # A kernel that is in no wrapping is the same file for both.
    shown = {COMMON: common, OURS: ours}
    plain = {way: tuple(names.get(word, word) for word in command) for way, command in shown.items()}
    cell = ready.cell
    return {**plain, COLD: ("bootmatrix", "matrix", "hello", "--arch", cell.target, "--kernel", cell.kernel)}


def _line(row: Row) -> str:
    times = [
        f"{_middle(row, way, 'wall_s'):.2f} s ({_middle(row, way, 'cpu_s'):.2f} s)" for way in (COMMON, OURS, COLD)
    ]
    ratios = [f"{row.ratio(way):.2f} ({row.ratio(way, 'cpu_s'):.2f})" for way in (COMMON, OURS)]
    return f"| {row.cell} | {' | '.join((*times, *ratios))} |"


def _middle(row: Row, way: str, clock: str) -> float:
    return median([getattr(one, clock) for one in row.samples[way]])
