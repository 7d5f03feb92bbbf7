"""What checks in shell are made of, specs/images/busybox/tap.sh: what they take for a success must be one."""

from __future__ import annotations

import subprocess

import pytest

from bootmatrix.load.places import CHECKOUT

HELPERS = CHECKOUT / "specs/images/busybox/tap.sh"


def status(script: str) -> int:
    return subprocess.run(["sh", "-c", f". {HELPERS}; {script}"], capture_output=True, check=False).returncode


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
