"""Verdicts: one perfect outcome passes, and nothing that differs from it does."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.judge import judge
from bootmatrix.model import Bootable, GuestMessage, Judgement, Machine, Outcome, QmpEvent, Verdict
from fake_qemu import RELEASE, TEXTS
from guests import CORPUS, left, make_bootable, make_machine, make_messages, make_outcome

CLEAN = (CORPUS / "clean-x86_64.log").read_bytes()


def judged(transcript: bytes = CLEAN, machine: Machine | None = None, **changes: Any) -> Judgement:
    return judge(make_outcome(**changes), machine or make_machine(), make_bootable(), transcript)


def saying(*texts: str, end: str = "pass") -> tuple[GuestMessage, ...]:
    return make_messages(texts, end)


def replaced(old: str, new: str) -> tuple[GuestMessage, ...]:
    assert old in TEXTS
    return saying(*(new if text == old else text for text in TEXTS), end="fail")


def stuck(starved_s: float) -> tuple[GuestMessage, ...]:
    """A service is killed, does not end for a second, and for so long the host has no core for its guest."""
    process = base64.b64encode(b"sync (7) in jbd2_log").decode()
    texts = (*TEXTS[:12], "service server killed 2000", f"service server stuck {process}", *TEXTS[12:])
    return tuple(
        one.model_copy(update={"starved_s": starved_s if one.sequence > 13 else 0.0})
        for one in saying(*texts, end="fail")
    )


def test_a_perfect_boot_passes() -> None:
    judgement = judged()
    assert judgement.verdict is Verdict.PASS
    assert {one.verdict for one in judgement.subresults} == {Verdict.PASS}
    assert [one.name for one in judgement.subresults] == [
        "onboot prepare",
        "onboot prepare (2)",
        "check ping",
        "check write",
        "service server",
        "onshutdown sweep",
    ]


def test_a_boot_that_leaves_by_reboot_passes_where_the_machine_does_so() -> None:
    events = (left("guest-reset"),)
    assert judged(machine=make_machine(exit="reboot"), events=events).verdict is Verdict.PASS
    assert judged(events=events).verdict is Verdict.FAIL
    assert judged(machine=make_machine(exit="reboot")).verdict is Verdict.FAIL


def test_a_boot_that_leaves_by_semihosting_passes_by_its_status_alone() -> None:
    machine = make_machine(exit="semihosting")
    assert judged(machine=machine, events=(), exit_status=80).verdict is Verdict.PASS
    for status in (0, 1, 79, 81, 255):
        assert judged(machine=machine, events=(), exit_status=status).verdict is Verdict.FAIL
    assert judged(machine=machine, events=(), exit_status=-9).verdict is Verdict.INFRA_ERROR
    assert judged(machine=machine, exit_status=80).verdict is Verdict.FAIL, "it left by power off as well"
    assert judged(machine=machine, events=(), exit_status=80, messages=MESSAGES[:-1]).verdict is Verdict.FAIL
    assert judged(events=(), exit_status=80).verdict is not Verdict.PASS


def test_a_spec_without_a_container_is_no_pass_and_no_fault_of_the_guest() -> None:
    bootable = make_bootable(onboot=(), services=(), checks={}, onshutdown=())
    outcome = make_outcome(messages=saying(f"ready {RELEASE}", "services up", "shutdown"))
    judgement = judge(outcome, make_machine(), bootable, b"")
    assert judgement.verdict is Verdict.BUILD_ERROR
    assert judgement.reason.startswith("nothing was tested: the spec has no container")


def test_a_service_that_a_check_restarts_may_start_twice() -> None:
    texts = (*TEXTS[:9], "service server restart", "service server start", *TEXTS[9:])
    assert judged(messages=saying(*texts)).verdict is Verdict.PASS


def test_a_service_that_ignores_its_stop_changes_no_verdict() -> None:
    at = TEXTS.index("shutdown") + 1
    judgement = judged(messages=saying(*TEXTS[:at], "service server killed 2004", *TEXTS[at:]))
    assert judgement.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"onboot": ("prepare",)}, "; it has no check: its onboot containers ended with 0"),
        (
            {"onboot": ("prepare",), "services": ("server",)},
            "; it has no check: its onboot containers ended with 0, its services stayed up for 2 s",
        ),
        ({"services": ("server",), "checks": {"ping": 9.0}}, " and the guest exited as expected"),
    ],
)
def test_a_pass_without_a_check_says_what_it_means(names: dict[str, Any], expected: str) -> None:
    bootable = make_bootable(**{"onboot": (), "services": (), "checks": {}, "onshutdown": (), **names})
    texts = [
        *(f"onboot {name} {end}" for name in bootable.onboot for end in ("start", "exit 0")),
        *(f"service {name} start" for name in bootable.services),
        "services up",
        *(f"check {name} {end}" for name in bootable.checks for end in ("start", "exit 0")),
    ]
    messages = saying(f"ready {RELEASE}", *texts, "shutdown")
    judgement = judge(make_outcome(messages=messages), make_machine(), bootable, CLEAN)
    assert (judgement.verdict, judgement.reason.endswith(expected)) == (Verdict.PASS, True), judgement.reason


@pytest.mark.parametrize(("limit", "verdict"), [("silence", Verdict.HANG), ("checks", Verdict.TIMEOUT)])
def test_a_hang_for_want_of_memory_says_so(limit: str, verdict: Verdict) -> None:
    cut = make_messages()[:9]
    told: dict[str, Any] = {"ended_by": "host", "limit": limit, "limit_phase": "checks", "messages": cut, "events": ()}
    plain = judged(**told)
    assert (plain.verdict, plain.reason.startswith("the guest")) == (verdict, True)
    killed = b"[    9.000000] Out of memory: Killed process 71 (influxd) total-vm:1kB, anon-rss:1kB\n"
    judgement = judged(CLEAN + killed, **told)
    assert judgement.verdict is verdict
    assert judgement.reason == f"the guest ran out of memory; then: {plain.reason}"
    assert "--memory" in judgement.advice
    assert "Out of memory: Killed process 71" in judgement.evidence[0].text


MESSAGES = make_messages()


@given(st.integers(0, len(MESSAGES) - 1))
def test_no_message_can_be_dropped(index: int) -> None:
    rest = MESSAGES[:index] + MESSAGES[index + 1 :]
    renumbered = tuple(one.model_copy(update={"sequence": number}) for number, one in enumerate(rest, 1))
    assert judged(messages=rest).verdict is not Verdict.PASS
    assert judged(messages=renumbered).verdict is not Verdict.PASS


@given(st.integers(0, len(MESSAGES) - 1))
def test_no_message_can_come_twice(index: int) -> None:
    doubled = MESSAGES[: index + 1] + MESSAGES[index:]
    assert judged(messages=doubled).verdict is not Verdict.PASS


@given(st.permutations(MESSAGES))
def test_messages_can_only_come_in_their_order(messages: list[GuestMessage]) -> None:
    if tuple(messages) != MESSAGES:
        assert judged(messages=tuple(messages)).verdict is not Verdict.PASS


@given(st.integers(0, len(MESSAGES) - 1), st.data())
def test_no_word_can_be_another(index: int, data: st.DataObject) -> None:
    message = MESSAGES[index]
    words = [message.kind, *message.words]
    position = data.draw(st.integers(0, len(words) - 1))
    other = data.draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8))
    digest_of_end = message.kind == "end" and position == 2
    facts_of_kernel = message.kind == "kernel" and position > 0  # test_judge_kernel.py has them
    if other == words[position] or digest_of_end or facts_of_kernel:
        return
    words[position] = other
    changed = message.model_copy(update={"kind": words[0], "words": tuple(words[1:])})
    messages = (*MESSAGES[:index], changed, *MESSAGES[index + 1 :])
    assert judged(messages=messages).verdict is not Verdict.PASS


@given(
    st.sampled_from(
        [
            {"exit_status": 1},
            {"exit_status": None},
            {"exit_status": -9},
            {"ended_by": "host", "limit": "silence", "limit_phase": "checks"},
            {"ended_by": "host", "limit": "shutdown", "limit_phase": "shutdown"},
            {"ended_by": "host", "limit": "flood", "limit_phase": "checks"},
            {"ended_by": "host", "limit": "panic", "limit_phase": "checks"},
            {"ended_by": "host"},
            {"ended_by": "user"},
            {"ended_by": "error"},
            {"ended_by": "error", "host_error": "no memory"},
            {"host_error": "no memory"},
            {"result_fault": "something was lost"},
            {"rejected": 1},
            {"messages": ()},
            {"events": ()},
            {"events": (left("guest-panic"),)},
            {"events": (left(), left())},
            {"events": (QmpEvent(name="SHUTDOWN", data={"guest": False, "reason": "guest-shutdown"}, at_s=20),)},
            {"events": (QmpEvent(name="SHUTDOWN", at_s=20),)},
            {"events": (left(), QmpEvent(name="GUEST_PANICKED", data={"action": "pause"}, at_s=3))},
            {"events": (left(), QmpEvent(name="WATCHDOG", data={"action": "none"}, at_s=3))},
        ]
    )
)
def test_no_other_mutation_passes(changes: dict[str, Any]) -> None:
    assert judged(**changes).verdict is not Verdict.PASS


def test_what_stands_on_a_console_is_no_fault_of_the_channel() -> None:
    assert judged(machine=make_machine(result="console"), rejected=3).verdict is Verdict.PASS


def test_a_board_that_resets_by_its_watchdog() -> None:
    machine = make_machine(exit="watchdog")
    ended_s = make_messages()[-1].at_s

    def bite(at_s: float) -> QmpEvent:
        return QmpEvent(name="WATCHDOG", data={"action": "reset"}, at_s=at_s)

    way_out = left("guest-reset")
    assert judged(machine=machine, events=(bite(ended_s), way_out)).verdict is Verdict.PASS
    assert judged(machine=machine, events=(way_out,)).verdict is Verdict.PASS
    for events in (
        (bite(ended_s - 0.1), way_out),
        (bite(ended_s), bite(ended_s + 1), way_out),
        (bite(ended_s),),
        (bite(ended_s), left()),
    ):
        assert judged(machine=machine, events=events).verdict is Verdict.FAIL
    assert judged(machine=machine, messages=make_messages()[:-1], events=(bite(30), way_out)).verdict is Verdict.FAIL
    assert judged(machine=make_machine(exit="reboot"), events=(bite(ended_s), way_out)).verdict is Verdict.FAIL


@given(
    st.builds(
        make_outcome,
        messages=st.lists(st.sampled_from(MESSAGES), max_size=20).map(tuple),
        ended_by=st.sampled_from(["guest", "host", "user", "error"]),
        exit_status=st.sampled_from([0, 1, -9, None]),
        events=st.lists(st.sampled_from([left(), left("guest-reset")]), max_size=2).map(tuple),
    ),
    st.binary(max_size=300),
)
def test_whatever_is_seen_gets_a_verdict_of_one_line(outcome: Outcome, transcript: bytes) -> None:
    judgement = judge(outcome, make_machine(), make_bootable(), transcript)
    assert judgement.reason
    assert "\n" not in judgement.reason
    assert len(judgement.evidence) <= 60
    if judgement.verdict is Verdict.PASS:
        assert outcome.messages == MESSAGES


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"messages": replaced("check ping exit 0", "check ping exit 7")}, "fail", "check ping exited with status 7"),
        (
            {"messages": replaced("check ping exit 0", "check ping exit timeout")},
            "timeout",
            "check ping did not end within its 1 s",
        ),
        (
            {"messages": replaced("onboot prepare exit 0", "onboot prepare exit 1")},
            "fail",
            "onboot container prepare exited with status 1",
        ),
        (
            {"messages": replaced("onshutdown sweep exit 0", "onshutdown sweep exit 2")},
            "fail",
            "onshutdown container sweep exited with status 2",
        ),
        (
            {"messages": saying(*TEXTS[:9], "service server exit 139", *TEXTS[9:], end="fail")},
            "fail",
            "service server ended unasked with status 139",
        ),
        (
            {"messages": saying(*TEXTS[:3], f"error {base64.b64encode(b'no runtime').decode()}", end="fail")},
            "fail",
            "init failed: no runtime",
        ),
        (
            {"messages": saying(*TEXTS[:3], f"unable {base64.b64encode(b'the OCI runtime').decode()}", end="fail")},
            "build-error",
            "init: the OCI runtime",
        ),
        (
            {"messages": stuck(0.4)},
            "timeout",
            "service server did not end on SIGKILL: sync (7) in jbd2_log is stuck in the kernel",
        ),
        (
            {"messages": stuck(0.6)},
            "infra-error",
            "the host had no core for the guest for 0.6 of 1.0 s; possibly therefore: s",
        ),
        ({"messages": ()}, "fail", "the guest ended without a result: its init never reported"),
        ({"messages": saying(*TEXTS, end="")}, "fail", "the guest ended without a result: init's last message"),
        ({"messages": saying(*TEXTS, end="fail")}, "fail", "init gave the verdict 'fail'"),
        ({"exit_status": -11}, "infra-error", "QEMU ended with status -11 after its guest's exit"),
        ({"exit_status": None, "ended_by": "error", "host_error": "no\nQEMU"}, "infra-error", "no QEMU"),
        ({"messages": saying("ready 5.0", *TEXTS[1:])}, "infra-error", "wrong kernel: expected"),
        (
            {"ended_by": "host", "limit": "silence", "limit_phase": "services"},
            "hang",
            "the guest hangs in phase services: no more output on any channel",
        ),
        (
            {"ended_by": "host", "limit": "onboot", "limit_phase": "onboot"},
            "timeout",
            "the guest did not finish phase onboot in time",
        ),
    ],
)
def test_reasons_are_readable(changes: dict[str, Any], verdict: str, reason: str) -> None:
    judgement = judged(b"", **changes)
    assert (judgement.verdict.value, judgement.reason[: len(reason)]) == (verdict, reason)


def test_a_kernel_without_the_modules_to_report_by_is_asked_about() -> None:
    bootable = make_bootable(notes=("the kernel has no module virtio_console",))
    silent = make_outcome(messages=(), ended_by="host", limit="silence", limit_phase="boot")
    assert "has no module virtio_console" in judge(silent, make_machine(), bootable, CLEAN).advice


def test_a_board_that_qemu_does_not_know_is_named() -> None:
    ended = {"ended_by": "error", "exit_status": 1}
    machine = make_machine(machine="cubiboard")
    advice = judged(b"", machine, **ended, host_error="qemu-system-arm: unsupported machine type").advice
    assert "'machine: cubiboard'" in advice


def test_a_guest_that_reported_all_and_stays_has_its_profile_asked_about() -> None:
    stayed: dict[str, Any] = {"ended_by": "host", "limit": "silence", "limit_phase": "shutdown"}
    assert "'exit' in the machine's profile" in judged(b"", **stayed).advice
    assert "'exit'" not in judged(b"", **stayed, messages=saying(*TEXTS, end="")).advice


def test_a_guest_that_finds_no_result_port_has_its_profile_asked_about() -> None:
    for line in (b"bootmatrix: no result port", b"bootmatrix: there is no result port"):  # the latter by older inits
        judgement = judged(line + b"\r\nreboot: Power down\r\n", messages=())
        assert judgement.verdict is Verdict.FAIL
        assert "bus_name" in judgement.advice
    assert "bus_name" not in judged(b"reboot: Power down\r\n", messages=()).advice


def test_a_failed_check_is_shown_with_what_it_said_last() -> None:
    tries = b"".join(b"ping| try %d\r\nserver| busy\r\n" % number for number in range(20))
    transcript = tries + b"ping| refused\r\nping| \r\nping| [    9.123456] reboot: Power down\r\n"
    judgement = judged(transcript, messages=replaced("check ping exit 0", "check ping exit 7"))
    assert judgement.reason == "check ping exited with status 7: refused"
    lines = [(one.line, one.text) for one in judgement.evidence if one.source == "console"]
    assert len(lines) == 8
    assert lines[-1] == (41, "ping| refused")
    assert lines[0] == (27, "ping| try 13")


def test_a_container_that_goes_on_after_a_failure_is_shown_with_the_failure() -> None:
    lines = ["not ok 1 - later # TODO", "not ok 2 - there is no room", *(f"ok {number}" for number in range(3, 20))]
    transcript = "".join(f"ping| {line}\r\n" for line in lines).encode()
    judgement = judged(transcript, messages=replaced("check ping exit 0", "check ping exit 1"))
    assert judgement.reason == "check ping exited with status 1: not ok 2 - there is no room"
    assert [one.line for one in judgement.evidence if one.source == "console"] == [2, *range(12, 20)]


def test_a_panic_prevails_over_all_else() -> None:
    panic = (CORPUS / "panic-x86_64.log").read_bytes()
    for changes in ({}, {"ended_by": "error"}, {"ended_by": "host", "limit": "silence"}, {"messages": ()}):
        assert judged(panic, **changes).verdict is Verdict.PANIC


def test_ours_prevails_over_what_the_guest_did() -> None:
    messages = replaced("check ping exit 0", "check ping exit 7")
    assert judged(ended_by="error", host_error="full", messages=messages).verdict is Verdict.INFRA_ERROR


def test_everything_else_that_is_wrong_is_told_too() -> None:
    judgement = judged(messages=replaced("check ping exit 0", "check ping exit 7"), result_fault="a gap")
    assert any("a gap" in one.text for one in judgement.evidence)


def test_what_only_follows_from_the_reason_is_not_told() -> None:
    judgement = judged(b"", messages=replaced("check ping exit 0", "check ping exit 7"))
    assert [one.text for one in judgement.evidence] == ["check ping exit 7"]


def test_huge_input_gives_a_bounded_judgement() -> None:
    tap = "\n".join(f"not ok {number} - {'x' * 5000}" for number in range(5000))
    word = base64.b64encode(gzip.compress(tap.encode())).decode()
    messages = saying(*TEXTS[:9], f"tap ping {word}", f"error {'A' * 100000}", *TEXTS[9:])
    judgement = judged(b"ping| " + b"y" * 1_000_000 + b"\n" + b"\n" * 1_000_000, messages=messages)
    assert judgement.verdict is Verdict.FAIL
    assert len(judgement.model_dump_json()) < 1_000_000


def test_judging_again_from_what_was_saved_gives_the_same() -> None:
    outcome = make_outcome(messages=replaced("check ping exit 0", "check ping exit 7"))
    again = Outcome.model_validate_json(outcome.model_dump_json())
    bootable = Bootable.model_validate_json(make_bootable().model_dump_json())
    assert judge(outcome, make_machine(), make_bootable(), CLEAN) == judge(again, make_machine(), bootable, CLEAN)


def test_a_note_of_inits_is_shown_and_changes_nothing() -> None:
    note = "note " + base64.b64encode(b"service server was killed to be started again\nat last").decode()
    judgement = judged(messages=saying(*TEXTS[:9], note, *TEXTS[9:]))
    assert judgement.verdict is Verdict.PASS
    assert "note: service server was killed to be started again at last" in [one.text for one in judgement.evidence]


def test_a_service_that_ended_before_it_could_be_told_to_stop_fails_however_late_that_comes() -> None:
    after = TEXTS.index("shutdown") + 1
    judgement = judged(messages=saying(*TEXTS[:after], "service server exit 1", *TEXTS[after:]))
    assert (judgement.verdict, judgement.reason[:45]) == (Verdict.FAIL, "service server ended unasked with status 1")
