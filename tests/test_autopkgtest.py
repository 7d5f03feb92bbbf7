"""The virtualisation server of autopkgtest: its protocol, and a package's tests in a guest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from bootmatrix.autopkgtest.source_tree import BUILDING, packages_of
from bootmatrix.errors import InputError
from bootmatrix.workspace import kept_client

SERVER = str(Path(sys.executable).with_name("autopkgtest-virt-bootmatrix"))
GUEST = ("--arch", "x86_64", "--kernel", "6.1", "--root", "debian-small", "--memory", "512M")
LIMIT_S = 900


def serve(*lines: str, options: tuple[str, ...] = GUEST) -> subprocess.CompletedProcess[str]:
    """Run a server on lines of input, to its end."""
    return subprocess.run(
        [SERVER, *options],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_without_a_testbed() -> None:
    result = serve("capabilities", "quit")
    assert result.stdout == "ok\nok root-on-testbed revert revert-full-system\nok\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_isolation_is_a_capability_if_it_is_chosen() -> None:
    result = serve("capabilities", "quit", options=(*GUEST, "--isolation", "container"))
    assert result.stdout.splitlines()[1].split()[-2:] == ["revert-full-system", "isolation-container"]
    result = serve("capabilities", "quit", options=(*GUEST, "--isolation", "machine"))
    assert result.stdout.splitlines()[1].split()[-2:] == ["isolation-container", "isolation-machine"]


def test_packages_that_tests_of_a_tree_may_need(tmp_path: Path) -> None:
    tests = tmp_path / "debian" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "control").write_text(
        "Source: tiny\nBuild-Depends: debhelper (>= 13),\n cmake <!nocheck>\n\n"
        "Package: tiny\nDepends: ${shlibs:Depends}, libc6:any | musl\nRecommends: tiny-doc\n"
    )
    (tests / "control").write_text("Tests: a\nDepends: @, perl:native [s390x]\n\nTests: b\nDepends: curl,\n bats\n")
    needed = {"tiny", "libc6", "musl", "perl", "curl", "bats"}
    assert set(packages_of(tmp_path)) == needed | set(BUILDING)
    (tests.parent / "files").touch()  # the tree is built
    assert set(packages_of(tmp_path)) == needed
    (tests / "control").write_text("Tests: a\nDepends: @builddeps@\nRestrictions: needs-recommends\n")
    built = {"tiny", "libc6", "musl", "debhelper", "cmake", "tiny-doc"}
    assert set(packages_of(tmp_path)) == built
    (tests / "control").write_text("Tests: a\nDepends: @\nRestrictions: build-needed\n")
    assert set(packages_of(tmp_path)) >= set(BUILDING)
    (tests / "control").unlink()
    with pytest.raises(InputError, match="No such file"):
        packages_of(tmp_path)


@pytest.mark.parametrize("name", ["control", "tests/control"])
def test_a_file_of_a_tree_that_never_ends_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "debian/tests").mkdir(parents=True)
    for each in ("control", "tests/control"):
        (tmp_path / "debian" / each).write_text("Source: tiny\n")
    (tmp_path / "debian" / name).unlink()
    os.mkfifo(tmp_path / "debian" / name)
    writer = os.open(tmp_path / "debian" / name, os.O_RDWR)  # or the reader would wait, and not fail
    os.write(writer, b"Source: tiny\n")
    os.close(writer)
    with pytest.raises(InputError, match="not a regular file"):
        packages_of(tmp_path)


def test_a_caller_that_does_not_read_the_last_answer() -> None:
    """As autopkgtest does."""
    server = Caller(*GUEST)
    assert server.process.stdin
    assert server.process.stdout
    server.process.stdout.close()
    server.process.stdin.write("quit\n")
    server.process.stdin.close()
    assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("close", "the testbed is not open"),
        ("revert", "the testbed is not open"),
        ("print-execute-command", "the testbed is not open"),
        ("copydown /etc/hostname /tmp/x", "the testbed is not open"),
        ("shell /", "the testbed is not open"),
        ("reboot", "keep nothing over a reboot"),
        ("", "an empty command"),
        ("open%00", "a NUL"),
        ("capabilities now", "expected 0"),
        ("copyup /a", "expected 2"),
        ("fly", "'fly' is not supported"),
        ("x" * (1 << 20), "a line of 1 MiB"),
    ],
)
def test_bad_commands_end_it(line: str, reason: str) -> None:
    result = serve(line, "quit")
    assert (result.returncode, result.stdout) == (2, "ok\n")
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_an_end_without_quit_is_an_error() -> None:
    result = serve("capabilities")
    assert result.returncode == 2
    assert "without 'quit'" in result.stderr


def test_bad_options_are_said_when_it_opens() -> None:
    result = serve("open", options=("--arch", "x86_65", "--root", "debian-small"))
    assert (result.returncode, result.stdout) == (3, "ok\n")
    assert "x86_65" in result.stderr
    assert "Traceback" not in result.stderr


class Caller:
    """A server with an open testbed, and its caller."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen([SERVER, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ok\n"

    def ask(self, line: str) -> list[str]:
        """Send a command; return the words of its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def prefix(self) -> list[str]:
        """The command before which others are put."""
        return [unquote(word) for word in self.ask("print-execute-command")[1].split(",")]

    def run(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command in the testbed."""
        return subprocess.run([*self.prefix(), *words], input=data, capture_output=True, timeout=60, check=False)


def guests_of(process: subprocess.Popen[str]) -> list[str]:
    return [guest.id for guest in kept_client.kept_guests() if guest.id.startswith(f"autopkgtest-{process.pid}-")]


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    made = Caller(*GUEST)
    assert made.ask("open") == ["ok", "/tmp/autopkgtest"]
    yield made
    made.process.kill()
    made.process.wait()


@pytest.mark.boots
def test_commands_have_their_own_streams_and_status(caller: Caller) -> None:
    result = caller.run("sh", "-c", "cat; echo no >&2; exit 3", data=b"\0\xff")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"\0\xff", b"no\n")
    assert caller.run("sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert caller.run("sh", "-c", "exit 125").returncode == 125
    assert caller.run("sh", "-c", "exit 255").returncode == 253, "255 would be a fault of the testbed"
    assert caller.run("/bin/nothing").returncode == 127
    # A path of this host names a program of the guest.
    assert (
        caller.run("/bin/sh", "-c", "mount -t tmpfs none /tmp/autopkgtest && umount /tmp/autopkgtest").returncode == 0
    )


@pytest.mark.boots
def test_files_and_folders_are_copied(caller: Caller, tmp_path: Path) -> None:
    tree = tmp_path / "a tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "tool").write_text("#!/bin/sh\necho 'it runs'\n")
    (tree / "sub" / "tool").chmod(0o755)
    there = "/tmp/autopkgtest/a%20tree/"
    assert caller.ask(f"copydown {tmp_path}/a%20tree/ {there}") == ["ok"]
    assert caller.ask(f"copydown {tmp_path}/a%20tree/ {there}") == ["ok"], "into the folder itself, again"
    assert caller.run("/tmp/autopkgtest/a tree/sub/tool").stdout == b"it runs\n"
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "old").write_text("stays")
    assert caller.ask(f"copyup {there} {tmp_path}/back/") == ["ok"]
    assert (tmp_path / "back" / "sub" / "tool").read_bytes() == (tree / "sub" / "tool").read_bytes()
    assert (tmp_path / "back" / "old").exists()
    assert caller.ask(f"copyup /etc/passwd {tmp_path}/passwd") == ["ok"]
    assert (tmp_path / "passwd").read_text().startswith("root:")
    assert not any(path.name.startswith(".bootmatrix") for path in tmp_path.iterdir())


@pytest.mark.boots
def test_the_guest_ends_with_its_server(caller: Caller) -> None:
    """Its command fails then with the protocol's status. The last test of this guest."""
    prefix = caller.prefix()
    assert guests_of(caller.process)
    with subprocess.Popen([*prefix, "sleep", "1000"], stderr=subprocess.DEVNULL) as waiting:
        caller.process.send_signal(signal.SIGKILL)
        assert waiting.wait(60) == 254
    end = time.monotonic() + 30
    while guests_of(caller.process) and time.monotonic() < end:
        time.sleep(0.1)
    assert not guests_of(caller.process)
    assert subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 254


@pytest.mark.boots
def test_a_second_open_ends_it_and_its_guest() -> None:
    server = Caller(*GUEST)
    assert server.ask("open")[0] == "ok"
    assert server.ask("open") == []
    assert server.process.wait(60) == 2
    assert not guests_of(server.process)


CONTROL = """\
Source: tiny
Maintainer: Nobody <nobody@example.invalid>

Package: tiny
Architecture: all
Description: tiny
"""
CHANGES = """\
tiny (1.0) unstable; urgency=low

  * New.

 -- Nobody <nobody@example.invalid>  Mon, 01 Jan 2024 00:00:00 +0000
"""
TESTS = """\
Test-Command: echo one >"$AUTOPKGTEST_ARTIFACTS/one"; test -d debian; echo out
Depends:
Features: test-name=passes

Test-Command: echo no >&2; exit 3
Depends:
Restrictions: allow-stderr
Features: test-name=fails
"""


def autopkgtest(folder: Path, name: str, *server: str) -> list[str]:
    """Run a package's tests; return the lines of the summary."""
    output = folder / f"out-{name}"
    command = ["autopkgtest", "-B", f"{folder}/tiny", "-o", str(output), "--", *server]
    env = {**os.environ, "PATH": f"{Path(SERVER).parent}:{os.environ['PATH']}"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=env, check=False)
    assert result.returncode == 4, result.stderr[-2000:]
    assert (output / "artifacts" / "one").read_text() == "one\n"
    return sorted((output / "summary").read_text().splitlines())


@pytest.mark.long
@pytest.mark.boots
def test_a_package_has_the_same_results_as_on_this_machine(tmp_path: Path) -> None:
    assert shutil.which("autopkgtest"), "apt-get install autopkgtest"
    tests = tmp_path / "tiny" / "debian" / "tests"
    tests.mkdir(parents=True)
    (tests.parent / "control").write_text(CONTROL)
    (tests.parent / "changelog").write_text(CHANGES)
    (tests / "control").write_text(TESTS)
    (tests.parent / "files").touch()  # of a tree that is built
    here = autopkgtest(tmp_path, "null", "null")
    assert [line.split()[:2] for line in here] == [["fails", "FAIL"], ["passes", "PASS"]]
    record = tmp_path / "record.json"
    options = (
        *("--arch", "x86_64", "--kernel", "6.1", "--root", "debian", "--record", str(record)),
        *("--tree", f"{tmp_path}/tiny", "--isolation", "machine"),
    )
    assert autopkgtest(tmp_path, "guest", "bootmatrix", *options) == here
    guests = json.loads(record.read_bytes())["guests"]
    assert all("x86_64/6.1" in guest["cell"] and len(guest["files"]["kernel"]) == 64 for guest in guests)
