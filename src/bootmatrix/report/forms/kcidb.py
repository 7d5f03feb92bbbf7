"""KCIDB report, schema 5.3: https://github.com/kernelci/kcidb-io.

A kernel's version is a checkout, a kernel for an architecture is a build, a cell and each of its sub-results are tests.
Cells of the user tier are left out, as they test no kernel. An expected failure stays a failure: `misc` has its reason.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from bootmatrix.model import Cell, Record, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.order import cell_time
from bootmatrix.report.sanitize import one_line, sanitize

VERSION = {"major": 5, "minor": 3}
ORIGIN = "bootmatrix"
MAX_EXCERPT = 16_000
"""The schema's limit is 16,384 characters."""
UNKNOWN = "unknown"
"""The version of a kernel that was not resolved."""
OURS = "MISS"
"""Status of a test that did not run because of its harness."""


def render(context: ReportContext) -> bytes:
    """Return the JSON document, in ASCII."""
    records = [record for record in context.records if not record.verdict.is_user_tier]
    checkouts: dict[str, dict[str, Any]] = {}
    builds: dict[str, dict[str, Any]] = {}
    tests: list[dict[str, Any]] = []
    for record in records:
        checkout = _checkout(context, record)
        build = _build(context, checkout["id"], record)
        checkouts.setdefault(checkout["id"], checkout)
        builds.setdefault(build["id"], build)
        tests += _tests(context, build["id"], record)
    for cell in _missing(context):
        checkout = _unknown_checkout(context)
        build = _unknown_build(context, checkout["id"], cell)
        checkouts.setdefault(checkout["id"], checkout)
        builds.setdefault(build["id"], build)
        tests.append(_test(context, build["id"], cell) | {"status": OURS, "misc": {"reason": "no verdict"}})
    parts = {"checkouts": [*checkouts.values()], "builds": [*builds.values()], "tests": tests}
    document = {"version": VERSION} | {name: part for name, part in parts.items() if part}
    return (json.dumps(document, indent=1) + "\n").encode("ascii")


def _id(context: ReportContext, *parts: str) -> str:
    """Return an id, unique among the runs of all who report."""
    run = hashlib.sha256("\0".join((context.run.name, context.run.started_at, *context.run.host.values())).encode())
    return f"{ORIGIN}:{run.hexdigest()[:16]}/{'/'.join(one_line(part) for part in parts)}"


def _checkout(context: ReportContext, record: Record) -> dict[str, Any]:
    if not record.kernel:
        return _unknown_checkout(context)
    version = one_line(record.kernel.version) or UNKNOWN
    comment = f"kernel {version}"
    return {"id": _id(context, version), "origin": ORIGIN, "comment": comment, "valid": True}


def _unknown_checkout(context: ReportContext) -> dict[str, Any]:
    return {"id": _id(context, UNKNOWN), "origin": ORIGIN, "comment": "kernels that were not resolved"}


def _build(context: ReportContext, checkout: str, record: Record) -> dict[str, Any]:
    kernel = record.kernel
    if not kernel:
        return _unknown_build(context, checkout, record.cell)
    build = {
        "checkout_id": checkout,
        "id": _id(context, record.cell.arch, kernel.name, kernel.version),
        "origin": ORIGIN,
        "comment": one_line(kernel.release),
        "architecture": _word(record.cell.arch),
        "config_name": one_line(kernel.name),
        "status": "PASS",
    }
    return build | {"misc": {"kernel": one_line(kernel.origin)}}


def _unknown_build(context: ReportContext, checkout: str, cell: Cell) -> dict[str, Any]:
    return {
        "checkout_id": checkout,
        "id": _id(context, cell.arch, cell.kernel, UNKNOWN),
        "origin": ORIGIN,
        "architecture": _word(cell.arch),
        "config_name": one_line(cell.kernel),
    }


def _tests(context: ReportContext, build: str, record: Record) -> Iterator[dict[str, Any]]:
    """Yield the test of a cell, then those of its sub-results."""
    own = _test(context, build, record.cell)
    times = {"start_time": record.started_at, "duration": round(cell_time(record), 3)}
    misc = {
        "verdict": record.verdict.value,
        "reason": one_line(record.judgement.reason),
        "expected": record.expected,
        "qemu": one_line(record.qemu_version),
    }
    if record.cell.expect:
        misc["expect"] = one_line(record.cell.expect)
    excerpt = _excerpt(context, record)
    yield (
        own | times | {"status": _status(record.verdict), "misc": misc} | ({"log_excerpt": excerpt} if excerpt else {})
    )
    for number, result in enumerate(record.judgement.subresults, 1):
        name = one_line(result.name)
        yield own | {
            "id": f"{own['id']}/{number}",
            "path": f"{own['path']}.{_node(name)}",
            "status": _status(result.verdict),
            "misc": {"name": name, "detail": one_line(result.detail)},
        }


def _test(context: ReportContext, build: str, cell: Cell) -> dict[str, Any]:
    machine = one_line(f"QEMU {cell.machine}" + (f", {' '.join(cell.qemu_args)}" if cell.qemu_args else ""))
    return {
        "build_id": build,
        "id": _id(context, cell.id),
        "origin": ORIGIN,
        "environment": {"comment": machine},
        "path": f"{ORIGIN}.{_node(cell.spec_name)}",
        "comment": one_line(cell.id),
    }


def _status(verdict: Verdict) -> str:
    if verdict is Verdict.PASS:
        return "PASS"
    if verdict is Verdict.SKIP:
        return "SKIP"
    return "FAIL" if verdict.is_guests else OURS


def _missing(context: ReportContext) -> Iterator[Cell]:
    """Yield planned cells without a record, as far as the plan is known."""
    planned = {cell.id: cell for cell in (context.run.order.plan.cells if context.run.order else ())}
    for name in context.run.missing:
        if name in planned and planned[name].tier == "system":
            yield planned[name]


def _excerpt(context: ReportContext, record: Record) -> str:
    """Return the end of the console of a failed cell."""
    if record.verdict is Verdict.PASS or not record.verdict.is_guests or not record.console:
        return ""
    console = context.read_console(record) or b""
    end = console[-MAX_EXCERPT:].decode("utf-8", "replace")
    return sanitize(end)[-MAX_EXCERPT:]


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", text.lower())


def _node(text: str) -> str:
    """Return text as a part of a path: letters, digits, `_` and `-`."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", text)[:100].strip("_") or "unnamed"
