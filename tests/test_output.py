"""What is printed only shows itself: no escape sequence, and nothing that a CI system takes for a command."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.text import Text

from bootmatrix.cli.main import main
from bootmatrix.cli.output import MAX_LINE_BYTES, console_lines
from bootmatrix.cli.progress import PlainScreen, plain_console
from bootmatrix.cli.run import _followed
from bootmatrix.cli.shown_console import ShownConsole
from bootmatrix.cli.tables import print_table
from bootmatrix.forge.message import comment
from bootmatrix.forge.message import headline as forge_headline
from bootmatrix.guest.console_link import encode_line
from bootmatrix.model import Plan, Record, SubResult, Verdict
from bootmatrix.report.context import ReportContext
from bootmatrix.report.forms import form_names, render
from bootmatrix.report.sanitize import disarmed, one_line, sanitize
from command_line import Tool
from samples import make_cell, make_record, write_run

pytest_plugins = ("command_line",)

COMMAND = "::error file=a,line=1::PWNED by the guest"
ESCAPE = "x\x1b]0;title\x07\x1b[31m\r"
IS_COMMAND = re.compile(r"^\s*::[A-Za-z]|##\[", re.MULTILINE)
"""As GitHub's runner looks for them: it cuts blanks off first, and finds the older form anywhere in a line."""


def hostile_records() -> list[Record]:
    """Failures whose reasons have a command at every place at which a line may be wrapped."""
    return [
        make_record(
            make_cell("x86_64", f"6.{length}"),
            Verdict.FAIL,
            f"onboot container a exited with status 1: {'x' * length} {COMMAND} ##[error]too",
        )
        for length in range(60, 140)
    ]


def test_no_line_of_a_run_begins_with_the_words_of_a_guest(tmp_path: Path) -> None:
    run, folder = write_run(tmp_path, hostile_records())
    stream = io.StringIO()
    screen = PlainScreen(plain_console(stream), Plan(cells=tuple(one.cell for one in run.records)))
    for record in run.records:
        screen.cell_done(record)
    screen.note(COMMAND)
    screen.finish(run, folder)
    text = stream.getvalue()
    assert "PWNED by the guest" in text
    assert not IS_COMMAND.search(text)
    reasons = [line for line in text.splitlines() if "PWNED" in line]
    begins = re.compile(r"\s*(\[\d+/\d+\] fail |fail |onboot container a|: :error)")
    assert all(map(begins.match, reasons))


@pytest.mark.parametrize("form", ["csv", "junit", "md", "tap"])
def test_no_line_of_a_form_begins_with_the_words_of_a_guest(form: str, tmp_path: Path) -> None:
    run, _ = write_run(tmp_path, hostile_records()[:3])
    text = render(form, ReportContext(run, lambda _: f"a\n{COMMAND}\n \xa0\u2003{COMMAND}\n".encode()))
    assert not re.search(r"^\s*::[A-Za-z]", text.decode(), re.MULTILINE)
    if form == "junit":
        shown = [one.text or "" for one in ElementTree.fromstring(text).iter("system-out")]
        assert shown and all(COMMAND in one for one in shown), "it says the same as before"


@pytest.mark.parametrize("form", sorted(set(form_names()) - {"badge", "openmetrics", "tiers"}))
def test_no_form_on_the_standard_output_has_commands_of_a_guest(form: str, tmp_path: Path, tool: Tool) -> None:
    """Azure and TeamCity find them anywhere in a line of a log, and do what they say."""
    words = "a ##vso[task.prependpath]/tmp/x b ##teamcity[x] c ##[error]d &amp; <e>"
    record = make_record(
        make_cell("x86_64", "6.1"), Verdict.FAIL, words, subresults=[SubResult(name=words, verdict=Verdict.FAIL)]
    )
    _, folder = write_run(tmp_path, [record])
    done = tool("report", str(folder), "--format", form)
    assert done.returncode == 0, done.stderr
    assert "task.prependpath" in done.stdout
    assert not re.search(r"##(?:\[|vso\[|teamcity\[)", done.stdout)
    assert tool("report", str(folder), "--format", form, "-o", "saved").returncode == 0
    saved = Path("saved").read_text(encoding="utf-8")
    if form in {"json", "kcidb"}:
        assert json.loads(done.stdout) == json.loads(saved)
    elif form == "junit":
        assert [one.text for one in ElementTree.fromstring(done.stdout).iter()] == [
            one.text for one in ElementTree.fromstring(saved).iter()
        ]
    elif form == "html":
        assert html.unescape(done.stdout) == html.unescape(saved)
    elif form == "github":
        assert re.match("::error file=", done.stdout)


def test_json_on_the_standard_output_has_no_commands(tmp_path: Path, tool: Tool) -> None:
    _, folder = write_run(tmp_path, [make_record(make_cell("x86_64", "6.1"), Verdict.PASS)])
    for name in ("run.json", "started.json"):
        file = folder / name
        value = json.loads(file.read_text()) | {"title": "##vso[task.complete]x"}
        file.write_text(json.dumps(value))
    done = tool("runs", "--json", "--reports", str(tmp_path))
    assert "##vso" not in done.stdout
    assert json.loads(done.stdout)[0]["title"] == "##vso[task.complete]x"


@pytest.mark.parametrize(
    "words", ["@everyone", "[a](http://b.example)", "<img src=x>", "www.b.example", "a.\nb\x1b[2J"]
)
def test_the_end_of_a_run_is_no_markup(tmp_path: Path, words: str) -> None:
    """A run's file has it as text, and may be from elsewhere."""
    run, _ = write_run(tmp_path, [make_record(make_cell("x86_64", "6.1"), Verdict.PASS)])
    context = ReportContext(run.model_copy(update={"interrupted": True, "interruption": words}), lambda _: b"")
    for text in (render("md", context).decode(), comment(context, "")):
        assert f"`interrupted: {one_line(words)}`" in text
        assert f"`the run was interrupted: {one_line(words)}`" in text
    for form in form_names():
        assert "\x1b" not in render(form, context).decode()
    assert not re.search(r"[@<.\[\x1b]", forge_headline(context)), "chats and mail get it as text"
    plain = ReportContext(run.model_copy(update={"interrupted": True, "interruption": "disk full"}), lambda _: b"")
    assert "; interrupted: disk full" in render("md", plain).decode()


def test_the_console_of_a_guest_gives_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = tmp_path / "console.log"
    with _followed(console):
        console.write_text(f"{COMMAND}\n  {COMMAND}\nsh: ##[add-mask]a\n\u3000\xa0{COMMAND}\n{COMMAND}")
    out = capsys.readouterr().out
    assert out.count("PWNED") == 4
    assert not IS_COMMAND.search(out)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_command_that_comes_in_parts_is_none(size: int, capsys: pytest.CaptureFixture[str]) -> None:
    console = f"a\r\n{COMMAND}\r\n##[error]b\n{'x' * MAX_LINE_BYTES}##[error]c\x1b[31md\n{COMMAND}".encode()
    with console_lines() as feed:
        for start in range(0, len(console), size):
            feed(console[start : start + size])
    out = capsys.readouterr().out
    assert out.startswith("a\n")
    assert out.count("PWNED") == 2
    assert not IS_COMMAND.search(out)
    assert "[31m" not in out


def test_a_table_has_no_command_behind_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Text(f"a\n\x1b[1m{COMMAND}\n#\x1b[0m#[error]b"))
    out = capsys.readouterr().out
    assert "PWNED" in out
    assert not IS_COMMAND.search(sanitize(out))


@pytest.mark.parametrize(
    "character", ["\u00ad", "\u200b", "\u202e", "\u2066", "\ufeff", "\u3164", "\u034f", "\U000e0101"]
)
def test_what_cannot_be_seen_is_named(character: str) -> None:
    assert sanitize(f"a{character}b") == f"a<U+{ord(character):04X}>b"
    assert one_line(f"a{character}b", 20) == f"a<U+{ord(character):04X}>b"
    assert sanitize("grün ✔\ufe0f 한국어") == "grün ✔\ufe0f 한국어"


def test_commands_of_any_case_are_broken_up() -> None:
    assert disarmed("a ##VSO[task.complete]") == "a # #VSO[task.complete]"


def test_what_is_no_command_stays_as_it_is() -> None:
    for text in ("a ::b:: c", "::1 is refused", "## heading", "std::string", "x ::error x", "  [::]:80"):
        assert disarmed(text) == text


@pytest.mark.parametrize(
    "command", ["validate", "plan", "matrix", "report", "judge", "compare", "run", "build", "prune"]
)
def test_an_argument_is_printed_without_its_escapes(command: str, tool: Tool) -> None:
    single = ("--arch", "x86_64") if command in {"run", "build"} else ()
    result = tool(command, ESCAPE, *single)
    assert result.returncode == 2
    assert result.stderr
    assert not set(result.stdout + result.stderr) & {"\x1b", "\x07", "\r"}


def test_a_sound_file_is_named_without_its_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (f"{ESCAPE}.yml", f"a\n{COMMAND}.yml"):
        (tmp_path / name.replace("/", "-")).write_text("init: []\n")
    assert main(["validate", *map(str, tmp_path.iterdir())]) == 0
    out = capsys.readouterr().out
    assert out.count("a spec: ") == 2
    assert not set(out) & {"\x1b", "\x07", "\r"}
    assert not IS_COMMAND.search(out)


def test_what_guest_and_host_tell_each_other_is_not_shown() -> None:
    """Boards without ports have it on the console, each message twice; what the kernel tore is shown."""
    agent = encode_line(b"key", b"g", 3, 2, b"data")
    message = b"bootmatrix 3 0d6b878381dc8eb4 service nginx start\n"
    torn = agent.removesuffix(b"\n") + b"[    4.786677] random: crng init done\n"
    output = b"one\n\ntwo\nbootmatrix hello 2\r\n" + 2 * message + agent + b"nginx| bootmatrix-agent\n" + agent + torn
    output += b"\n\n" + agent + b"\n" + message.replace(b"3", b"3 ") + b"end\n\n"
    expected = b"one\n\ntwo\nnginx| bootmatrix-agent\n" + torn + b"\n\n\n" + message.replace(b"3", b"3 ") + b"end\n\n"
    for step in (1, 2, len(output)):
        shown = ShownConsole()
        lines = output.splitlines(keepends=True)
        parts = [b"".join(lines[start : start + step]) for start in range(0, len(lines), step)]
        assert b"".join([*map(shown.feed, parts), shown.rest()]) == expected


def test_a_followed_console_shows_no_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "console.log"
    output = b"Run /init\nbootmatrix hello 2\nready\n" + encode_line(b"key", b"g", 1, 0, b"x") + b"\nend"
    file.write_bytes(output)
    with _followed(file):
        pass
    assert capsys.readouterr().out == "Run /init\nready\n\nend"
    assert file.read_bytes() == output
