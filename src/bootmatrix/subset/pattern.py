"""Cells selected by patterns of their ids, or by names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from bootmatrix.errors import InputError
from bootmatrix.model import Plan


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
