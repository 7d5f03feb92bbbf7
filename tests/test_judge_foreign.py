"""Guests without our init: their console decides, and nothing that the kernel repeats fools it."""

from __future__ import annotations

from typing import Any

import pytest

from bootmatrix.cell.run import with_proof
from bootmatrix.errors import BuildError
from bootmatrix.judge import judge
from bootmatrix.model import Bootable, ConsoleProof, Judgement, QmpEvent, Verdict
from guests import CORPUS, left, make_bootable, make_machine, make_outcome

PROOF = ConsoleProof(console="suite PASSED", forbid=("suite FAILED",))
SHOWN = b"[    1.000000] Linux version 6.1\r\nhello\r\nMoby suite PASSED\r\n[    2.000000] reboot: Power down\r\n"


def foreign(**changes: Any) -> Bootable:
    return make_bootable(reports=False, proof=PROOF.model_copy(update=changes))


def judged(transcript: bytes = SHOWN, proof: dict[str, Any] | None = None, **changes: Any) -> Judgement:
    outcome = make_outcome(**{"messages": (), **changes})
    return judge(outcome, make_machine(), foreign(**(proof or {})), transcript)


def test_a_text_on_the_console_and_the_way_out_make_a_pass_that_is_said_to_be_weak() -> None:
    judgement = judged()
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True)
    assert "whatever runs in the guest can print" in judgement.reason
    assert [(one.line, one.text) for one in judgement.evidence if one.source == "console"] == [(3, "Moby suite PASSED")]
    assert judged(events=(left("guest-reset"),)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        (b"", "the console never showed 'suite PASSED'"),
        (b"Moby suite PASS\r\nED\r\n", "the console never showed 'suite PASSED'"),
        (b"Kernel command line: x=suite PASSED\r\n", "the console never showed"),
        (b"[    0.000000] Command line: suite PASSED\r\n", "the console never showed"),
        (b'[    0.0] Unknown kernel command line parameters "suite PASSED"\r\n', "the console never showed"),
        (SHOWN + b"suite FAILED\r\n", "the console shows 'suite FAILED', which is forbidden"),
        (b"suite FAILED\r\n" + SHOWN, "the console shows 'suite FAILED', which is forbidden"),
        (SHOWN + b"[    3.000000] BUG: scheduling while atomic\r\n", "the kernel reported a fault"),
        (SHOWN + SHOWN, "the guest rebooted"),
        (SHOWN + b"suite \x1b[0;1;31mFAILED\x1b[0m\r\n", "the console shows 'suite FAILED', which is forbidden"),
        (SHOWN + b"on command line: suite FAILED\r\n", "the console shows 'suite FAILED', which is forbidden"),
        (b"Kernel command line: suite PASSED\r\n" * 100_000, "the console never showed"),
    ],
)
def test_anything_else_is_a_failure(transcript: bytes, reason: str) -> None:
    judgement = judged(transcript)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith(reason)
    assert judgement.is_weak
    assert judgement.advice


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"events": ()}, Verdict.FAIL),
        ({"events": (left(), left())}, Verdict.FAIL),
        ({"events": (left("guest-panic"),)}, Verdict.FAIL),
        ({"ended_by": "host", "limit": "silence", "limit_phase": "boot"}, Verdict.HANG),
        ({"ended_by": "host", "limit": "boot", "limit_phase": "boot"}, Verdict.TIMEOUT),
        ({"ended_by": "host", "limit": "shown", "events": ()}, Verdict.FAIL),
        ({"ended_by": "error", "host_error": "no memory"}, Verdict.INFRA_ERROR),
        ({"exit_status": 1}, Verdict.INFRA_ERROR),
    ],
)
def test_the_text_alone_is_no_pass(changes: dict[str, Any], verdict: Verdict) -> None:
    assert judged(**changes).verdict is verdict


def test_a_panic_prevails_over_the_text() -> None:
    assert judged(SHOWN + (CORPUS / "panic-x86_64.log").read_bytes()).verdict is Verdict.PANIC


def test_a_guest_that_is_to_stay_passes_when_it_was_ended_for_that() -> None:
    stayed: dict[str, Any] = {"ended_by": "host", "limit": "shown", "limit_phase": "shutdown", "events": ()}
    assert judged(proof={"stays": True}, **stayed).verdict is Verdict.PASS
    assert judged(b"", proof={"stays": True}, **stayed).verdict is Verdict.FAIL


def test_a_text_in_colour_is_the_same_text() -> None:
    assert judged(SHOWN.replace(b"PASSED", b"\x1b[1;32mPA\x1b[mSSED")).verdict is Verdict.PASS


def test_a_line_that_the_kernel_tore_is_mended() -> None:
    torn = b"Moby suite [    1.500000] random: crng init done\r\nPASSED\r\n"
    assert judged(torn).verdict is Verdict.PASS


@pytest.mark.parametrize(
    "line", [b"command line: x", b"[    0.000000] Kernel command line: x", b"[    0.100000] Command line: x"]
)
def test_what_is_forbidden_may_stand_where_the_kernel_repeats_its_command_line(line: bytes) -> None:
    assert judged(line.replace(b"x", b"a=suite FAILED\r\n") + SHOWN).verdict is Verdict.PASS
    assert judged(b"bash: " + line.replace(b"x", b"a=suite FAILED\r\n") + SHOWN).verdict is Verdict.FAIL


@pytest.mark.parametrize("text", ["panic=-1", "quiet"])
def test_a_text_that_stands_on_the_command_line_is_refused(text: str) -> None:
    machine = make_machine(cmdline=("panic=-1",))
    bootable = foreign(console=text).model_copy(update={"cmdline": "root=/dev/vda quiet"})
    with pytest.raises(BuildError, match=f"'{text}' is on the kernel's command line"):
        with_proof(bootable, None, machine)


def test_a_board_whose_kernel_restarts_by_the_watchdog() -> None:
    """QEMU reports WATCHDOG then, as of a guest that hangs: what the kernel said before tells them apart."""
    bite = QmpEvent(name="WATCHDOG", data={"action": "reset"}, at_s=19)
    restarts = SHOWN.replace(b"Power down", b"Restarting system")

    def verdict(transcript: bytes, machine: str = "watchdog", bites: int = 1) -> Verdict:
        events = (*[bite.model_copy(update={"at_s": float(number)}) for number in range(bites)], left("guest-reset"))
        outcome = make_outcome(messages=(), events=events)
        return judge(outcome, make_machine(exit=machine), foreign(), transcript).verdict

    assert verdict(restarts) is Verdict.PASS
    assert verdict(SHOWN) is Verdict.FAIL
    assert verdict(restarts, bites=2) is Verdict.FAIL
    assert verdict(restarts, machine="reboot") is Verdict.FAIL
