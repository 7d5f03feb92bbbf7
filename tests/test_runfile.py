"""A run as one file: a record a line, read and written one by one, and never half believed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.errors import InputError
from bootmatrix.model import AttemptRecord, KernelFault, PhaseTime, Run
from bootmatrix.runs import run_json
from bootmatrix.runs.run_json import Known, read_run, run_pieces, write_run
from bootmatrix.runs.run_store import RECORD_FILE, RUN_FILE, STARTED_FILE, load_run
from samples import STARTED, green_records, make_machine, make_record, mixed_records
from samples import write_run as write_whole


def make_run() -> Run:
    return Run(name="one", title="one", tool_version="0", started_at=STARTED, records=tuple(mixed_records()))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_run(tmp_path / "run.json", make_run())
    return tmp_path / "run.json"


def test_it_is_one_json_document_with_a_record_a_line(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert json.loads(text)["records"][0]["cell"]["arch"] == "x86_64"
    assert len(text.splitlines()) == len(make_run().records) + 2
    assert read_run(file) == make_run()


def test_a_run_without_records_and_text_that_is_no_utf8(tmp_path: Path) -> None:
    record = make_record(mixed_records()[0].cell, reason="half \udc80 a letter\nand a line")
    for records in ((), (record,)):
        write_run(tmp_path / "run.json", make_run().model_copy(update={"records": records}))
        assert len(read_run(tmp_path / "run.json").records) == len(records)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_file_of_another_shape_is_read_too(file: Path, indent: int | None) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()), indent=indent))
    assert read_run(file) == make_run()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: lines[:-1], "its end is missing"),
        (lambda lines: lines[:3], "its end is missing"),
        (lambda lines: [*lines[:-2], lines[-1]], "its last record is missing"),
        (lambda lines: [*lines, lines[-1]], "more follows its end"),
        (lambda lines: [*lines[:-1], lines[-2], lines[-1]], "more follows its last record"),
        (lambda lines: [lines[0], lines[1][:40] + b"\n", *lines[2:]], "EOF"),
        (lambda lines: [lines[0], lines[1].replace(b'"expected"', b'"expecteb"'), *lines[2:]], "expecte"),
        (lambda lines: [lines[0].replace(b'"format": 2', b'"format": 3'), *lines[1:]], "format 3"),
        (lambda lines: [lines[0].replace(b'"title"', b'"tilte"'), *lines[1:]], "title: Field required"),
    ],
)
def test_what_is_damaged_is_refused(file: Path, damage: object, words: str) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(damage(lines)))  # type: ignore[operator]
    with pytest.raises(InputError, match=words) as caught:
        read_run(file)
    assert str(file) in str(caught.value)


def test_a_run_of_format_1_is_read_under_its_old_names(tmp_path: Path) -> None:
    fault = KernelFault(name="firmware", is_fatal=False, text="said", line=2)
    record = mixed_records()[0]
    judgement = record.judgement.model_copy(update={"kernel_faults": (fault,)})
    attempt = AttemptRecord(judgement=judgement, started_at=STARTED)
    record = record.model_copy(update={"judgement": judgement, "attempt_records": (attempt, attempt)})
    run = make_run().model_copy(update={"records": (record,)})
    text = b"".join(run_pieces(run)).decode()
    for name, old in (('"format": 2', '"format": 1'), ("attempt_records", "tries"), ("kernel_faults", "troubles")):
        assert name in text
        text = text.replace(name, old)
    (tmp_path / "run.json").write_text(text)
    assert read_run(tmp_path / "run.json") == run


def test_what_many_records_have_in_common_is_kept_once(tmp_path: Path) -> None:
    run = make_run().model_copy(update={"records": tuple(green_records())})
    write_run(tmp_path / "run.json", run)
    records = read_run(tmp_path / "run.json").records
    same = [record for record in records if record.cell.arch == "x86_64"]
    assert same[0].machine_profile is same[1].machine_profile is not None
    assert len({id(one) for record in records for one in record.artefacts}) == len(
        {one for record in records for one in record.artefacts}
    )


def test_what_has_no_hash_is_read_as_it_is() -> None:
    assert Known()._known({"a": 1}) == {"a": 1}


def test_what_only_seems_common_is_not_mixed_up(tmp_path: Path) -> None:
    one, other = (record for record in green_records() if record.cell.arch == "x86_64")
    changed = other.model_copy(update={"machine_profile": make_machine().model_copy(update={"memory_mib": 1024})})
    run = make_run().model_copy(update={"records": (one, changed)})
    write_run(tmp_path / "run.json", run)
    assert read_run(tmp_path / "run.json") == run


def test_pieces_are_small(file: Path) -> None:
    assert max(map(len, run_pieces(make_run()))) < file.stat().st_size / 4


def test_a_value_has_no_list_of_given_fields_of_its_own() -> None:
    one, other = PhaseTime(name="boot", seconds=1), PhaseTime.model_validate_json('{"name": "boot", "seconds": 1.0}')
    assert one == other == one.model_copy()
    assert one.model_fields_set is other.model_fields_set is one.model_copy().model_fields_set
    assert sys.getsizeof(one.model_fields_set) > 200, "what is saved"
    assert one.model_copy(update={"seconds": 2.0}) != one


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
@pytest.mark.parametrize("name", [RUN_FILE, STARTED_FILE, RECORD_FILE])
def test_a_run_from_elsewhere_with_a_file_that_is_none(
    tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    """A pipe would keep its reader waiting, and a device never ends."""
    _, folder = write_whole(tmp_path, green_records())
    victim = next(folder.rglob(name))
    if name != RUN_FILE:
        (folder / RUN_FILE).unlink()
    victim.unlink()
    make(victim)
    with pytest.raises(InputError):
        load_run(folder)


def test_a_run_larger_than_any_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = write_whole(tmp_path, green_records())
    monkeypatch.setattr(run_json, "MAX_RUN_BYTES", 1 << 10)
    with pytest.raises(InputError, match=r"run\.json: cannot be read: larger than 0 MiB"):
        load_run(folder)
