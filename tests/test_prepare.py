"""Images that are prepared in a guest: packages' database, the guest's tree, its difference, and the archive for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from archive_client import Opener
from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.assembly.prepare import guest, tree_reader
from bootmatrix.assembly.prepare.preparer import _Work
from bootmatrix.assembly.prepare.tree_reader import TreeReader, difference
from bootmatrix.assembly.tree import Tree, directory, symlink, text_file
from bootmatrix.errors import BuildError, FileError
from bootmatrix.guest.frames import AgentFault
from bootmatrix.guest.records import RecordType, TreeRecord
from bootmatrix.load.recipe import load_recipe, shipped_image
from bootmatrix.model import Kernel
from bootmatrix.source.guest_repository import GuestRepository
from bootmatrix.source.reduced_index import needed_part, reduced_list
from guests import make_machine
from kitchen import Kitchen, files
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")
MODE = 0o644 | 0o100000


# The guest's tree


def owner(text: str = "0 0 1 1 7 0 0 ") -> bytes:
    return TreeRecord(RecordType.OWNER, target=text).encoded()


def file(path: str, data: bytes, mode: int = MODE) -> bytes:
    return TreeRecord(RecordType.FILE, path, mode, len(data)).encoded() + data


END = TreeRecord(RecordType.END).encoded()


def read(data: bytes, tmp_path: Path, limit_bytes: int = 100) -> Tree:
    path = tmp_path / "spool"
    with path.open("wb") as spool:
        reader = TreeReader(path, spool, limit_bytes)
        for start in range(0, len(data), 7):
            reader.feed(data[start : start + 7])
        return reader.finish()


def test_a_tree_with_owners_capabilities_and_hard_links(tmp_path: Path) -> None:
    capability = "0100000200200000000000000000000000000000"
    data = owner() + TreeRecord(RecordType.FOLDER, "", 0o40755).encoded()
    data += owner("5 6 1 1 2 0 0 ") + TreeRecord(RecordType.FOLDER, "d", 0o41777).encoded()
    data += owner("1 2 2 1 9 0 0 " + capability) + file("d/a", b"aa", 0o104755)
    data += owner("1 2 2 1 9 0 0 ") + file("d/b", b"aa")
    data += owner("0 0 1 1 3 1 3 ") + TreeRecord(RecordType.OTHER, "null", 0o20666).encoded()
    data += owner("0 0 1 1 4 0 0 ") + TreeRecord(RecordType.OTHER, "socket", 0o140755).encoded() + END
    nodes = read(data, tmp_path).nodes
    assert (nodes["d"].mode, nodes["d"].uid, nodes["d"].gid) == (0o1777, 5, 6)
    assert (nodes["d/a"].mode, nodes["d/a"].read()) == (0o4755, b"aa")
    assert nodes["d/a"].xattrs[0][1].encode("utf-8", "surrogateescape") == bytes.fromhex(capability)
    assert nodes["d/b"] is nodes["d/a"]
    assert nodes["null"].device == (1, 3)
    assert "socket" not in nodes


@pytest.mark.parametrize(
    "data",
    [
        file("a", b"") + END,
        owner() + file("../a", b"") + END,
        owner() + file("/a", b"") + END,
        owner("0 0 1") + END,
        owner("0 0 1 1 7 0 -1 ") + END,
        owner("0 0 1 1 7 0 0 zz") + END,
        owner() + file("a", b"x"),
        END + END,
    ],
)
def test_a_tree_that_breaks_the_protocol(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(AgentFault):
        read(data, tmp_path)


def test_a_tree_beyond_its_limit(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="larger"):
        read(owner() + file("a", b"x" * 101) + END, tmp_path)


def test_one_file_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time another inode, which has more links."""
    monkeypatch.setattr(tree_reader, "MAX_NODES", 50)
    data = b"".join(owner(f"0 0 2 1 {number} 0 0 ") + file("a", b"") for number in range(51))
    with pytest.raises(BuildError, match="more than 50 files"):
        read(data + END, tmp_path)


# Its difference


def test_the_difference_of_trees() -> None:
    before, after = Tree(), Tree()
    for tree in (before, after):
        tree.put("tmp", directory(0o1777))
        tree.put("same", text_file("same"))
        tree.put("proc/x", text_file("of the guest"))
    before.put("gone/below", text_file("x"))
    before.put("etc/old", text_file("x"))
    before.put("etc/link", symlink("a"))
    after.put("etc/link", symlink("b"))
    after.put("tmp/new", text_file("new"))
    after.put("proc/y", text_file("of the guest"))
    after.put("var/lib/apt/lists/x", text_file("fetched again"))
    layer = difference(before, after)
    assert set(layer.nodes) - {"var", "var/lib", "var/lib/apt", "proc"} == {
        *("tmp", "tmp/new", "etc", "etc/link", "etc/.wh.old", ".wh.gone")
    }
    assert layer.nodes["tmp"].mode == 0o1777
    assert "proc/y" not in layer.nodes


# The database of packages


def test_unpacked_packages_are_registered(kitchen: Kitchen, small: SmallArchive) -> None:
    small.add("bookworm", "tool", "2.0-1")
    small.publish()
    image = kitchen.make(packages=["tool"], configure=False)
    assert not any(path.startswith("var/lib/dpkg") for path in image_tree(image, kitchen.builder.store).nodes)
    with pytest.raises(BuildError, match="cannot be prepared here"):
        kitchen.make(packages=["tool"], configure=True)
    base = [{"path": "var/lib/dpkg/status", "contents": "Package: base\nStatus: install ok installed\n\n"}]
    kitchen.recipe("base", files=base)
    found = files(image_tree(kitchen.make(base="base", packages=["tool"]), kitchen.builder.store))
    status = found["var/lib/dpkg/status"].decode()
    assert status.startswith(
        "Package: base\nStatus: install ok installed\n\nPackage: tool\nStatus: install ok unpacked\n"
    )
    assert "/usr/share/tool" in found["var/lib/dpkg/info/tool.list"].decode().splitlines()


# The archive for a guest


def get(repository: GuestRepository, address: str) -> tuple[str, bytes]:
    response = repository.answer(f"GET {address} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return response.status[:3], response.body if isinstance(response.body, bytes) else response.body.read_bytes()


def test_the_archive_for_a_guest(opened: Opener, small: SmallArchive) -> None:
    small.add("bookworm", "tool", "2.0-1", depends="library")
    small.add("bookworm", "library", "1.5-1")
    small.publish()
    archive = opened()
    repository = GuestRepository(archive, "amd64", ["bookworm"])
    host = "http://packages.bootmatrix.invalid/dists/bookworm"
    status, listed = get(repository, f"{host}/main/binary-amd64/Packages")
    assert (status, listed.count(b"Package: ")) == ("200", 2)
    assert hashlib.sha256(listed).hexdigest() in get(repository, f"{host}/Release")[1].decode()
    assert get(repository, f"{host}/InRelease")[0] == "404"  # the short lists are not signed
    signed = get(repository, "http://deb.example/debian/dists/bookworm/InRelease")
    assert signed[0] == "200"
    assert b"BEGIN PGP SIGNED MESSAGE" in signed[1]
    path = next(line for line in listed.decode().splitlines() if line.startswith("Filename: ") and "tool" in line)
    status, deb = get(repository, f"http://any/{path.removeprefix('Filename: ')}")
    assert (status, deb[:8]) == ("200", b"!<arch>\n")
    assert [one.name for one in repository.packages] == ["tool"]
    assert "tool" in archive.resolved().packages["amd64"]
    assert repository.fault is None


@pytest.mark.parametrize(
    "address",
    [
        "/etc/passwd",
        "http://x/pool/../../etc/passwd",
        "http://x/pool/%2e%2e/%2e%2e/etc/passwd.deb",
        "http://x/pool/main/n/nosuch/nosuch_1_amd64.deb",
        "http://x/dists/bookworm/main/binary-s390x/Packages",
        "http://x/dists/nosuch/InRelease",
    ],
)
def test_what_a_guest_does_not_get(address: str, opened: Opener, small: SmallArchive) -> None:
    small.add("bookworm", "tool")
    small.publish()
    repository = GuestRepository(opened(), "amd64", ["bookworm"])
    assert get(repository, address)[0] == "404"
    assert repository.packages == ()
    assert repository.answer(b"POST / HTTP/1.1\r\n\r\n").status.startswith("405")
    assert repository.answer(b"\xff\r\n\r\n").status.startswith("405")
    assert repository.answer(b"GET http://[x/dists/a/b HTTP/1.1\r\n\r\n").status.startswith("400")


def test_a_short_list_keeps_what_apt_needs() -> None:
    paragraph = b"Package: a\nDepends: b,\n c\nDescription: long\n text\nTag: x\nFilename: pool/a.deb"
    assert reduced_list([paragraph, b""]) == b"Package: a\nDepends: b,\n c\nFilename: pool/a.deb\n"


LISTED = b"""\
Package: tool
Pre-Depends: base (>= 1),
 missing
Depends: awk | other, two:any [amd64]
Filename: pool/tool.deb

Package: base
Depends: tool

Package: first-awk
Provides: awk (= 1), unused

Package: second-awk
Provides: unused, awk

Package: other
Package-Type: deb

Package: two
Recommends: unneeded

Package: unneeded
"""


def test_a_part_of_a_list_has_what_packages_may_need() -> None:
    part = needed_part(LISTED, ["tool", "nosuch"])
    names = [line.split()[1].decode() for line in part.splitlines() if line.startswith(b"Package:")]
    assert names == ["base", "first-awk", "other", "second-awk", "tool", "two"]
    paragraphs = LISTED.strip().split(b"\n\n")
    assert set(part.strip().split(b"\n\n")) == set(paragraphs[:-1])
    assert needed_part(LISTED, ["unneeded"]).strip() == b"Package: unneeded"


def test_a_guest_gets_a_part_of_a_list(opened: Opener, small: SmallArchive) -> None:
    small.add("bookworm", "tool", "2.0-1", depends="library")
    small.add("bookworm", "library", "1.5-1")
    small.add("bookworm", "stranger")
    small.publish()
    repository = GuestRepository(opened(), "amd64", ["bookworm"])
    host = "http://packages.bootmatrix.invalid/dists/bookworm"
    assert get(repository, f"{host}/main/binary-amd64/Packages")[1].count(b"Package: ") == 3
    repository.only = ("tool",)
    listed = get(repository, f"{host}/main/binary-amd64/Packages")[1]
    assert sorted(line for line in listed.splitlines() if line.startswith(b"Package: ")) == [
        *(b"Package: library", b"Package: tool")
    ]
    assert hashlib.sha256(listed).hexdigest() in get(repository, f"{host}/Release")[1].decode()


# Recipes and names


def test_commands_that_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "build.yml"
    path.write_text("prepare:\n- echo\n- ' '\n", encoding="utf-8")
    with pytest.raises(FileError, match=r"build\.yml:3: an empty command"):
        load_recipe(path)


@pytest.mark.parametrize(
    "changes", [{"cmdline": ("hostname=evil",)}, {"firmware": "other.bin"}, {"arguments": ("-smp", "2")}, {"cpu": "x"}]
)
def test_a_layer_is_kept_for_the_very_machine_that_made_it(changes: dict[str, Any]) -> None:
    """An architecture of somebody else's project may have the name of a shipped one."""
    order: Any = SimpleNamespace(
        recipe=SimpleNamespace(configure=False, prepare=("uname -n >/name",)),
        image=SimpleNamespace(digest="image"),
        suites=("one",),
    )
    kernel = Kernel(name="6.1", release="6.1.0", version="6.1", architecture="amd64")
    nothing: Any = None
    init: Any = SimpleNamespace(digest="init")
    keys = {_Work(order, nothing, make_machine(**each), kernel, init, nothing).key for each in ({}, changes)}
    assert len(keys) == 2
    other: Any = SimpleNamespace(**{**vars(order), "suites": ("other",)})
    assert _Work(other, nothing, make_machine(), kernel, init, nothing).key not in keys


def test_names_of_shipped_images() -> None:
    assert [shipped_image(name) for name in ("debian", "debian:13", "debian:nosuch", "a/debian", "redis:7")] == [
        *("debian", "debian-13", "", "", "")
    ]


async def test_what_a_long_command_does_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "STILL_S", 0.01)
    output, told = bytearray(b"one\r\ntwo\xff\r\n\r\n"), list[str]()
    watch = asyncio.create_task(guest.tell_last_lines(output, lambda _, line: told.append(line)))
    while not told:
        await asyncio.sleep(0.01)
    output.clear()
    while told[-1]:
        await asyncio.sleep(0.01)
    watch.cancel()
    assert told[0] == "two\ufffd"


# In a real guest

RECIPE = """\
from: bootmatrix/busybox
prepare:
  - mkdir -m 1770 /made && chown 7:8 /made && rm /usr/lib/tap.sh && uname -m >/made/machine
  - wget -q -O /made/Release http://packages.bootmatrix.invalid/dists/bookworm/Release
  - test "$BAD" != yes || {{ echo broken; exit 3; }}
{more}"""


def run(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bootmatrix.cli.main", *words]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=580)


@pytest.mark.boots
def test_prepare_in_a_guest(tmp_path: Path) -> None:
    folder = tmp_path / "images/mine"
    folder.mkdir(parents=True)
    (folder / "build.yml").write_text(RECIPE.format(more=""), encoding="utf-8")
    (tmp_path / "mine.yml").write_text(
        json.dumps(
            {
                "init": ["bootmatrix/init", "bootmatrix/crun"],
                "onboot": [
                    {
                        "name": "look",
                        "image": "@pkg:./images/mine",
                        "capabilities": ["CAP_DAC_OVERRIDE"],
                        "command": [
                            *("/bin/sh", "-ec"),
                            'test "$(stat -c %a:%u:%g /made)" = 1770:7:8; test "$(uname -m)" = "$(cat /made/machine)"; '
                            "grep -q binary-amd64/Packages /made/Release; test ! -e /usr/lib/tap.sh",
                        ],
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    good = run(tmp_path, "run", "mine.yml", "--arch", "x86_64", "--kernel", "6.1")
    assert good.returncode == 0, good.stdout[-3000:] + good.stderr
    (folder / "build.yml").write_text(RECIPE.format(more="env: {BAD: 'yes'}\n"), encoding="utf-8")
    bad = run(tmp_path, "run", "mine.yml", "--arch", "x86_64", "--kernel", "6.1")
    assert bad.returncode in {2, 3}, bad.stdout[-3000:]
    assert "build.yml:5:" in bad.stderr
    assert "exit status 3: broken\n" in bad.stderr
