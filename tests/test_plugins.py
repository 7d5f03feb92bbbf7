"""Plug-ins of another package: installed by pip, found by their names from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bootmatrix import plugins
from bootmatrix.errors import HostError, InputError
from bootmatrix.runs.run_store import RunWriter

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "third-party"
version = "1"

[project.entry-points."bootmatrix.report_forms"]
count = "third_party.count"

[project.entry-points."bootmatrix.kernel_formats"]
upside-down = "third_party.upside_down"

[project.entry-points."bootmatrix.output_formats"]
list = "third_party.name_list:FORMAT"
broken = "third_party.nowhere"

[project.entry-points."bootmatrix.executors"]
nobody = "third_party.nobody:open_executor"
"""

MODULES = {
    "__init__.py": "",
    "count.py": """
def render(given):
    return f"{len(given.run.records)} records\\n".encode()
""",
    "upside_down.py": """
DESCRIPTION = "a file that begins with its end"
ORDER = 5

def recognises(path):
    return path.is_file() and path.read_bytes().startswith(b"dne")

def paths(path):
    return [path]

def members(path, platform):
    return iter(())
""",
    "name_list.py": """
from bootmatrix.assembly.formats import Format

def write(source):
    return source.kept("list", lambda path: path.write_text("hello"))

FORMAT = Format("the names of all files", {".list": write})
""",
    "nobody.py": """
from contextlib import asynccontextmanager

class Nobody:
    async def submit(self, request):
        raise OSError(f"nobody runs {request.cell.id}")

    async def results(self):
        return
        yield

    def cancel(self):
        pass

@asynccontextmanager
async def open_executor(settings):
    yield Nobody()
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "third_party").mkdir()
    for name, text in MODULES.items():
        (source / "third_party" / name).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=120, capture_output=True)
    return target


def run(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootmatrix.cli.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(installed), "BOOTMATRIX_CACHE": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_report_form(installed: Path, tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "reports", "empty").finish()
    done = run(installed, tmp_path, "report", "latest", "--format", "count")
    assert (done.returncode, done.stdout) == (0, "0 records\n"), done.stderr
    done = run(installed, tmp_path, "report", "latest", "--format", "cuont")
    assert done.returncode == 2
    assert "unknown report form 'cuont'" in done.stderr
    assert "Did you mean 'count'?" in done.stderr


def test_a_kernel_format(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "kernel").write_bytes(b"dnefoobar")
    done = run(installed, tmp_path, "kernels", "add", "mine", "kernel")
    assert done.returncode == 2
    assert "a kernel does not come in this" not in done.stderr  # it was recognised, and has no kernel in it


def test_an_output_format(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "build", "hello", "--arch", "any", "--format", "list")
    assert done.returncode == 3
    assert "third-party provides 'broken' in bootmatrix.output_formats, and it cannot be loaded" in done.stderr


def test_an_executor(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "matrix", "hello", "--arch", "all", "--executor", "nobody")
    assert done.returncode == 3
    assert "nobody runs hello/" in done.stderr
    done = run(installed, tmp_path, "matrix", "hello", "--arch", "all", "--executor", "someone")
    assert done.returncode == 2
    assert "unknown executor 'someone'" in done.stderr


def test_ours_are_registered_in_the_same_way() -> None:
    assert "junit" in plugins.names("report_forms")
    assert "deb" in plugins.names("kernel_formats")
    assert "kernel+initrd" in plugins.names("output_formats")
    assert plugins.names("executors")[0] == "local"
    with pytest.raises(InputError, match="unknown report form 'cvs'"):
        plugins.load("report_forms", "cvs")
    with pytest.raises(HostError, match=r"no package registers bootmatrix\.nothing"):
        plugins.names("nothing")
