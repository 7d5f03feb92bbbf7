"""The command line as tests run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.cli.main import main

Result = subprocess.CompletedProcess[str]
Tool = Callable[..., Result]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """Runs the command line in an empty folder, with an empty cache; in this process, since starting one takes long."""
    for name in [name for name in os.environ if name.startswith("BOOTMATRIX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOOTMATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        try:
            status = main(arguments)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 1
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, shown.out, shown.err)

    return run


@pytest.fixture
def process(tool: Tool) -> Tool:
    """Runs the command line as a user does, where `tool` would."""

    def run(*arguments: str) -> Result:
        command = [sys.executable, "-m", "bootmatrix.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


def refused(result: Result, message: str, status: int = 2) -> None:
    assert result.returncode == status, result.stdout + result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert result.stderr.count(message) == 1
