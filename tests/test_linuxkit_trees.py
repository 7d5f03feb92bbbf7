"""The guest's root is file for file what LinuxKit's own `build --format tar` makes of the same specs and images.

corpus/linuxkit has the specs, the images' configurations, and what LinuxKit (main of March 2026) made of them. What
differs on purpose stands in docs/linuxkit.md and below.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.build.guest import linuxkit_tree
from bootmatrix.build.placed import place
from bootmatrix.build.tree import Node, Tree
from bootmatrix.load.merge import load_spec
from bootmatrix.model import ImageConfig, StoredImage
from bootmatrix.store import Store

CORPUS = Path(__file__).parent / "corpus" / "linuxkit"
MADE: dict[str, Any] = json.loads((CORPUS / "trees.json").read_text(encoding="utf-8"))
IMAGES: dict[str, Any] = json.loads((CORPUS / "images.json").read_text(encoding="utf-8"))
OURS = "etc/bootmatrix"


def layer() -> bytes:
    """The files of every image of the corpus."""
    files = (
        ("bin", None, 0o755),
        ("bin/run", b"run\n", 0o755),
        ("etc", None, 0o755),
        ("etc/hosts", b"x\n", 0o640),
        ("srv", None, 0o700),
        ("srv/file", b"text\n", 0o600),
    )
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, contents, mode in files:
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(contents or b"")
            member.type = tarfile.DIRTYPE if contents is None else tarfile.REGTYPE
            archive.addfile(member, io.BytesIO(contents or b""))
        member = tarfile.TarInfo("bin/link")
        member.type, member.linkname = tarfile.SYMTYPE, "run"
        archive.addfile(member)
    return data.getvalue()


def stored_images(store: Store) -> dict[str, StoredImage]:
    digest = store.add_bytes(layer())
    return {
        name: StoredImage(
            reference=name,
            digest=hashlib.sha256(name.encode()).hexdigest(),
            layers=(digest,),
            config=ImageConfig(
                entrypoint=tuple(config.get("Entrypoint", ())),
                cmd=tuple(config.get("Cmd", ())),
                env=tuple(config.get("Env", ())),
                workdir=config.get("WorkingDir", "/"),
                user=config.get("User", ""),
                labels=config.get("Labels", {}),
            ),
            size_bytes=1,
        )
        for name, config in IMAGES.items()
    }


def described(node: Node) -> list[Any]:
    """Kind, mode, owner, group, and target or digest; links have no mode that anybody sees."""
    digest = hashlib.sha256(node.read()).hexdigest()[:16] if node.kind == "file" else ""
    return [node.kind, "" if node.kind == "symlink" else f"{node.mode:o}", node.uid, node.gid, node.target or digest]


def files_of(tree: Tree) -> dict[str, list[Any]]:
    return {path: described(node) for path, node in tree.nodes.items() if not path.startswith(OURS)}


def without_links_modes(files: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {path: [one[0], "" if one[0] == "symlink" else one[1], *one[2:]] for path, one in files.items()}


def on_purpose(config: Any) -> Any:
    """LinuxKit's configuration with what is another one here: the version, which Debian 12's runtimes have to know."""
    return {**config, "ociVersion": "1.0.2"} if "ociVersion" in config else config


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_tree(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    images = stored_images(store)
    spec = load_spec(CORPUS / f"{name}.yml")
    tree = linuxkit_tree(spec, images, place(spec, images), store)
    found = {path: json.loads(tree.nodes[path].read()) for path in MADE[name]["json"]}
    assert found == {path: on_purpose(config) for path, config in MADE[name]["json"].items()}
    files = {path: one for path, one in files_of(tree).items() if path not in found}
    # The folder of what our init has to know is there where LinuxKit has none.
    if "etc" not in MADE[name]["files"]:
        files.pop("etc", None)
    assert files == without_links_modes(MADE[name]["files"])
    assert {path for path in tree.nodes if path.endswith(("/config.json", "/runtime.json"))} == set(found)


def test_the_corpus_has_every_spec() -> None:
    assert sorted(MADE) == sorted(path.stem for path in CORPUS.glob("*.yml"))
    assert len(MADE) >= 30
