"""The table of what booted where: docs/architectures.md is made by it, so it must not say more than was seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.lock import load_seen
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Record, Verdict
from bootmatrix.report.machines import latest, machine_table, seen_of
from command_line import Tool, refused
from samples import make_cell, make_record, write_run

pytest_plugins = ("command_line",)

PROFILES = load_profiles([CHECKOUT / "arch"])
STALLS = "the archive's kernel stalls there"
RECORDS = (
    make_record(make_cell("aarch64", "6.1", "hello")),
    make_record(make_cell("aarch64", "6.1", "check")),
    make_record(make_cell("aarch64", "7.2", "hello")),
    make_record(make_cell("aarch64", "6.12", "hello")),
    make_record(make_cell("aarch64", "6.12", "check", expect=STALLS), Verdict.HANG, "it\nhangs"),
    make_record(make_cell("armv7", "6.1", "hello", "raspi2b"), Verdict.SKIP, "too slow"),
)


def cells(records: tuple[Record, ...], machine: str) -> dict[str, str]:
    """A machine's row, by the columns' headings."""
    lines = [line for line in machine_table(PROFILES, map(seen_of, records)).splitlines() if line.startswith("|")]
    (row,) = (line for line in lines if line.startswith(f"| `{machine}` |"))
    words = [[word.strip() for word in line.strip("|").split("|")] for line in (lines[0], row)]
    return dict(zip(*words, strict=True))


def test_a_kernel_passed_where_every_spec_did() -> None:
    row = cells(RECORDS, "aarch64/virt")
    assert (row["6.1"], row["7.2"], row["6.12"]) == ("pass", "hello: pass", "check: hang")
    assert row["booted with QEMU"] == "7.2.22"


def test_what_was_not_tried_is_no_pass() -> None:
    assert cells(RECORDS, "aarch64/virt")["5.10"] == "·"
    assert cells(RECORDS, "aarch64/virt")["6.12-64k"] == ""
    assert cells(RECORDS, "armv7/raspi2b")["6.1"] == "·"
    assert cells((), "aarch64/virt")["booted with QEMU"] == ""


def test_what_did_not_pass_is_told_with_its_reason() -> None:
    told = [line for line in machine_table(PROFILES, map(seen_of, RECORDS)).splitlines() if line.startswith("- ")]
    assert told == [
        f"- `check/aarch64/6.12`: hang: it hangs ({STALLS})",
        "- `hello/armv7/raspi2b/6.1`: skip: too slow",
    ]


def test_the_oldest_kernel_that_passed() -> None:
    releases = ("6.12.9-x", "6.1.9-x", "7.2-x", "5.10-x", "5.4-x")
    tried = [
        seen_of(make_record(make_cell("aarch64", kernel, "hello"), verdict)).model_copy(update={"release": release})
        for release, kernel, verdict in zip(
            releases, ("6.12", "6.1", "7.2", "5.10", "newest"), [Verdict.PASS] * 4 + [Verdict.PANIC], strict=True
        )
    ]
    line = "The oldest kernel of each architecture that passed: aarch64: {}."
    assert line.format("5.10-x") in machine_table(PROFILES, tried).splitlines()
    assert line.format("6.1.9-x") in machine_table(PROFILES, tried[:3]).splitlines()
    assert "The oldest kernel" not in machine_table(PROFILES, tried[4:])


def test_a_machine_that_is_no_more_is_left_out() -> None:
    gone = make_record(make_cell("aarch64", "6.1", "old", "gone"), Verdict.FAIL, "broken")
    assert machine_table(PROFILES, map(seen_of, (*RECORDS, gone))) == machine_table(PROFILES, map(seen_of, RECORDS))


def test_the_last_boot_of_a_cell_counts_and_a_skip_is_none() -> None:
    cell = make_cell("aarch64", "6.1", "hello")
    failed, skipped = make_record(cell, Verdict.FAIL, "broken"), make_record(cell, Verdict.SKIP, "no QEMU")
    assert cells((make_record(cell), failed, skipped), "aarch64/virt")["6.1"] == "hello: fail"
    assert cells((failed, make_record(cell)), "aarch64/virt")["6.1"] == "pass"


def test_a_fault_of_ours_is_no_word_on_a_machine() -> None:
    cell = make_cell("aarch64", "6.1", "hello")
    faults = [make_record(cell, verdict, "no network") for verdict in (Verdict.INFRA_ERROR, Verdict.BUILD_ERROR)]
    for fault in faults:
        assert cells((fault,), "aarch64/virt")["6.1"] == "·"
        assert cells((make_record(cell), fault), "aarch64/virt")["6.1"] == "pass"


def test_a_mirrors_host_is_not_kept() -> None:
    told = "not what it should be (https://user@mirror.example:8080/debian/dists/sid/Packages.xz has 1 byte)"
    seen = seen_of(make_record(make_cell("aarch64", "6.1", "hello"), Verdict.INFRA_ERROR, told))
    assert seen.reason == "not what it should be (debian/dists/sid/Packages.xz has 1 byte)"


def test_the_boot_that_was_begun_last_counts_however_they_are_named() -> None:
    cell = make_cell("aarch64", "6.1", "hello")
    new = seen_of(make_record(cell, Verdict.FAIL, "broken"))
    old = seen_of(make_record(cell)).model_copy(update={"at": "2026-11-23T01:40:05+00:00"})
    assert latest((new, old), PROFILES) == latest((old, new), PROFILES) == [new]


def test_a_cpu_model_that_was_tried_has_a_row_of_its_own() -> None:
    cell = make_cell("aarch64", "6.1", "hello", "virt@cortex-a72")
    records = (make_record(make_cell("aarch64", "6.1", "hello")), make_record(cell, Verdict.PANIC, "no such thing"))
    assert cells(records, "aarch64/virt@cortex-a72")["6.1"] == "hello: panic"
    assert cells(records, "aarch64/virt")["6.1"] == "pass"
    assert "cortex-a72`" not in machine_table(PROFILES, map(seen_of, RECORDS))
    unknown = make_record(make_cell("aarch64", "6.1", "hello", "virt@cortex-a1"))
    assert machine_table(PROFILES, map(seen_of, (*RECORDS, unknown))) == machine_table(PROFILES, map(seen_of, RECORDS))


def test_boots_and_copies_are_counted() -> None:
    copied = seen_of(RECORDS[0]).model_copy(update={"boot": "fork"})
    told = "5 cells were run, 1 of them in a copy of a guest that was booted before; 4 passed."
    assert told in machine_table(PROFILES, [copied, *map(seen_of, RECORDS[1:])]).splitlines()


def test_what_earlier_runs_showed_is_kept(tool: Tool, tmp_path: Path) -> None:
    gone = make_record(make_cell("aarch64", "6.1", "old", "gone"))
    (_, first), (_, second) = (write_run(tmp_path / "reports", some) for some in (RECORDS[:3], (*RECORDS[3:], gone)))
    assert tool("arch", "table", str(first), "--kept", "seen.json").returncode == 0
    kept = tool("arch", "table", str(second), "--kept", "seen.json")
    assert kept.stdout == tool("arch", "table", str(first), str(second)).stdout
    assert kept.stdout == tool("arch", "table", "--kept", "seen.json").stdout
    assert '"gone"' not in Path("seen.json").read_text(encoding="utf-8")
    before = Path("seen.json").read_text(encoding="utf-8")
    assert "check/aarch64" not in tool("arch", "table", str(first), "--kept", "seen.json", "--spec", "hello").stdout
    assert Path("seen.json").read_text(encoding="utf-8") == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "cells": [{}]}', "seen.json: not a file of known results: cells.0.cell: Field required"),
        ("[", "seen.json: not a file of known results: "),
        ('{"format": 2}', "seen.json: unsupported format 2, expected 1"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(tool: Tool, text: str, message: str) -> None:
    Path("seen.json").write_text(text, encoding="utf-8")
    refused(tool("arch", "table", "--kept", "seen.json"), message)
    assert Path("seen.json").read_text(encoding="utf-8") == text


def test_nothing_to_make_a_table_of_is_refused(tool: Tool) -> None:
    refused(tool("arch", "table"), "name runs, or a file with earlier results: --kept FILE")


def test_the_documentations_table_is_made_of_what_is_kept() -> None:
    page, kept = (CHECKOUT / "docs" / f"architectures.{ending}" for ending in ("md", "json"))
    seen = [one for one in load_seen(kept) if one.spec in {"hello", "check"}]
    hint = "make it anew: bootmatrix arch table --spec hello,check --kept docs/architectures.json"
    assert page.read_text(encoding="utf-8").endswith(machine_table(PROFILES, seen) + "\n"), hint
