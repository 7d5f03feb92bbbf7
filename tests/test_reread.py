"""What `bootmatrix build` is said to have written, and did not: `run` refuses it in one message, and boots nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli.main import main

DISK = ("raw-efi", "-efi.img")
PACKED = ("gcp", ".img.tar.gz")
ARTEFACT = {"kind": "disk", "name": "shadow", "path": "/etc/shadow", "sha256": "0" * 64, "size_bytes": 1}


def built(folder: Path, contents: dict[tuple[str, str], bytes], **changes: Any) -> dict[str, Any]:
    """Files of formats, by format and suffix, and what is said of them, as it would be if they had been built."""
    files = {}
    for (name, suffix), data in contents.items():
        (folder / f"x{suffix}").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files[suffix] = {"format": name, "machine": "q35", "sha256": digest, "size_bytes": len(data)}
    return {"arch": "x86_64", "bootable": {"onboot": ["hello"]}, "files": files} | changes


def refused(folder: Path, said: object, name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which a file of the folder is refused."""
    text = said if isinstance(said, str) else json.dumps(said)
    (folder / "x-bootable.json").write_text(text, encoding="utf-8")
    assert main(["run", str(folder / name), "--arch", "x86_64", "--offline", "--cache", str(folder / "cache")]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    left = folder / "cache" / "temp"
    assert not left.is_dir() or not list(left.iterdir())
    return message


def packed(member: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """A compressed archive of one member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0", '{"arch": "x86_64"}', " " * (17 << 20)])
def test_what_is_no_json_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert "not what 'bootmatrix build' writes" in refused(tmp_path, text, "x", capsys)


@pytest.mark.parametrize(
    "more",
    [
        {"disk": ARTEFACT},
        {"dtb": ARTEFACT | {"kind": "dtb"}},
        {"kernel": ARTEFACT | {"kind": "kernel"}},
        {"flash": [ARTEFACT | {"kind": "firmware"}]},
        {"attached": [ARTEFACT | {"kind": "attached"}]},
        {"qemu_args": ["-chardev", "file,id=c,path=/home/user/.bashrc"]},
        {"agent": "collect"},
    ],
)
def test_no_other_file_of_the_host_is_given_to_a_guest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: dict[str, Any]
) -> None:
    said = built(tmp_path, {DISK: b"disk"}, bootable=more)
    assert "not what 'bootmatrix build' writes" in refused(tmp_path, said, "x-efi.img", capsys)


@pytest.mark.parametrize("name", ["x", "x-efi.img"])
def test_a_format_that_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    said = built(tmp_path, {("none", "-efi.img"): b"disk"})
    assert "QEMU" in refused(tmp_path, said, name, capsys)


def test_a_kernel_whose_root_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = built(tmp_path, {("kernel+squashfs", "-kernel"): b"kernel"})
    assert "x-squashfs.img, the file to boot" in refused(tmp_path, said, "x-kernel", capsys)


def test_a_machine_that_is_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = built(tmp_path, {DISK: b"disk"})
    said["files"]["-efi.img"]["machine"] = "none"
    assert "x86_64 has no machine 'none'" in refused(tmp_path, said, "x-efi.img", capsys)


def test_a_disk_that_names_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backed = b"QFI\xfb\x00\x00\x00\x02" + b"\0\0\0\0\0\0\x02\0"
    said = built(tmp_path, {("qcow2-bios", ".qcow2"): backed.ljust(512, b"\0")})
    assert "refers to another file" in refused(tmp_path, said, "x.qcow2", capsys)
    said = built(tmp_path, {PACKED: packed(tarfile.TarInfo("disk.raw"), backed.ljust(512, b"\0"))})
    assert "refers to another file" in refused(tmp_path, said, "x.img.tar.gz", capsys)


def _link() -> tarfile.TarInfo:
    member = tarfile.TarInfo("disk.raw")
    member.type, member.linkname = tarfile.SYMTYPE, "elsewhere"
    return member


def _folder() -> tarfile.TarInfo:
    member = tarfile.TarInfo("disk.raw")
    member.type = tarfile.DIRTYPE
    return member


def _large() -> tarfile.TarInfo:
    member = tarfile.TarInfo("disk.raw")
    member.size = (64 << 30) + 1
    return member


WHOLE = packed(tarfile.TarInfo("disk.raw"), bytes(range(256)) * 64)


LARGE = gzip.compress(_large().tobuf())
"""An archive whose disk is said to be larger than any that is booted."""


def _extended() -> bytes:
    """An archive whose extended header is said to be larger than any memory."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 40
    return gzip.compress(member.tobuf(tarfile.GNU_FORMAT))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"no archive", WHOLE[:-20], WHOLE[:60], LARGE, _extended()),
        *(packed(tarfile.TarInfo("other")), packed(_link()), packed(_folder())),
    ],
)
def test_an_archive_without_a_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    assert "disk.raw" in refused(tmp_path, built(tmp_path, {PACKED: data}), "x.img.tar.gz", capsys)
