"""Verdicts on engines, boards and clouds: what init reports there, and output without end."""

from __future__ import annotations

import base64
import gzip

from bootmatrix.boot.protocol import Conversation, sign
from bootmatrix.cloud.talk import CONSOLE_BYTES, Talk
from bootmatrix.judge.elsewhere import Elsewhere, judge_console, judge_signed
from bootmatrix.model import Judgement, Verdict
from fake_qemu import RELEASE, TEXTS
from guests import make_bootable, make_messages, make_outcome

KERNEL = next(text for text in TEXTS if text.startswith("kernel "))


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


def console(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def on_a_cloud(*printed: str) -> Judgement:
    """Judge an onshutdown container `sweep` that printed lines."""
    before = (f"ready {RELEASE}", "services up", "shutdown", "onshutdown sweep start")
    after = ("onshutdown sweep exit 0", f"end pass {'0' * 64}")
    lines = [f"bootmatrix: {text}" for text in before]
    lines += [f"sweep| {text}" for text in printed] + [f"bootmatrix: {text}" for text in after]
    bootable = make_bootable(onboot=(), services=(), checks={}, onshutdown=("sweep",))
    return judge_console(Elsewhere("aws"), make_outcome(messages=()), bootable, console(*lines))


def test_tests_of_what_ends_last_count_on_a_cloud_too() -> None:
    assert on_a_cloud("1..1", "ok 1").verdict is Verdict.PASS
    failed = on_a_cloud("1..2", "ok 1", "not ok 2 - data lost")
    assert (failed.verdict, failed.reason) == (Verdict.FAIL, "sweep: not ok: data lost")


def test_a_stamp_that_a_container_prints_hides_no_test_on_a_cloud() -> None:
    """It is taken out as if the kernel had interrupted the line, and the next line was joined to it."""
    stamp = "[   12.345678] starting"
    failed = on_a_cloud("1..1", stamp, "not ok 1 - data lost")
    assert (failed.verdict, failed.reason) == (Verdict.FAIL, "sweep: not ok: data lost")
    assert on_a_cloud("1..1", stamp, "ok 1").verdict is Verdict.PASS
    assert on_a_cloud("1..1", "ok 1", stamp).verdict is Verdict.PASS, "init's own line comes next"
    assert on_a_cloud("1..2", "ok 1", stamp, "x").verdict is Verdict.FAIL
    torn = on_a_cloud("1..1", "not o[   12.345678] random: crng init done\r\nk 1 - data lost")
    assert torn.reason == "sweep: not ok: data lost"


def in_an_engine(*texts: str) -> Judgement:
    """Judge the checks `a` and `b`, of which `a` skips its tests."""
    skip = (f"tap a {packed('1..0 # SKIP no such device')}", "check a exit 4")
    started = (f"ready {RELEASE}", "uptime 1 2", "services up", "check a start", "check b start")
    messages = make_messages((*started, *skip, *texts, "shutdown", KERNEL), "fail")
    bootable = make_bootable(onboot=(), services=(), checks={"a": 9.0, "b": 9.0}, onshutdown=())
    return judge_signed("docker", make_outcome(messages=messages), bootable, b"")


def test_a_kselftest_that_skips_is_a_skip_in_an_engine_too() -> None:
    done = in_an_engine("check b exit 0")
    assert done.verdict is Verdict.SKIP
    assert [each.verdict for each in done.subresults] == [Verdict.SKIP, Verdict.USER_PASS, Verdict.SKIP]
    assert done.reason.startswith("check a skipped all of its tests: no such device (on the kernel of docker")
    assert in_an_engine().verdict is Verdict.SKIP
    failed = in_an_engine("check b exit 1")
    assert (failed.verdict, failed.reason.partition(" (")[0]) == (Verdict.USER_FAIL, "check b exited with status 1")


def test_output_beyond_what_is_kept_ends_no_run() -> None:
    """Init's messages count wherever they come."""
    talk = Talk(60, conversation=Conversation("secret", noisy=True))
    talk.start()
    assert talk.feed(b"bootmatrix hello 2\r\n") == b"secret\n"
    flood = b"loud| " + b"x" * 65000 + b"\r\n"
    for _ in range(CONSOLE_BYTES // len(flood) + 2):
        talk.feed(flood)
    text = f"ready {RELEASE}"
    talk.feed(f"bootmatrix 1 {sign('secret', 1, text)} {text}\r\n".encode())
    assert (talk.limit, len(talk.transcript)) == ("", CONSOLE_BYTES)
    outcome = talk.outcome()
    assert [message.words for message in outcome.messages] == [(RELEASE,)]
    assert outcome.console_bytes == CONSOLE_BYTES + outcome.console_dropped_bytes > CONSOLE_BYTES
