"""Many ends of guests, each a real child process: no false pass, and the blame where it belongs.

`python -m benchmarks.trials ends` tries ten thousand.
"""

from __future__ import annotations

import os

import pytest

from bootmatrix.model import Judgement, Verdict
from ends import FAIL, End, Figures, Maker, lean_qemu, try_ends

COUNT = 80


async def test_every_end_is_judged_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    with lean_qemu() as folder:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        figures = await try_ends(COUNT, "the same ones each time", at_once=8)
    assert figures.tried.total() == COUNT
    assert figures.wrong == []
    assert {"sound", "mangled", "container fails"} <= figures.tried.keys()


def test_ends_are_the_same_for_the_same_seed() -> None:
    first, second = Maker(7), Maker(7)
    assert [first.make() for _ in range(50)] == [second.make() for _ in range(50)]


@pytest.mark.parametrize(
    ("verdict", "counted"),
    [
        (Verdict.PASS, "false_passes"),
        (Verdict.INFRA_ERROR, "wrong_blame"),
        (Verdict.PANIC, "otherwise_wrong"),
        (Verdict.FAIL, ""),
    ],
)
def test_a_wrong_verdict_would_be_counted(verdict: Verdict, counted: str) -> None:
    figures = Figures()
    figures.add(End("x", "console", (), frozenset(FAIL)), Judgement(verdict=verdict, reason="x"))
    names = ("false_passes", "wrong_blame", "otherwise_wrong")
    assert [name for name in names if getattr(figures, name)] == [counted] * bool(counted)
