"""Images and kernels of the store as OCI layouts, as any other tool takes them (opencontainers/image-spec)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from bootmatrix.build.image import make_image
from bootmatrix.build.kernel import unpack_kernel
from bootmatrix.build.materials import Materials, fetch_kernel
from bootmatrix.model import Cell

OCI = "application/vnd.oci.image"
PACKED_AS = 6
"""gzip's level, as engines push layers."""


def write_image(reference: str, cell: Cell, materials: Materials, folder: Path) -> Path:
    """An image that a spec names, as a layout; its folder has the name of the image's."""
    store, profile = materials.builder.store, materials.profiles[cell.arch]
    image = make_image(reference, Path(cell.spec), profile, materials.builder)
    manifest = json.loads(store.verified(image.digest).read_bytes())
    config = json.loads(store.verified(manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    layers = [store.verified(layer).read_bytes() for layer in image.layers]
    return _write(reference.rpartition("/")[2], config["config"], layers, profile.names.oci, folder)


def write_kernel(cell: Cell, materials: Materials, folder: Path) -> Path:
    """A cell's kernel in LinuxKit's form. It has no modules: LinuxKit would pack all of them, and we those in need."""
    kernel, profile = fetch_kernel(cell, materials), materials.profiles[cell.arch]
    assert kernel
    files = unpack_kernel(kernel, materials.builder.archive, materials.builder.store)
    parts = {"kernel": materials.builder.store.verified(files.image).read_bytes(), "kernel.tar": _tar({})}
    return _write("kernel", {}, [_tar(parts)], profile.names.oci, folder)


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _write(name: str, config: dict[str, Any], layers: list[bytes], platform: str, folder: Path) -> Path:
    target = folder / name
    system, architecture = platform.split("/")[:2]
    packed = [gzip.compress(layer, PACKED_AS, mtime=0) for layer in layers]
    root = {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}
    body = json.dumps({"os": system, "architecture": architecture, "config": config, "rootfs": root}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _put(target, body, f"{OCI}.config.v1+json"),
            "layers": [_put(target, layer, f"{OCI}.layer.v1.tar+gzip") for layer in packed],
        }
    ).encode()
    entry = {
        **_put(target, manifest, f"{OCI}.manifest.v1+json"),
        "platform": {"os": system, "architecture": architecture},
        "annotations": {"io.containerd.image.name": f"docker.io/bench/{name}:1"},
    }
    (target / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
    (target / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}), encoding="utf-8")
    return target


def _put(target: Path, data: bytes, media_type: str) -> dict[str, Any]:
    digest = _digest(data)
    path = target / "blobs" / digest.replace(":", "/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
