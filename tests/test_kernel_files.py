"""Kernels come out of their packages: of both layouts, whole or not at all, modules in the order of their needs."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import zstandard

from archive_client import Opener, kernel_source
from bootmatrix.assembly.kernel import package as kernel_module
from bootmatrix.assembly.kernel.kernel_parts import KernelParts
from bootmatrix.assembly.kernel.module_pack import Module, is_module, module_name, pack_module
from bootmatrix.assembly.kernel.package import (
    KernelFiles,
    builtin_modules,
    dtb_artefact,
    every_module_tree,
    kernel_artefact,
    load_order,
    module_tree,
    unpack_kernel,
)
from bootmatrix.errors import BuildError, UntrustedError
from bootmatrix.model import Kernel
from bootmatrix.source.kernel_formats import Member
from bootmatrix.store import Store
from guests import make_machine
from kitchen import RELEASE, Kitchen, add_deb, elf_module, files, module, old_kernel, spoil, stamps
from packages import Deb, entry
from small_archive import SmallArchive

pytest_plugins = ("archive_fixtures", "kitchen")

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "ko": bytes,
    "ko__xz": lzma.compress,
    "ko__zst": zstandard.ZstdCompressor().compress,
}


@dataclass(frozen=True)
class Unpacked:
    """A kernel, its files, and the store that has them."""

    kernel: Kernel
    files: KernelFiles
    store: Store

    def contents(self, *wanted: str) -> dict[str, bytes]:
        """What the guest gets for these modules."""
        modules, _ = load_order(self.files, wanted)
        return files(module_tree(self.kernel, self.files, modules, self.store))


def unpack(kitchen: Kitchen, data: bytes) -> Unpacked:
    kernel, store = kitchen.kernel(data), kitchen.builder.store
    return Unpacked(kernel, unpack_kernel(kernel, kitchen.builder.archive, store), store)


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_a_kernel_in_one_package(kitchen: Kitchen, suffix: str) -> None:
    pack = PACKERS[suffix]
    modules = {"net_core": module(), "virtio-net": module("net-core")}
    found = unpack(kitchen, old_kernel(**{f"{name}__{suffix}": pack(data) for name, data in modules.items()}))
    kernel = kernel_artefact(found.kernel, found.files, make_machine(), found.store)
    assert kernel.file.read_bytes() == f"kernel of {RELEASE}".encode()
    assert (kernel.kind, kernel.name, kernel.size_bytes) == ("kernel", RELEASE, kernel.file.stat().st_size)
    tree = dtb_artefact("board.dtb", found.kernel, found.files, found.store)
    assert (tree.file.read_bytes(), tree.kind, tree.size_bytes) == (b"tree", "dtb", 4)
    below = f"usr/lib/modules/{RELEASE}/kernel"
    assert found.contents("virtio_net", "virtio_pci") == {
        f"{below}/net_core.ko": modules["net_core"],
        f"{below}/virtio-net.ko": modules["virtio-net"],
        "etc/bootmatrix/modules": f"/{below}/net_core.ko\n/{below}/virtio-net.ko\n".encode(),
        f"boot/config-{RELEASE}": b"CONFIG_RD_ZSTD=y\n",
    }


def test_every_module_with_what_modprobe_reads(kitchen: Kitchen) -> None:
    modules = {"a": module("b"), "b": module("c-d"), "c-d": module(), "alone": module("inside")}
    found = unpack(kitchen, old_kernel(**{f"{name}__ko": data for name, data in modules.items()}))
    tree = files(every_module_tree(found.kernel, found.files, found.store))
    below = f"usr/lib/modules/{RELEASE}"
    assert {name: tree.pop(f"{below}/kernel/{name}.ko") for name in modules} == modules
    dep = b"kernel/a.ko: kernel/b.ko kernel/c-d.ko\nkernel/alone.ko:\nkernel/b.ko: kernel/c-d.ko\nkernel/c-d.ko:\n"
    assert tree == {f"{below}/modules.dep": dep}


def test_modules_that_are_listed_in_each_others_lines(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of a chain has all before it in its line of modules.dep."""
    monkeypatch.setattr(kernel_module, "NAMES_LIMIT_BYTES", 10_000)
    chain = {f"m{number}__ko": module(f"m{number - 1}") for number in range(50)}
    found = unpack(kitchen, old_kernel(**chain))
    with pytest.raises(BuildError, match="need more other modules than any kernel's"):
        every_module_tree(found.kernel, found.files, found.store)


def test_names_that_fill_the_memory(kitchen: Kitchen) -> None:
    """A text of one name again and again packs well."""
    names = ",".join(["same"] * 1000)
    found = unpack(kitchen, old_kernel(a__ko=module(names)))
    assert found.files.modules["a"].needs == ("same",)
    with pytest.raises(BuildError, match=r"lib/a.ko has 419\d{4} bytes of \.modinfo"):
        pack_module("lib/a.ko", module("x" * (4 << 20)), 0)
    with pytest.raises(BuildError, match=r"modules\.builtin has 2097153 bytes"):
        builtin_modules(bytes((2 << 20) + 1))


def test_many_names_that_fill_the_memory(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.assembly.kernel.module_pack.NAMES_LIMIT_BYTES", 10_000)
    many = {f"m{number}__ko": module(",".join(f"n{number}_{other}" for other in range(30))) for number in range(9)}
    with pytest.raises(BuildError, match="its modules name more other modules than any kernel's"):
        unpack(kitchen, old_kernel(**many))


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("lib/modules/6.1/modules.builtin", 1 << 30),
        ("boot/config-6.1", 1 << 30),
        ("include/config/kernel.release", 1 << 30),
        ("boot/dtbs/a.dtb", 1 << 30),
    ],
)
def test_small_files_of_a_kernel_that_are_large_are_not_read(path: str, size: int) -> None:
    def read() -> bytes:
        raise AssertionError

    parts = KernelParts({}, ())
    with pytest.raises(BuildError, match=f"{path} has {size} bytes, more than any kernel's"):
        parts.take(Member(path, size, read), None)  # type: ignore[arg-type]


def test_device_trees_that_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.assembly.kernel.kernel_parts.TREES_LIMIT_BYTES", 100)
    parts = KernelParts({}, ())
    for name in "ab":
        parts.take(Member(f"{name}.dtb", 40, bytes), None)  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=r"c\.dtb has 40 bytes"):
        parts.take(Member("c.dtb", 40, bytes), None)  # type: ignore[arg-type]


def test_files_that_may_be_kernels_are_not_unpacked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootmatrix.assembly.kernel.kernel_parts.UNWRAPPED_LIMIT_BYTES", 250_000)
    packed, parts = gzip.compress(bytes(100_000)), KernelParts({}, ())
    for number in range(2):
        parts.take(Member(f"boot/vmlinuz-{number}", len(packed), lambda: packed), None)  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="the files that may be its kernel unpack to more than"):
        parts.take(Member("boot/vmlinuz-2", len(packed), lambda: packed), None)  # type: ignore[arg-type]


def test_a_kernel_in_several_packages(kitchen: Kitchen, small: SmallArchive, opened: Opener) -> None:
    """As they are from 7.x on."""
    release = "7.2.13+deb14-cloud-amd64"
    below = f"./usr/lib/modules/{release}"
    parts = {
        "base": [entry(f"{below}/config", b"CONFIG_Y=y\n"), entry(f"{below}/modules.builtin", b"kernel/a/inside.ko\n")],
        "binary": [entry(f"{below}/vmlinuz", b"the kernel")],
        "modules": [entry(f"{below}/kernel/x/outside.ko.xz", lzma.compress(module("inside")))],
    }
    for part, members in parts.items():
        name = f"linux-{part}-{release}"
        add_deb(small, "new", name, "7.2-1", Deb(name, suffix=".xz").of(*members))
    depends = ", ".join(f"linux-{part}-{release} (= 7.2-1)" for part in parts)
    image = f"linux-image-{release}"
    add_deb(small, "new", image, "7.2-1", Deb(image).of(entry("./usr/share/doc/x")), depends)
    small.publish()
    archive, store = opened(), kitchen.builder.store
    kernel = archive.kernel("7.2", kernel_source(suites="new"), "amd64")
    found = Unpacked(kernel, unpack_kernel(kernel, archive, store), store)
    assert kernel_artefact(kernel, found.files, make_machine(), store).file.read_bytes() == b"the kernel"
    assert found.files.builtin == ("inside",)
    assert set(found.contents("outside")) == {
        f"usr/lib/modules/{release}/kernel/x/outside.ko",
        "etc/bootmatrix/modules",
        f"boot/config-{release}",
    }
    assert found.contents()[f"boot/config-{release}"] == b"CONFIG_Y=y\n"


@pytest.mark.parametrize(
    ("members", "lacking"),
    [
        ([entry(f"boot/config-{RELEASE}")], "kernel"),
        ([entry(f"boot/vmlinuz-{RELEASE}")], "configuration"),
        ([entry("boot/vmlinuz-5.10.0-1"), entry("boot/config-5.10.0-1")], "kernel"),
        ([entry(f"usr/share/vmlinuz-{RELEASE}"), entry(f"usr/share/config-{RELEASE}")], "kernel"),
    ],
)
def test_packages_without_a_kernel(kitchen: Kitchen, members: list[object], lacking: str) -> None:
    data = Deb().of(*members)  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=f"the packages of {RELEASE} hold no {lacking}"):
        unpack(kitchen, data)
    assert not list((kitchen.builder.store.folder / "temp").iterdir())


def test_a_missing_device_tree(kitchen: Kitchen) -> None:
    found = unpack(kitchen, old_kernel())
    with pytest.raises(BuildError, match=r"hold no device tree zynq\n  They hold no similar name\."):
        dtb_artefact("zynq", found.kernel, found.files, found.store)
    with pytest.raises(BuildError, match=r"hold no device tree bored\.dtb\n  They hold board\.dtb\."):
        dtb_artefact("bored.dtb", found.kernel, found.files, found.store)


MANY = bytes(65 << 20)


@pytest.mark.parametrize(
    ("suffix", "data", "why"),
    [
        ("ko__xz", b"no xz", "is damaged"),
        ("ko__zst", b"no zstd", "is damaged"),
        ("ko__xz", lzma.compress(module(size=5000))[:-40], "cut off"),
        ("ko__zst", zstandard.ZstdCompressor().compress(bytes(range(256)) * 9)[:-40], "is damaged"),
        ("ko__xz", lzma.compress(MANY, preset=0), "cut off, or has more than 64 MiB"),
        ("ko__zst", zstandard.ZstdCompressor().compress(MANY), "cut off, or has more than 64 MiB"),
        ("ko__zst", zstandard.ZstdCompressor(write_content_size=False).compress(MANY), "is damaged"),
    ],
)
def test_damaged_and_endless_modules(kitchen: Kitchen, suffix: str, data: bytes, why: str) -> None:
    with pytest.raises(BuildError, match=f"the module .*bad.* {why}"):
        unpack(kitchen, old_kernel(**{f"bad__{suffix}": data}))


def test_a_module_that_would_take_gibibytes_to_unpack(kitchen: Kitchen) -> None:
    greedy = lzma.compress(module(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30, "preset": 0}])
    with pytest.raises(BuildError, match=r"is damaged: .*limit"):
        unpack(kitchen, old_kernel(greedy__ko__xz=greedy))


def test_a_file_larger_than_any_kernels(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_module, "FILE_LIMIT_BYTES", 1000)
    with pytest.raises(BuildError, match="of 1404 bytes, more than any kernel's"):
        unpack(kitchen, old_kernel(large__ko=module(size=1100)))


def test_a_module_outside_of_its_folder(kitchen: Kitchen) -> None:
    data = Deb().of(
        *(entry(f"boot/{name}-{RELEASE}") for name in ("vmlinuz", "config")),
        entry("lib/modules/../../../etc/evil.ko", module()),
    )
    found = unpack(kitchen, data)
    with pytest.raises(BuildError, match="leaves the image's root"):
        found.contents("evil")


@pytest.mark.parametrize("tail", [b"\0depends=", b"\0depends=a,b", b"\0depends=\xff\xfe\0", b"", b"\0depends=\0"])
def test_what_a_module_needs_may_be_nonsense(kitchen: Kitchen, tail: bytes) -> None:
    found = unpack(kitchen, old_kernel(odd__ko=elf_module(tail), torn__ko=elf_module(tail)[:-9]))
    assert found.files.modules["odd"].needs in {(), ("��",)}
    assert found.files.modules["torn"].needs == ()


@pytest.mark.parametrize(
    ("path", "name", "it_is"),
    [
        ("kernel/a-b.ko", "a_b", True),
        ("x/a_b.ko.xz", "a_b", True),
        ("a.ko.zst", "a", True),
        ("a.ko.sig", "a", False),
        ("modules.dep", "modules", False),
    ],
)
def test_names_of_modules(path: str, name: str, it_is: bool) -> None:
    assert module_name(path) == name
    assert is_module(path) == it_is


def known(builtin: str = "", **needs: str) -> KernelFiles:
    digest = "0" * 64
    modules = {
        name: Module(path=f"{name}.ko", offset=0, size=0, needs=tuple(text.split())) for name, text in needs.items()
    }
    return KernelFiles(
        image=digest,
        image_bytes=0,
        config=digest,
        dtbs={},
        pack=digest,
        modules=modules,
        builtin=tuple(builtin.split()),
    )


@pytest.mark.parametrize(
    ("files", "wanted", "order", "missing"),
    [
        (known(a="b c", b="d", c="d", d=""), "a", "d b c a", ""),
        (known(a="b c", b="d", c="d", d=""), "c a c", "d c b a", ""),
        (known(a_b="", c=""), "a-b a_b", "a_b", ""),
        (known("x", a="x"), "x a", "a", ""),
        (known(a="gone"), "a other a other", "a", "gone other"),
        (known(a="b", b="c", c="a"), "b", "a c b", ""),
        (known(a="a"), "a", "a", ""),
        (known(), "", "", ""),
    ],
)
def test_modules_come_after_those_they_need(files: KernelFiles, wanted: str, order: str, missing: str) -> None:
    modules, lacking = load_order(files, tuple(wanted.split()))
    assert [one.path for one in modules] == [f"{name}.ko" for name in order.split()]
    assert lacking == missing.split()


def test_modules_come_after_those_they_want(kitchen: Kitchen) -> None:
    """Soft dependencies are by name or alias; a kernel may lack them, or have several that fit.

    The first line of a section may follow any byte, as that of ext4 does for ARM.
    """
    lines = b"softdep=pre: crypto-sum also-gone x-y post: later\0softdep=pre: a_sum\0depends=jbd2\0"
    asks = elf_module(lines, b"\xb0alias=text\0")
    sums = {name: elf_module(b"alias=crypto-sum\0alias=pci:v*\0license=GPL\0") for name in ("a_sum", "sum_generic")}
    modules = {f"{name}__ko": data for name, data in sums.items()}
    files = unpack(
        kitchen, old_kernel(ext4__ko=asks, jbd2__ko=module(), x_y__ko=module(), later__ko=module(), **modules)
    )
    order, missing = load_order(files.files, ("ext4",))
    names = [one.path.rpartition("/")[2] for one in order]
    assert (names, missing) == (["jbd2.ko", "sum_generic.ko", "x_y.ko", "a_sum.ko", "ext4.ko"], [])


def test_a_second_time_nothing_is_done(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    found = unpack(kitchen, old_kernel(a__ko=module()))
    before = stamps(found.store)

    def never(*_: object) -> None:
        raise AssertionError("a package was fetched though the kernel is unpacked")

    monkeypatch.setattr(kitchen.builder.archive, "fetch", never)
    assert unpack_kernel(found.kernel, kitchen.builder.archive, found.store) == found.files
    assert stamps(found.store) == before


def test_what_the_store_lost_or_has_damaged_is_unpacked_again(kitchen: Kitchen) -> None:
    found = unpack(kitchen, old_kernel(a__ko=module()))
    archive, wanted = kitchen.builder.archive, found.contents("a")
    for digest in (found.files.image, str(found.files.config), found.files.pack, found.files.dtbs["board.dtb"][0]):
        found.store.blob(digest).unlink()
        assert unpack_kernel(found.kernel, archive, found.store) == found.files
        spoil(found.store.blob(digest))
        with pytest.raises(UntrustedError, match="damaged"):
            Store(found.store.folder).verified(digest)
        assert unpack_kernel(found.kernel, archive, found.store) == found.files
        assert replace(found, store=Store(found.store.folder)).contents("a") == wanted
