"""Trees that a guest sends: whatever it says, nothing is written out of their folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import GuestFileError
from bootmatrix.guest.inbound import TreeReceiver
from bootmatrix.guest.records import RecordType, TreeRecord


def folder(path: str = "") -> TreeRecord:
    return TreeRecord(RecordType.FOLDER, path, 0o755)


def link(path: str, target: str) -> TreeRecord:
    return TreeRecord(RecordType.LINK, path, 0o777, target=target)


def receive(target: Path, *records: TreeRecord, data: bytes = b"") -> list[str]:
    """Receive a tree; `data` is of its last file. What was left out."""
    receiver = TreeReceiver("/src", target)
    try:
        receiver.feed(b"".join(record.encoded() for record in records) + data)
        receiver.feed(TreeRecord(RecordType.END).encoded())
        receiver.finish()
    finally:
        receiver.close()
    return receiver.notes


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("out", "/etc"),
        ("out", "../x"),
        ("a/out", "../../x"),
        ("a/out", "b/../../../x"),
        ("a/out", "b/../x"),  # inside by its text, but b may be a link
        ("out", ""),
    ],
)
def test_a_link_that_may_lead_out_is_left_out(tmp_path: Path, path: str, target: str) -> None:
    notes = receive(tmp_path / "here", folder(), folder("a"), link(path, target))
    assert notes == [f"/src/{path}: a link out of the tree is left out"]
    assert not (tmp_path / "here" / path).is_symlink()


@pytest.mark.parametrize(("path", "target"), [("in", "a/b"), ("a/in", "../a"), ("a/in", "..")])
def test_a_link_within_the_tree_stays(tmp_path: Path, path: str, target: str) -> None:
    assert receive(tmp_path / "here", folder(), folder("a"), link(path, target)) == []
    assert str((tmp_path / "here" / path).readlink()) == target


def test_links_by_way_of_links_do_not_lead_out(tmp_path: Path) -> None:
    """`d` is the tree's own folder, so that `d/..` is the one around it."""
    records = (folder(), folder("a"), folder("a/b"), link("a/b/d", "../.."), link("a/b/e", "d/../outside"))
    assert receive(tmp_path / "here", *records) == ["/src/a/b/e: a link out of the tree is left out"]


def test_a_second_tree_does_not_follow_links_of_the_first(tmp_path: Path) -> None:
    own, here = tmp_path / "own", tmp_path / "here"
    own.mkdir()
    here.mkdir()
    (here / "a").symlink_to(own)  # as an earlier tree, or its user, may have left it
    file = TreeRecord(RecordType.FILE, "a/authorized_keys", 0o644, 3)
    receive(here, folder(), folder("a"), file, data=b"key")
    assert list(own.iterdir()) == []
    assert (here / "a/authorized_keys").read_bytes() == b"key" and not (here / "a").is_symlink()


def test_the_target_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "here").symlink_to("real")
    receive(tmp_path / "here", folder(), TreeRecord(RecordType.FILE, "a", 0o644, 3), data=b"abc")
    assert (tmp_path / "real/a").read_bytes() == b"abc"


def test_a_tree_of_too_many_nested_folders_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """Each would be a call within the others' where a tree is put over an earlier one, or removed."""
    receive(tmp_path / "here", *(folder("/".join("a" * depth)) for depth in range(100)))
    with pytest.raises(GuestFileError, match="more than 256 folders"):
        receive(tmp_path / "here", *(folder("/".join("a" * depth)) for depth in range(1000)))
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
