"""The console's file: bounded, and without the nonce."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.console.kernel_messages import fault_words, find_kernel_faults, load_messages
from bootmatrix.console.log import ConsoleLog, Redactor, Sieve, TextWatch
from bootmatrix.model import ConsoleProof

SECRET = b"aab0aab1"


@given(st.lists(st.sampled_from([b"a", b"b", b"0", b"1", b"aab", b"aab0", SECRET, b"\n"]), max_size=40))
def test_a_secret_never_comes_through_and_nothing_is_lost(parts: list[bytes]) -> None:
    redactor = Redactor(SECRET)
    out = b"".join(redactor.feed(part) for part in parts) + redactor.rest()
    assert out == b"".join(parts).replace(SECRET, b"*" * len(SECRET))


def written(parts: list[bytes], keep: int) -> tuple[bytes, ConsoleLog]:
    file = io.BytesIO()
    with ConsoleLog(file, b"secret", keep) as log:
        for part in parts:
            log.write(part)
    return file.getvalue(), log


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=30), st.integers(5, 40))
def test_beginning_and_end_are_kept(parts: list[bytes], keep: int) -> None:
    whole = b"".join(parts)
    if b"secret" in whole:
        return
    data, log = written(parts, keep)
    assert log.received_bytes == len(whole)
    assert log.dropped_bytes == max(0, len(whole) - 2 * keep)
    if log.dropped_bytes == 0:
        assert data == whole
        return
    assert data.startswith(whole[:keep])
    assert data.endswith(whole[-keep:])
    middle = data[keep : len(data) - keep]
    said = re.match(rb"\n\[bootmatrix: \d+ bytes of console are left out here\]\n", middle)
    assert said
    assert all(any(word in line for word in fault_words()) for line in middle[said.end() :].split(b"\n")[:-1])
    assert str(log.dropped_bytes).encode() in middle


def middle(*parts: bytes) -> bytes:
    """What is kept of the middle of a long console."""
    data, log = written([b"a" * 90 + b"\n", *parts, b"\n" + b"z" * 90], 40)
    assert log.dropped_bytes
    return data[40:-40].partition(b"left out here]\n")[2]


def test_flooding_a_console_hides_no_fault_of_the_kernel() -> None:
    flood = b"flood\n" * 50
    oops = b"[    1.000000] Internal error: Oops: 17 [#1] SMP\n"
    assert middle(flood, oops, flood) == oops
    assert middle(flood, *(oops[place : place + 1] for place in range(len(oops))), flood) == oops
    assert middle(flood, flood) == b""
    within = middle(b"x" * 2000, b"[    1.000000] BUG: scheduling while atomic", b"y" * 2000)
    assert b"xx[    1.000000] BUG: scheduling while atomic" in within
    assert len(within) < 2000
    assert find_kernel_faults(within)
    assert b"Kernel panic - not syncing: x" in middle(b"x" * 2000, b"Kernel panic - not syncing: x", b"y" * 2000)
    whole, _ = written([b"a" * 30 + b"\n" + oops + b"z" * 90], 40)
    assert oops in whole, "it begins in what is kept, and ends in what is not"


def test_words_that_only_sound_like_a_kernels_fill_no_room_that_its_faults_need() -> None:
    """A long log of installing things is no complaint, and hides none."""
    log = b"".join(b"apt| install %d of BUG tracker, [#%d]\r\n" % (number, number) for number in range(20_000))
    oops = b"[    1.000000] Internal error: Oops: 17 [#1] SMP\n"
    assert middle(log) == b""
    assert middle(log, oops, log) == oops
    assert middle(b"x" * 5000 + b"BUG: scheduling while atomic\n", log) == b"", "no line begins where one was cut"


def test_what_shows_a_pass_or_is_forbidden_is_kept_too() -> None:
    file = io.BytesIO()
    proof = ConsoleProof(console="suite PASSED", forbid=("suite FAILED",))
    with ConsoleLog(file, b"secret", 40, proof) as log:
        log.write(b"a" * 50 + b"\nsuite PASSED\n" * 9000 + b"suite \x1b[31mFAILED\n" + b"z" * 50)
    assert file.getvalue().count(b"suite PASSED") == 1, "once is enough: the room is for what is forbidden"
    assert b"suite \x1b[31mFAILED" in file.getvalue()


def test_complaints_are_bounded() -> None:
    found = middle(b"[    1.000000] BUG: scheduling while atomic\n" * 20_000)
    assert len(found) < 70_000
    assert find_kernel_faults(found)[-1].is_fatal


@pytest.mark.parametrize(
    "parts",
    [
        [b"suite PASSED"],
        [b"suite ", b"PASSED"],
        [b"suite \x1b[1;32mPAS", b"SED\x1b[0m"],
        [b"suite [    1.500000] random: crng init", b" done\r\nPASSED"],
    ],
)
def test_a_text_is_seen_as_a_person_sees_it(parts: list[bytes]) -> None:
    watch = TextWatch("suite PASSED")
    watch.feed(b"x" * 10_000)
    for part in parts[:-1]:
        watch.feed(part)
    assert not watch.seen
    watch.feed(parts[-1])
    assert watch.seen


def test_every_fault_of_a_kernel_has_a_word_that_is_looked_for() -> None:
    examples = [example.encode() for sign in load_messages() if sign.severity == "fail" for example in sign.examples]
    unstamped = {example for example in examples if not example.startswith(b"not ok")}  # which programs print too
    assert len(examples) > 30
    assert [example for example in examples if not any(word in example for word in fault_words())] == []
    for example in examples:
        for line in (example, b"server| [    1.000000] " + example, b"[   12.345678][  T1] " + example):
            sieve = Sieve()
            sieve.feed(b"\n" + line + b"\n")
            assert (line in sieve.kept) is (line != example or example in unstamped)


def test_what_is_held_back_is_written_at_the_end_also_after_an_error() -> None:
    file = io.BytesIO()
    try:
        with ConsoleLog(file, b"secret") as log:
            log.write(b"some sec")
            assert file.getvalue() == b"some "
            raise KeyError
    except KeyError:
        assert file.getvalue() == b"some sec"
