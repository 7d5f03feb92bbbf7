"""Trees of a hostile guest as one tar, and result files that an agent fetched: names, limits, what is judged."""

from __future__ import annotations

import hashlib
import io
import socket
import stat
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent_program import NONCE
from bootmatrix.boot import collect
from bootmatrix.boot.collect import CollectLimits, Collector
from bootmatrix.errors import GuestFileError
from bootmatrix.guest import archive, inbound
from bootmatrix.guest.archive import ArchiveReceiver
from bootmatrix.guest.client import AgentClient
from bootmatrix.guest.frames import (
    EXIT,
    HELLO,
    VERSION,
    AgentFault,
    ExitKind,
    Frame,
    FrameReader,
    FrameType,
    greeting_token,
)
from bootmatrix.guest.records import RecordType, TreeRecord
from bootmatrix.guest.requests import GuestRequest
from bootmatrix.guest.wire import SocketWire
from bootmatrix.judge import result_files
from bootmatrix.judge.result_files import MAX_REPORTS, read_files, without_fetched
from bootmatrix.model import Bootable, CollectedFile, GuestMessage, Verdict
from bootmatrix.runs.result_names import file_reader
from samples import make_outcome
from test_judge_files import BAD, GOOD, file, word

END = TreeRecord(RecordType.END).encoded()


def folder(path: str = "") -> bytes:
    return TreeRecord(RecordType.FOLDER, path, 0o755).encoded()


def plain(path: str, data: bytes, size: int | None = None) -> bytes:
    return TreeRecord(RecordType.FILE, path, 0o644, len(data) if size is None else size).encoded() + data


def link(path: str, target: str) -> bytes:
    return TreeRecord(RecordType.LINK, path, 0o777, target=target).encoded()


def receive(place: Path, *records: bytes, limit: int = 1 << 20) -> ArchiveReceiver:
    receiver = ArchiveReceiver("/out", place / "plain.txt", place / "tree.tar", limit)
    try:
        for record in records:
            receiver.feed(record)
        receiver.finish()
    finally:
        receiver.close()
    return receiver


def names(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:") as tar:
        return {one.name: one.type for one in tar}


def test_a_file_is_saved_as_it_is(tmp_path: Path) -> None:
    receiver = receive(tmp_path, plain("", b"hello"), END)
    assert (tmp_path / "plain.txt").read_bytes() == b"hello"
    assert (receiver.is_tree, receiver.files, receiver.size_bytes) == (False, 1, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.txt"]


def test_a_folder_is_one_tar_with_its_names(tmp_path: Path) -> None:
    odd = b"b\xff\n.html".decode("utf-8", "surrogateescape")
    receiver = receive(tmp_path, folder(), folder("sub"), plain("sub/" + odd, b"<b>" * 300), link("sub/l", odd), END)
    assert receiver.is_tree
    with tarfile.open(tmp_path / "tree.tar", errors="surrogateescape", encoding="utf-8") as tar:
        assert [(one.name, one.size) for one in tar] == [("sub", 0), ("sub/" + odd, 900), ("sub/l", 0)]
        source = tar.extractfile("sub/" + odd)
        assert source
        assert source.read() == b"<b>" * 300


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "a/../../x", ""])
def test_links_out_of_the_tree_are_left_out(tmp_path: Path, target: str) -> None:
    receiver = receive(tmp_path, folder(), link("bad", target), link("good", "bad"), END)
    assert names(tmp_path / "tree.tar") == {"good": tarfile.SYMTYPE}
    assert receiver.notes == ["/out/bad: a link out of the tree is left out"]


def test_pipes_and_devices_are_left_out(tmp_path: Path) -> None:
    kinds = {"pipe": stat.S_IFIFO, "disk": stat.S_IFBLK, "port": stat.S_IFSOCK}
    records = [TreeRecord(RecordType.OTHER, name, mode | 0o644).encoded() for name, mode in kinds.items()]
    receiver = receive(tmp_path, folder(), *records, END)
    assert not names(tmp_path / "tree.tar")
    assert receiver.notes == ["/out/pipe: a pipe is left out", "/out/disk: a device is left out", receiver.notes[2]]
    with pytest.raises(GuestFileError, match="cannot be fetched: it is a pipe"):
        receive(tmp_path / "x", TreeRecord(RecordType.OTHER, "", stat.S_IFIFO).encoded(), END)


@pytest.mark.parametrize(
    "records",
    [
        (folder(), plain("../x", b"")),
        (folder(), plain("/x", b"")),
        (folder(), plain("a//x", b"")),
        (folder(), plain("a/x", b"")),
        (folder(), plain("a", b""), plain("a", b"")),
        (folder(), link("a", "b"), plain("a/x", b"")),
        (plain("", b""), plain("a", b"")),
        (END, plain("", b"")),
        (folder(), plain("a", b"", size=1 << 50)),
        (folder(),),
        (folder(), plain("a", b"x", size=9), END[:-1]),
    ],
)
def test_what_a_sound_agent_never_sends(tmp_path: Path, records: tuple[bytes, ...]) -> None:
    with pytest.raises(AgentFault):
        receive(tmp_path, *records)
    assert {path.name for path in tmp_path.iterdir()} <= {"tree.tar", "plain.txt"}


def test_more_files_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(GuestFileError, match="more than 3 files"):
        receive(tmp_path, folder(), *(plain(f"f{number}", b"x") for number in range(9)), END)
    assert names(tmp_path / "tree.tar") == {"f0": tarfile.REGTYPE, "f1": tarfile.REGTYPE}, "what came is kept"


def test_paths_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "MAX_NAMES", 2 << 20)
    other = (TreeRecord(RecordType.OTHER, f"{number:04}{'x' * 4000}").encoded() for number in range(1000))
    with pytest.raises(GuestFileError, match="the paths of its files have more than 2 MiB"):
        receive(tmp_path, folder(), *other, END)


def test_links_that_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of bytes counts none of them."""
    monkeypatch.setattr(inbound, "MAX_NAMES", 2 << 20)
    links = (link(f"{number}", "x" * 4000) for number in range(1000))
    with pytest.raises(GuestFileError, match="the paths of its files have more than 2 MiB"):
        receive(tmp_path, folder(), *links, END)
    assert (tmp_path / "tree.tar").stat().st_size < 4 << 20


def test_notes_that_fill_the_record(tmp_path: Path) -> None:
    assert len(receive(tmp_path, folder(), *(link(f"{number}", "/x") for number in range(100)), END).notes) == 10


class Trees(Collector):
    """Gets a tree of three entries for every path, without a guest."""

    async def _receive(self, receiver: ArchiveReceiver, request: GuestRequest) -> None:
        for record in (folder(), link("a", "b"), plain("b", b""), END):
            receiver.feed(record)
        receiver.finish()


def test_all_trees_together_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container can give one folder many names."""
    monkeypatch.setattr(collect, "MAX_ENTRIES", 5)
    more = [GuestMessage(kind="more", words=("unit", word(b"/out"), "services/unit"), at_s=1)] * 3
    client = AgentClient(SocketWire(socket.socket()), NONCE)
    trees = Trees(client, tmp_path, CollectLimits(), lambda: None)
    messages = [part for one in more for part in (GuestMessage(kind="file", words=("a", "b", "tree"), at_s=1), one)]
    anyio.run(trees._collect_all, messages)
    assert [one.cut for one in trees.files] == ["", "/out: more than 2 files", ""]
    assert [one.fault for one in trees.files] == ["", "", "/out: more than 0 files"]


def test_what_is_too_large_is_left_out_and_said(tmp_path: Path) -> None:
    fault = TreeRecord(RecordType.FAULT, "hole", size=27).encoded()
    other = TreeRecord(RecordType.FAULT, "secret", size=13).encoded()
    receiver = receive(tmp_path, folder(), fault, other, plain("small", b"x"), END, limit=5 << 20)
    assert receiver.cut == "/out/hole: more than 5 MiB in all"
    assert receiver.notes == ["/out/secret: Permission denied"]
    assert names(tmp_path / "tree.tar") == {"small": tarfile.REGTYPE}


class Lacking(Collector):
    """Gets a folder of which one file is left out, without a guest."""

    def __init__(self, *words: Any, name: str, number: int) -> None:
        super().__init__(*words)
        self._fault = TreeRecord(RecordType.FAULT, name, size=number).encoded()

    async def _receive(self, receiver: ArchiveReceiver, request: GuestRequest) -> None:
        for record in (folder(), self._fault, plain("log", b"x"), END):
            receiver.feed(record)
        receiver.finish()


@pytest.mark.parametrize(
    ("name", "number", "cause"),
    [
        ("sub/report.xml", 27, "more than 1024 MiB in all"),
        ("a.TAP", 5, "Input/output error"),
        ("big.log", 27, ""),
        ("secret", 13, ""),
    ],
)
def test_a_report_that_is_left_out_of_a_folder_fails(tmp_path: Path, name: str, number: int, cause: str) -> None:
    client = AgentClient(SocketWire(socket.socket()), NONCE)
    collector = Lacking(client, tmp_path, CollectLimits(), lambda: None, name=name, number=number)
    more = GuestMessage(kind="more", words=("unit", word(b"/out"), "services/unit"), at_s=1)
    anyio.run(collector._collect_all, [tree_message("/out"), more])
    words = [f"unit: the result /out cannot be fetched: /out/{name}: {cause}"] if cause else []
    assert judged(tmp_path, tree_message("/out"), *collector.files)[1] == words


def tree_message(path: str) -> GuestMessage:
    return GuestMessage(kind="file", words=("unit", word(path.encode()), "tree"), at_s=1)


def judged(place: Path, message: GuestMessage, *files: CollectedFile) -> tuple[dict[str, Verdict], list[str]]:
    outcome = make_outcome(1).model_copy(update={"messages": (message,), "collected": files})
    found = list(read_files(outcome, Bootable(), file_reader(place)))
    results = {one.name: one.verdict for each in found for one in each.results}
    return results, [one.reason for each in found for one in each.findings]


def test_reports_that_were_fetched_count(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/0-r.xml.txt").write_bytes(BAD)
    with tarfile.open(tmp_path / "files/1.tar", "w") as tar:
        for name, data in (("sub/good.xml", GOOD), ("page.html", BAD), ("pom.xml", b"<project/>")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    single = CollectedFile(
        container="unit", asked="/r.xml", path="/r.xml", file="files/0-r.xml.txt", size_bytes=len(BAD)
    )
    results, faults = judged(tmp_path, file("/r.xml", BAD[:20], size=len(BAD)), single)
    assert results == {"unit: adds": Verdict.FAIL}
    assert faults == ["unit: adds: want 3, got 4"]
    tree = CollectedFile(container="unit", asked="/out", path="/out", file="files/1.tar", is_tree=True)
    assert judged(tmp_path, tree_message("/out"), tree) == ({"unit: x.y": Verdict.PASS}, [])


def reports(folder: Path, count: int, *members: tarfile.TarInfo) -> CollectedFile:
    """A fetched folder of sound reports, and other members."""
    (folder / "files").mkdir()
    with tarfile.open(folder / "files/0.tar", "w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.xml")
            info.size = len(GOOD)
            tar.addfile(info, io.BytesIO(GOOD))
        for member in members:
            tar.addfile(member)
    return CollectedFile(container="unit", asked="/out", path="/out", file="files/0.tar", is_tree=True)


def test_no_report_of_a_folder_is_left_out_in_silence(tmp_path: Path) -> None:
    folder = reports(tmp_path, MAX_REPORTS + 1)
    assert judged(tmp_path, tree_message("/out"), folder)[1] == [
        f"unit: /out has more than 1000 reports: /out/{MAX_REPORTS}.xml was not read"
    ]


def test_a_file_of_many_names_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with tarfile.open(tmp_path / "files/0.tar", "w") as tar:
        info = tarfile.TarInfo("a.dat")
        info.size = len(GOOD)
        tar.addfile(info, io.BytesIO(GOOD))
        for number in range(3):
            name = tarfile.TarInfo(f"{number}.xml")
            name.type, name.linkname = tarfile.LNKTYPE, "a.dat"
            tar.addfile(name)
    tree = CollectedFile(container="unit", asked="/out", path="/out", file="files/0.tar", is_tree=True)
    outcome = make_outcome(1).model_copy(update={"messages": (tree_message("/out"),), "collected": (tree,)})
    found = [one.name for each in read_files(outcome, Bootable(), file_reader(tmp_path)) for one in each.results]
    assert found == ["unit: x.y"]


@pytest.mark.parametrize("first", ["a.dat", "a.tap"])
def test_a_file_is_read_in_each_format_that_it_has_a_name_of(tmp_path: Path, first: str) -> None:
    """XML without a line of TAP, under a name of TAP, says nothing: the other name counts."""
    (tmp_path / "files").mkdir()
    with tarfile.open(tmp_path / "files/0.tar", "w") as tar:
        info = tarfile.TarInfo(first)
        info.size = len(BAD)
        tar.addfile(info, io.BytesIO(BAD))
        for name in ("b.tap", "c.xml"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.LNKTYPE, first
            tar.addfile(link)
    tree = CollectedFile(container="unit", asked="/out", path="/out", file="files/0.tar", is_tree=True)
    outcome = make_outcome(1).model_copy(update={"messages": (tree_message("/out"),), "collected": (tree,)})
    found = [each for each in read_files(outcome, Bootable(), file_reader(tmp_path)) if each.results]
    assert [(one.name, one.verdict) for each in found for one in each.results] == [("unit: adds", Verdict.FAIL)]


def test_a_saved_tar_that_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_files, "MAX_MEMBERS", 3)
    assert judged(tmp_path, tree_message("/out"), reports(tmp_path, 4))[1] == [
        "unit: /out cannot be read: more than 3 files"
    ]


def test_a_folder_of_reports_that_is_cut_fails(tmp_path: Path) -> None:
    cut = reports(tmp_path, 1).model_copy(update={"cut": "/out/big: more than 5 MiB in all"})
    words = "unit: reports of tests may be missing: /out/big: more than 5 MiB in all"
    assert judged(tmp_path, tree_message("/out"), cut)[1] == [words]
    pattern = cut.model_copy(update={"asked": "/out/*.xml", "file": ""})
    assert judged(tmp_path, tree_message("/out/*.xml"), pattern)[1] == [words]
    other = cut.model_copy(update={"file": ""})
    assert judged(tmp_path, tree_message("/out"), other)[1] == []


def test_a_folder_that_the_agent_broke_off_is_the_guests_fault(tmp_path: Path) -> None:
    lacking = tarfile.TarInfo("big.bin")
    lacking.size = 5000
    folder = reports(tmp_path, 1)
    with (tmp_path / "files/0.tar").open("r+b") as file:
        file.truncate(1024)
        file.seek(1024)
        file.write(lacking.tobuf() + bytes(3 * 512))
    outcome = make_outcome(1).model_copy(update={"messages": (tree_message("/out"),)})
    for cut, verdict in (("the guest's agent does not keep to its protocol", Verdict.FAIL), ("", Verdict.INFRA_ERROR)):
        fetched = outcome.model_copy(update={"collected": (folder.model_copy(update={"cut": cut}),)})
        found = [one for each in read_files(fetched, Bootable(), file_reader(tmp_path)) for one in each.findings]
        assert [one.verdict for one in found if "unexpected end" in one.reason] == [verdict]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
def test_a_header_that_no_memory_holds_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """Runs from elsewhere are judged again."""
    folder, header = reports(tmp_path, 1), tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 40
    (tmp_path / "files/0.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    results, faults = judged(tmp_path, tree_message("/out"), folder)
    assert (results, len(faults)) == ({}, 1)
    assert "unexpected type" in faults[0]


def test_a_link_to_a_report_is_told(tmp_path: Path) -> None:
    link, second = tarfile.TarInfo("last.xml"), tarfile.TarInfo("again.xml")
    link.type, link.linkname = tarfile.SYMTYPE, "/elsewhere/r.xml"
    second.type, second.linkname = tarfile.LNKTYPE, "0.xml"
    folder = reports(tmp_path, 1, link, second)
    outcome = make_outcome(1).model_copy(update={"messages": (tree_message("/out"),), "collected": (folder,)})
    found = list(read_files(outcome, Bootable(), file_reader(tmp_path)))
    assert [note for each in found for note in each.notes] == ["/out/last.xml is a link, and not read as a report"]


def test_a_report_that_is_another_name_of_a_file_is_read(tmp_path: Path) -> None:
    link = tarfile.TarInfo("report.xml")
    link.type, link.linkname = tarfile.LNKTYPE, "0.dat"
    folder = reports(tmp_path, 0)
    with tarfile.open(tmp_path / "files/0.tar", "w") as tar:
        info = tarfile.TarInfo("0.dat")
        info.size = len(BAD)
        tar.addfile(info, io.BytesIO(BAD))
        tar.addfile(link)
    assert judged(tmp_path, tree_message("/out"), folder)[0] == {"unit: adds": Verdict.FAIL}


def test_a_folder_in_the_place_of_a_report_is_no_report(tmp_path: Path) -> None:
    folder = reports(tmp_path, 0).model_copy(update={"asked": "/out/r.xml", "path": "/out/r.xml"})
    assert judged(tmp_path, tree_message("/out/r.xml"), folder)[1] == [
        "unit: /out/r.xml is a folder, not a report of tests"
    ]


def test_a_record_has_the_digest_of_what_was_fetched_whole(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/0-r.xml.txt").write_bytes(BAD)
    fetched = CollectedFile(container="unit", asked="/r.xml", path="/r.xml", file="files/0-r.xml.txt")
    messages = (file("/r.xml", BAD[:20], size=len(BAD)), file("/other", b"whole"), file("/cut", b"x", size=9))
    outcome = make_outcome(1).model_copy(update={"messages": messages, "collected": (fetched,)})
    slim = without_fetched(outcome)
    assert slim.messages[0].words == (*messages[0].words[:3], f"sha256:{hashlib.sha256(BAD[:20]).hexdigest()}")
    assert slim.messages[1:] == messages[1:]
    assert without_fetched(slim) == slim
    assert judged(tmp_path, slim.messages[0], fetched) == judged(tmp_path, messages[0], fetched)
    assert "unit: adds" in judged(tmp_path, slim.messages[0], fetched)[0]
    assert "too large to be sent whole" in judged(tmp_path, slim.messages[0])[1][0]


def test_what_was_not_fetched_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, tree_message("/out"))[1] == ["unit: the result /out cannot be fetched: it was not fetched"]
    none = CollectedFile(container="unit", asked="/*.xml", path="/*.xml", fault="nothing matches it")
    assert judged(tmp_path, tree_message("/*.xml"), none)[1] == [
        "unit: the result /*.xml cannot be fetched: nothing matches it"
    ]
    cut = file("/r.xml", BAD[:20], size=len(BAD))
    assert "too large to be sent whole" in judged(tmp_path, cut)[1][0]


def test_a_saved_file_that_is_gone_is_not_the_guests_fault(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/0.xml.txt").symlink_to("/etc/passwd")
    gone = CollectedFile(container="unit", asked="/r.xml", path="/r.xml", file="files/0.xml.txt")
    outcome = make_outcome(1).model_copy(update={"messages": (file("/r.xml", b"", size=9),), "collected": (gone,)})
    (*_, finding) = [one for each in read_files(outcome, Bootable(), file_reader(tmp_path)) for one in each.findings]
    assert finding.verdict is Verdict.INFRA_ERROR


async def _frames_after(end: socket.socket, mark: bytes, kind: FrameType) -> int:
    """Read what the host sends after a mark, if any, up to a frame of a kind; return its channel."""
    received = b""
    while True:
        await anyio.wait_readable(end)
        received += end.recv(1 << 16)
        rest = received.partition(mark)[2] if mark else received
        found = [frame.channel for frame in FrameReader().feed(rest) if frame.type is kind]
        if found:
            return found[0]


def test_files_are_fetched_anew_from_an_agent_that_is_started_again(tmp_path: Path) -> None:
    tree = GuestMessage(kind="file", words=("unit", word(b"/out"), "tree"), at_s=1)
    more = GuestMessage(kind="more", words=("unit", word(b"/out"), "services/unit"), at_s=1)
    torn = GuestMessage(kind="more", words=("unit", "L29", "services/unit"), at_s=1)  # of a kernel that was taken over

    async def work(end: socket.socket, collector: Collector) -> None:
        for mark in (b"a" * 16, b"b" * 16):
            end.send(greeting_token(NONCE) + Frame(FrameType.HELLO, 0, HELLO.pack(VERSION, 1 << 20, mark)).encoded())
            channel = await _frames_after(end, mark, FrameType.OPEN)
        end.send(Frame(FrameType.EXIT, channel, EXIT.pack(ExitKind.STATUS, 1)).encoded())
        await _frames_after(end, b"", FrameType.SHUTDOWN)
        assert [one.asked for one in collector.files] == ["/out"]

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, anyio.fail_after(20):
            ours.setblocking(False)
            client = AgentClient(SocketWire(ours), NONCE)
            collector = Collector(client, tmp_path, CollectLimits(), lambda: None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.run)
                tasks.start_soon(collector.run, (tree, torn, more))
                await work(theirs, collector)
                tasks.cancel_scope.cancel()

    anyio.run(run)
