"""Images and kernels of the store as OCI layouts, as any other tool takes them (opencontainers/image-spec)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from bootmatrix.assembly.build_context import BuildContext, fetch_kernel
from bootmatrix.assembly.image.builder import make_image
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.model import Cell

OCI = "application/vnd.oci.image"
PACKED_AS = 6
"""gzip's level, as engines push layers."""
LARGE_FILE_BYTES = 64 << 20

Json = dict[str, Any]


def write_image(reference: str, cell: Cell, materials: BuildContext, folder: Path) -> Path:
    """An image that a spec names, as a layout; its folder has the name of the image's."""
    store, profile = materials.builder.store, materials.profiles[cell.arch]
    image = make_image(reference, Path(cell.spec), profile, materials.builder)
    manifest = json.loads(store.verified(image.digest).read_bytes())
    config = json.loads(store.verified(manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    layers = [store.verified(layer).read_bytes() for layer in image.layers]
    return _write(reference.rpartition("/")[2], config["config"], layers, profile.names.oci, folder)


def write_kernel(cell: Cell, materials: BuildContext, folder: Path) -> Path:
    """A cell's kernel in LinuxKit's form. It has no modules: LinuxKit would pack all of them, and we those in need."""
    kernel, profile = fetch_kernel(cell, materials), materials.profiles[cell.arch]
    assert kernel
    files = unpack_kernel(kernel, materials.builder.archive, materials.builder.store)
    parts = {"kernel": materials.builder.store.verified(files.image).read_bytes(), "kernel.tar": _tar({})}
    return _write("kernel", {}, [_tar(parts)], profile.names.oci, folder)


def write_large(name: str, size_bytes: int, platform: str, folder: Path) -> Path:
    """An image of one layer, not packed, whose files no program can make smaller; as a layout."""
    plain = folder / f"{name}.layer"
    numbers = random.Random(name)
    with tarfile.open(plain, "w") as archive:
        for number in range(-(-size_bytes // LARGE_FILE_BYTES)):
            member = tarfile.TarInfo(f"data/{number}")
            member.size, member.mode = LARGE_FILE_BYTES, 0o644
            archive.addfile(member, io.BytesIO(numbers.randbytes(LARGE_FILE_BYTES)))
    with plain.open("rb") as file:
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    layer = {"mediaType": f"{OCI}.layer.v1.tar", "digest": digest, "size": plain.stat().st_size}
    blob = _blob(folder / name, digest)
    blob.parent.mkdir(parents=True)
    plain.rename(blob)
    return _write_layout(name, {}, {digest: layer}, platform, folder)


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _write(name: str, config: Json, layers: list[bytes], platform: str, folder: Path) -> Path:
    packed = {_digest(layer): gzip.compress(layer, PACKED_AS, mtime=0) for layer in layers}
    kept = {plain: _put(folder / name, layer, f"{OCI}.layer.v1.tar+gzip") for plain, layer in packed.items()}
    return _write_layout(name, config, kept, platform, folder)


def _write_layout(name: str, config: Json, layers: dict[str, Json], platform: str, folder: Path) -> Path:
    """A layout whose layers stand in it already: their descriptors, by the digests of what they unpack to."""
    target = folder / name
    system, architecture = platform.split("/")[:2]
    root = {"type": "layers", "diff_ids": list(layers)}
    body = json.dumps({"os": system, "architecture": architecture, "config": config, "rootfs": root}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": _put(target, body, f"{OCI}.config.v1+json"),
            "layers": list(layers.values()),
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


def _put(target: Path, data: bytes, media_type: str) -> Json:
    digest = _digest(data)
    path = _blob(target, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _blob(target: Path, digest: str) -> Path:
    return target / "blobs" / digest.replace(":", "/")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
