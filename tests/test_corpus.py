"""Real guests, as `bootmatrix judge` reads them: each has its verdict, today as on the day on which it was booted.

`python -m benchmarks.corpus` makes the corpus of saved runs.
"""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from bootmatrix.attempts import rejudge
from bootmatrix.model import Judgement, Record
from bootmatrix.runs import load_run
from guests import CORPUS


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Record, Judgement]]:
    """Every cell of the corpus, with the judgement that it gets."""
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return [pair for run in sorted(folder.iterdir()) for pair in rejudge(load_run(run), run)]


def test_every_cell_gets_its_verdict(cells: list[tuple[Record, Judgement]]) -> None:
    wrong = {record.cell.id: again.verdict for record, again in cells if again.verdict is not record.verdict}
    assert wrong == {}


def test_the_corpus_has_every_kind_of_end_of_many_architectures(cells: list[tuple[Record, Judgement]]) -> None:
    ends = Counter((record.cell.arch, record.verdict.value) for record, _ in cells)
    assert ends.total() >= 60
    assert {verdict for _, verdict in ends} >= {"pass", "fail", "panic", "hang", "timeout"}
    for arch in ("x86_64", "aarch64", "armv7", "ppc64le"):
        assert {verdict for name, verdict in ends if name == arch} >= {"pass", "fail", "panic", "hang", "timeout"}


def test_the_corpus_says_nothing_of_the_host_that_it_was_made_on(cells: list[tuple[Record, Judgement]]) -> None:
    for record, _ in cells:
        assert record.cell.spec == Path(record.cell.spec).name
        assert record.bootable and record.bootable.kernel
        assert Path(record.bootable.kernel.path).parent == Path("/")
