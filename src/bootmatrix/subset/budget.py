"""Cells that are worth most within a time: new, failed lately, flaky, changed inputs, longest not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from bootmatrix.history.trend import history_of
from bootmatrix.history.values import CellKey, Input, PastVerdict, Standing
from bootmatrix.model import Cell, Plan, Skip
from bootmatrix.report.units import moment

LATELY = 3
"""Last verdicts that count as lately."""
COMPARED = frozenset({"spec", "profile", "QEMU arguments", "bootmatrix"})
"""Kinds of input that are known before anything is fetched."""


class Worth(IntEnum):
    """Reason to run a cell, most urgent first."""

    NEW = 0
    FAILED_LATELY = 1
    FLAKY = 2
    CHANGED_INPUTS = 3
    USUAL = 4

    @property
    def words(self) -> str:
        """The reason for people."""
        return {0: "new", 1: "failed lately", 2: "flaky", 3: "changed inputs", 4: "passed"}[self.value]


@dataclass(frozen=True)
class CellPast:
    """A cell's last verdicts, oldest first, and the inputs of the last one."""

    past: Sequence[PastVerdict] = ()
    inputs: Sequence[Input] = ()


@dataclass(frozen=True)
class CellWorth:
    """Worth of a cell; `last` is when it was run, in RFC 3339, empty if never."""

    worth: Worth
    last: str


def worth_of(cell: Cell, known: CellPast, inputs: Sequence[Input]) -> CellWorth:
    """Determine the worth of a cell from its past and its present inputs."""
    tried = [entry for entry in known.past if entry.standing is not Standing.SKIP]
    if not tried:
        return CellWorth(Worth.NEW, "")
    last = tried[-1].started_at
    if any(entry.standing in {Standing.BAD, Standing.FAULT} for entry in tried[-LATELY:]):
        return CellWorth(Worth.FAILED_LATELY, last)
    key = CellKey(cell.spec_name, cell.arch, cell.machine, cell.kernel, "")
    if history_of(cell.id, key, tried).is_flaky:
        return CellWorth(Worth.FLAKY, last)
    if _comparable(known.inputs) != _comparable(inputs):
        return CellWorth(Worth.CHANGED_INPUTS, last)
    return CellWorth(Worth.USUAL, last)


def _comparable(inputs: Sequence[Input]) -> set[Input]:
    return {entry for entry in inputs if entry.kind in COMPARED}


def within(plan: Plan, limit_s: float, worth: Mapping[str, CellWorth], seconds: Mapping[str, float], text: str) -> Plan:
    """Return a plan in which cells beyond the limit are skips, with the reason. At least one cell stays.

    `limit_s` is CPU time: the budget times the cores; `seconds` the expected CPU time of each cell; `text` the budget.
    """
    order = sorted(plan.cells, key=lambda cell: (worth[cell.id].worth, worth[cell.id].last, cell.id))
    kept: set[str] = set()
    used_s = 0.0
    for cell in order:
        if not kept or used_s + seconds[cell.id] <= limit_s:
            kept.add(cell.id)
            used_s += seconds[cell.id]
    left_out = [cell for cell in plan.cells if cell.id not in kept]
    skips = tuple(Skip(cell=cell, reason=_reason(worth[cell.id], text)) for cell in left_out)
    return plan.model_copy(
        update={
            "cells": tuple(cell for cell in plan.cells if cell.id in kept),
            "skips": (*plan.skips, *skips),
        }
    )


def _reason(worth: CellWorth, text: str) -> str:
    last = f", last run {moment(worth.last)}" if worth.last else ""
    return f"beyond the budget of {text} ({worth.worth.words}{last})"
