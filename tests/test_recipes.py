"""What a recipe puts into an image besides packages, and what it leaves out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.assembly.image.builder import image_tree
from bootmatrix.errors import BuildError, InputError
from bootmatrix.model import ImageRecipe
from kitchen import Kitchen, files, of_recipe
from packages import Deb, entry

pytest_plugins = ("archive_fixtures", "kitchen")


def test_files_of_a_recipe(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    (where / "program").write_text("#!/bin/sh\n")
    (where / "program").chmod(0o700)
    (where / "plain").write_text("plain")
    (where / "plain").chmod(0o600)
    tree = kitchen.tree(
        files=[
            {"path": "usr/bin/program", "source": "program"},
            {"path": "plain", "source": "./plain"},
            {"path": "set", "source": "plain", "mode": "4750"},
            {"path": "etc/text", "contents": "a\n"},
            {"path": "tmp", "directory": True, "mode": "1777"},
            {"path": "etc/link", "symlink": "../usr"},
            {"path": "etc/link/through", "contents": "b"},
            {"path": "all", "concat": ["etc/t*", "usr/th*"], "mode": "0600"},
        ]
    )
    described = {path: (node.kind, oct(node.mode), node.target, node.read()) for path, node in tree.items()}
    assert described == {
        "all": ("file", "0o600", "", b"a\nb"),
        "etc": ("dir", "0o755", "", b""),
        "etc/link": ("symlink", "0o777", "../usr", b""),
        "etc/text": ("file", "0o644", "", b"a\n"),
        "plain": ("file", "0o644", "", b"plain"),
        "bin": ("symlink", "0o777", "usr/bin", b""),
        "set": ("file", "0o4750", "", b"plain"),
        "tmp": ("dir", "0o1777", "", b""),
        "usr": ("dir", "0o755", "", b""),
        "usr/bin": ("dir", "0o755", "", b""),
        "usr/bin/program": ("file", "0o755", "", b"#!/bin/sh\n"),
        "usr/through": ("file", "0o644", "", b"b"),
    }


def test_a_folder_as_source(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    (where / "tree/empty").mkdir(parents=True)
    (where / "tree/program").write_text("x")
    (where / "tree/program").chmod(0o755)
    (where / "tree/link").symlink_to("/etc/passwd")
    os.mkfifo(where / "tree/pipe")
    fields = [{"path": "srv", "source": "tree"}, {"path": "none", "source": "tree/empty"}]
    tree = kitchen.tree(files=fields)
    assert tree.nodes["srv/link"].target == "/etc/passwd"
    assert tree.nodes["srv/program"].mode == 0o755
    assert tree.nodes["srv/empty"].kind == tree.nodes["none"].kind == "dir"
    assert "srv/pipe" not in tree.nodes
    fields[0]["mode"] = "0600"
    assert kitchen.tree(files=fields).nodes["srv/program"].mode == 0o600


@pytest.mark.parametrize("kind", ["file", "link"])
def test_one_name_is_not_two_files(kitchen: Kitchen, kind: str) -> None:
    """Another checkout's image, from the cache, would lack one of them."""
    fields = {"files": [{"path": "srv", "source": "tests"}]}
    tests = kitchen.recipe("mine", **fields) / "tests"
    tests.mkdir()
    line = f"{hashlib.sha256(b'exit 1').hexdigest()} 0"
    odd = tests / (f"10-fails {line}\n20-passes" if kind == "file" else "00-link")
    if kind == "file":
        odd.write_text("exit 0")
    else:
        odd.symlink_to(f"x\n10-fails {line}")
    first = kitchen.make()
    odd.unlink()
    (tests / "10-fails").write_text("exit 1")
    (tests / "20-passes").write_text("exit 0") if kind == "file" else (tests / "00-link").symlink_to("x")
    assert "srv/10-fails" in kitchen.tree().nodes
    assert kitchen.make().contents != first.contents


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("../../spec.yml", "outside the recipe's folder"),
        ("/etc/passwd", "outside the recipe's folder"),
        ("out", "outside the recipe's folder"),
        ("out/x", "outside the recipe's folder"),
        ("none", "file not found"),
        ("pipe", "file not found"),
    ],
)
@pytest.mark.parametrize("raw", [True, False])
def test_sources_that_are_refused(kitchen: Kitchen, source: str, why: str, raw: bool) -> None:
    """Also when the recipe never saw the loader's checks, or changed since."""
    (kitchen.folder / "spec.yml").write_text("")
    fields = {"files": [{"path": "x", "source": source}]}
    where = kitchen.recipe("mine", **fields)
    (where / "out").symlink_to("../..")
    os.mkfifo(where / "pipe")
    if raw:
        builder = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe.model_validate_json(json.dumps(fields))))
        kitchen = replace(kitchen, builder=builder)
        with pytest.raises(BuildError, match=why):
            kitchen.make()
    elif source != "pipe":
        with pytest.raises(InputError, match=r"build\.yml:1: "):
            kitchen.make()


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/"])
def test_files_outside_of_the_image(kitchen: Kitchen, path: str) -> None:
    fields = {"files": [{"path": path, "contents": "x"}]}
    kitchen.recipe("mine", **fields)
    builder = replace(kitchen.builder, load_recipe=of_recipe(ImageRecipe.model_validate_json(json.dumps(fields))))
    with pytest.raises(BuildError, match="root"):
        replace(kitchen, builder=builder).make()


def test_a_file_that_says_nothing(kitchen: Kitchen) -> None:
    kitchen.recipe("mine")
    recipe = ImageRecipe.model_validate_json('{"files": [{"path": "x"}]}')
    with pytest.raises(BuildError, match="the file x has no content"):
        replace(kitchen, builder=replace(kitchen.builder, load_recipe=of_recipe(recipe))).make()


def test_a_concat_of_too_much(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.assembly.image.recipe.CONCAT_LIMIT_BYTES", 5)
    with pytest.raises(BuildError, match="all joins 6 bytes, more than"):
        kitchen.make(files=[{"path": "one", "contents": "123456"}, {"path": "all", "concat": ["one"]}])


def test_a_concat_that_names_nothing(kitchen: Kitchen) -> None:
    with pytest.raises(BuildError, match=r"joins etc/\*\.crt, which no file of the image matches"):
        kitchen.make(files=[{"path": "all", "concat": ["etc/*.crt"]}])


def test_what_no_guest_needs_is_left_out_unless_kept(kitchen: Kitchen) -> None:
    names = [
        "usr/share/doc/a/x",
        "usr/share/doc/a/y",
        "usr/share/man/m",
        "etc/cron.daily/c",
        "usr/share/a",
        "usr/lib/z",
    ]
    path = kitchen.deb("mine.deb", Deb().of(*(entry(name) for name in names)))
    assert set(files(kitchen.tree(debs=[path]))) == {"usr/share/a", "usr/lib/z"}
    tree = kitchen.tree(debs=[path], keep=["usr/share/doc/*/x"], drop=["usr/share/a", "lib/*"])
    assert set(files(tree)) == {"usr/share/doc/a/x"}
    assert "usr/share/man" not in tree.nodes
    assert "lib" not in tree.nodes
    assert set(files(kitchen.tree(debs=[path], keep=["usr/share/doc"], drop=["usr/*", "etc"]))) == {
        "usr/share/doc/a/x",
        "usr/share/doc/a/y",
    }


@pytest.mark.parametrize("source", ["n" * 300, "loop", "a\0b"])
def test_a_source_that_cannot_be_read(kitchen: Kitchen, source: str) -> None:
    """What reading may meet, short of a file that only others may read: root reads everything."""
    (kitchen.recipe("mine") / "loop").symlink_to("loop")
    recipe = ImageRecipe.model_validate_json(json.dumps({"files": [{"path": "x", "source": source}]}))
    with pytest.raises(BuildError, match=r"cannot be read|there is no file"):
        replace(kitchen, builder=replace(kitchen.builder, load_recipe=of_recipe(recipe))).make()


def test_a_source_for_each_architecture(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    (where / "bin").mkdir()
    for name in ("amd64", "arm64"):
        (where / "bin" / name).write_text(name)
    fields = [{"path": "init", "source": "bin/{debian_arch}"}, {"path": "plain", "source": "bin/amd64"}]
    for arch, name in (("x86_64", "amd64"), ("aarch64", "arm64")):
        tree = image_tree(kitchen.make(arch=arch, files=fields), kitchen.builder.store)
        assert (tree.nodes["init"].read(), tree.nodes["plain"].read()) == (name.encode(), b"amd64")
    with pytest.raises(BuildError, match=r"file not found: .*/bin/armhf"):
        kitchen.make(arch="armv7", files=fields)


def link(folder: Path, name: str, *libraries: Path, shared: bool = True) -> Path:
    """Compile a library, or a program, that links others."""
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{name}"] if shared else []
    source = "int nothing;" if shared else "int main(void) { return 0; }"
    words = [
        "gcc",
        "-Wl,--no-as-needed",
        *flags,
        "-x",
        "c",
        "-",
        "-x",
        "none",
        *map(str, libraries),
        "-o",
        str(folder / name),
    ]
    subprocess.run(words, input=source, text=True, check=True)
    return folder / name


def test_libraries_that_no_program_links_are_left_out(kitchen: Kitchen) -> None:
    where = kitchen.recipe("mine")
    second = link(where, "libsecond.so.1")
    first = link(where, "libfirst.so.1", second)
    link(where, "libunused.so.1", link(where, "libbelow.so.1"))
    link(where, "program", first, shared=False)
    (where / "libbroken.so").write_bytes(b"\x7fELF, and no more")
    named = ("libfirst.so.1", "libunused.so.1", "libbelow.so.1", "libbroken.so", "program")
    copies = [
        *({"path": f"usr/lib/{name}", "source": name, "mode": "0644"} for name in named if name != "program"),
        {"path": "usr/lib/far/libsecond.so.1.2", "source": "libsecond.so.1", "mode": "0644"},
        {"path": "usr/lib/libsecond.so.1", "symlink": "far/libsecond.so.1.2"},
        {"path": "usr/bin/program", "source": "program", "mode": "0755"},
    ]
    tree = kitchen.tree(files=copies, drop_unused_libraries=True, keep=["usr/lib/libbelow*"])
    kept = {path for path in tree.nodes if path.startswith("usr/") and tree.nodes[path].kind != "dir"}
    used = {"usr/lib/libfirst.so.1", "usr/lib/libsecond.so.1", "usr/lib/far/libsecond.so.1.2", "usr/bin/program"}
    assert kept == {*used, "usr/lib/libbelow.so.1"}
    assert len(files(kitchen.tree(files=copies))) == len(copies) - 1
