"""The talk between guest and host, byte for byte."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bootmatrix.boot.protocol import MAX_LINE_BYTES, MAX_RESULT_BYTES, Conversation, sign
from bootmatrix.model import GuestMessage

NONCE = "0123456789abcdef0123456789abcdef"
HELLO = b"bootmatrix hello 1\n"
TEXTS = ["ready 6.1", "services up", "shutdown"]


def line(sequence: int, text: str, nonce: str = NONCE) -> bytes:
    return f"bootmatrix {sequence} {sign(nonce, sequence, text)} {text}\n".encode()


def script(texts: list[str]) -> list[bytes]:
    """Lines of these messages and the end that belongs to them."""
    lines = [line(number, text) for number, text in enumerate(texts, 1)]
    return [*lines, line(len(lines) + 1, f"end pass {hashlib.sha256(b''.join(lines)).hexdigest()}")]


def greeted(noisy: bool = False) -> Conversation:
    talk = Conversation(NONCE, noisy)
    assert talk.feed(HELLO, 0) == []
    return talk


def said(messages: list[GuestMessage]) -> list[str]:
    return [" ".join((one.kind, *one.words)) for one in messages]


def test_the_mac_is_as_documented() -> None:
    assert sign(NONCE, 3, "services up") == hashlib.sha256(f"{NONCE} 3 services up\n".encode()).hexdigest()[:16]


def test_the_nonce_is_sent_once_and_in_reply_only() -> None:
    talk = Conversation(NONCE)
    assert talk.take_reply() == b""
    talk.feed(HELLO, 0)
    assert talk.take_reply() == NONCE.encode() + b"\n"
    talk.feed(HELLO, 0)
    assert talk.take_reply() == b""


def test_inits_of_both_versions_are_answered() -> None:
    for version in (1, 2):
        for noisy in (False, True):
            talk = Conversation(NONCE, noisy)
            talk.feed(b"bootmatrix hello %d\n" % version, 0)
            assert talk.take_reply()


def test_only_the_exact_greeting_is_one() -> None:
    for other in (
        b"bootmatrix hello 3\n",
        b"bootmatrix hello 12\n",
        b"xbootmatrix hello 1\n",
        b"bootmatrix hello 1 \n",
        b"bootmatrix hello 1",
    ):
        talk = Conversation(NONCE)
        talk.feed(other, 0)
        assert talk.take_reply() == b""


@given(st.data(), st.booleans())
def test_however_the_bytes_come_the_messages_are_the_same(data: st.DataObject, noisy: bool) -> None:
    stream = HELLO + b"".join(script(TEXTS))
    talk, found, start = Conversation(NONCE, noisy), [], 0
    while start < len(stream):
        size = data.draw(st.integers(1, 60))
        found += talk.feed(stream[start : start + size], 1.5)
        start += size
    assert said(found)[:-1] == TEXTS
    assert (talk.fault, talk.rejected, talk.ended) == ("", 0, True)
    assert [one.sequence for one in found] == [1, 2, 3, 4]
    assert found[0].at_s == 1.5


@given(st.integers(0, 3))
def test_a_lost_message_is_noticed(lost: int) -> None:
    lines = script(TEXTS)
    del lines[lost]
    talk = greeted()
    talk.feed(b"".join(lines), 0)
    assert talk.fault or not talk.ended


@given(st.data())
def test_no_byte_can_be_changed(data: st.DataObject) -> None:
    stream = bytearray(b"".join(script(TEXTS)))
    position = data.draw(st.integers(0, len(stream) - 2))
    other = data.draw(st.integers(0, 255))
    if stream[position] == other:
        return
    stream[position] = other
    talk = greeted()
    talk.feed(bytes(stream), 0)
    assert talk.fault or not talk.ended or talk.rejected


def test_without_the_nonce_nothing_is_a_message() -> None:
    talk = greeted()
    assert talk.feed(line(1, "ready 6.1", "f" * 32), 0) == []
    assert talk.rejected == 1


def test_before_the_greeting_nothing_is_a_message() -> None:
    talk = Conversation(NONCE)
    assert talk.feed(line(1, "ready 6.1"), 0) == []
    assert talk.rejected == 1


def test_a_repeated_message_is_no_new_one() -> None:
    talk = greeted(noisy=True)
    found = talk.feed(b"".join(one * 2 for one in script(TEXTS)), 0)
    assert len(found) == 4
    assert (talk.fault, talk.rejected) == ("", 0)


def test_a_wrong_digest_is_noticed() -> None:
    talk = greeted()
    talk.feed(line(1, "ready 6.1") + line(2, f"end pass {'0' * 64}"), 0)
    assert "digest" in talk.fault


def test_nothing_comes_after_the_end() -> None:
    talk = greeted()
    talk.feed(b"".join(script(TEXTS)) + line(5, "check x exit 0"), 0)
    assert talk.fault == "message 5 came after the end"


def test_on_a_console_messages_stand_between_other_things() -> None:
    talk = greeted(noisy=True)
    first, *others = script(TEXTS)
    found = talk.feed(b"server| hello\r\n\x1b[0m" + first.replace(b"\n", b"\r\n"), 0)
    found += talk.feed(b"server| " + others[0] + b"".join(others[1:]), 0)
    assert said(found)[:-1] == TEXTS
    assert (talk.fault, talk.rejected) == ("", 0)


@given(st.data())
def test_the_kernel_may_print_into_the_middle_of_a_message(data: st.DataObject) -> None:
    intruder = data.draw(
        st.sampled_from([b"[    1.234567] usb 1-1: new\r\n", b"[  9.000001][   T1] a: [b] c\n[  9.000002] d\n"])
    )
    talk = greeted(noisy=True)
    found = []
    for one in script(TEXTS):
        at = data.draw(st.integers(0, len(one) - 1))
        found += talk.feed(one[:at] + intruder + one[at:], 0)
    assert said(found)[:-1] == TEXTS
    assert talk.fault == ""


def test_on_a_port_of_its_own_nothing_else_may_stand() -> None:
    talk = greeted()
    talk.feed(b"server| hello\n", 0)
    assert talk.rejected == 1
    assert talk.feed(b"x" + line(1, "ready 6.1"), 0) == []
    assert talk.rejected == 2


def test_an_endless_line_takes_no_memory() -> None:
    talk = greeted(noisy=True)
    for _ in range(64):
        talk.feed(b"x" * (MAX_LINE_BYTES // 2), 0)
        assert len(talk._line) <= MAX_LINE_BYTES
    assert said(talk.feed(b"\n" + line(1, "ready 6.1"), 0)) == ["ready 6.1"]
    assert talk.rejected == 1


def test_a_flood_is_called_one() -> None:
    talk = greeted()
    for _ in range(MAX_RESULT_BYTES // (1 << 20) + 1):
        talk.feed(b"x" * 65535 + b"\n", 0)
        talk.feed(b"\n" * ((1 << 20) - 65536), 0)
    assert talk.flooded
    assert "flooded" in talk.fault
    assert talk.feed(line(1, "ready 6.1"), 0) == []


def test_result_files_of_a_spec_are_no_flood() -> None:
    """More than 46 of the largest were one; a guest cannot send more of them than its spec names."""
    file = line(1, f"file a b 524288 {'A' * 699_100}")
    talk = Conversation(NONCE, files=100)
    talk.feed(HELLO, 0)
    for _ in range(100):
        talk.feed(file, 0)
    assert not talk.flooded
    for _ in range(100):
        talk.feed(file, 0)
    assert talk.flooded


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_noise_is_never_a_message(parts: list[bytes], noisy: bool) -> None:
    talk = greeted(noisy)
    assert [message for part in parts for message in talk.feed(part, 0)] == []


def unsigned(sequence: int, text: str) -> bytes:
    return f"bootmatrix {sequence} - {text}\n".encode()


def test_on_a_port_of_its_own_only_the_end_is_signed() -> None:
    lines = [unsigned(1, "ready 6.1"), unsigned(2, "services up")]
    end = line(3, f"end pass {hashlib.sha256(b''.join(lines)).hexdigest()}")
    talk = Conversation(NONCE)
    messages = talk.feed(HELLO + b"\n" + b"".join(lines) + end, 1)
    assert [message.kind for message in messages] == ["ready", "services", "end"]
    assert (talk.fault, talk.rejected, talk.ended) == ("", 0, True)


def test_an_end_without_a_signature_is_none() -> None:
    lines = [unsigned(1, "ready 6.1")]
    end = unsigned(2, f"end pass {hashlib.sha256(b''.join(lines)).hexdigest()}")
    talk = Conversation(NONCE)
    messages = talk.feed(HELLO + b"\n" + b"".join(lines) + end, 1)
    assert [message.kind for message in messages] == ["ready"]
    assert not talk.ended
    assert talk.rejected == 1


def test_unsigned_messages_changed_on_the_way_are_told_by_the_end() -> None:
    sent = [unsigned(1, "ready 6.1"), unsigned(2, "check a exit 1")]
    end = line(3, f"end pass {hashlib.sha256(b''.join(sent)).hexdigest()}")
    talk = Conversation(NONCE)
    talk.feed(HELLO + b"\n" + sent[0] + unsigned(2, "check a exit 0") + end, 1)
    assert "digest" in talk.fault


def test_on_a_console_nothing_counts_without_a_signature() -> None:
    talk = Conversation(NONCE, noisy=True)
    assert talk.feed(HELLO + b"\n" + unsigned(1, "ready 6.1"), 1) == []
