"""The table of what booted where: docs/architectures.md is made by it, so it must not say more than was seen."""

from __future__ import annotations

from bootmatrix.load.places import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Record, Verdict
from bootmatrix.report.machines import machine_table
from samples import make_cell, make_record

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
    lines = [line for line in machine_table(PROFILES, records).splitlines() if line.startswith("|")]
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
    told = [line for line in machine_table(PROFILES, RECORDS).splitlines() if line.startswith("- ")]
    assert told == [
        f"- `check/aarch64/6.12`: hang: it hangs ({STALLS})",
        "- `hello/armv7/raspi2b/6.1`: skip: too slow",
    ]


def test_a_machine_that_is_no_more_is_left_out() -> None:
    gone = make_record(make_cell("aarch64", "6.1", "old", "gone"), Verdict.FAIL, "broken")
    assert machine_table(PROFILES, (*RECORDS, gone)) == machine_table(PROFILES, RECORDS)


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
