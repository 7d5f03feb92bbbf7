"""Common source of all output formats, with a cache of built files."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bootmatrix.assembly.assemble import Assembly, bootable_of
from bootmatrix.assembly.firmware import firmware_artefact
from bootmatrix.assembly.slices import Slice
from bootmatrix.assembly.tree import Node, Tree, text_file
from bootmatrix.errors import BuildError
from bootmatrix.model import Bootable, Firmware
from bootmatrix.store import Store, sha256_of

FORMAT = "5"
"""Changes whenever a file of any format would."""
NAMESPACE = uuid.UUID("5f0c1a52-6f0b-5c39-9a57-52a8d0c0f3a1")
"""Namespace of the UUIDs of disks, partitions and file systems, which are derived from their contents."""


@dataclass(frozen=True)
class Source:
    """A guest before export. `cmdline` is the kernel's command line in every format.

    `described` is the bootable without its initrd.
    """

    assembly: Assembly
    described: Bootable
    cmdline: str

    @cached_property
    def bootable(self) -> Bootable:
        """The bootable. Formats without an initrd do not build it."""
        return bootable_of(self.assembly)

    @property
    def store(self) -> Store:
        """The store."""
        return self.assembly.builder.store

    @cached_property
    def key(self) -> str:
        """Cache key of kernel, initrd, command line and root."""
        parts = {name: artefact.sha256 for name, artefact in self.described.parts().items()}
        return json.dumps([FORMAT, parts, self.assembly.key, self.assembly.files.image, self.cmdline], sort_keys=True)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the key, from which IDs are derived."""
        return hashlib.sha256(self.key.encode()).hexdigest()

    def uuid(self, part: str) -> uuid.UUID:
        """Return a UUID for a part."""
        return uuid.uuid5(NAMESPACE, f"{part} {self.id}")

    def kept(self, what: str, make: Callable[[Path], None], *inputs: object) -> Path:
        """Build a file in a new folder, cached by `inputs` beside this source."""
        store, key = self.store, json.dumps([what, self.key, *map(str, inputs)])

        def add() -> str:
            with store.workspace() as folder:
                path = folder / "file"
                make(path)
                digest = sha256_of(path)
                store.keep(path, digest)
                return digest

        return store.verified(store.cached_digest("format", key, add))

    def kernel(self) -> Path:
        """The kernel in the form that the machine loads."""
        assert self.described.kernel
        return self.described.kernel.file

    def initrd(self) -> Path:
        """The whole initrd."""
        assert self.bootable.initrd
        return self.bootable.initrd.file

    def kernel_program(self) -> Path:
        """The original kernel, for firmware and boot loaders, as LinuxKit writes it."""
        return self.store.verified(self.assembly.files.image)

    def cmdline_file(self) -> Path:
        """The command line as a file without a line end, as in LinuxKit."""
        return self.store.verified(self.store.add_bytes(self.cmdline.encode()))

    def loader(self, firmware: Firmware) -> Path:
        """Return a boot loader from the archive."""
        return firmware_artefact(firmware, self.assembly.profile, self.assembly.builder).file

    def tree(self) -> Tree:
        """The whole root, with kernel and command line at LinuxKit's paths."""
        tree, kernel = self.assembly.whole(), self.kernel_program()
        tree.put("boot/kernel", Node("file", 0o644, data=Slice(kernel, 0, kernel.stat().st_size)))
        tree.put("boot/cmdline", text_file(self.cmdline))
        if self.assembly.files.ucode:
            digest, size = self.assembly.files.ucode
            tree.put("boot/ucode.cpio", Node("file", 0o644, data=Slice(self.store.verified(digest), 0, size)))
        return tree

    def fits(self, path: Path, limit_bytes: int, what: str) -> int:
        """Return a file's size. Raises BuildError if the file is too large."""
        size = path.stat().st_size
        if size >= limit_bytes:
            raise BuildError(
                f"{what} takes less than {limit_bytes >> 20} MiB, and here it is {size >> 20} MiB",
                "Put less into the spec's images, and large data on a disk.",
            )
        return size
