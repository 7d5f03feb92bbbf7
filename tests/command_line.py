"""The command line as tests run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


class ReportsTool:
    """The command line over a folder of runs."""

    def __init__(self, reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.reports, self._capsys = reports, capsys

    def __call__(self, *arguments: str, status: int = 0) -> str:
        found = main([*arguments, "--reports", str(self.reports)])
        shown = self._capsys.readouterr()
        assert found == status, shown.out + shown.err
        assert "Traceback" not in shown.err
        return shown.out + shown.err


def booted(*arguments: str, reports: Path, limit_s: float, status: int = 0) -> tuple[dict[str, Any], str]:
    """Run the command line in a process of its own; return the record of its only cell, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "bootmatrix.cli.main", *arguments, "--reports", str(reports)],
        capture_output=True,
        text=True,
        env={**os.environ, "CI": "true"},
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    (record,) = json.loads((reports / "latest/run.json").read_text(encoding="utf-8"))["records"]
    return record, done.stdout


def refused(result: Result, message: str, status: int = 2) -> None:
    assert result.returncode == status, result.stdout + result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert result.stderr.count(message) == 1
