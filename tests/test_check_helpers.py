"""What checks in shell are made of, specs/images/busybox/tap.sh: what they take for a success must be one."""

from __future__ import annotations

import subprocess

import pytest

from bootmatrix.load.data_paths import CHECKOUT

HELPERS = CHECKOUT / "specs/images/busybox/tap.sh"


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", f". {HELPERS}; {script}"], capture_output=True, check=False, text=True)


def status(script: str) -> int:
    return run(script).returncode


@pytest.mark.parametrize(
    ("command", "is_changed"),
    [
        ("echo new", True),
        ("echo old", False),
        ("printf ''", False),
        ("eval 'echo new; false'", False),
        ("eval 'echo old; echo the connection is reset >&2'", False),  # by a server that is just being stopped
    ],
)
def test_a_server_is_restarted_when_it_says_so_itself(command: str, is_changed: bool) -> None:
    assert status(f"changed old {command}") == (0 if is_changed else 1)


def test_a_command_that_is_not_there_is_not_waited_for() -> None:
    done = run("asked() { true && no-such-client; }; eventually 'the server answers' asked")
    assert done.returncode == 1
    assert done.stdout.startswith("not ok 1 - the server answers: ")
    assert "no-such-client" in done.stdout


def test_what_is_waited_for_is_told_meanwhile() -> None:
    """The check's time may be over before its tries are, and then nothing else says why it waited."""
    done = run("sleep() { :; }; refused() { echo refused; return 2; }; TRIES=150; eventually 'it answers' refused")
    assert done.stdout.splitlines() == [
        "# it answers: not after 100 tries: refused",
        "not ok 1 - it answers: not after 150 tries: refused",
    ]
