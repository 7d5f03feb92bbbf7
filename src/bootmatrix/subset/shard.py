"""Parts of a plan: cells by patterns of ids, and shards of like length."""

import heapq
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from bootmatrix.errors import InputError
from bootmatrix.model import Plan

MAX_SHARDS = 1000
_SHARD = re.compile(r"(\d{1,4})/(\d{1,4})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Parse `2/4`. Raises InputError if it is invalid."""
    match = _SHARD.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count <= MAX_SHARDS:
        raise InputError(f"--shard {text[:20]!r}: expected NUMBER/COUNT such as '2/4', of at most {MAX_SHARDS} shards")
    return Shard(number, count)


def split(seconds: Mapping[str, float], count: int) -> list[list[str]]:
    """Assign cells to shards, longest first, each to the shard with the least to do.

    The result depends only on ids and durations, so every job computes the same.
    """
    shards: list[list[str]] = [[] for _ in range(count)]
    loads = [(0.0, index) for index in range(count)]
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        load_s, index = heapq.heappop(loads)
        shards[index].append(name)
        heapq.heappush(loads, (load_s + seconds[name], index))
    return shards


def shard_of(plan: Plan, shard: Shard, seconds: Mapping[str, float]) -> Plan:
    """Return a plan's shard; skips are dealt out too."""
    own = set(split({cell.id: seconds[cell.id] for cell in plan.cells}, shard.count)[shard.number - 1])
    return plan.model_copy(
        update={
            "cells": tuple(cell for cell in plan.cells if cell.id in own),
            "skips": plan.skips[shard.number - 1 :: shard.count],
        }
    )


def only(plan: Plan, patterns: Sequence[str]) -> Plan:
    """Return the cells and skips whose id matches a pattern such as `influxdb/*/6.1`.

    Raises InputError if a pattern matches none.
    """
    ids = [cell.id for cell in plan.cells] + [skip.cell.id for skip in plan.skips]
    matching: set[str] = set()
    for pattern in patterns:
        names = {name for name in ids if fnmatchcase(name, pattern)}
        if not names:
            near = get_close_matches(pattern, ids, 1)
            hint = (
                f"Did you mean {near[0]!r}?" if near else "A cell is spec/arch[/machine]/kernel: see 'bootmatrix plan'."
            )
            raise InputError(f"--only {pattern!r} matches no cell", hint)
        matching |= names
    return among(plan, matching)


def among(plan: Plan, names: Collection[str]) -> Plan:
    """Return the cells and skips with these ids."""
    return plan.model_copy(
        update={
            "cells": tuple(cell for cell in plan.cells if cell.id in names),
            "skips": tuple(skip for skip in plan.skips if skip.cell.id in names),
        }
    )
