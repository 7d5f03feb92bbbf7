"""The console's file: bounded, and without the nonce."""

from __future__ import annotations

import io
import re

from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.boot.console import ConsoleLog, Redactor

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
    assert re.fullmatch(rb"\n\[bootmatrix: (\d+) bytes of console are left out here\]\n", middle)
    assert str(log.dropped_bytes).encode() in middle


def test_what_is_held_back_is_written_at_the_end_also_after_an_error() -> None:
    file = io.BytesIO()
    try:
        with ConsoleLog(file, b"secret") as log:
            log.write(b"some sec")
            assert file.getvalue() == b"some "
            raise KeyError
    except KeyError:
        assert file.getvalue() == b"some sec"
