"""Every reader of what others wrote holds, whatever it reads: a bounded run. `make fuzz` goes on for longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from fuzz_targets import Broken, Target, expect, mutations, targets

EXAMPLES = 600
"""Of each target; some tenths of a second. The same ones each time, so that a failure here is a change's."""
NAMES = tuple(targets(Path()))


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

    @settings(max_examples=4500, derandomize=True, database=None, deadline=None)
    @given(mutations(target))
    def holds(data: bytes) -> None:
        target.run(data)

    with pytest.raises(Broken, match="both words"):
        holds()
