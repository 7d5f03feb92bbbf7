"""`make setup`, `make demo` and the lock, on copies of the checkout. The system's own programs are stood in for by
small real ones, as the tests may not install packages."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bootmatrix.load.profile import load_profiles

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    *("sh", "awk", "basename", "bash", "cat", "cut", "dirname", "echo", "env", "flock", "grep", "id", "make"),
    *("mkdir", "mktemp", "mv", "rm", "sed", "sha256sum", "sort", "tr", "true"),
)
LOCKS = ("requirements.lock", "requirements-agent.lock")
RUNS = ("gpgv", "setpriv", "sqfstar")
TESTED = ("qemu-system-s390x",)
"""Emulators that only the tests need."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What setup reads."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", copy / ".ci")
    shutil.copytree(ROOT / "arch", copy / "arch")
    (copy / "src/bootmatrix").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """A PATH with basic tools and Python, and with no QEMU, no package manager and no sudo."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    (folder / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    return folder


def script(path: Path, text: str) -> None:
    """A program in place of whatever was there: of the link to the system's own, not of what it leads to."""
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def run(checkout: Path, bin_folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the checkout where pip reaches no index."""
    environment = {"PATH": str(bin_folder), "HOME": str(checkout), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def emulators() -> set[str]:
    """Those of the first machines of the profiles that setup sets up."""
    profiles = load_profiles([ROOT / "arch"]).values()
    return {profile.machines[profile.default_machine()].qemu for profile in profiles if profile.setup}


TEST_PROGRAMS = (
    *("gcc", "gpg", "docker-registry", "htpasswd", "dockerd", "promtool", "bwrap", "passt", "qemu-s390x-static"),
    *("sshd", "faketime", "slurmctld", "slurmd", "sbatch", "munged", "systemd-analyze", "nginx"),
)
REPOSITORY = ("apt-ftparchive", "createrepo_c", "rpmbuild", "repo-add", "bsdtar", "autopkgtest")
FORMAT_PROGRAMS = (
    "xorriso",
    "mkfs.vfat",
    "mcopy",
    "sfdisk",
    "mkfs.erofs",
    "fakeroot",
    "qemu-img",
)


def give_programs(bin_folder: Path, *more: str) -> None:
    """Programs that setup looks for and does not run."""
    for name in (*emulators(), *TESTED, *RUNS, *more):
        script(bin_folder / name, "exit 1")


def make_ready(checkout: Path) -> None:
    """A .venv as setup leaves it, with a bootmatrix that says its version."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    script(checkout / ".venv/bin/bootmatrix", 'case "$*" in --version) exit 0 ;; *) exit 1 ;; esac')
    locked = _mark(checkout, checkout / "requirements.lock")
    (checkout / ".venv/locked").write_text(locked, encoding="ascii")
    installed = _mark(checkout, checkout / "pyproject.toml", checkout / ".venv/locked")
    (checkout / ".venv/installed").write_text(installed, encoding="ascii")
    (checkout / ".venv-agent/bin").mkdir(parents=True)
    script(checkout / ".venv-agent/bin/python", 'case "$*" in *"import ziglang") exit 0 ;; *) exit 1 ;; esac')
    agent = _mark(checkout, checkout / "requirements-agent.lock")
    (checkout / ".venv-agent/locked").write_text(agent, encoding="ascii")


def _mark(checkout: Path, *files: Path) -> str:
    contents = b"".join(path.read_bytes() for path in files)
    return hashlib.sha256(f"{checkout.resolve()}\n".encode() + contents).hexdigest() + "\n"


def requirements(lock: str = "requirements.lock") -> Iterator[tuple[Requirement, int]]:
    """Requirements of a lock with the number of their digests."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for entry in text.replace("\\\n", " ").splitlines():
        words, *digests = entry.split(" --hash=sha256:")
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest.strip()) for digest in digests), entry
        yield Requirement(words), len(digests)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_pins_everything_by_digest(lock: str) -> None:
    for requirement, digests in requirements(lock):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert digests > 0, requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash)", text, flags=re.MULTILINE)


def test_the_lock_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    asked += project["build-system"]["requires"]
    pinned = {canonicalize_name(one.name): next(iter(one.specifier)).version for one, _ in requirements()}
    wrong = [
        text
        for text in asked
        if not (one := Requirement(text)).specifier.contains(pinned.get(canonicalize_name(one.name), "0"))
    ]
    assert wrong == [], "make lock"


def test_says_what_is_missing_where_there_is_no_apt(checkout: Path, bin_folder: Path) -> None:
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert done.returncode == 2
    assert [name for name in (*emulators(), "gpgv", "util-linux") if name not in done.stderr] == []
    assert not (checkout / ".venv").exists()


def test_asks_for_the_emulator_of_a_new_profile(checkout: Path, bin_folder: Path) -> None:
    give_programs(bin_folder)
    text = (checkout / "arch/x86_64.yml").read_text(encoding="utf-8")
    text = text.replace("qemu-system-x86_64", "qemu-system-riscv64").replace("qemu-system-x86\n", "qemu-system-misc\n")
    (checkout / "arch/riscv64.yml").write_text(text, encoding="utf-8")
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert done.returncode == 2
    assert "qemu-system-misc" in done.stderr
    assert "qemu-system-x86" not in done.stderr


def test_what_few_need_is_not_installed(checkout: Path, bin_folder: Path) -> None:
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert "qemu-system-misc" not in done.stderr
    assert "qemu-system-misc" in run(checkout, bin_folder, ".ci/setup.sh", "tests").stderr


def test_says_what_it_installs_before_it_does(checkout: Path, bin_folder: Path) -> None:
    script(bin_folder / "id", "echo 0")
    script(bin_folder / "apt-cache", "echo '  Candidate: 1.0'")
    script(bin_folder / "apt-get", 'echo "apt-get: $*" >&2; case "$*" in *install*) exit 100 ;; esac')
    done = run(checkout, bin_folder, ".ci/setup.sh", "tests")
    named, calls = done.stdout, done.stderr
    assert done.returncode == 2
    assert "qemu-system-x86 " in named
    assert "chromium-driver" in named
    assert calls.index("update") < calls.index("install -qq -y --no-install-recommends")
    assert "could not install" in done.stderr


def test_installs_by_sudo_without_asking(checkout: Path, bin_folder: Path) -> None:
    script(bin_folder / "id", "echo 1000")
    script(bin_folder / "sudo", '[ "$1" = -n ] && shift && echo "sudo: $1" >&2 && exec "$@"')
    script(bin_folder / "apt-get", 'echo "apt-get: $*" >&2; case "$*" in *install*) exit 100 ;; esac')
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert done.returncode == 2
    assert "sudo: env\napt-get:" in done.stderr


def test_installs_nothing_for_a_user_without_sudo(checkout: Path, bin_folder: Path) -> None:
    script(bin_folder / "id", "echo 1000")
    script(bin_folder / "apt-get", "echo called")
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert done.returncode == 2
    assert "called" not in done.stdout
    assert "apt-get install --no-install-recommends" in done.stderr


def test_a_package_that_the_system_lacks_is_left_out_only_if_tests_alone_need_it(
    checkout: Path, bin_folder: Path
) -> None:
    give_programs(bin_folder, *TEST_PROGRAMS, *FORMAT_PROGRAMS, *REPOSITORY)
    script(bin_folder / "id", "echo 0")
    script(bin_folder / "apt-cache", "echo '  Candidate: (none)'")
    script(bin_folder / "apt-get", 'case "$*" in *install*) echo >installed ;; esac')
    make_ready(checkout)
    done = run(checkout, bin_folder, ".ci/setup.sh", "tests")
    assert done.returncode == 0, done.stderr
    assert "there is no package chromium here" in done.stderr
    assert not (checkout / "installed").exists()


def test_does_nothing_where_all_is_there(checkout: Path, bin_folder: Path) -> None:
    give_programs(bin_folder)
    make_ready(checkout)
    done = run(checkout, bin_folder, ".ci/setup.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml"])
def test_notices_a_change(checkout: Path, bin_folder: Path, changed: str) -> None:
    """The copy has no sources and no index to install from, so trying is all that it can do."""
    give_programs(bin_folder)
    make_ready(checkout)
    with (checkout / changed).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert run(checkout, bin_folder, ".ci/setup.sh").returncode != 0


def test_makes_a_moved_environment_anew_and_does_not_trust_a_half_made_one(checkout: Path, bin_folder: Path) -> None:
    give_programs(bin_folder)
    make_ready(checkout)
    moved = checkout.rename(checkout.with_name("moved"))
    for _ in range(2):
        done = run(moved, bin_folder, ".ci/setup.sh")
        assert "making .venv" in done.stdout
        assert done.returncode == 2
        assert not (moved / ".venv/locked").exists()


def test_demo_hands_on_the_failure_and_says_which(checkout: Path, bin_folder: Path) -> None:
    give_programs(bin_folder)
    make_ready(checkout)
    done = run(checkout, bin_folder, "make", "demo")
    assert done.returncode == 2
    assert "exit status 1 of bootmatrix" in done.stderr


def test_commit_hooks_are_what_lint_runs_and_come_from_here() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    entries = " ".join(hook["entry"] for repository in config["repos"] for hook in repository["hooks"])
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    for command in ("ruff check", "ruff format --check", "mypy"):
        assert command in entries
        assert command in lint
