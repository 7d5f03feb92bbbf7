"""Selection of a kernel's files from everything it comes with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bootmatrix.assembly.kernel.module_pack import ModulePack, is_module
from bootmatrix.assembly.kernel.package import KERNEL_NAMES, builtin_modules
from bootmatrix.assembly.kernel.probe import check_whole, form_of, release_of
from bootmatrix.assembly.kernel.wrappers import describe, start_of, unwrapped
from bootmatrix.errors import BuildError
from bootmatrix.model import KernelForm
from bootmatrix.source.kernel_formats import Member
from bootmatrix.source.kernel_formats.member import FILE_LIMIT_BYTES
from bootmatrix.source.kernel_formats.tree import RELEASE

NAMED = re.compile(rf"(?:^|/)(?:{'|'.join(KERNEL_NAMES)}|bzImage|zImage|Image|kernel)(?:[.-][^/]*)?$")
PLACE = re.compile(r"^(?:[^/]+|(?:.*/)?boot/[^/]+|(?:usr/)?lib/modules/[^/]+/[^/]+)$")
"""Folders in which packages have kernels of any name, such as `image`."""
_CONFIG = re.compile(r"(?:^|/)(?:\.config|config-[^/]+)$|lib/modules/[^/]+/config$")
_MODULE = re.compile(r"(?:^|/)lib/modules/([^/]+)/(.+)$")
TEXT_LIMIT_BYTES, TREE_LIMIT_BYTES, TREES_LIMIT_BYTES = 16 << 20, 16 << 20, 512 << 20
"""Limits of a text such as a configuration, of a device tree, and of all device trees, which are held in memory."""
UNWRAPPED_LIMIT_BYTES = 4 << 30
"""Limit of all that files with a kernel's name or place unpack to."""


@dataclass
class KernelParts:
    """The parts of a kernel collected so far."""

    magic: Mapping[KernelForm, str]
    wanted: tuple[KernelForm, ...]
    images: dict[KernelForm, tuple[str, bytes]] = field(default_factory=dict)
    unnamed: dict[KernelForm, tuple[str, bytes]] = field(default_factory=dict)
    strangers: list[tuple[str, str]] = field(default_factory=list)
    config: bytes | None = None
    dtbs: dict[str, bytes] = field(default_factory=dict)
    builtin: tuple[str, ...] = ()
    releases: list[str] = field(default_factory=list)
    tree_release: str = ""
    _trees_bytes: int = 0
    _unwrapped_bytes: int = 0

    def take(self, member: Member, pack: ModulePack) -> None:
        """Keep a file if it belongs to a kernel."""
        name = member.path.rpartition("/")[2]
        if is_module(name):
            self._take_module(member, pack)
        elif name == "modules.builtin":
            self.builtin = builtin_modules(_read(member, TEXT_LIMIT_BYTES))
        elif _CONFIG.search(member.path):
            self._take_config(member)
        elif member.path.endswith(RELEASE):
            self.tree_release = _read(member, TEXT_LIMIT_BYTES).decode(errors="replace").strip()
        elif name.endswith(".dtb"):
            self.dtbs[name] = _read(member, min(TREE_LIMIT_BYTES, TREES_LIMIT_BYTES - self._trees_bytes))
            self._trees_bytes += member.size_bytes
        elif NAMED.search(member.path) and not self._has_wanted():
            self._take_image(member)
        elif PLACE.search(member.path) and not self._has_wanted():
            self._take_unnamed(member)

    def image(self) -> tuple[KernelForm, str, bytes]:
        """Return the kernel in a form that the architecture's machines boot.

        Raises BuildError if the sources have no such kernel.
        """
        for images in (self.images, self.unnamed):
            for form in self.wanted:
                if form in images:
                    check_whole(images[form][1])
                    return (form, *images[form])
        if self.images:
            form, (path, _) = next(iter(self.images.items()))
            raise BuildError(f"{path} is a {form}, and the machines boot a {' or '.join(self.wanted)}")
        if self.strangers:
            what, hint = self.strangers[0]
            form_hint = (
                what if hint or " is " in what else f"{what} is not a kernel of this architecture by its first bytes"
            )
            raise BuildError(form_hint, hint)
        raise BuildError("it contains no kernel")

    def _has_wanted(self) -> bool:
        return any(form in self.images for form in self.wanted)

    def _take_image(self, member: Member) -> None:
        packed = member.read()
        data = self._unwrapped(packed)
        form = form_of(data, self.magic)
        if form is None:
            what, hint = describe(packed)
            unknown = "not a kernel of this architecture by its first bytes"
            self.strangers.append((f"{member.path} is {what or unknown}", hint))
        else:
            self.images.setdefault(form, (member.path, data))

    def _take_unnamed(self, member: Member) -> None:
        """Take an unnamed file that is a kernel by its bytes and release."""
        if member.size_bytes > FILE_LIMIT_BYTES:
            return
        packed = member.read()
        if form_of(start_of(packed), self.magic) is None:
            return
        data = self._unwrapped(packed)
        form = form_of(data, self.magic)
        if form is not None and release_of(data):
            self.unnamed.setdefault(form, (member.path, data))

    def _unwrapped(self, packed: bytes) -> bytes:
        data = unwrapped(packed)
        if data is not packed:
            self._unwrapped_bytes += len(data)
            if self._unwrapped_bytes > UNWRAPPED_LIMIT_BYTES:
                raise BuildError(
                    f"the files that may be its kernel unpack to more than {UNWRAPPED_LIMIT_BYTES >> 30} GiB"
                )
        return data

    def _take_config(self, member: Member) -> None:
        data = _read(member, TEXT_LIMIT_BYTES)
        if not re.search(rb"^(# )?CONFIG_\w", data, re.MULTILINE):
            raise BuildError(f"{member.path} is not a kernel's configuration: no CONFIG_… line")
        self.config = self.config or data

    def _take_module(self, member: Member, pack: ModulePack) -> None:
        match = _MODULE.search(member.path)
        release, below = (match[1], match[2]) if match else ("", f"kernel/{member.path}")
        if release and release not in (*self.releases, "tree"):
            self.releases.append(release)
        pack.add(f"lib/modules/{{release}}/{below}", member.read())


def _read(member: Member, limit_bytes: int) -> bytes:
    """Read a file that is small in any kernel. Raises BuildError beyond a limit."""
    if member.size_bytes > limit_bytes:
        raise BuildError(f"{member.path} has {member.size_bytes} bytes, more than any kernel's")
    return member.read()
