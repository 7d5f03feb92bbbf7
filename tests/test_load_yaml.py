"""YAML as LinuxKit reads it: values, lines, and one clear message for what it refuses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootmatrix.errors import FileError, InputError
from bootmatrix.load.document import MAX_BYTES, MAX_DEPTH, parse, read_bytes, read_document
from bootmatrix.model.durations import duration_s


def data(text: str) -> dict[str, Any]:
    document = parse(text.encode(), "f.yml")
    document.raise_faults()
    return document.data


def faults(text: str | bytes) -> str:
    with pytest.raises(FileError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "f.yml").raise_faults()
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("2020-01-01", "2020-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("tRUE", "tRUE"),
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("0", 0),
        ("0644", 0o644),
        ("0o644", 0o644),
        ("089", 89),
        ("0x1f", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("6.1", 6.1),
        ("1e3", 1000),
        (".5", 0.5),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("0x", "0x"),
        ("_1", "_1"),
        ("=", "="),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", float(2**64)),
        ('"5"', "5"),
        ("'true'", "true"),
        ('""', ""),
        ("!!str 5", "5"),
        ("! 5", "5"),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">\n  a\n  b\n", "a b\n"),
        ("{a: [1, b]}", {"a": [1, "b"]}),
        ("[]", []),
    ],
)
def test_values(text: str, value: object) -> None:
    if value is None:
        assert "no value" in faults(f"key:\n  {text}\n")
        return
    found = data(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_only_the_first_document_counts() -> None:
    assert data("---\na: 1\n---\na: [\n") == {"a": 1}


def test_anchors_and_merges() -> None:
    text = "base: &b {x: 1, y: [2]}\nmore: &c {z: 3}\none: {<<: *b, x: 5}\ntwo: {<<: [*b, *c]}\nthree: *b\n"
    found = data(text)
    assert found["one"] == {"x": 5, "y": [2]}
    assert found["two"] == {"x": 1, "y": [2], "z": 3}
    assert found["three"] == found["base"]


def test_lines() -> None:
    document = parse(b"# c\na:\n  - b: 1\n    c: 2\n  -\n    d: [x,\n      y]\n", "f.yml")
    assert document.line(("a",)) == 2
    assert document.line(("a", 0)) == 3
    assert document.line(("a", 0, "c")) == 4
    assert document.line(("a", 1, "d")) == 6
    assert document.line(("a", 1, "d", 1)) == 6 + 1
    assert document.line(("a", 1, "nothing", "below")) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yml:3: the key 'a' is given twice, first in line 1"),
        ("a:\n  b: 1\n  b: 1\n", "f.yml:3: the key 'b' is given twice, first in line 2"),
        ("a: 1\nservices:\n", "f.yml:2: 'services' has no value. Set one, or remove it"),
        ("a:\n  - ~\n", "f.yml:2: the entry has no value. Set one, or remove it"),
        ("6.1: x\n", "f.yml:1: a key must be text, and the number 6.1 is not. Put it in quotes"),
        ("[a]: x\n", "f.yml:1: a key must be text, and a list is not. Put it in quotes"),
        ("a:\n\tb: 1\n", "f.yml:2: the line begins with a tab. Indent YAML with blanks"),
        ("a:\n  - @pkg:./x\n", "f.yml:2: a text that begins with @ must be in quotes"),
        ("- a\n", "f.yml:1: a list where a mapping is expected"),
        ("hello\n", "f.yml:1: the text 'hello' where a mapping is expected"),
        ("", "f.yml:1: the file is empty"),
        ("# only a comment\n", "f.yml:1: the file is empty"),
        ("a: *b\n", "f.yml:1: the alias *b has no anchor before it"),
        ("a: &a [*a]\n", "f.yml:1: the alias *a has no anchor before it"),
        ("a: 1\nb: !thing x\n", "f.yml:2: the tag !thing is not supported"),
        ("a: !!python/object:os.system x\n", "f.yml:1: the tag tag:yaml.org,2002:python/object:os.system is not"),
        ("a: .inf\n", "f.yml:1: .inf is not a usable number"),
        ("a: .nan\n", "f.yml:1: .nan is not a usable number"),
        (b"a: 1\nb: \xff\n", "f.yml:2: not valid UTF-8"),
        (b"a: 1\nb: \x00\n", "f.yml:1: invalid YAML: "),
        ("a: [1\nb: 2\n", "f.yml:2: invalid YAML: "),
        ('a: ["x\\0"]\n', "f.yml:1: a NUL character is allowed only in file contents"),
        ('a: "\\ud800"\n', "f.yml:1: invalid YAML"),
        ("a: {<<: 5}\n", "f.yml:1: '<<' must be a mapping or a list of mappings"),
    ],
)
def test_refusals(text: str | bytes, message: str) -> None:
    assert faults(text).startswith(message)


def test_several_faults_come_at_once_in_their_order() -> None:
    lines = faults("b:\na: 1\na: 2\nc: ~\n").splitlines()
    assert [line.split(":")[1] for line in lines] == ["1", "3", "4"]


def test_depth_is_limited() -> None:
    assert data("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert f"more than {MAX_DEPTH} levels" in faults("a: " + "[" * 500 + "]" * 500)
    assert f"more than {MAX_DEPTH} levels" in faults("".join(" " * depth + "a:\n" for depth in range(200)))


def test_aliases_cannot_explode() -> None:
    rows = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    rows += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    started = time.process_time()
    assert "the file is too large after aliases are resolved" in faults("\n".join(rows))
    assert time.process_time() - started < 5


def test_empty_mappings_that_merge_each_other_cannot_explode() -> None:
    rows = ["a0: &a0 {}"]
    rows += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 100)}]}}" for n in range(1, 6)]
    started = time.process_time()
    assert "the file is too large after aliases are resolved" in faults("\n".join(rows))
    assert time.process_time() - started < 5


@pytest.mark.parametrize("form", ["{{<<: *a{}}}", "[*a{}]", "{{a: *a{}}}"])
def test_chains_of_aliases_are_limited(form: str) -> None:
    rows = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {form.format(n - 1)}" for n in range(1, 1000))]
    assert data("\n".join(rows[: MAX_DEPTH - 2]))
    assert "the file is too deep after aliases are resolved" in faults("\n".join(rows))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    large = tmp_path / "large.yml"
    large.write_bytes(b"a" * (MAX_BYTES + 1))
    for path, message in (
        (tmp_path / "none.yml", "cannot be read: No such file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "a\0b.yml", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (large, "larger than the limit of 1024 KiB"),
    ):
        with pytest.raises(InputError, match=message):
            read_document(path)
    with pytest.raises(InputError, match="not a regular file"):
        read_bytes(Path("/dev/zero"), 10)


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))))
@example(b"\xef\xbb\xbfa: 1")
@example(b"a: 1e999999")
@example(b"a: " + b"9" * 5000)
@example(b"? a\n: b\n? {x: y}\n: c\n")
@example(b"%YAML 3.0\n---\na: 1\n")
@example(b"&a : *a\n")
@example(b"<<: *a\n")
@example(b"a: &x\nb: *x\n")
@example(b"\x85\xc2\x85a:\xe2\x80\xa8\tb")
def test_whatever_the_bytes_the_answer_is_data_or_a_fault(raw: bytes) -> None:
    try:
        document = parse(raw, "f.yml")
        document.raise_faults()
    except FileError as error:
        assert str(error).startswith("f.yml:")
    else:
        assert isinstance(document.data, dict)


YAML_PIECES = st.sampled_from(
    [*"ab:[]{},|>'\"#~%1.é\n\t\u2028", ": ", "- ", "  ", "&x", "*x ", "!!str ", "<<", "? ", "---\n", "...\n", "0x"]
)


@given(st.lists(YAML_PIECES, max_size=60).map("".join))
def test_whatever_looks_like_yaml_too(text: str) -> None:
    try:
        parse(text.encode(), "f.yml").raise_faults()
    except FileError as error:
        assert str(error).startswith("f.yml:")


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("2m", 120), ("1m30s", 90), ("1h", 3600), ("500ms", 0.5), ("1.5s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "0s", "-1s", "1d", "1s1m", "s", " 1s", "1s\n", "99h", "1e3s", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InputError, match="not a duration"):
        duration_s(text)
