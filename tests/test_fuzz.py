"""Every reader of what others wrote holds, whatever it reads: a bounded run. `make fuzz` goes on for longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz_targets import Broken, Target, expect, targets

EXAMPLES = 1500
"""Of each target; about a second. The same ones each time, so that a failure here is a change's."""
NAMES = tuple(targets(Path()))


def mutations(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with some edits, and some bytes that nobody sent on purpose."""
    pieces = st.one_of(st.sampled_from((*target.tokens, b"")), st.binary(max_size=20))
    edit = st.tuples(st.floats(0, 1), st.sampled_from((0, 0, 1, 2, 10, 200)), pieces, st.sampled_from((1, 1, 1, 3, 50)))
    edited = st.builds(edits, st.sampled_from(target.seeds), st.lists(edit, max_size=6))
    return st.one_of(edited, edited, edited, st.binary(max_size=400))


def edits(data: bytes, changes: list[tuple[float, int, bytes, int]]) -> bytes:
    """Replace some bytes, at a place between 0 and 1, by others, several times over."""
    for place, removed, inserted, times in changes:
        at = int(place * len(data))
        data = data[:at] + inserted * times + data[at + removed :]
    return data[: 1 << 16]


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_holds(tmp_path: Path, name: str) -> None:
    target = targets(tmp_path)[name]
    for seed in target.seeds:
        target.run(seed)

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(target))
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


def test_a_fault_would_be_found(tmp_path: Path) -> None:
    """A reader that takes all but one word."""

    def run(data: bytes) -> None:
        expect(b"exit 0" not in data or b"9999" not in data, "both words")

    target = Target(run, targets(tmp_path)["message"].seeds, (b"9999",))

    @settings(max_examples=EXAMPLES * 3, derandomize=True, database=None, deadline=None)
    @given(mutations(target))
    def holds(data: bytes) -> None:
        target.run(data)

    with pytest.raises(Broken, match="both words"):
        holds()
