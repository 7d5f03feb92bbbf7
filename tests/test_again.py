"""A build that is asked for again: answered at once where nothing changed, and never where anything did."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.again import SETTLED_NS, Watch
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.store import Store

SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - {name: hello, image: "@pkg:./mine", command: [/bin/hello], readonly: true}
files:
  - {path: etc/motd, source: motd, optional: true}
"""
RECIPE = """
files:
  - {path: bin/hello, source: hello, mode: "0755"}
"""
SETTLE_S = 2 * SETTLED_NS / 1e9


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A spec with an image of its own, built twice: what the first time fetched is not asked for by the second."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "build.yml").write_text(RECIPE)
    (tmp_path / "mine" / "hello").write_text("#!/bin/true\n")
    (tmp_path / "guest.yml").write_text(SPEC)
    (tmp_path / "images").symlink_to(specs_folder().resolve() / "images")
    time.sleep(SETTLE_S)
    built(tmp_path)
    assert not built(tmp_path), "the second time nothing is to be done"
    return tmp_path


def built(folder: Path, *more: str, **environment: str) -> bool:
    """Build it; whether that took the machinery of building."""
    words = [
        "-P",
        "-X",
        "importtime",
        "-m",
        "bootmatrix.cli.main",
        "build",
        "guest.yml",
        "--arch",
        "x86_64",
        "--offline",
    ]
    done = subprocess.run(
        [sys.executable, *words, "-f", "tar", "-o", "out", *more],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "out.tar" in done.stdout
    assert "rich" not in done.stderr, "without a download, what shows them is not needed"
    return "pydantic" in done.stderr


def motd_appears(folder: Path) -> None:
    (folder / "motd").write_text("welcome\n")


def spec_changes(folder: Path) -> None:
    (folder / "guest.yml").write_text(SPEC.replace("[/bin/hello]", "[/bin/hello, again]"))


def a_file_of_an_image_changes(folder: Path) -> None:
    """In place, with its size and its time as before."""
    file = folder / "mine" / "hello"
    then = file.stat()
    file.write_text("#!/bin/frog\n")
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))


def output_is_lost(folder: Path) -> None:
    (folder / "out.tar").unlink()


def output_is_written_to(folder: Path) -> None:
    with (folder / "out.tar").open("r+b") as file:
        file.write(b"x")


def a_profile_takes_the_place_of_ours(folder: Path) -> None:
    shutil.copytree(specs_folder().resolve().parent / "arch", folder / "arch")


@pytest.mark.parametrize(
    "change",
    [
        motd_appears,
        spec_changes,
        a_file_of_an_image_changes,
        output_is_lost,
        output_is_written_to,
        a_profile_takes_the_place_of_ours,
    ],
)
def test_what_changed_is_built_anew(place: Path, change: Callable[[Path], None]) -> None:
    before = (place / "out.tar").read_bytes()
    change(place)
    time.sleep(SETTLE_S)
    assert built(place)
    after = (place / "out.tar").read_bytes()
    is_other = change in {motd_appears, spec_changes, a_file_of_an_image_changes}
    assert (before != after) == is_other
    assert not built(place)


def test_another_command_is_another_answer(place: Path) -> None:
    assert built(place, "--sbom")
    assert (place / "out.spdx.json").exists()
    assert built(place, BOOTMATRIX_MAX_AGE_H="3")
    assert not built(place, BOOTMATRIX_MAX_AGE_H="3")


def watched(folder: Path, work: Callable[[], object], until_s: float = 1e12) -> list[str] | None:
    """What is answered the second time to a command that does some work."""
    store = Store(folder / "cache")
    with Watch(store, {"work": "some"}) as watch:
        watch.until_s = until_s
        work()
    watch.keep(["done"], [])
    return Watch(store, {"work": "some"}).answer()


def test_what_cannot_be_seen_to_has_no_answer(tmp_path: Path) -> None:
    import socket

    def ask() -> None:
        with socket.socket() as one, socket.create_server(("127.0.0.1", 0)) as server:
            one.connect(server.getsockname())

    file = tmp_path / "file"
    file.write_text("as it is")
    os.utime(file, (1, 1))

    def race() -> None:
        file.read_text()
        file.write_text("as it was")

    assert watched(tmp_path, file.read_text) == ["done"]
    assert watched(tmp_path / "a", ask) is None
    assert watched(tmp_path / "b", race) is None
    os.utime(file, (time.time() + 60, time.time() + 60))
    assert watched(tmp_path / "c", file.read_text) is None, "it may be written to within this tick"
    os.utime(file, (1, 1))
    assert watched(tmp_path / "d", file.read_text, until_s=time.time() - 1) is None
    assert watched(tmp_path / "e", lambda: (tmp_path / "new").write_text("what it writes is no input")) == ["done"]
