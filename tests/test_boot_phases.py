"""Where the time of a boot went."""

from __future__ import annotations

import pytest

from bootmatrix.boot.phases import guest_phases
from bootmatrix.model import GuestMessage
from guests import make_outcome


def phases(*messages: tuple[float, str]) -> list[tuple[str, float]]:
    """Phases of a boot that ends after 20 s, with their lengths."""
    said = [
        GuestMessage(kind=text.split(" ")[0], words=tuple(text.split(" ")[1:]), at_s=at_s) for at_s, text in messages
    ]
    outcome = make_outcome(messages=tuple(said), wall_s=20.0)
    return [(phase.name, round(phase.seconds, 3)) for phase in guest_phases(outcome)]


def test_what_came_before_the_kernel_is_told_apart_from_it_and_from_init() -> None:
    found = phases(
        (4.0, "ready 6.1"),
        (4.1, "uptime 2.50 3.00"),
        (4.2, "onboot first start"),
        (5.0, "onboot first exit 0"),
        (7.0, "onboot second exit 0"),
        (8.0, "services up"),
        (9.0, "check one exit 0"),
        (11.0, "check two exit 0"),
        (12.0, "shutdown"),
    )
    assert found == [
        ("firmware", 1.0),
        ("kernel", 2.5),
        ("init", 0.5),
        ("onboot first", 1.0),
        ("onboot second", 2.0),
        ("services", 1.0),
        ("checks", 3.0),
        ("shutdown", 9.0),
    ]
    assert sum(seconds for _, seconds in found) == 20


@pytest.mark.parametrize(
    "words", ["", "2.50", "3.00 2.00", "1.00 9.99", "-1.00 2.00", "1e9 1.00", "nan inf", "1.00 2.00 3.00"]
)
def test_a_guest_whose_clock_makes_no_sense_has_one_phase_before_init(words: str) -> None:
    assert phases((4.0, "ready 6.1"), (4.1, f"uptime {words}".strip())) == [("boot", 4.0), ("shutdown", 16.0)]


def test_a_guest_that_says_nothing_has_only_an_end() -> None:
    assert phases() == [("shutdown", 20.0)]
