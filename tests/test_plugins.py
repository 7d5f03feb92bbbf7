"""Plug-ins of another package: installed by pip, found by their names from the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bootmatrix import plugins
from bootmatrix.errors import HostError, InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.runs.run_store import RunWriter
from kernel_forms import make_kernel

PROFILE = load_profiles([CHECKOUT / "arch"])["aarch64"]

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

[project.entry-points."bootmatrix.image_sources"]
mine = "third_party.mine"

[project.entry-points."bootmatrix.output_formats"]
names = "third_party.name_list:FORMAT"

[project.entry-points."bootmatrix.executors"]
nobody = "third_party.nobody:open_executor"
"""

BROKEN = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "broken"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["broken"]

[project.entry-points."bootmatrix.output_formats"]
broken = "broken.nowhere"

[project.entry-points."bootmatrix.image_sources"]
nowhere = "broken.nowhere"
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
    "mine.py": """
import io
import tarfile
from pathlib import Path

from bootmatrix.model import ImageSource
from bootmatrix.source.image_sources import tar

PREFIX = "mine:"
IS_PATH = False

def parse(text, folder):
    return ImageSource(kind="mine", name=text)

def image(source, platform, services):
    with services.store.writer() as writer:
        with tarfile.open(fileobj=writer, mode="w|") as archive:
            data = f"{source.name} for {platform}".encode()
            member = tarfile.TarInfo("init")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        digest = writer.commit()
    file = ImageSource(kind="tar", path=str(services.store.blob(digest)))
    return tar.image(file, platform, services)

def digest(source):
    return ""
""",
    "name_list.py": """
from bootmatrix.assembly.formats import Format

def write(source):
    return source.kept("list", lambda path: path.write_text("hello"))

FORMAT = Format("the names of all files", {".names": write})
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


def install(name: str, pyproject: str, modules: dict[str, str], factory: pytest.TempPathFactory) -> Path:
    """A folder into which a package is installed."""
    source, target = factory.mktemp("source"), factory.mktemp("target")
    (source / "pyproject.toml").write_text(pyproject)
    (source / name).mkdir()
    for module, text in modules.items():
        (source / name / module).write_text(text)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, timeout=120, capture_output=True)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a plug-in of each group."""
    return install("third_party", PYPROJECT, MODULES, tmp_path_factory)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package whose plug-ins cannot be loaded."""
    return install("broken", BROKEN, {"__init__.py": ""}, tmp_path_factory)


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
    assert "Supported:" not in done.stderr  # it was recognised, and has no kernel in it


def build(installed: Path, folder: Path, form: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Build a spec that needs nothing of the archive."""
    (folder / "kernel").write_bytes(make_kernel(PROFILE))
    added = run(installed, folder, "kernels", "add", "mine", "kernel", "--arch", PROFILE.name)
    assert added.returncode == 0, added.stderr
    (folder / "tiny.yml").write_text("init: [tiny]\n")
    target = ("--arch", PROFILE.name, "--kernel", "mine")
    return run(installed, folder, "build", "tiny.yml", *target, "--format", form, "--offline", *words)


def test_an_output_format(installed: Path, tmp_path: Path) -> None:
    done = build(installed, tmp_path, "names", "--image", "tiny=mine:word")
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.names")
    assert made.read_text() == "hello"


def test_an_image_source(installed: Path, tmp_path: Path) -> None:
    done = build(installed, tmp_path, "tar", "--image", "tiny=mine:word")
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("*.tar")
    with tarfile.open(made) as archive:
        file = archive.extractfile("init")
        assert file
        assert file.read().startswith(b"word for linux/")
    done = build(installed, tmp_path, "tar", "--image", "tiny=mien:word")
    assert done.returncode == 2
    assert "tar:, mine:, @pkg:" in done.stderr


def test_plugins_that_cannot_be_loaded(broken: Path, tmp_path: Path) -> None:
    done = build(broken, tmp_path, "tar")
    assert done.returncode == 3
    assert "cannot load 'broken' of bootmatrix.output_formats from broken" in done.stderr
    (tmp_path / "spec.yml").write_text("init: ['nowhere:x']\n")
    done = run(broken, tmp_path, "validate", "spec.yml")
    assert done.returncode == 3
    assert "cannot load 'nowhere' of bootmatrix.image_sources from broken" in done.stderr
    (tmp_path / "spec.yml").write_text("init: ['redis:7']\n")
    assert run(broken, tmp_path, "validate", "spec.yml").returncode == 0


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
    assert "oci-archive" in plugins.names("image_sources")
    assert plugins.names("executors") == ("dask", "local")
    with pytest.raises(InputError, match="unknown report form 'cvs'"):
        plugins.load("report_forms", "cvs")
    with pytest.raises(HostError, match=r"no package registers bootmatrix\.nothing"):
        plugins.names("nothing")
