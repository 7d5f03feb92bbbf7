"""TAP that containers print."""

from __future__ import annotations

import base64
import gzip
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.judge import judge
from bootmatrix.judge.tap import MAX_TAP_BYTES, UnreadableTap, parse, unpack
from bootmatrix.model import Judgement, Verdict
from fake_qemu import TEXTS
from guests import make_bootable, make_machine, make_messages, make_outcome

INVISIBLE_STARTS = (
    *("\0", "\a", "\b", "\v", "\f", "\x0e", "\x1f", "\x7f", "\x85", "\xa0", "\u3000", "\u200b", "\u2028", " \ufeff"),
    *(
        "...\b\b\b",
        "50%\x1b[1G",
        "50%\x1b[2K\x1b[1G",
        "\x1b[2;1H",
        "\x1bE",
        "\x1bPq\x1b\\",
        " " * 1001,
        "\x1bktitle\x1b\\",
    ),
)
"""Before a result that begins a line of a terminal."""


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def judged(word: str) -> Judgement:
    """A boot that passed by all other evidence, with this `tap` message."""
    messages = make_messages((*TEXTS[:9], f"tap ping {word}", *TEXTS[9:]))
    return judge(make_outcome(messages=messages), make_machine(), make_bootable(), b"")


def test_each_line_is_a_result() -> None:
    text = "1..4\nok 1 - one\nok 2 - two # SKIP no such device\nnot ok 3 - three # TODO later\nok 4\n"
    judgement = judged(packed(text))
    assert judgement.verdict is Verdict.PASS
    assert [(one.name, one.verdict, one.detail) for one in judgement.subresults[-4:]] == [
        ("ping: one", Verdict.PASS, ""),
        ("ping: two", Verdict.SKIP, "no such device"),
        ("ping: three", Verdict.SKIP, "to do: later"),
        ("ping: test 4", Verdict.PASS, ""),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1..2\nok 1 - a\nnot ok 2 - b\n", "not ok: b"),
        ("1..3\nok 1\nok 2\n", "expected 3 results, got 2"),
        ("1..1\nok 1\nok 2\n", "expected 1 results, got 2"),
        ("1..2\nok 1\nok 1\n", "duplicate result number 1"),
        ("1..1\nBail out! no disk\nok 1\n", "bailed out: no disk"),
        ("TAP version 13\nok 1\n", "no plan: results may be missing"),
        ("KTAP version 1\n1..1\n    not ok 1 - inner\nok 1 - outer\n", "not ok: inner"),
        ("1..2\n", "expected 2 results, got 0"),
        ("1..9999999999\nok 1\n", "expected 9999999999 results, got 1"),
        (f"1..{'9' * 5000}\nok 1\n", f"expected {'9' * 18} results, got 1"),
        ("1..2\nok 1\nok 3\n", "expected 2 results, got number 3"),
        (
            "KTAP version 1\n1..1\n    KTAP version 1\n    1..3\n    ok 1 - a\n    ok 2 - b\nok 1 - outer\n",
            "outer: expected 3 results, got 2",
        ),
        ("1..1\n  1..1\n    1..2\n    ok 1 a\n  ok 1 b\nok 1 c\n", "b: expected 2 results, got 1"),
        (
            "TAP version 13\n1..1\n# TAP version 13\n# 1..2\n# ok 1 a\nok 1 timers\n",
            "timers: expected 2 results, got 1",
        ),
        ("1..1\n# 1..1\n# not ok 1 a\nok 1 timers\n", "not ok: a"),
        ("1..1\nok 1\n  1..2\n  ok 1 a\n", "expected 2 results, got 1"),
        ("not ok\n", "not ok: test 1"),
        ("1..3\nok 1\n    ok 1 - a\n\tok 3 - deeper than four blanks\nok 2\n", "expected 3 results, got 2"),
        ("\x1b[31mnot ok 1 - red\x1b[0m\nok 2\n", "not ok: red"),
        ("\x1b[38:5:1m\x1b[Knot ok 1 - red\x1b[m\x1b[K\nok 2\n", "not ok: red"),
        ("1..2\nok 1 - a\n  ---\n  message: torn\nnot ok 2 - b\n", "not ok: b"),
        ("1..1\nok 1 - a\n  ---\n    not ok 1 - inner, of a block without an end\n", "not ok: inner"),
        ("1..1\nok 1 - a\n  ---\n    not ok 1 - inner\n ...\n", "not ok: inner"),
        ("1..1\n  ---\n  not ok 1 - no result is before this\n  ...\nok 1\n", "not ok: no result"),
        ("1..1\nok 1 - a\n---\nnot ok 2 - not below a\n...\n", "not ok: not below a"),
        ("1..1\nnot ok 1 - C# todo lists\n", "not ok: C# todo lists"),
        ("1..1\nnot ok 1 - a # todolist is empty\n", "not ok: a"),
        ("1..1\nnot ok 1 - a # skip-list is broken\n", "not ok: a"),
        ("1..1\nnot ok 1 - a \\# TODO is quoted\n", "not ok: a # TODO is quoted"),
        ("1..1\nnot ok 1 a # TIMEOUT 45 seconds\n", "not ok: a"),
        ("1..3\nok 1\nok\n", "expected 3 results, got 2"),
        ("1..2\nok 1 - a\nok\n", "expected 2 results, got 1"),
        ("TAP version 13\nTAP version 13\n1..1\nok 1 - of another program\n", "no plan: results may be missing"),
        ("  TAP version 13\n  ok 1 - of nothing\n", "no plan: results may be missing"),
        ("1..2\rok 1\rnot ok 2 - on an old line\r", "not ok: on an old line"),
        *((f"ok 1\n{start}not ok 2 - a\n", "not ok: a") for start in INVISIBLE_STARTS),
        ("1..1\nok 1\fbail out! \x1b[1mno disk\n", "bailed out: no disk"),
        ("not  ok\nok\n", "not ok: test 1"),
        ("not ok: a\nok\n", "not ok: : a"),
        ("1..2\0\nok 1\n", "expected 2 results, got 1"),
        ("tap  Version 13 # of prove\nok 1\n", "no plan: results may be missing"),
        ("\ufffd\ufffd1\0.\0.\0002\0\n\0o\0k\0\n", "expected 2 results, got 1"),
    ],
)
def test_a_fault_in_it_is_no_pass(text: str, fault: str) -> None:
    judgement = judged(packed(text))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith(f"ping: {fault}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok 1\nok 2\n1..2\n",
        "ok 1\nok\nok 3\n1..3\n",
        "TAP version 13\n1..0 # SKIP no device\nTAP version 13\n1..1\nok 1\n",
        "ok\n",
        "1..0 # SKIP not on this machine\n",
        "KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n    ok 1 - a\n    ok 2 - b\nok 1 - outer\n",
        "1..1\nok 1\n1..2\nok 1\nok 2\n",
        "okay, let us go\n1..1\nok 1\n",
        "1..1\n# not ok 2 was last time's result\nok 1\n",
        "1..1\n    # Subtest: inner\n    ok 1 - a\nok 1 - outer\n",
        "TAP version 14\n1..1\nok 1 - a\n  ---\n  found: |\n    1..2\n    ok 1\n    not ok 2 - inner\n  ...\n",
        "1..1\n    1..1\n    ok 1 - inner\n      ---\n      Bail out! says the test\n      ...\nok 1 - a\n",
        "1..2\nok 1 - a\n  ---\n  ...\nok 2 - b\n  ---\n    not ok 1 - c\n  ...\n",
        "# TAP version 13\n# 1..1\n# ok 1 a\n#   ---\n#   not ok 1\n#   ...\n",
        "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: example\n    1..2\n    ok 1 simple\n"
        "        KTAP version 1\n        # Subtest: with_parameters\n        ok 1 three\n        ok 2 two # SKIP no\n"
        "    # with_parameters: pass:1 fail:0 skip:1 total:2\n    ok 2 with_parameters\n# pass:2\nok 1 example\n",
        "1..10 is the range that is allowed\nall is well\n",
        "1..3, or 1..4\nok then\n# 1..3 would be too few\n# 1..5\n",
        f"1..1\nnot ok 1 - {'a ' * 5000}# TODO later\n",
        "1..1\nok 1 - a\nNOT OK means not tested; OK, then\nok: all\n",
        "1..2\nnot ok 1 - a # XFAIL not yet\nok 2 - b # xfail it works after all\n",
        "1..2\nnot ok 1 - a # todo\nnot ok 2 # TODO: later\n",
        "1..1\nnot ok 1 - a # b # TODO later\n",
        "1..0 skip no perl\n",
        "TAP version 12\n1..1\nok 1\n",
        "ok 1 file copied\nok 1 file copied\n",
        "a.t ..\n1..2\nok 1 - x\nok 2 - y\nok\nb.t ..\n1..1\nok 1 - z\nok\nAll tests successful.\n",
        "ok 1 - buffered {\n    ok 1 - inner\n    1..1\n}\n1..1\n",
        "ok  \tgithub.com/a/b\t0.004s\nok  \tgithub.com/a/c\t0.011s\n",
        "TAP version 13\n1..2\n# TAP version 13\n# 1..1\n# ok 1 a\nok 1 x\n# 1..1\n# ok 1 a\nok 2 y\n",
    ],
)
def test_sound_tap_passes(text: str) -> None:
    assert judged(packed(text)).verdict is Verdict.PASS


def test_subtests_are_named_by_what_they_belong_to() -> None:
    text = """\
KTAP version 1
1..2
    KTAP version 1
    1..2
        1..1
        ok 1 deep
    ok 1 first
    ok 2 second # SKIP no such device
ok 1 suite
ok 2 alone
"""
    reading = parse(text, "x")
    assert reading.faults == []
    assert [one.name for one in reading.results] == [
        "x: suite › first › deep",
        "x: suite › first",
        "x: suite › second",
        "x: suite",
        "x: alone",
    ]


def test_subtests_without_end_are_bounded() -> None:
    text = "".join(" " * depth + "ok 1 - x\n" for depth in range(900)) * 3
    assert len(parse(text, "x").results) == 2700


def test_more_lines_than_can_be_judged_are_no_pass() -> None:
    tap = parse("ok\n" * 500_001, "x")
    assert (tap.faults, tap.results) == (["more than 500000 lines of TAP"], [])


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("%%%", ""),
        (base64.b64encode(b"not gzip").decode(), ""),
        (packed("1..1\nok 1\n" * 100)[:-12], ""),
        (packed("ok 1\n" * (MAX_TAP_BYTES // 5 + 10)), f"it is larger than {MAX_TAP_BYTES} bytes"),
    ],
)
def test_damaged_or_huge_tap_is_no_pass(word: str, fault: str) -> None:
    judgement = judged(word)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.reason.startswith("the TAP of ping cannot be read: ")
    assert fault in judgement.reason


@given(st.text(max_size=2000))
def test_any_text_can_be_read(text: str) -> None:
    reading = parse(text, "x")
    assert all(one.name.startswith("x: ") for one in reading.results)


@given(st.lists(st.booleans(), max_size=30))
def test_it_passes_when_all_lines_do(results: list[bool]) -> None:
    lines = [f"{'ok' if ok else 'not ok'} {number}" for number, ok in enumerate(results, 1)]
    reading = parse("\n".join([f"1..{len(results)}", *lines]), "x")
    assert bool(reading.faults) is (False in results)


@given(st.binary(max_size=300))
def test_any_word_is_read_or_refused(data: bytes) -> None:
    for word in (data.decode("latin-1"), base64.b64encode(data).decode()):
        with suppress(UnreadableTap):
            assert isinstance(unpack(word), str)


def test_names_are_whole_and_remarks_are_not_part_of_them() -> None:
    text = (
        "1..4\nok 1 - issue #42 of C# \\# quoted\nok 2 - a # time=12ms\nnot ok 3 - selftests: b # exit=1\n"
        "ok 4 - 3 of 4\n"
    )
    assert [one.name for one in parse(text, "x").results] == [
        "x: issue #42 of C# # quoted",
        "x: a",
        "x: selftests: b",
        "x: 3 of 4",
    ]


def test_blocks_without_end_take_no_square_of_the_time() -> None:
    text = "ok 1\n" + "".join(f"{' ' * (1 + number % 300)}---\n" for number in range(20_000))
    started = time.process_time()
    parse(text, "x")
    assert time.process_time() - started < 5


def ended(text: str, status: str, *, later: bool = True) -> Judgement:
    """A boot whose first check ended with a status after such TAP; init then ends the rest, or the other had ended."""
    at = TEXTS.index("check ping exit 0")
    texts = (*TEXTS[:at], f"tap ping {packed(text)}", f"check ping exit {status}", *TEXTS[at + 1 :])
    kept = (one for one in texts if later or not one.startswith("check write exit"))
    messages = make_messages(tuple(kept), "fail")
    return judge(make_outcome(messages=messages), make_machine(), make_bootable(), b"")


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("TAP version 13\n1..0 # SKIP no such device\n", ": no such device"),
        ("1..0 # skipped: no such device", ": no such device"),
        ("1..0 # SKIP\n", ""),
        ("1..0\n", ""),
        ("1..2\nok 1 - a # SKIP no such device\nok 2 - b # SKIP\n", ": no such device"),
    ],
)
def test_a_kselftest_that_skips_is_a_skip(text: str, reason: str, later: bool) -> None:
    judgement = ended(text, "4", later=later)
    assert judgement.verdict is Verdict.SKIP, judgement.reason
    assert judgement.reason == f"check ping skipped all of its tests{reason}" + (
        "" if later else "; init then ended check write"
    )
    assert {one.verdict for one in judgement.subresults if "ping" in one.name} == {Verdict.SKIP}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "4"),
        ("1..0 # SKIP x\n", "1"),
        ("1..2\nok 1 # SKIP x\nok 2\n", "4"),
        ("1..2\nok 1 # SKIP x\nnot ok 2\n", "4"),
        ("1..2\nok 1 # SKIP x\n", "4"),
        ("1..0 # SKIP x\n", "timeout"),
    ],
)
def test_other_ends_are_no_skips(text: str, status: str) -> None:
    assert ended(text, status).verdict in {Verdict.FAIL, Verdict.TIMEOUT}


def test_a_plan_of_no_tests_is_a_skip_to_be_seen() -> None:
    judgement = judged(packed("TAP version 14\n1..0\n"))
    assert [(one.name, one.verdict) for one in judgement.subresults][-1] == ("ping: all tests", Verdict.SKIP)


def test_a_skip_excuses_no_other_container_of_its_name() -> None:
    """An onboot container `ping` skips, and the check `ping` fails with status 4."""
    at = TEXTS.index("onboot prepare exit 0")
    texts = [
        text.replace("prepare", "ping") for text in (*TEXTS[:at], f"tap prepare {packed('1..0 # SKIP x')}", *TEXTS[at:])
    ]
    texts = [text.replace("check ping exit 0", "check ping exit 4") for text in texts]
    bootable = make_bootable(onboot=("ping", "ping"))
    judgement = judge(make_outcome(messages=make_messages(tuple(texts), "fail")), make_machine(), bootable, b"")
    assert (judgement.verdict, judgement.reason) == (Verdict.FAIL, "check ping exited with status 4")
    assert [one.verdict for one in judgement.subresults if one.name == "check ping"] == [Verdict.FAIL]


def test_a_skip_hides_no_other_failure() -> None:
    texts = [*TEXTS, f"tap ping {packed('1..0 # SKIP x')}"]
    for old, new in (("check ping exit 0", "check ping exit 4"), ("check write exit 0", "check write exit 1")):
        texts = [new if one == old else one for one in texts]
    judgement = judge(make_outcome(messages=make_messages(tuple(texts), "fail")), make_machine(), make_bootable(), b"")
    assert judgement.verdict is Verdict.FAIL
    assert "check write exited with status 1" in judgement.reason
    lost = make_messages(tuple(texts), "fail")[:-1]
    assert judge(make_outcome(messages=lost), make_machine(), make_bootable(), b"").verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "text",
    [
        "1..3\nok 1\nok 2\n1..1\nok 1\nok 2\n",
        "1..3\nok 1 - a\nok 2 - b\nok 1 - c\nok 2 - d\nok 3 - e\n1..2\n",
        "1..2\nok 1\n1..1\nok 1\nok 2\nok\n",
    ],
)
def test_what_one_program_lacks_is_not_made_up_for_by_another(text: str) -> None:
    assert parse(text, "t").faults


@pytest.mark.parametrize(
    "text",
    [
        "1..2\nok 1\nok 2\n1..1\nok 1\n",
        "t/a.t ..\n1..2\nok 1\nok 2\nok\nt/b.t ..\nok 1\n1..1\nok\n",
        "1..1\nok 1\n1..0 # SKIP no disk\nok 1\nok 2\n1..2\n",
        "1..2\nok a\n1..1\nok b\nok c\n",
        "1..1\n# Bail out! is what the next one provokes\nok 1 - bails out\n",
    ],
)
def test_programs_one_after_the_other_fulfil_their_plans(text: str) -> None:
    assert parse(text, "t").faults == []
