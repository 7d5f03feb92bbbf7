"""Parts of the executor `dask` that need no cluster: offers, bundles, merged attempts, the cluster's file."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootmatrix import __version__
from bootmatrix.cell.shipped import LostAttempt, with_lost
from bootmatrix.errors import InfraError, UntrustedError
from bootmatrix.execute.dask.artefacts import Artefacts
from bootmatrix.execute.dask.bundle import pack, unpack
from bootmatrix.execute.dask.cluster import run_scheduler
from bootmatrix.execute.dask.exchange import SharedFolder
from bootmatrix.execute.dask.fleet import Fleet
from bootmatrix.execute.dask.offers import make_offer, shortfall, unmet, version_fault
from bootmatrix.execute.dask.placement import NoHost, Placement
from bootmatrix.execute.dask.security import RunKeys, make_run_keys
from bootmatrix.model import Artefact, Record, Verdict
from bootmatrix.model.remote import FromWorker, Offer, ToWorker, WorkerSettings
from bootmatrix.model.run_config import Needs
from bootmatrix.store import Store, sha256_of
from samples import make_cell, make_record

NEEDS = Needs(cores=1, memory_mib=512, qemu="qemu-system-fake", min_qemu="7.2")


@functools.cache
def desk() -> Offer:
    """Return the offer of this host, with each QEMU's version asked once."""
    return make_offer("desk")


def an_offer(**changes: object) -> Offer:
    values = {"cores": 2, "memory_mib": 4096, "qemu": {"qemu-system-fake": "7.2.22"}, "slots": 6}
    return desk().model_copy(update={**values, **changes})


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


@pytest.mark.parametrize(
    "name", ["../out", "/etc/passwd", "a/../../b", ".hidden", "a/b/c/d/e", "a\x00b", "record.json/x"]
)
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


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "a,b"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "7000000000"},
        {"size": str(1 << 62)},
    ],
    ids=["bad map", "holes", "size"],
)
def test_a_bundle_with_odd_headers_is_its_hosts_fault(tmp_path: Path, headers: dict[str, str]) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("console.log")
        member.size, member.pax_headers = 512, headers
        archive.addfile(member, io.BytesIO(b"1\n0\n512\n".ljust(512, b"\0")))
    here = tmp_path / "here"
    here.mkdir()
    with pytest.raises(InfraError, match="the bundle of the host desk"):
        unpack(path, sha256_of(path), here, "desk")
    assert sum(file.stat().st_size for file in here.rglob("*")) < 1 << 20


def test_a_bundle_of_nested_headers_is_its_hosts_fault(tmp_path: Path) -> None:
    block = tarfile.TarInfo("x")
    block.type, block.size = tarfile.XHDTYPE, 0
    path = tmp_path / "evil.tar"
    path.write_bytes(block.tobuf(tarfile.USTAR_FORMAT) * 3000)
    with pytest.raises(InfraError, match="the bundle of the host desk"):
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


async def _placements(tmp_path: Path) -> None:
    async with run_scheduler(tmp_path) as (client, _address, _keys):
        fleet = Fleet(client, print)
        placement = Placement(fleet)
        fleet.set_host("desk", "up")
        fleet.set_host("power", "pending")
        fleet.offers = {"desk": an_offer(cores=1, slots=4)}
        assert [await placement.take(NEEDS) for _ in range(3)] == ["desk"] * 3, "its core, and two ahead"
        late = asyncio.create_task(placement.take(NEEDS))
        elsewhere = asyncio.create_task(placement.take(replace(NEEDS, host="power")))
        await asyncio.sleep(0)
        assert not late.done()
        fleet.offers = {**fleet.offers, "power": an_offer(host="power", cores=8, slots=18)}
        fleet.changed()
        assert await late == "power", "a cell that waits goes to a host that comes later"
        assert await elsewhere == "power"
        assert await placement.take(NEEDS) == "power", "the one with the most room"
        placement.give_back("desk")
        assert await placement.take(NEEDS, {"power"}) == "desk"
        with pytest.raises(NoHost, match=r"desk: 4096 MiB of memory.*power: "):
            await placement.take(replace(NEEDS, memory_mib=60_000))


def test_cells_go_to_the_host_with_the_most_room(tmp_path: Path) -> None:
    asyncio.run(_placements(tmp_path))


async def _lost_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with run_scheduler(tmp_path) as (client, _address, _keys):
        fleet = Fleet(client, print)
        fleet.set_host("desk", "up")
        fleet.known = {"desk": an_offer()}
        fleet.set_host("desk", "lost", "its worker ended")
        assert fleet.hopeless(NEEDS) == "", "it may come back"
        monkeypatch.setattr("bootmatrix.execute.dask.fleet.RETURN_S", 0.1)
        await asyncio.sleep(0.2)
        fleet.set_host("desk", "lost", "cannot connect")  # as after each attempt
        assert "desk was lost" in fleet.hopeless(NEEDS)


def test_a_host_that_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asyncio.run(_lost_host(monkeypatch, tmp_path))


def artefact(tmp_path: Path, name: str) -> Artefact:
    path = tmp_path / name
    path.write_bytes(name.encode() * (1 << 20))
    return Artefact(kind="kernel", name=name, path=str(path), sha256=sha256_of(path), size_bytes=path.stat().st_size)


async def _fetches(tmp_path: Path) -> None:
    exchange = SharedFolder(str(tmp_path / "exchange"))
    await exchange.prepare()
    files = [artefact(tmp_path, name) for name in "abc"]
    await exchange.publish({file.sha256: file.file for file in files})
    first, second, third = files
    artefacts = Artefacts(Store(tmp_path / "cache"), exchange, limit_mib=1)
    found = await asyncio.gather(*(artefacts.fetch([first]) for _ in range(5)))
    assert artefacts.fetched == 1, "requests at the same time are joined"
    path = found[0][first.sha256]
    long_ago_s = time.time() - 3600
    os.utime(path, (long_ago_s, long_ago_s))
    with artefacts.held([first]):
        await artefacts.fetch([second])
        assert path.exists(), "a cell uses it"
    await artefacts.fetch([third])
    assert not path.exists(), "the store is bounded"
    assert artefacts.fetched == 3


def test_artefacts_are_fetched_once_into_a_bounded_store(tmp_path: Path) -> None:
    asyncio.run(_fetches(tmp_path))


async def _through(url: str, folder: Path) -> Path:
    """An artefact to the worker's end of an exchange, and a bundle back."""
    here, there = SharedFolder(url), SharedFolder(url)
    await here.prepare()
    file, bundle = artefact(folder, "kernel"), folder / "b.tar"
    await here.publish({file.sha256: file.file})
    await there.get(file.sha256, folder / "got")
    assert sha256_of(folder / "got") == file.sha256
    bundle.write_bytes(b"a bundle")
    await there.put(bundle)
    assert not bundle.exists()
    await here.collect("one", bundle.name, folder / "collected")
    with pytest.raises(InfraError, match=r"the exchange .* failed"):
        await here.collect("one", bundle.name, folder / "twice")
    await here.remove()
    return folder / "collected"


@pytest.mark.parametrize("url", ["memory://exchange", "{folder}/exchange", "file://{folder}/exchange"])
def test_files_go_through_a_folder_or_an_object_store(tmp_path: Path, url: str) -> None:
    assert asyncio.run(_through(url.format(folder=tmp_path), tmp_path)).read_bytes() == b"a bundle"


def test_a_file_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    """Another run's worker may read it; and a link there may lead to any file of ours."""
    source, digest = tmp_path / "source", "a" * 64
    source.write_bytes(b"new" * 1000)
    exchange = SharedFolder(str(tmp_path / "exchange"))
    asyncio.run(exchange.prepare())
    target = tmp_path / "exchange" / "artefacts" / digest
    target.write_bytes(b"old")
    with target.open("rb") as reader:
        asyncio.run(exchange.publish({digest: source}))
        assert (reader.read(), target.read_bytes()) == (b"old", b"new" * 1000)
    own = tmp_path / "own"
    own.write_bytes(b"mine")
    target.unlink()
    target.symlink_to(own)
    asyncio.run(SharedFolder(str(tmp_path / "exchange")).publish({digest: source}))
    assert (own.read_bytes(), target.is_symlink(), target.read_bytes()) == (b"mine", False, b"new" * 1000)
    assert [path.name for path in target.parent.iterdir()] == [digest]


class Spoilt(SharedFolder):
    """An exchange that damages what it carries."""

    async def get(self, sha256: str, target: Path) -> None:
        await super().get(sha256, target)
        target.write_bytes(target.read_bytes()[:-1] + b"x")


async def _fetch_spoilt(tmp_path: Path) -> None:
    exchange = Spoilt(str(tmp_path / "exchange"))
    await exchange.prepare()
    file = artefact(tmp_path, "kernel")
    await exchange.publish({file.sha256: file.file})
    await Artefacts(Store(tmp_path / "cache"), exchange).fetch([file])


def test_an_artefact_that_was_damaged_on_its_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UntrustedError, match="damaged on its way"):
        asyncio.run(_fetch_spoilt(tmp_path))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1 << 19]


async def _greeting(address: str, keys: RunKeys | None, folder: Path) -> bytes:
    """The first byte that a scheduler says to one who has these keys; nothing if it is refused."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if keys:
        pem = folder / "pem"
        pem.write_text(keys.certificate + keys.key)
        context.load_cert_chain(pem)
    port = int(address.rpartition(":")[2])
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            return await reader.read(1)
        except ssl.SSLError:
            return b""
        finally:
            writer.close()


async def _strangers(folder: Path) -> None:
    async with run_scheduler(folder) as (_client, address, keys):
        assert address.startswith("tls://127.0.0.1:")
        assert await _greeting(address, keys, folder)
        assert not await _greeting(address, None, folder), "without a certificate"
        assert not await _greeting(address, make_run_keys(), folder), "with another run's"


def test_a_scheduler_talks_to_its_own_run_alone(tmp_path: Path) -> None:
    asyncio.run(_strangers(tmp_path))


@pytest.mark.parametrize(("has_contact", "status"), [(True, 0), (False, 3)])
def test_a_worker_whose_client_is_gone_ends_while_it_joins(tmp_path: Path, has_contact: bool, status: int) -> None:
    keys, cache = make_run_keys(), tmp_path / "cache"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scheduler = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        settings = WorkerSettings(
            scheduler=scheduler,
            certificate=keys.certificate,
            key=keys.key,
            host="desk",
            instance="one",
            cache=str(cache),
            exchange=str(tmp_path),
            programs=("qemu-system-x86_64",),
        )
        with subprocess.Popen(
            [sys.executable, "-m", "bootmatrix.cli.worker_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin and process.stdout and process.stderr
            process.stdin.write(settings.model_dump_json() + "\n")
            process.stdin.flush()
            hello = FromWorker.model_validate_json(process.stdout.readline())
            assert hello.kind == "hello"
            if has_contact:
                contact = ToWorker(kind="contact", address=f"tls://127.0.0.1:{hello.port}")
                process.stdin.write(contact.model_dump_json() + "\n")
                process.stdin.flush()
                silent.accept()  # it has begun to join
            process.stdin.close()
            try:
                assert process.wait(10) == status
            finally:
                process.kill()
            assert process.stderr.read() == ""
    assert list((cache / "workers").iterdir()) == []
