"""Parts of the executor `dask` that need no cluster: offers, bundles, merged attempts, the cluster's file."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootmatrix import __version__
from bootmatrix.cell.shipped import LostAttempt, with_lost
from bootmatrix.errors import InfraError
from bootmatrix.execute.dask.bundle import pack, unpack
from bootmatrix.execute.dask.offers import make_offer, shortfall, unmet, version_fault
from bootmatrix.model import Record, Verdict
from bootmatrix.model.remote import Offer
from bootmatrix.model.run_config import Needs
from bootmatrix.store import sha256_of
from samples import make_cell, make_record

NEEDS = Needs(cores=1, memory_mib=512, qemu="qemu-system-fake", min_qemu="7.2")


def an_offer(**changes: object) -> Offer:
    values = {"cores": 2, "memory_mib": 4096, "qemu": {"qemu-system-fake": "7.2.22"}, "slots": 6}
    return make_offer("desk").model_copy(update={**values, **changes})


def test_a_host_that_has_all_is_capable() -> None:
    assert unmet(NEEDS, an_offer()) == ""
    assert unmet(replace(NEEDS, cores=64), an_offer()) == "", "it runs alone, as on one host"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"qemu": {}}, "qemu-system-fake is not installed"),
        ({"qemu": {"qemu-system-fake": "7.1"}}, "qemu-system-fake is 7.1, needed is 7.2"),
        ({"memory_mib": 600}, "600 MiB of memory, needed are 672"),
        ({"accelerators": ()}, "no accelerator tcg"),
    ],
)
def test_a_host_that_lacks_something_says_what(changes: dict[str, object], reason: str) -> None:
    assert unmet(NEEDS, an_offer(**changes)) == reason
    assert shortfall(NEEDS, [an_offer(**changes)]) == f"desk: {reason}"


def test_another_version_is_refused_in_words() -> None:
    assert version_fault(an_offer()) == ""
    assert f"expected {__version__}" in version_fault(an_offer(tool_version="9.9"))
    assert "protocol 99" in version_fault(an_offer(protocol=99))
    assert "distributed 1.0" in version_fault(an_offer(dask_version="1.0"))


def bundle(tmp_path: Path) -> tuple[Path, Record]:
    folder = tmp_path / "there"
    (folder / "files").mkdir(parents=True)
    (folder / "console.log").write_bytes(b"hello\n")
    (folder / "files" / "0-a").write_bytes(b"result")
    (folder / "link").symlink_to("/etc/passwd")
    record = make_record(make_cell("x86_64"), Verdict.PASS, "passed")
    pack(record, folder, tmp_path / "b.tar")
    return tmp_path / "b.tar", record


def test_a_bundle_comes_back_whole_and_without_links(tmp_path: Path) -> None:
    path, record = bundle(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    assert unpack(path, sha256_of(path), here, "desk") == record
    assert sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file()) == [
        "console.log",
        "files/0-a",
    ]


def test_a_damaged_bundle_is_refused(tmp_path: Path) -> None:
    path, _ = bundle(tmp_path)
    digest = sha256_of(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InfraError, match="damaged on its way"):
        unpack(path, digest, tmp_path, "desk")


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", ".hidden", "a/b/c/d/e", "a\x00b"])
def test_a_bundle_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    here = tmp_path / "a" / "here"
    here.mkdir(parents=True)
    with pytest.raises(InfraError, match=r"invalid member|no record"):
        unpack(path, sha256_of(path), here, "desk")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_a_bundle_holds_regular_files_alone(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("console.log")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InfraError, match="invalid member"):
        unpack(path, sha256_of(path), tmp_path, "desk")


def test_lost_attempts_stand_before_the_decisive_one() -> None:
    record = make_record(make_cell("x86_64"), Verdict.PASS, "passed")
    lost = LostAttempt("desk", "the link was cut", datetime.now(UTC))
    merged = with_lost(record, [lost])
    assert merged.attempts == 2
    assert [attempt.judgement.verdict for attempt in merged.attempt_records] == [Verdict.INFRA_ERROR, Verdict.PASS]
    assert merged.verdict is Verdict.PASS
    assert merged.attempt_records[0].judgement.reason == "desk: the link was cut"
    assert with_lost(record, []) == record
