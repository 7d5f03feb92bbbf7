"""The guest's program as the repository has it: made of these sources, and the same bytes whenever it is made."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from bootmatrix.load.data_paths import specs_folder
from bootmatrix.load.profile import load_profiles
from guest_program import LIMIT_S, ROOT

MAKER = ROOT / "src/guest/make_guest.py"
IMAGES = specs_folder().resolve() / "images"
BINARIES, LIBRARIES = IMAGES / "init/bin", IMAGES / "crun/lib"


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MAKER), *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=LIMIT_S
    )


@pytest.mark.parametrize("folder", [BINARIES, LIBRARIES], ids=["init", "crun"])
def test_binaries_are_of_these_sources(folder: Path) -> None:
    first, *lines = (folder / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    done = make("--sources")
    assert first == f"# of sources {done.stdout.strip()}", "the sources have changed: run `make agent`"
    digests = {name: digest for digest, name in (line.split("  ") for line in lines)}
    architectures = {profile.names.debian for profile in load_profiles([ROOT / "arch"]).values()}
    assert set(digests) == architectures == {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_changes_of_sources_and_binaries_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_guest", MAKER)
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    digest = maker.sources_digest()
    shutil.copytree(MAKER.parent, tmp_path / "guest")
    monkeypatch.setattr(maker, "SOURCES", tmp_path / "guest")
    assert maker.sources_digest() == digest
    with (tmp_path / "guest/util.h").open("a") as file:
        file.write("\n")
    assert maker.sources_digest() != digest
    name = own_architecture()
    (tmp_path / name).write_bytes((BINARIES / name).read_bytes())
    assert maker._compare(BINARIES, {name: tmp_path / name}) == 0
    with (tmp_path / name).open("ab") as program:
        program.write(b"\0")
    assert maker._compare(BINARIES, {name: tmp_path / name}) == 1


def test_binaries_are_static_and_say_nothing_of_their_maker() -> None:
    for path in BINARIES.iterdir():
        data = path.read_bytes()
        assert path.name == "SHA256SUMS" or data[:4] == b"\x7fELF"
        assert not any(word in data for word in (b"/lib/ld", b"/home", b"/tmp/b", b"zig-cache", str(ROOT).encode()))


def test_placeholders_define_what_crun_links() -> None:
    """A symbol that is missing would end crun at its start, which every boot shows."""
    words = (MAKER.parent / "crun/libsystemd.c").read_text(encoding="ascii").split()
    names = {word.removeprefix("ABSENT(").rstrip(")") for word in words if word.startswith("ABSENT(sd_")}
    assert len(names) > 20
    for path in LIBRARIES.iterdir():
        if path.name != "SHA256SUMS":
            with path.open("rb") as file:
                segment: Any = next(ELFFile(file).iter_segments("PT_DYNAMIC"))
                symbols = {one.name for one in segment.iter_symbols() if one["st_shndx"] != "SHN_UNDEF"}
                assert [tag.soname for tag in segment.iter_tags("DT_SONAME")] == ["libsystemd.so.0"]
                assert {name for name in symbols if name.startswith("sd_")} == names, path.name
                assert not list(segment.iter_tags("DT_NEEDED"))


def own_architecture() -> str:
    """Debian's name of the host's architecture, or of any if no profile is of it."""
    profiles = load_profiles([ROOT / "arch"]).values()
    return next((one.names.debian for one in profiles if one.names.uname == os.uname().machine), "amd64")


@pytest.mark.long
def test_the_same_bytes_come_out_again() -> None:
    """The compiler is that of `.ci/setup.sh agent`; half a minute where it compiles its C library first."""
    done = make("--check", own_architecture())
    assert done.returncode == 0, done.stderr
