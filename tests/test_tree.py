"""Trees: every path stays inside, links lead where Linux would let them lead, and tar archives come back the same."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootmatrix.assembly import tree as tree_module
from bootmatrix.assembly.slices import Slice, SparseSlice
from bootmatrix.assembly.tree import Node, Tree, directory, symlink, text_file, write_tar
from bootmatrix.assembly.tree_limits import clean
from bootmatrix.errors import BuildError
from packages import entry, folder, hard_link, link, make_tar


def tree_of(*members: tarfile.TarInfo) -> Tree:
    tree = Tree()
    with tarfile.open(fileobj=io.BytesIO(make_tar(members))) as archive:
        tree.add_tar(archive)
    return tree


def files(tree: Tree) -> dict[str, bytes]:
    return {path: node.read() for path, node in tree.items() if node.kind == "file"}


def check_order(tree: Tree) -> None:
    """What holds of every tree."""
    for path, node in tree.items():
        assert path == clean(path), "a path has a part that means something else"
        assert path
        parent = path.rpartition("/")[0]
        assert not parent or tree.nodes[parent].kind == "dir", f"{path} is in something that is no folder"
        assert tree.resolve(path) == path
        assert node.kind in {"file", "dir", "symlink"}
    assert tree.size_bytes == sum(node.size for node in set(tree.nodes.values()))


@pytest.mark.parametrize(
    ("path", "same"),
    [("/a/b", "a/b"), ("./a", "a"), ("a//b/", "a/b"), ("a/./b", "a/b"), ("", ""), ("/", ""), ("...", "...")],
)
def test_paths_are_cleaned(path: str, same: str) -> None:
    assert clean(path) == same


@pytest.mark.parametrize("path", ["..", "../a", "/..", "a/../b", "a/..", "./../a", "a\0b"])
def test_paths_that_leave_the_root(path: str) -> None:
    for use in (clean, Tree().resolve, Tree().get, Tree().remove, lambda path: Tree().put(path, directory())):
        with pytest.raises(BuildError, match="leaves the image's root"):
            use(path)


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("usr/lib", "usr/lib/x"),
        ("/usr/lib", "usr/lib/x"),
        ("../../../usr/lib", "usr/lib/x"),
        ("./usr/./lib//", "usr/lib/x"),
        ("usr/lib/../share", "usr/share/x"),
        ("..", "x"),
        ("/", "x"),
        (".", "x"),
        ("/..", "x"),
        ("not/there", "not/there/x"),
        ("second", "usr/share/x"),
    ],
)
def test_links_of_folders_are_followed_inside(target: str, where: str) -> None:
    tree = Tree()
    tree.put("second", symlink("usr/share"))
    tree.put("lib", symlink(target))
    tree.put("lib/x", text_file("x"))
    assert files(tree) == {where: b"x"}
    assert tree.get("lib/x") is tree.nodes[where]
    assert tree.nodes["lib"].kind == "symlink"
    check_order(tree)


def test_a_link_within_a_folder_is_relative_to_the_folder() -> None:
    tree = Tree()
    tree.put("a/b/c", symlink("../d"))
    tree.put("a/b/c/x", text_file("x"))
    assert files(tree) == {"a/d/x": b"x"}


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "/b/c", "b": "a"}, {"a": "a/a/a/a"}])
def test_loops_are_told(links: dict[str, str]) -> None:
    tree = Tree()
    for path, target in links.items():
        tree.put(path, symlink(target))
    with pytest.raises(BuildError, match="loop"):
        tree.put("a/x", text_file("x"))
    tree.put("a", directory())
    assert tree.nodes["a"].kind == "dir", "a folder takes the place of a link that leads nowhere"


def test_a_chain_as_long_as_linux_follows() -> None:
    tree = Tree()
    tree.put("0", directory())
    for number in range(1, 60):
        tree.put(str(number), symlink(str(number - 1)))
    tree.put("40/x", text_file("x"))
    assert files(tree) == {"0/x": b"x"}
    with pytest.raises(BuildError, match="loop"):
        tree.put("41/x", text_file("x"))


def test_the_last_part_is_not_followed() -> None:
    tree = Tree()
    tree.put("etc/passwd", text_file("root"))
    tree.put("link", symlink("etc/passwd"))
    tree.put("link", text_file("mine"))
    assert files(tree) == {"etc/passwd": b"root", "link": b"mine"}


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib", "usr/share/../lib", "usr/alias/..", "/", "other"])
def test_a_folder_over_a_link_to_a_folder_keeps_the_link(target: str) -> None:
    tree = tree_of(folder("usr/lib"), folder("usr/share"), link("usr/alias", "/usr/share"), link("other", "usr/lib"))
    tree.put("lib", symlink(target))
    tree.put("lib", directory(0o700))
    assert tree.nodes["lib"].target == target
    assert tree.nodes["usr/lib"].mode == 0o755


@pytest.mark.parametrize("target", ["nowhere", "file", "lib", "/nowhere/deep"])
def test_a_folder_over_any_other_link_replaces_it(target: str) -> None:
    tree = tree_of(entry("file", b"x"), link("lib", target), folder("lib"))
    assert tree.nodes["lib"].kind == "dir"


def test_what_replaces_what() -> None:
    tree = tree_of(entry("a/b/c", b"1"), entry("a/d", b"2"))
    tree.put("a", directory(0o700))
    assert files(tree) == {"a/b/c": b"1", "a/d": b"2"}
    assert tree.nodes["a"].mode == 0o700
    tree.put("a/d/e", text_file("3"))
    assert files(tree) == {"a/b/c": b"1", "a/d/e": b"3"}, "a path through a file makes it a folder"
    tree.put("a", text_file("4"))
    assert files(tree) == {"a": b"4"}
    assert set(tree.nodes) == {"a"}
    check_order(tree)


def test_a_name_that_begins_like_a_folder_is_not_in_it() -> None:
    tree = tree_of(entry("a/x", b"1"), entry("a-b", b"2"), entry("ab/c", b"3"))
    tree.remove("a")
    assert files(tree) == {"a-b": b"2", "ab/c": b"3"}
    tree.remove("not/there")


def test_removing_follows_links_of_folders() -> None:
    tree = tree_of(entry("usr/bin/x", b"1"), entry("usr/bin/y", b"2"), link("bin", "usr/bin"))
    tree.remove("/bin/x")
    assert files(tree) == {"usr/bin/y": b"2"}
    tree.remove("bin")
    assert files(tree) == {"usr/bin/y": b"2"}
    check_order(tree)


def test_a_file_cannot_be_the_root() -> None:
    with pytest.raises(BuildError, match="is the root"):
        Tree().put("./", text_file("x"))
    tree = tree_of(folder("./"), entry("./a", b"1"))
    assert files(tree) == {"a": b"1"}


def test_hard_links_are_one_node() -> None:
    tree = tree_of(entry("usr/a", b"x" * 100), link("bin", "usr"), hard_link("b", "./bin/a"), hard_link("c", "/b"))
    assert tree.nodes["usr/a"] is tree.nodes["b"] is tree.nodes["c"]
    assert tree.size_bytes == 100, "counted once"
    tree.remove("usr/a")
    tree.put("b", text_file(""))
    assert tree.size_bytes == 100
    tree.remove("c")
    assert tree.size_bytes == 0


@pytest.mark.parametrize("target", ["missing", "folder", "b", "loop/x"])
def test_hard_links_to_nothing(target: str) -> None:
    with pytest.raises(BuildError, match=r"does not exist|loop"):
        tree_of(folder("folder"), link("loop", "loop"), hard_link("b", target))


def test_layers_that_replace_each_others_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes time, and the tree does not grow."""
    monkeypatch.setattr(tree_module, "MAX_ENTRIES", 5)
    (tmp_path / "layer").write_bytes(make_tar([entry("a"), entry("b")]))
    tree = Tree()
    for _ in range(2):
        tree.add_layer(tmp_path / "layer")
    with pytest.raises(BuildError, match="its layers have more than 5 entries"):
        tree.add_layer(tmp_path / "layer")


def test_large_files_are_compared_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of a few MB may have files of several GiB."""

    def whole(_: Slice) -> bytes:
        raise AssertionError

    monkeypatch.setattr(Slice, "read", whole)
    monkeypatch.setattr(tree_module, "PIECE_BYTES", 1000)
    data = bytes(range(256)) * 20
    (tmp_path / "a").write_bytes(b"xx" + data)
    (tmp_path / "b").write_bytes(data[:-1] + b"!")
    whole_file, part = Node("file", data=Slice(tmp_path / "a", 2, len(data))), data[100:1200]
    sparse = Node("file", data=SparseSlice(tmp_path / "a", 102, 3000, ((500, 1100),)))
    assert whole_file.has_data_of(Node("file", data=data))
    assert Node("file", data=data).has_data_of(whole_file)
    assert whole_file.has_data_of(Node("file", data=Slice(tmp_path / "a", 2, len(data))))
    assert not whole_file.has_data_of(Node("file", data=Slice(tmp_path / "b", 0, len(data))))
    assert not whole_file.has_data_of(Node("file", data=data[:-1]))
    assert sparse.has_data_of(Node("file", data=bytes(500) + part + bytes(1400)))
    assert not sparse.has_data_of(Node("file", data=bytes(500) + part + bytes(1399) + b"x"))


def test_a_grafted_tree_stands_below_its_folder() -> None:
    other = tree_of(entry("etc/x", b"1"), link("lib", "/usr/lib"), entry("lib/y", b"2"), hard_link("z", "etc/x"))
    tree = tree_of(entry("root/etc/old", b"0"), entry("usr/lib/mine", b"3"))
    tree.graft(other, "root")
    assert files(tree) == {
        "root/etc/old": b"0",
        "root/etc/x": b"1",
        "root/usr/lib/y": b"2",
        "root/z": b"1",
        "usr/lib/mine": b"3",
    }
    tree.graft(other, "again")
    assert tree.size_bytes == 4, "the same files twice are no more bytes"
    check_order(tree)


def test_a_tree_grafted_on_the_root_goes_through_its_links() -> None:
    tree = tree_of(folder("usr/bin"), link("bin", "usr/bin"))
    tree.graft(tree_of(entry("bin/x", b"1")), "")
    assert files(tree) == {"usr/bin/x": b"1"}


def test_globs() -> None:
    tree = tree_of(*(entry(name) for name in ("usr/bin/a", "usr/bin/b.txt", "usr/b", "c[1]")), link("bin", "usr/bin"))
    assert tree.matching(["usr/bin"]) == ["usr/bin", "usr/bin/a", "usr/bin/b.txt"]
    assert tree.matching(["*.txt", "/usr/bin/"]) == ["usr/bin", "usr/bin/a", "usr/bin/b.txt"]
    assert tree.matching(["bin/*.txt"]) == ["usr/bin/b.txt"], "through the link"
    assert tree.matching(["bin"]) == ["bin"]
    assert tree.matching(["c[[]1]", "c.1.", "nothing"]) == ["c[1]"]
    assert tree.matching([]) == tree.matching([""]) == []
    with pytest.raises(BuildError, match="leaves"):
        tree.matching(["../*"])


@pytest.mark.parametrize(
    ("field", "value"), [("uid", -1), ("gid", 1 << 32), ("device", (0, -1)), ("device", (1 << 32, 0))]
)
def test_numbers_that_no_archive_can_hold(field: str, value: object) -> None:
    with pytest.raises(BuildError, match="cannot be a"):
        Tree().put("x", Node("char", **{field: value}))  # type: ignore[arg-type]


def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_TREE_BYTES", 1000)
    tree = tree_of(entry("a", b"x" * 600))
    tree.put("a", text_file("y" * 900))
    with pytest.raises(BuildError, match="larger than"):
        tree.put("b", text_file("z" * 200))
    with pytest.raises(BuildError, match="larger than"):
        tree_of(entry("a", b"x" * 600), entry("b", b"x" * 600))


def test_folders_and_files_in_turn_take_no_time() -> None:
    """Replacing a folder costs what is in it, and not what there is."""
    tree = tree_of(*(entry(f"f{number}") for number in range(10_000)))
    started = time.process_time()
    for _ in range(10_000):
        tree.put("x", directory())
        tree.put("x", text_file(""))
    assert time.process_time() - started < 4


def written(tree: Tree) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        write_tar(tree, archive, 1_492_533_000)
    return buffer.getvalue()


def test_a_layer_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = tree_of(
        entry("usr/a", b"x" * 2000, mode=0o4755, uid=7, gid=70_000_000),
        hard_link("b", "usr/a"),
        link("c", "/usr/" + "long" * 60),
        entry("d/" * 60 + "deep", b"y"),
        entry("grün", b"z"),
        entry("raw\udcff", b"r"),
        entry("dev/null", kind=tarfile.CHRTYPE, major=1, minor=3, mode=0o666),
        entry("dev/disk", kind=tarfile.BLKTYPE, major=8),
        entry("pipe", kind=tarfile.FIFOTYPE),
        entry("tmp", kind=tarfile.DIRTYPE, mode=0o1777),
    )
    (tmp_path / "layer").write_bytes(written(tree))
    (tmp_path / "empty").touch()
    again = Tree()
    again.add_layer(tmp_path / "empty")
    again.add_layer(tmp_path / "layer")

    def seen(one: Tree) -> dict[str, tuple[object, ...]]:
        return {
            path: (node.kind, node.mode, node.uid, node.gid, node.target, node.device, node.read())
            for path, node in one.items()
        }

    assert seen(again) == seen(tree)
    assert again.nodes["b"] is again.nodes["usr/a"]
    assert again.size_bytes == tree.size_bytes
    assert written(again) == written(tree)


def test_a_tar_archive_does_not_depend_on_the_order_of_making() -> None:
    first, second = Tree(), Tree()
    for path in ("b", "a/c", "a/b", "a"):
        first.put(path, directory())
    for path in ("a", "a/b", "a/c", "b"):
        second.put(path, directory())
    assert written(first) == written(second)


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "", "usr"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)
TARGETS = st.tuples(st.sampled_from(["", "/"]), PATHS).map("".join).filter(bool)
STEPS = st.one_of(
    st.tuples(st.just("file"), PATHS, st.just("")),
    st.tuples(st.just("dir"), PATHS, st.just("")),
    st.tuples(st.just("symlink"), PATHS, TARGETS),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("remove"), PATHS, st.just("")),
)


def follow(tree: Tree, kind: str, path: str, target: str) -> None:
    match kind:
        case "file":
            tree.put(path, text_file(path))
        case "dir":
            tree.put(path, directory())
        case "symlink":
            tree.put(path, symlink(target))
        case "link":
            tree.link(path, target)
        case _:
            tree.remove(path)


def grown(steps: list[tuple[str, str, str]]) -> Tree:
    tree = Tree()
    for step in steps:
        try:
            follow(tree, *step)
        except BuildError:
            continue
    return tree


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_no_path_ever_escapes(steps: list[tuple[str, str, str]]) -> None:
    tree = grown(steps)
    check_order(tree)
    copy = Tree()
    copy.graft(tree, "")
    assert copy.nodes == tree.nodes


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=20), st.lists(PATHS, max_size=5))
def test_paths_lead_where_linux_lets_them(steps: list[tuple[str, str, str]], paths: list[str]) -> None:
    """The same links in a real folder: wherever Linux stays inside it, so does the tree, and at the same place."""
    tree = grown(steps)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for path, node in tree.items():
            if node.kind == "dir":
                (root / path).mkdir()
            elif node.kind == "symlink":
                absolute = node.target.startswith("/")
                (root / path).symlink_to(f"{root}{node.target}" if absolute else node.target)
            else:
                (root / path).touch()
        for path in paths:
            compare(tree, root, path)


def compare(tree: Tree, root: Path, path: str) -> None:
    try:
        found = root / path.strip("/")
        real = Path(os.path.realpath(found, strict=True))
        resolved = tree.resolve(path, whole=True)
    except (OSError, BuildError):
        return
    if real.is_relative_to(root):
        assert root / resolved == real
