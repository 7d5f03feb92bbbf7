"""Real guests, as `bootmatrix judge` reads them: each has its verdict, today as on the day on which it was booted.

`python -m benchmarks.corpus` boots benchmarks/ends, and makes the corpus of saved runs of it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import yaml

from bootmatrix.cell.rejudge import rejudge
from bootmatrix.model import Judgement, Record
from bootmatrix.runs.run_store import load_run
from guests import CORPUS

ENDS = Path(__file__).parents[1] / "benchmarks/ends"
RIGHT: dict[str, str] = yaml.safe_load((ENDS / "verdicts.yml").read_text(encoding="utf-8"))
"""Verdicts by the names of specs."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Record, Judgement]]:
    """Every cell of the corpus, with the judgement that it gets."""
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS / "runs.tar.xz") as archive:
        archive.extraction_filter = tarfile.data_filter if hasattr(tarfile, "data_filter") else None  # from 3.11.4 on
        archive.extractall(folder)
    return [pair for run in sorted(folder.iterdir()) for pair in rejudge(load_run(run), run)]


def test_every_cell_gets_its_verdict(cells: list[tuple[Record, Judgement]]) -> None:
    wrong = {record.cell.id: again.verdict for record, again in cells if again.verdict is not record.verdict}
    assert wrong == {}


def test_every_cell_has_the_verdict_that_its_spec_has_to_have(cells: list[tuple[Record, Judgement]]) -> None:
    wrong = {record.cell.id: again.verdict for record, again in cells if again.verdict != RIGHT[record.cell.spec_name]}
    assert wrong == {}


def test_the_corpus_has_every_kind_of_end_of_many_architectures(cells: list[tuple[Record, Judgement]]) -> None:
    ends = {(record.cell.arch, record.cell.spec_name) for record, _ in cells}
    assert len(ends) >= 60
    for arch in ("x86_64", "aarch64", "armv7", "ppc64le"):
        assert {spec for name, spec in ends if name == arch} == RIGHT.keys()
    assert {arch for arch, spec in ends if spec == "panics"} >= {"riscv64", "s390x", "mips64el", "i386", "armv6"}


def test_guests_of_others_are_judged_by_weaker_evidence(cells: list[tuple[Record, Judgement]]) -> None:
    weak = {record.cell.spec_name for record, again in cells if again.is_weak}
    foreign = {name for name in RIGHT if name.startswith("foreign-")}
    assert weak == {*foreign, "passes"}, "these guests' init is of protocol 1, which has no account of the kernel"


def test_the_corpus_says_nothing_of_the_host_that_it_was_made_on(cells: list[tuple[Record, Judgement]]) -> None:
    for record, _ in cells:
        assert record.cell.spec == Path(record.cell.spec).name
        assert record.bootable and record.bootable.kernel
        assert Path(record.bootable.kernel.path).parent == Path("/")
