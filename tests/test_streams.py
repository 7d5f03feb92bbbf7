"""Output that goes away, that takes no Unicode, and signals that come twice: nothing of a run is lost for it."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from bootmatrix.cli.main import main
from bootmatrix.runs.run_store import load_run
from stage import Stage, set_up

GONE = (">/dev/full", ">/dev/full 2>&1", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full")
PLAN = ("plan", "fake.yml", "--arch", "fake")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("streams"), ("sound", "lingers", "hostile"))


def shell(stage: Stage, words: str, arguments: tuple[str, ...], **variables: str) -> subprocess.CompletedProcess[bytes]:
    """bootmatrix in a shell, with redirections or a pipe behind it."""
    command = f"set -o pipefail; {shlex.join(stage.command(*arguments))} {words}"
    environment = {**stage.environment(), **variables}
    return subprocess.run(
        ["bash", "-c", command], cwd=stage.folder, env=environment, capture_output=True, timeout=120, check=False
    )


@pytest.mark.parametrize("words", [">/dev/full", "<&- >&- 2>&-", "2>/dev/full", "| head -1"])
def test_a_run_whose_output_goes_away_is_kept(stage: Stage, words: str) -> None:
    done = shell(stage, words, ("matrix", stage.matrix("sound")))
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    run = load_run(stage.latest)
    assert [record.verdict for record in run.records] == ["pass"]
    assert run.ended_at
    assert not run.interrupted
    assert (stage.latest / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *((("--help",), words) for words in GONE),
        *((arguments, words) for arguments in (("schema", "run"), PLAN) for words in (">/dev/full", ">&-")),
    ],
)
def test_what_was_not_printed_is_said(stage: Stage, arguments: tuple[str, ...], words: str) -> None:
    done = shell(stage, words, arguments)
    is_lost = ">&-" in words.replace("2>&-", "") or words.startswith(">/dev/full")
    assert (done.returncode, b"Traceback" in done.stderr) == (3 if is_lost else 0, False), done.stderr
    assert (b"cannot write to the standard output" in done.stderr) == (is_lost and "2>&" not in words)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {"PYTHONIOENCODING": "latin-1:strict"}


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        *((("--help",), variables) for variables in ({"LC_ALL": "C"}, ASCII, {"PYTHONIOENCODING": "ascii"}, LATIN)),
        *((arguments, ASCII) for arguments in (("arch",), ("doctor", "--help"))),
        (("run", "fake.yml", "--arch", "fake/hostile"), ASCII),
        (("matrix", "fake.yml", "--arch", "fake/sound"), LATIN),
    ],
)
def test_any_encoding_will_do(stage: Stage, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    done = shell(stage, "", arguments, **variables)
    assert done.returncode in {0, 1}, done.stderr
    assert (done.returncode == 1) == ("run" in arguments)
    assert not done.stderr.count(b"Error"), done.stderr
    assert done.stdout


def test_a_folder_whose_name_is_no_text_will_do(stage: Stage) -> None:
    folder = stage.folder / "caf\udce9 \x1b]0;title\x07"
    folder.mkdir()
    for name in ("images", "arch", "bin"):
        shutil.copytree(stage.folder / name, folder / name)
    for name in ("plain.yml", "caf\udce9.yml"):
        (folder / name).write_bytes((stage.folder / "fake.yml").read_bytes())
        for command in ("validate", "plan", "matrix"):
            more = () if command == "validate" else ("--arch", "fake/sound")
            done = subprocess.run(
                stage.command(command, name, *more),
                cwd=folder,
                env=stage.environment(),
                capture_output=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, b"Traceback" in done.stderr) == (2 * (name != "plain.yml"), False), done.stderr
            assert (b"not valid UTF-8" in done.stderr) == (name != "plain.yml")
            assert b"\x1b" not in done.stdout + done.stderr
    assert (folder / "reports/latest/report.html").exists()


@pytest.mark.parametrize("argument", ["--\x1b]0;title\x07", "x\x1b[31m.yml", "caf\udce9.yml"])
@pytest.mark.parametrize("command", ["matrix", "plan", "validate", "build", "run"])
def test_no_line_of_ours_has_an_escape(
    stage: Stage,
    command: str,
    argument: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(stage.folder)
    for name, value in stage.environment().items():
        monkeypatch.setenv(name, value)
    more = ["--arch", "fake/sound"] if command in {"build", "run"} else []
    assert exit_status(command, argument, *more) == 2
    printed = b"".join(capfdbinary.readouterr())
    assert printed
    assert b"\x1b" not in printed
    assert b"\x07" not in printed


def exit_status(*arguments: str) -> int | str | None:
    """That of bootmatrix in this process."""
    try:
        return main(arguments)
    except SystemExit as left:
        return left.code


def wait_for(holds: Callable[[], object], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("numbers", "gap_s"),
    [
        ((signal.SIGTERM, signal.SIGTERM), 0.0),
        ((signal.SIGTERM, signal.SIGTERM), 0.1),
        ((signal.SIGHUP, signal.SIGTERM, signal.SIGINT), 0.02),
    ],
)
def test_a_second_signal_does_not_end_the_end(stage: Stage, numbers: tuple[int, ...], gap_s: float) -> None:
    before = len(stage.starts())
    command = stage.command("matrix", stage.matrix("lingers"))
    with subprocess.Popen(
        command,
        cwd=stage.folder,
        env=stage.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Where tests run in the background, some signals are ignored, and a child is to ignore them too.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in numbers] and None,  # noqa: PLW1509
    ) as process:
        wait_for(lambda: len(stage.starts()) > before)
        for number in numbers:
            process.send_signal(number)
            time.sleep(gap_s)
        output = process.communicate(timeout=60)[0]
    assert (process.returncode, b"Traceback" in output) == (130, False), output
    run = load_run(stage.latest)
    assert run.interrupted
    assert run.ended_at, "its end was written"


def test_a_terminal_that_is_closed_ends_a_run_as_ctrl_c_does(stage: Stage) -> None:
    before = len(stage.starts())
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.chdir(stage.folder)
        environment = {**stage.environment(), "TERM": "xterm", "CI": ""}
        command = stage.command("matrix", stage.matrix("lingers"))
        os.execve(command[0], command, environment)
    wait_for(lambda: len(stage.starts()) > before)
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 130
    assert load_run(stage.latest).interrupted
