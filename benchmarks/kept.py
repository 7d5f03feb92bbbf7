"""What was measured so far, in benchmarks/results.json, and the page made of it: a part at a time may be measured."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.beside import COLD, COMMON, COMMON_RATIO, FORKED, FORKED_RATIO, OURS, OURS_RATIO, TUXRUN, Row
from benchmarks.results import Result, median
from bootmatrix.runs.host import describe_host

FILE, PAGE = Path("benchmarks/results.json"), Path("benchmarks/results.md")
FIRST = (COMMON, OURS, COLD, FORKED)
"""Columns that stand first; peers follow."""
CLOCKS = ("wall_s", "cpu_s")
RATIOS = ((COLD, COMMON), (COLD, OURS), (FORKED, COLD), (COLD, TUXRUN))

Json = dict[str, Any]


def keep_row(row: Row) -> None:
    """Put a cell's samples, and the commands they come from, in the place of older ones."""
    kept = _load()
    kept["rows"][row.cell] = {
        "samples": {way: [asdict(one) for one in samples] for way, samples in row.samples.items()},
        "commands": {way: list(words) for way, words in row.commands.items()},
        "left_out": dict(row.left_out),
    }
    _save(kept)


def keep(results: Iterable[Result]) -> None:
    """Put figures in the place of older ones of the same name."""
    kept = _load()
    kept["figures"] |= {one.name: {"value": one.value, "target": one.target, "ok": one.ok} for one in results}
    _save(kept)


def keep_matrix(arch: str, forked_s: float, cold_s: float) -> None:
    """Put the times of an architecture's matrix in the place of older ones."""
    kept = _load()
    kept["matrices"][arch] = {"forked_s": forked_s, "cold_s": cold_s}
    _save(kept)


def matrices() -> dict[str, dict[str, float]]:
    """Times of matrices, by architecture, as they were measured last."""
    return dict(_load()["matrices"])


def cell_results(cell: str) -> Iterator[Result]:
    """A cell's ratios, against their targets."""
    samples = _load()["rows"][cell]["samples"]
    for of, over, target in ((COLD, OURS, OURS_RATIO), (FORKED, COLD, FORKED_RATIO)):
        wall, cpu = (ratio(samples, of, over, clock) for clock in CLOCKS)
        yield Result(f"{cell}, {of} ÷ {over}", f"×{wall:.3f} (CPU ×{cpu:.3f})", f"×{target}", wall <= target)


def common_result() -> Result:
    """The median over all cells measured so far of a cold cell's time by that of the common settings."""
    samples = [row["samples"] for row in _load()["rows"].values()]
    wall, cpu = (median([ratio(one, COLD, COMMON, clock) for one in samples]) for clock in CLOCKS)
    value = f"×{wall:.3f} (CPU ×{cpu:.3f}), {len(samples)} cells"
    return Result(f"{COLD} ÷ {COMMON}, median", value, f"×{COMMON_RATIO}", wall <= COMMON_RATIO)


def ratio(samples: Mapping[str, Sequence[Mapping[str, float]]], of: str, over: str, clock: str = "wall_s") -> float:
    """Median of one way's time divided by another's, pair by pair."""
    return median([one[clock] / other[clock] for one, other in zip(samples[of], samples[over], strict=True)])


def page(kept: Json) -> str:
    """The whole as Markdown."""
    found = dict(sorted(kept["rows"].items()))
    others = {way for row in found.values() for way in row["samples"]} - set(FIRST)
    ways = [way for way in (*FIRST, *sorted(others)) if any(way in row["samples"] for row in found.values())]
    return (
        "\n".join((*_intro(kept["host"]), *_times(found, ways), *_figures(kept["figures"]), *_commands(found))) + "\n"
    )


def _intro(host: Mapping[str, str]) -> list[str]:
    return [
        "# Measured",
        "",
        f"Written by `make bench` on {host['cpus']} cores ({host['cpu']}). Cells are booted by each way in",
        "turn; seconds are medians, ratios are medians of pairs, which a busy host moves less. In brackets: the time",
        "of the CPU, of all processes, which it moves least.",
    ]


def _times(found: Mapping[str, Json], ways: Sequence[str]) -> Iterable[str]:
    ratios = [pair for pair in RATIOS if set(pair) <= set(ways)]
    names = [f"{of} ÷ {over}" for of, over in ratios]
    yield from ("", "## Beside others", "", f"| cell | times | {' | '.join((*ways, *names))} |")
    yield "|---|---|" + "---|" * len((*ways, *names))
    for cell, row in found.items():
        samples = row["samples"]
        times = (_times_of(samples[way]) if way in samples else "–" for way in ways)
        shares = (_share(samples, *pair) if set(pair) <= samples.keys() else "–" for pair in ratios)
        yield f"| {cell} | {len(samples[COLD])} | {' | '.join((*times, *shares))} |"
    left_out = {way: why for row in found.values() for way, why in row["left_out"].items()}
    for way, why in sorted(left_out.items()):
        yield from ("", f"Left out: {way}: {why}")


def _times_of(samples: Sequence[Mapping[str, float]]) -> str:
    wall_s, cpu_s = (median([one[clock] for one in samples]) for clock in CLOCKS)
    return f"{wall_s:.2f} s ({cpu_s:.2f} s)"


def _share(samples: Mapping[str, Sequence[Mapping[str, float]]], of: str, over: str) -> str:
    wall, cpu = (ratio(samples, of, over, clock) for clock in CLOCKS)
    return f"{wall:.2f} ({cpu:.2f})"


def _figures(figures: Mapping[str, Json]) -> Iterable[str]:
    yield from ("", "## Figures", "", "| what | measured | target | |", "|---|---|---|---|")
    for name, one in sorted(figures.items()):
        yield f"| {name} | {one['value']} | {one['target']} | {'ok' if one['ok'] else 'missed'} |"


def _commands(found: Mapping[str, Json]) -> Iterable[str]:
    yield from (
        "",
        "## The commands",
        "",
        "KERNEL is the kernel of the package, OURS the same one as `bootmatrix build` writes it, with its INITRD.",
        "ROOT is that initrd as one archive that is not compressed, with a /bin/sh.",
    )
    for cell, row in found.items():
        yield from ("", f"### {cell}", "", *(f"    {shlex.join(words)}" for words in row["commands"].values()))


def _load() -> Json:
    kept = json.loads(FILE.read_bytes()) if FILE.exists() else {}
    return {"rows": {}, "figures": {}, "matrices": {}, **kept, "host": describe_host()}


def _save(kept: Json) -> None:
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(kept), encoding="utf-8")
