"""The wheel, installed outside of the checkout: the program, and the profiles and specs that it brings along."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

Bootmatrix = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout. Nothing comes from the network: the build backend is locked, and installed."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "-w", folder, ROOT], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def prefix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel. Its dependencies are those of the running one."""
    prefix = tmp_path_factory.mktemp("outside") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    into = ("--python", prefix / "bin/python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *into, "install", "--no-index", "--no-deps", wheel], check=True
    )
    # A path in a .pth file is only appended: the editable install that is there stays out of sight.
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return prefix


@pytest.fixture
def bootmatrix(prefix: Path, tmp_path: Path) -> Bootmatrix:
    """Runs the installed program in a folder that has nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BOOTMATRIX", "PYTHON"))}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [prefix / "bin/bootmatrix", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_has_every_profile_and_spec(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    shipped = [path for folder in ("arch", "kernels", "specs") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert len(shipped) > 10
    assert [path for path in shipped if f"bootmatrix/data/{path.relative_to(ROOT)}" not in inside] == []


def test_has_the_program_and_nothing_else(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in inside} == {"bootmatrix"}
    assert "bootmatrix/py.typed" in inside
    assert not [name for name in inside if "/tests/" in name or name.endswith(".pyc")]


def test_lists_the_architectures(bootmatrix: Bootmatrix) -> None:
    done = bootmatrix("arch")
    assert done.returncode == 0, done.stderr
    assert [path.stem for path in (ROOT / "arch").glob("*.yml") if path.stem not in done.stdout] == []


def test_plans_a_shipped_matrix_by_name(bootmatrix: Bootmatrix) -> None:
    done = bootmatrix("plan", "influxdb.matrix.yml")
    assert done.returncode == 0, done.stderr
    assert "8 cells, 0 skipped" in done.stdout


def test_finds_a_shipped_spec_by_name(bootmatrix: Bootmatrix) -> None:
    done = bootmatrix("plan", "hello", "--arch", "all", "--kernel", "6.1")
    assert done.returncode == 0, done.stderr
    assert "hello/" in done.stdout


def test_validates_what_it_brings(bootmatrix: Bootmatrix, prefix: Path) -> None:
    (data,) = prefix.glob("lib/python*/site-packages/bootmatrix/data")
    files = sorted(str(path) for path in data.rglob("*.yml"))
    done = bootmatrix("validate", *files)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(files)


def test_takes_its_profiles_from_the_wheel(bootmatrix: Bootmatrix, prefix: Path) -> None:
    """Without them it knows no architecture: so the tests above did not see the checkout's."""
    (profiles,) = prefix.glob("lib/python*/site-packages/bootmatrix/data/arch")
    aside = profiles.rename(profiles.with_name("aside"))
    try:
        done = bootmatrix("plan", "influxdb.matrix.yml")
    finally:
        aside.rename(profiles)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
