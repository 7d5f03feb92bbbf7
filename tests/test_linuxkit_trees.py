"""The guest's root is file for file what LinuxKit's own `build --format tar` makes of the same specs and images.

corpus/linuxkit has the specs, the images' configurations, and what LinuxKit (main of March 2026) made of them. What
differs on purpose stands in docs/linuxkit.md and below.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.assembly.initrd.bundle_spec import place
from bootmatrix.assembly.initrd.root import RootParts, linuxkit_tree
from bootmatrix.assembly.tree import Node, Tree
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


MASKED = (
    *(f"/proc/{name}" for name in ("acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "sched_debug")),
    *("/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
SYSCTL = "abi crypto debug dev fs kernel sunrpc user vm xen"
READONLY = tuple(f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger"))


def on_purpose(config: Any) -> Any:
    """LinuxKit's configuration with what is another one here.

    The version, which Debian 12's runtimes have to know; and the kernel's files, which LinuxKit leaves open to root in
    every container, and Docker and containerd close: by them a container without privileges becomes the guest's root.
    """
    if "ociVersion" not in config:
        return config
    linux, mounts, config = dict(config["linux"]), config["mounts"], {**config, "ociVersion": "1.0.2"}
    if "CAP_SYS_ADMIN" not in config["process"].get("capabilities", {}).get("bounding", ()):
        has_sys = any(mount["type"] == "sysfs" for mount in mounts)
        linux.setdefault("maskedPaths", [path for path in MASKED if has_sys or path.startswith("/proc")])
        if "readonlyPaths" not in linux:
            linux["readonlyPaths"] = list(readonly(config))
            mounts = [closed_sys(mount) for mount in mounts]
    return {**config, "linux": linux, "mounts": mounts}


def readonly(config: Any) -> Iterator[str]:
    """Yield what is read-only; of the kernel's settings all but the network's, for whoever configures that."""
    for path in READONLY:
        if path == "/proc/sys" and "CAP_NET_ADMIN" in config["process"].get("capabilities", {}).get("bounding", ()):
            continue
        yield path
    if "CAP_NET_ADMIN" in config["process"].get("capabilities", {}).get("bounding", ()):
        yield from (f"/proc/sys/{name}" for name in SYSCTL.split())
    yield from (mount["destination"] for mount in config["mounts"] if mount["source"].startswith("/sys/"))


def closed_sys(mount: Any) -> Any:
    """Have /sys read-only if it is the usual one."""
    is_usual = mount["destination"] == "/sys" and mount["type"] == "sysfs" and "ro" not in mount["options"]
    return {**mount, "options": [*mount["options"], "ro"]} if is_usual else mount


@pytest.mark.parametrize("name", sorted(MADE))
def test_a_tree(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    images = stored_images(store)
    spec = load_spec(CORPUS / f"{name}.yml")
    tree = linuxkit_tree(RootParts(spec, images, place(spec, images), store))
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
