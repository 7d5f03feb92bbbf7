"""Kernels of the tests' own, and everything that kernels come in: packages, images, folders."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import zstandard

from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import KernelForm, KernelSource, Profile
from bootmatrix.progress import NullObserver
from bootmatrix.source.archive import open_archive
from bootmatrix.source.deb import open_data
from bootmatrix.source.kernel_formats.member import of_tar
from bootmatrix.store import Store, default_cache
from kitchen import module
from packages import Deb, entry, make_tar

PROFILES = load_profiles([CHECKOUT / "arch"])
RELEASE = "6.9.1-mine+"
CONFIG = b"CONFIG_MINE=y\nCONFIG_RD_ZSTD=y\nCONFIG_64K_PAGES=y\n"
Files = Mapping[str, bytes]


def make_kernel(profile: Profile, form: KernelForm | None = None, release: str = RELEASE) -> bytes:
    """Bytes that are known as a kernel of an architecture, and say their release as Linux does."""
    data = bytearray(66000)
    rules = profile.kernel_magic[form] if form else next(iter(profile.kernel_magic.values()))
    for rule in rules.split():
        offset, _, value = rule.partition(":")
        wanted = bytes.fromhex(value.partition("/")[0])
        data[int(offset) : int(offset) + len(wanted)] = wanted
    return bytes(data) + f"Linux version {release} (of the tests)".encode()


def kernel_files(image: bytes, release: str = RELEASE, name: str = "") -> dict[str, bytes]:
    """The files of a kernel's package: `mod_a` needs `mod-b`."""
    below = f"lib/modules/{release}"
    return {
        f"boot/vmlinuz-{name or release}": image,
        f"boot/config-{release}": CONFIG,
        f"boot/System.map-{release}": b"map",
        f"{below}/kernel/drivers/mod_a.ko": module("mod-b"),
        f"{below}/kernel/drivers/mod-b.ko.gz": gzip.compress(module()),
        f"{below}/modules.builtin": b"kernel/fs/inside.ko\n",
    }


def tar(files: Files, tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive."""
    return make_tar((entry(name, data) for name, data in files.items()), tar_format)


def deb(files: Files, folder: Path) -> Path:
    """What `make bindeb-pkg` makes."""
    return _written(folder / "linux-image.deb", Deb("linux-image", suffix=".xz").of_tar(tar(files)))


def rpm(files: Files, folder: Path, pack: Callable[[bytes], bytes] = gzip.compress) -> Path:
    """What `make binrpm-pkg` makes: lead, signature, header, cpio archive."""
    lead = b"\xed\xab\xee\xdb\x03\0" + bytes(90)
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 5) + struct.pack(">IIII", 1000, 6, 0, 1) + b"mine\0"
    padding = bytes(-len(lead + header) % 8)
    return _written(folder / "kernel.rpm", lead + header + padding + header + pack(cpio(files)))


def cpio(files: Files) -> bytes:
    """A newc archive (cpio(5))."""
    data = b""
    for name, content in {**files, "TRAILER!!!": b""}.items():
        path = name.encode() if name == "TRAILER!!!" else f"./{name}".encode()
        numbers = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0)
        data += b"070701" + b"".join(b"%08x" % number for number in numbers) + path + b"\0"
        data += bytes(-len(data) % 4) + content
        data += bytes(-len(data) % 4)
    return data


def apk(files: Files, folder: Path) -> Path:
    """What Alpine's abuild makes: three gzip streams, of which only the last one has a tar archive's end."""
    parts = {".SIGN.RSA.tests": b"signature"}, {".PKGINFO": b"pkgname = linux-mine\n"}
    started = [gzip.compress(tar(part, tarfile.PAX_FORMAT).rstrip(b"\0").ljust(1024, b"\0")) for part in parts]
    return _written(folder / "linux-mine.apk", b"".join(started) + gzip.compress(tar(files, tarfile.PAX_FORMAT)))


def tar_package(files: Files, folder: Path) -> Path:
    """A package as `make tarzst-pkg` writes it."""
    return _written(folder / "linux.tar.zst", zstandard.compress(tar(files)))


def pacman_tar(files: Files, folder: Path) -> Path:
    """A package of pacman's: the kernel is beside its modules."""
    moved = {".PKGINFO": b"pkgname = linux-mine\n", ".MTREE": gzip.compress(b"#mtree\n")}
    for name, data in files.items():
        if name.startswith("boot/vmlinuz"):
            moved[f"usr/lib/modules/{RELEASE}/vmlinuz"] = data
        elif name.startswith("boot/config"):
            moved[f"usr/lib/modules/{RELEASE}/config"] = data
        else:
            moved[name if name.startswith("boot/") else f"usr/{name}"] = data
    return _written(folder / "linux-mine.pkg.tar.zst", zstandard.compress(tar(moved, tarfile.PAX_FORMAT)))


def tuxmake(files: Files, folder: Path) -> Path:
    """The folder that tuxmake leaves."""
    target = folder / "tuxmake"
    target.mkdir()
    image = next(data for name, data in files.items() if "vmlinuz" in name)
    (target / "metadata.json").write_text("{}")
    (target / "config").write_bytes(CONFIG)
    (target / "Image.gz").write_bytes(gzip.compress(image))
    modules = {name: data for name, data in files.items() if name.startswith("lib/")}
    (target / "modules.tar.xz").write_bytes(lzma.compress(tar(modules)))
    return target


def tree(files: Files, folder: Path) -> Path:
    """A build tree after `make`."""
    image = next(data for name, data in files.items() if "vmlinuz" in name)
    made = {
        "arch/mine/boot/Image": image,
        "vmlinux": b"\x7fELF of something else",
        ".config": CONFIG,
        "include/config/kernel.release": f"{RELEASE}\n".encode(),
        "modules.order": b"kernel/drivers/mod_a.ko\ndrivers/mod-b.o\n../../outside.o\ndrivers/gone.o\n",
        "modules.builtin": b"kernel/fs/inside.ko\n",
        "drivers/mod_a.ko": module("mod-b"),
        "drivers/mod-b.ko": module(),
    }
    for name, data in made.items():
        _written(folder / "linux" / name, data)
    return folder / "linux"


def oci_folder(files: Files, folder: Path, platforms: tuple[str, ...] = ("linux/arm64",)) -> Path:
    """LinuxKit's form of a kernel image: /kernel and /kernel.tar in a layer, in an OCI layout."""
    target = folder / "layout"
    image = next(data for name, data in files.items() if "vmlinuz" in name)
    rest = {name: data for name, data in files.items() if not name.startswith("boot/vmlinuz")}
    layer = gzip.compress(tar({"kernel": image, "kernel.tar": tar(rest)}), mtime=0)
    manifest = {"schemaVersion": 2, "config": _blob(target, b"{}"), "layers": [_blob(target, layer)]}
    described = _blob(target, json.dumps(manifest).encode())
    inner = {"manifests": [{**described, "platform": _platform(name)} for name in platforms]}
    index = {"schemaVersion": 2, "manifests": [_blob(target, json.dumps(inner).encode())]}
    _written(target / "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    _written(target / "index.json", json.dumps(index).encode())
    return target


def oci_archive(files: Files, folder: Path) -> Path:
    """The same in a tar archive."""
    layout = oci_folder(files, folder)
    parts = {file.relative_to(layout).as_posix(): file.read_bytes() for file in layout.rglob("*") if file.is_file()}
    return _written(folder / "image.tar", tar(parts))


def docker_archive(files: Files, folder: Path) -> Path:
    """What `docker save` writes."""
    image = next(data for name, data in files.items() if "vmlinuz" in name)
    rest = {name: data for name, data in files.items() if not name.startswith("boot/vmlinuz")}
    manifest = [{"Config": "config.json", "RepoTags": ["mine:1"], "Layers": ["one/layer.tar"]}]
    layer = tar({"kernel": image, "kernel.tar": tar(rest)})
    parts = {"manifest.json": json.dumps(manifest).encode(), "config.json": b"{}", "one/layer.tar": layer}
    return _written(folder / "saved.tar", tar(parts))


def image_alone(files: Files, folder: Path) -> Path:
    """The kernel's own file, compressed."""
    return _written(folder / "Image.gz", gzip.compress(next(data for name, data in files.items() if "vmlinuz" in name)))


def _blob(target: Path, data: bytes) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    _written(target / f"blobs/sha256/{digest}", data)
    return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": "application/octet-stream"}


def _platform(name: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), name.split("/"), strict=False))


def _written(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def members_of(data: bytes) -> list[str]:
    """Names in a tar archive."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def debians_tree(folder: Path) -> Path:
    """Debian's kernel as a build tree, its modules cut down to what the board needs."""
    archive = open_archive(Store(default_cache()), offline=False, lock=None, address=None, progress=NullObserver())
    kernel = archive.kernel("6.1", KernelSource(flavour="cloud-arm64", suites=("bookworm",)), "arm64")
    with open_data(archive.fetch(kernel.packages[0])) as members:
        wanted = {one.path: one.read() for one in of_tar(members) if re.search(r"^boot/|/virtio[^/]*\.ko$", one.path)}
    modules = {path.partition("/kernel/")[2]: data for path, data in wanted.items() if path.endswith(".ko")}
    boot = {path.partition("-")[0]: data for path, data in wanted.items() if path.startswith("boot/")}
    files = {
        "arch/arm64/boot/Image": boot["boot/vmlinuz"],
        ".config": boot["boot/config"],
        "include/config/kernel.release": kernel.release.encode(),
        "modules.order": "".join(f"kernel/{path}\n" for path in modules).encode(),
        **modules,
    }
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder
