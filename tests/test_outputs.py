"""Files that `bootmatrix build` writes for people: whole or not there, and no other when only attributes differ."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bootmatrix.assembly import export
from bootmatrix.assembly.assemble import gather, without_initrd
from bootmatrix.assembly.formats import media, program
from bootmatrix.assembly.formats.source import Source
from bootmatrix.errors import BuildError
from bootmatrix.load.merge import load_spec
from bootmatrix.operating_system import is_portable
from image_maker import make_image, write_layout
from kitchen import PROFILES, Kitchen

pytest_plugins = ("archive_fixtures", "kitchen")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_what_is_written_has_no_name_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = tmp_path / "source", []
    source.write_bytes(bytes(5000) + b"x" + bytes(5000))
    copy = media.copy_sparse

    def watched(one: Path, target: object) -> None:
        seen.extend(names(tmp_path / "out"))
        copy(one, target)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "copy_sparse", watched)
    for _ in range(2):
        path = export._put(source, tmp_path / "out/x", ".img")
        assert path.read_bytes() == source.read_bytes()
    whole = {name for name in seen if not (is_portable() and name.startswith("."))}
    assert whole == {"x.img"}  # the one of the first time, at the second
    assert names(tmp_path / "out") == ["x.img"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_system_without_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    (tmp_path / "source").write_bytes(b"x")
    monkeypatch.setattr(os, "open", refuse)
    path = export._put(tmp_path / "source", tmp_path / "out/x", ".img")
    monkeypatch.undo()
    assert (path.read_bytes(), names(tmp_path / "out")) == (b"x", ["x.img"])


def test_an_attribute_that_no_initrd_can_hold_makes_another_archive(kitchen: Kitchen) -> None:
    kernel, sources = kitchen.kernel(), []
    profile = PROFILES["x86_64"]
    machine = profile.machines[profile.default_machine()]
    for value in ("one", "two"):
        buffer, member = io.BytesIO(), tarfile.TarInfo("init")
        member.pax_headers = {"SCHILY.xattr.user.which": value}
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(member)
        write_layout(kitchen.folder, make_image(buffer.getvalue()))
        (kitchen.folder / "s.yml").write_text("init: ['oci:layout']\n")
        assembly = gather(load_spec(kitchen.folder / "s.yml"), profile, machine, kernel, kitchen.builder)
        sources.append(Source(assembly, without_initrd(assembly), "quiet"))
    first, second = sources
    assert first.initrd() == second.initrd()
    assert first.key != second.key


def _kernel(folder: Path, start: int, size: int) -> Any:
    """What write_program asks of a source, whose kernel has its PE header at `start`, if that is within it."""
    data = bytearray(b"MZ" + bytes(0x200))
    struct.pack_into("<I", data, program.PE_AT, start)
    if start < 0x100:
        struct.pack_into("<I", data, start + program.OPTIONAL_AT + program.IMAGE_SIZE, size)
    (folder / "kernel").write_bytes(data)
    kernel = SimpleNamespace(name="mine")
    return SimpleNamespace(kernel_program=lambda: folder / "kernel", assembly=SimpleNamespace(kernel=kernel))


def test_where_a_kernel_says_how_much_memory_it_takes(tmp_path: Path) -> None:
    at = 0x40 + program.OPTIONAL_AT + program.IMAGE_SIZE
    assert program._image_size(_kernel(tmp_path, 0x40, 0x5000)) == (at, 0x5000)


@pytest.mark.parametrize("start", [0x202 - program.OPTIONAL_AT - program.IMAGE_SIZE - 3, 0x1000, 0xFFFFFFFF])
def test_a_kernel_whose_header_is_not_there_is_no_program(tmp_path: Path, start: int) -> None:
    with pytest.raises(BuildError, match="the kernel mine is not a UEFI program"):
        program._image_size(_kernel(tmp_path, start, 0))
