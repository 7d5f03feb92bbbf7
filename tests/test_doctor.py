"""`bootmatrix doctor`, a real one, on hosts that lack something."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bootmatrix.cli.doctor import PROBE_S, TABLE, fetch_probe, install_command
from bootmatrix.errors import HostError
from bootmatrix.operating_system import is_portable
from bootmatrix.packaged import packaged_table
from bootmatrix.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).with_name("bootmatrix")
NOBODY_LISTENS = "http://127.0.0.1:9/debian"


def doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it with an empty cache; there is nothing to try KVM with unless it is downloaded."""
    return subprocess.run(
        [PROGRAM, "doctor", *arguments],
        cwd=folder,
        env={**os.environ, "BOOTMATRIX_CACHE": str(folder / "cache"), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def line(done: subprocess.CompletedProcess[str], name: str) -> str:
    """The line of the table about something."""
    (found,) = (row for row in done.stdout.splitlines() if row.split(maxsplit=1)[1:2] and name in row.split()[1:3])
    return found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """An archive's address, on this host."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/debian"
        server.shutdown()


def test_a_host_that_is_set_up_lacks_nothing(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything needed is installed." in done.stdout
    assert "not checked" in line(done, "archive")
    assert not (tmp_path / "cache/blobs").exists() or not list((tmp_path / "cache/blobs").rglob("*.*"))


def test_without_an_emulator(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("gpgv", "setpriv", "qemu-system-x86_64", "qemu-system-ppc64", "qemu-system-aarch64"):
        (path / name).symlink_to(shutil.which(name) or "")
    done = doctor(tmp_path, "--offline", PATH=str(path))
    assert done.returncode == 3
    assert line(done, "qemu-system-arm").startswith("missing")
    assert line(done, "qemu-system-ppc64").startswith("ok")
    (advice,) = (row for row in done.stdout.splitlines() if row.startswith("qemu-system-arm:"))
    assert "nstall" in advice


def test_without_a_program_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    done = doctor(tmp_path, "--offline", PATH=str(path))
    assert done.returncode == 3
    assert line(done, "gpgv").startswith("missing")
    assert is_portable() or line(done, "setpriv").startswith("missing")
    assert line(done, "sqfstar").startswith("–")


def test_with_an_emulator_that_is_too_old(tmp_path: Path) -> None:
    (tmp_path / "arch").mkdir()
    text = (ROOT / "arch/ppc64le.yml").read_text(encoding="utf-8")
    (tmp_path / "arch/ppc64le.yml").write_text(text.replace('min_qemu: "7.0"', 'min_qemu: "99.1"'), encoding="utf-8")
    done = doctor(tmp_path, "--offline")
    assert done.returncode == 3
    assert line(done, "qemu-system-ppc64").startswith("missing")
    assert "99.1 or later" in line(done, "qemu-system-ppc64")


def test_with_a_broken_emulator(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    broken = path / "qemu-system-ppc64"
    broken.write_text("#!/bin/sh\necho no library; exit 127\n", encoding="utf-8")
    broken.chmod(0o755)
    done = doctor(tmp_path, "--offline", PATH=f"{path}:{os.environ['PATH']}")
    assert done.returncode == 3
    assert "127" in line(done, "qemu-system-ppc64")


def test_without_the_archives_keys(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--offline", BOOTMATRIX_KEYRING=str(tmp_path / "none.gpg"))
    assert done.returncode == 3
    assert line(done, "keys").startswith("missing")


def test_with_a_cache_that_has_no_room(tmp_path: Path) -> None:
    """/proc is a file system without any."""
    done = doctor(tmp_path, "--offline", "--cache", "/proc/bootmatrix")
    assert done.returncode == 3
    assert line(done, "cache").startswith("missing")


def test_with_reports_that_have_no_room(tmp_path: Path) -> None:
    """Their disk may be another one than the cache's, and full."""
    done = doctor(tmp_path, "--offline", BOOTMATRIX_REPORTS="/proc/bootmatrix")
    assert (done.returncode, line(done, "cache").split()[0]) == (3, "ok")
    assert line(done, "reports").startswith("missing")
    assert "BOOTMATRIX_REPORTS=…" in done.stdout
    assert line(doctor(tmp_path, "--offline", "--reports", str(tmp_path / "r")), "reports").endswith(f"{tmp_path}/r")


def test_an_archive_that_answers(tmp_path: Path) -> None:
    suite = tmp_path / "www/debian/dists"
    for name in ("bullseye", "bookworm", "trixie", "sid"):
        (suite / name).mkdir(parents=True)
        (suite / name / "InRelease").write_text("x", encoding="ascii")
    with serving(tmp_path / "www") as address:
        done = doctor(tmp_path, "--archive", address)
    assert line(done, "archive").startswith("ok")
    assert address in line(done, "archive")
    assert done.returncode == 0, done.stdout


def test_an_archive_that_has_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        done = doctor(tmp_path, "--archive", address)
    assert done.returncode == 3
    assert "404" in line(done, "archive")


def test_an_archive_that_does_not_answer(tmp_path: Path) -> None:
    done = doctor(tmp_path, BOOTMATRIX_ARCHIVE=NOBODY_LISTENS)
    assert done.returncode == 3
    assert line(done, "archive").startswith("missing")
    assert "Traceback" not in done.stderr


def test_kvm_is_not_believed_without_a_guest(tmp_path: Path) -> None:
    """The device may open and be of no use: with nothing to boot, nothing is claimed."""
    done = doctor(tmp_path, "--offline")
    assert "a guest booted" not in line(done, "accelerator")


@pytest.mark.boots
def test_kvm_is_tried_with_a_guest(tmp_path: Path) -> None:
    done = subprocess.run([PROGRAM, "doctor"], cwd=tmp_path, capture_output=True, text=True, check=False)
    found = line(done, "accelerator")
    assert done.returncode == 0, done.stdout + done.stderr
    if Path("/dev/kvm").exists() and os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert "a guest booted" in found or "no guest boots" in found
    else:
        assert "/dev/kvm" in found


@pytest.mark.parametrize(
    ("likes", "command"),
    [
        (["debian"], "sudo apt-get install --no-install-recommends gpgv"),
        (["linuxmint", "ubuntu", "debian"], "sudo apt-get install --no-install-recommends gpgv"),
        (["rocky", "rhel", "centos", "fedora"], "sudo dnf install gnupg2"),
        (["opensuse-tumbleweed", "opensuse", "suse"], "sudo zypper install gpg2"),
        (["arch"], "sudo pacman -S gnupg"),
        (["alpine"], "sudo apk add gpgv"),
        (["plan9"], "Install your system's equivalent of gpgv."),
    ],
)
def test_the_command_is_that_of_the_distribution(likes: list[str], command: str) -> None:
    assert install_command(packaged_table(TABLE)["packages"]["gpgv"], likes) == command


def test_a_package_that_a_distribution_lacks_is_described() -> None:
    assert (
        install_command(packaged_table(TABLE)["packages"]["keyring"], ["suse"])
        == "Install your system's equivalent of debian-archive-keyring."
    )


def test_a_download_for_the_kvm_check_is_given_up_in_time(tmp_path: Path) -> None:
    """The archive accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        archive = f"http://127.0.0.1:{listener.getsockname()[1]}/debian"
        workspace = Workspace(cache=tmp_path / "cache", archive=archive)
        cells = ("hello", "--arch", "x86_64", "--kernel", "6.1")
        with pytest.raises(HostError, match="takes longer"):
            fetch_probe(workspace, cells, time.monotonic() + PROBE_S + 3)
