"""What a run shows as it goes: plain lines, and a live table on a real terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bootmatrix.cli.downloads import download_progress
from bootmatrix.cli.progress import open_screen
from bootmatrix.model import Plan, Verdict
from samples import make_cell, make_record, mixed_records, write_run

HOSTILE = "[bold red]x[/] \x1b[2J\x1b]0;owned\x07\x00\u202e"
CHILD = """
import sys
from pathlib import Path
from bootmatrix.cli.progress import open_screen
from bootmatrix.model import Plan, Verdict
from samples import make_cell, make_record, write_run
hostile = "[bold red]x[/] \\x1b[2J\\x1b]0;owned\\x07\\x00\\u202e"
records = [
    make_record(make_cell(f"arch{number:02}"), Verdict.FAIL if number == 31 else Verdict.PASS, hostile + str(number))
    for number in range(40)
]
run, path = write_run(Path(sys.argv[1]), records)
with open_screen(Plan(cells=tuple(record.cell for record in records))) as screen:
    refresh = screen._live.refresh if hasattr(screen, "_live") else lambda: None
    for number, record in enumerate(records):
        screen.cell_stage(record.cell, "boot")
        screen.download(hostile, number, 100)
        refresh()
        screen.cell_done(record)
        screen.note(hostile + "noted")
        refresh()
    if sys.argv[2] == "finish":
        screen.finish(run, path)
"""


def on_terminal(tmp_path: Path, *arguments: str, env: Mapping[str, str] = {}) -> str:
    """What the child writes on a terminal of 80 × 20."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 80, 0, 0))
    clean = {key: value for key, value in os.environ.items() if key not in {"CI", "NO_COLOR", "COLUMNS", "LINES"}}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**clean, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parent), **env},
    )
    os.close(theirs)
    seen = bytearray()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says EIO when the other side is closed: tty_ioctl(4)
            break
        if not data:
            break
        seen += data
    os.close(ours)
    assert child.wait(30) == 0, seen.decode()
    return seen.decode()


def test_the_live_table_fits_the_terminal_and_keeps_what_matters(tmp_path: Path) -> None:
    seen = on_terminal(tmp_path, "stop")
    last = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", seen.rpartition("\x1b[2K")[2])
    lines = last.splitlines()
    assert len(lines) <= 20
    assert all(len(line) <= 80 for line in lines)
    assert "40 of 40 done · 39 pass · 1 fail" in last
    assert "✗ fail" in last
    assert re.search(r"and \d+ more", last)


def test_the_end_is_the_table_and_the_path(tmp_path: Path) -> None:
    seen = on_terminal(tmp_path, "finish")
    text = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", seen)
    assert re.search(r"1 of 40 cells not as expected", text)
    assert text.rstrip().endswith("/report.html")
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h"), "the cursor is shown again"


def test_a_guest_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    seen = on_terminal(tmp_path, "finish")
    assert "[bold red]x[/]" in seen
    assert "owned" not in seen
    assert "\x1b[2J" not in seen
    assert "\x07" not in seen
    assert "\u202e" not in seen


def test_without_colour_there_is_a_table_and_no_colour(tmp_path: Path) -> None:
    coloured = "\x1b\\[[0-9;]*3[1-7]m"
    assert re.search(coloured, on_terminal(tmp_path, "finish"))
    seen = on_terminal(tmp_path, "finish", env={"NO_COLOR": "1"})
    assert not re.search(coloured, seen)
    assert "\x1b[2K" in seen


@pytest.mark.parametrize("env", [{"CI": "true"}, {"TERM": "dumb"}])
def test_in_ci_there_are_lines_even_on_a_terminal(tmp_path: Path, env: dict[str, str]) -> None:
    seen = on_terminal(tmp_path, "stop", env=env)
    assert "\x1b" not in seen
    assert "pass         influxdb/arch00/6.1" in seen


def test_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    records = mixed_records()
    run, path = write_run(tmp_path, records)
    with open_screen(Plan(cells=tuple(record.cell for record in records))) as screen:
        for record in records:
            screen.cell_stage(record.cell, "boot")
            screen.cell_done(record)
        screen.finish(run, path)
    out = capsys.readouterr().out
    assert re.search(r"^ *\[\d+/14\] pass +influxdb/ppc64le/6\.1 +7\.2 s$", out, re.MULTILINE)
    assert re.search(
        r"^ *\[\d+/14\] panic +influxdb/aarch64/7\.2 +6\.3 s  kernel panic: VFS: Unable", out, re.MULTILINE
    )
    assert re.search(r"^ *\[\d+/14\] pass +influxdb/x86_64/6\.12 +4\.1 s  \(unexpected\)$", out, re.MULTILINE)
    assert re.search(
        r"^ *\[\d+/14\] fail +influxdb/aarch64/6\.12 +6\.3 s  \(expected\) check 'check' exited with 1$",
        out,
        re.MULTILINE,
    )
    assert "passed, expected a failure: issue 99: flaky clock" in out
    assert out.endswith(f"{path}/report.html\n")
    assert "\x1b" not in out


def test_cells_that_were_never_tried_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = mixed_records()
    run, path = write_run(tmp_path, records[:3], interrupted=True)
    with open_screen(Plan(cells=tuple(record.cell for record in records))) as screen:
        screen.finish(run, path)
    out = capsys.readouterr().out
    assert f"{len(records) - 3} of {len(records)} cells have no verdict" in out
    assert "All 3 cells as expected, interrupted" in out


def test_plain_lines_are_one_line_each_whatever_the_guest_says(capsys: pytest.CaptureFixture[str]) -> None:
    with open_screen(Plan(cells=())) as screen:
        screen.note(f"{HOSTILE}\nsecond\r\nthird")
        screen.cell_done(make_record(make_cell("x86_64"), Verdict.FAIL, f"{HOSTILE}\nsecond"))
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 2
    assert out.startswith("[bold red]x[/] ␀<U+202E> second third\n")
    assert "owned" not in out


def test_plain_downloads_say_only_what_is_large_or_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with download_progress() as downloads:
        for done in (0, 1_000_000, 2_000_000, 25_400_000):
            downloads.download("linux.deb", done, 25_400_000)
            downloads.download("small.deb", min(done, 5_000_000), 5_000_000)
        downloads.download("unknown", 500, 0)
        downloads.download("slow.deb", 1_000, 140_000)
        monkeypatch.setattr("bootmatrix.cli.progress.LONG_S", -1)
        downloads.download("slow.deb", 2_000, 140_000)
        downloads.download("slow.deb", 140_000, 140_000)
    captured = capsys.readouterr()
    lines = ["linux.deb  25.4 MB", "slow.deb  140 kB"]
    assert captured.err.splitlines() == [
        f"{word} {line}" for line in lines for word in ("downloading ", "downloaded  ")
    ]
    assert captured.out == ""


def test_lines_of_many_threads_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with open_screen(Plan(cells=())) as screen, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: screen.note(f"note {number} " + "x" * 300), range(200)))
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"note {number} " + "x" * 300 for number in range(200))


def test_an_encoding_without_ticks_does_not_stop_a_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), "finish"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"? pass" in done.stdout
