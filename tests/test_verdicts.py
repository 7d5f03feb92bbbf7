"""Every verdict says what was seen, and what to do next."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from bootmatrix.cell.retry import judge_error
from bootmatrix.errors import BuildError, HostError, InputError, NetworkError
from bootmatrix.judge import judge
from bootmatrix.model import Verdict
from fake_qemu import TEXTS
from guests import CORPUS, left, make_bootable, make_machine, make_messages, make_outcome

CONSOLE = b"[    0.000000] Linux version 6.1\r\nserver| the last words\r\n"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"messages": ()}, Verdict.FAIL),
        ({"messages": make_messages(end="")}, Verdict.FAIL),
        (
            {"messages": make_messages(tuple(text.replace("ping exit 0", "ping exit 7") for text in TEXTS))},
            Verdict.FAIL,
        ),
        ({"messages": make_messages(TEXTS[:5])}, Verdict.FAIL),
        ({"result_fault": "a gap"}, Verdict.FAIL),
        ({"rejected": 2}, Verdict.FAIL),
        ({"events": ()}, Verdict.FAIL),
        ({"events": (left("guest-reset"),)}, Verdict.FAIL),
        ({"exit_status": 1}, Verdict.INFRA_ERROR),
        ({"exit_status": None}, Verdict.INFRA_ERROR),
        ({"ended_by": "user"}, Verdict.INFRA_ERROR),
        ({"ended_by": "error", "host_error": "no memory"}, Verdict.INFRA_ERROR),
        ({"ended_by": "host", "limit": "panic", "limit_phase": "boot"}, Verdict.PANIC),
        ({"ended_by": "host", "limit": "silence", "limit_phase": "boot"}, Verdict.HANG),
        ({"ended_by": "host", "limit": "checks", "limit_phase": "checks"}, Verdict.TIMEOUT),
        ({"ended_by": "host", "limit": "flood", "limit_phase": "checks"}, Verdict.FAIL),
    ],
)
def test_what_was_seen_and_what_to_do_are_told(changes: dict[str, Any], verdict: Verdict) -> None:
    judgement = judge(make_outcome(**changes), make_machine(), make_bootable(), CONSOLE)
    assert judgement.verdict is verdict
    assert judgement.reason
    assert judgement.evidence, judgement
    assert judgement.advice, judgement


@pytest.mark.parametrize("name", ["panic-x86_64.log", "panic-ppc64le.log"])
def test_where_it_was_seen_is_told(name: str) -> None:
    transcript = (CORPUS / name).read_bytes()
    judgement = judge(make_outcome(), make_machine(), make_bootable(), transcript)
    lines = transcript.split(b"\n")
    assert [one for one in judgement.evidence if one.line]
    for one in judgement.evidence:
        if one.line:
            assert one.text.encode() in lines[one.line - 1]


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (BuildError("no such package"), Verdict.BUILD_ERROR),
        (InputError("no such file"), Verdict.BUILD_ERROR),
        (NetworkError("no answer"), Verdict.INFRA_ERROR),
        (HostError("no QEMU", "Install it."), Verdict.INFRA_ERROR),
        (OSError(errno.ENOSPC, "No space left on device"), Verdict.INFRA_ERROR),
        (RuntimeError("oh"), Verdict.INFRA_ERROR),
    ],
)
def test_errors_of_ours_say_so_too(error: Exception, verdict: Verdict) -> None:
    judgement = judge_error(error)
    assert judgement.verdict is verdict
    assert judgement.evidence
    assert judgement.advice
