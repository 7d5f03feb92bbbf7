"""OCI configurations and manifests of images made here (image-spec)."""

import json
import tarfile
from collections.abc import Sequence
from typing import IO, cast

from bootmatrix.assembly.tree import EPOCH_S, Tree, write_tar
from bootmatrix.model import ImageConfig
from bootmatrix.store import Store


def write_manifest(layers: Sequence[str], config: ImageConfig, platform: str, store: Store) -> str:
    """Write configuration and manifest of layers; return the manifest's digest."""
    system, architecture, *variant = platform.split("/")
    image = {
        "created": "2017-04-18T16:30:00Z",
        "architecture": architecture,
        "os": system,
        **({"variant": variant[0]} if variant else {}),
        "config": {
            "Entrypoint": list(config.entrypoint),
            "Cmd": list(config.cmd),
            "Env": list(config.env),
            "WorkingDir": config.workdir,
            "User": config.user,
            "Labels": config.labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}" for layer in layers]},
    }
    body = json.dumps(image, sort_keys=True).encode()
    media_type = "application/vnd.oci.image.layer.v1.tar"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", store.add_bytes(body), len(body)),
        "layers": [descriptor(media_type, layer, store.blob(layer).stat().st_size) for layer in layers],
    }
    return store.add_bytes(json.dumps(manifest, sort_keys=True).encode())


def write_layer(tree: Tree, store: Store) -> tuple[str, int]:
    """Write a tree as a layer into the store; return its digest and bytes."""
    with store.writer() as file:
        target = cast(IO[bytes], file)
        with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
            write_tar(tree, archive, EPOCH_S)
        size = file.tell()
        return file.commit(), size


def descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    """Return an OCI descriptor of a blob; the digest is without its prefix."""
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
