"""A root for places whose kernel runs already: engines and boards."""

import json
import re
import secrets
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.tree import EPOCH_S, Tree, text_file, write_tar
from bootmatrix.assembly.userland import gather_userland
from bootmatrix.errors import InputError
from bootmatrix.model import Bootable, Profile, Spec

CONFIG = re.compile(r"containers/[^/]+/[^/]+/config\.json")


class ForeignPrograms(Exception):
    """A place cannot run programs of the cell's architecture."""


def build_root(spec: Spec, profile: Profile, builder: Builder) -> tuple[Tree, Bootable]:
    """Build a spec's root without a kernel; describe its containers. Blocking.

    Raises InputError if init is not bootmatrix's, and would change the host's devices; or an image's label asks for
    power over the host; BuildError if the spec cannot be built for this architecture; InfraError for a fault of the
    archive, the network or the host.
    """
    if spec.own:
        raise InputError("a prebuilt guest has a kernel of its own, and runs in QEMU alone")
    userland = gather_userland(spec, profile, builder)
    bootable = userland.described()
    if not bootable.reports:
        raise InputError(
            "bootmatrix's init is needed: others mount the devices of the host",
            'Name "@pkg:./images/init" or linuxkit/init under init.',
        )
    if bootable.self_granted:
        raise InputError(
            "by the labels of images, containers would have power over the host: "
            f"{'; '.join(bootable.self_granted)[:400]}",
            "An image cannot grant itself that. If it is intended, set the same keys in the spec.",
        )
    return userland.root(), bootable


def container_configs(tree: Tree) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the OCI configurations of a root's containers, with their paths."""
    for path, node in tree.items():
        if CONFIG.fullmatch(path) and node.kind == "file":
            yield path, json.loads(node.read())


def write_root(tree: Tree, out: BinaryIO, mode: Literal["w", "w:gz"] = "w", *, is_root: bool = True) -> None:
    """Write a root as a tar without devices, which init's runtime makes.

    The control groups of its containers get names of their own, as other runs may share the kernel's; only root makes
    groups (`is_root`).
    """
    kept, number = Tree(), secrets.token_hex(6)
    configs = dict(container_configs(tree)) if is_root else {}
    for path, node in tree.items():
        if path in configs and not (linux := configs[path].setdefault("linux", {})).get("cgroupsPath"):
            linux["cgroupsPath"] = f"/{path.split('/')[2]}.{number}"
            kept.put(path, text_file(json.dumps(configs[path]), node.mode))
        elif node.kind not in {"char", "block"}:
            kept.put(path, node)
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        write_tar(kept, archive, EPOCH_S)
