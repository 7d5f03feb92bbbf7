"""Formats that are archives of the root, or of kernel and initrd."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.assembly.formats import Format
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.image.manifest import descriptor
from bootmatrix.assembly.tree import EPOCH_S, write_tar

CREATED = "2017-04-18T16:30:00Z"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
ENVIRONMENT = "BOOTMATRIX=bootmatrix.channel=console bootmatrix.mode=auto bootmatrix.exit=exit"
"""Tells bootmatrix's init that it is in an engine's container, and that nobody may listen."""
LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"


def root(source: Source) -> Path:
    """Write the whole root, with the kernel and its command line in boot/."""

    def make(path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
            write_tar(source.tree(), archive, EPOCH_S)

    return source.kept("tar", make)


def kernel_initrd(source: Source) -> Path:
    """Write kernel, initrd and command line as one tar archive."""
    members = {"kernel": source.kernel_program(), "initrd.img": source.initrd(), "cmdline": source.cmdline_file()}
    return source.kept("tar-kernel-initrd", lambda path: write_members(path, members.items()))


def write_members(path: Path, members: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write a tar archive of files, by their names in it."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.mode, member.mtime = 0o644, EPOCH_S
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                member.size = file.seek(0, io.SEEK_END)
                file.seek(0)
                archive.addfile(member, file)


def docker(source: Source) -> Path:
    """Write a container image of one layer as an OCI layout for `docker load`.

    The image is that of `docker build` in LinuxKit.
    """
    layer = root(source)
    config = json.dumps(_config(source, layer.name), sort_keys=True).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, _digest(config), len(config)),
        "layers": [descriptor(LAYER, layer.name, layer.stat().st_size)],
    }
    body = json.dumps(manifest, sort_keys=True).encode()
    tag = f"{source.assembly.spec.name.lower()}:latest"
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            descriptor(MANIFEST, _digest(body), len(body)) | {"annotations": {"io.containerd.image.name": tag}}
        ],
    }
    saved = [{"Config": _blob(_digest(config)), "RepoTags": [tag], "Layers": [_blob(layer.name)]}]
    members: list[tuple[str, Path | bytes]] = [
        ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
        ("index.json", json.dumps(index, sort_keys=True).encode()),
        ("manifest.json", json.dumps(saved, sort_keys=True).encode()),
        (_blob(_digest(config)), config),
        (_blob(_digest(body)), body),
        (_blob(layer.name), layer),
    ]
    return source.kept("docker", lambda path: write_members(path, members), tag, ENVIRONMENT)


def _config(source: Source, layer: str) -> dict[str, object]:
    system, architecture, *variant = source.assembly.profile.names.oci.split("/")
    return {
        "created": CREATED,
        "architecture": architecture,
        "os": system,
        **({"variant": variant[0]} if variant else {}),
        "config": {
            "Entrypoint": ["/init"],
            "WorkingDir": "/",
            **({"Env": [ENVIRONMENT]} if source.described.reports else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
    }


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


KERNEL_INITRD = Format(
    "a kernel, an initrd and a command line",
    {"-kernel": Source.kernel, "-cmdline": Source.cmdline_file, "-initrd.img": Source.initrd},
    boots="kernel",
)
TAR_KERNEL_INITRD = Format("these in a tar archive", {"-initrd.tar": kernel_initrd})
TAR = Format("the root as a tar archive, with the kernel in boot/", {".tar": root})
DOCKER = Format("the root as a container image, for docker load", {".docker": docker})
