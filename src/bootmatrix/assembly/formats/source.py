"""What the files of all formats are made of, and where what was made is kept."""

from __future__ import annotations

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
"""Of the numbers that identify disks, partitions and file systems; they come from what is in these."""


@dataclass(frozen=True)
class Source:
    """A guest before it has a form. `cmdline` is the kernel's command line, as it stands in every format.

    `described` is what a machine boots, without the initrd.
    """

    assembly: Assembly
    described: Bootable
    cmdline: str

    @cached_property
    def bootable(self) -> Bootable:
        """What a machine boots. Formats without an initrd do not ask for it, nor wait for one."""
        return bootable_of(self.assembly)

    @property
    def store(self) -> Store:
        """Where everything is kept."""
        return self.assembly.builder.store

    @cached_property
    def key(self) -> str:
        """Differs whenever kernel, initrd, command line or a file of the root does."""
        parts = {name: artefact.sha256 for name, artefact in self.described.parts().items()}
        return json.dumps([FORMAT, parts, self.assembly.key, self.assembly.files.image, self.cmdline], sort_keys=True)

    @cached_property
    def id(self) -> str:
        """A SHA-256 of all this, for whatever needs a number of its own."""
        return hashlib.sha256(self.key.encode()).hexdigest()

    def uuid(self, what: str) -> uuid.UUID:
        """The number of a part."""
        return uuid.uuid5(NAMESPACE, f"{what} {self.id}")

    def kept(self, what: str, make: Callable[[Path], None], *inputs: object) -> Path:
        """A file that is made once, in a new folder, and kept; `inputs` are what it is made of besides this source."""
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
        """The kernel as it came, which firmware and boot loaders take, and LinuxKit writes."""
        return self.store.verified(self.assembly.files.image)

    def cmdline_file(self) -> Path:
        """The command line in a file, without a line end, as LinuxKit writes it."""
        return self.store.verified(self.store.add_bytes(self.cmdline.encode()))

    def loader(self, firmware: Firmware) -> Path:
        """A program of the archive by which something starts."""
        return firmware_artefact(firmware, self.assembly.profile, self.assembly.builder).file

    def tree(self) -> Tree:
        """The whole root, with the kernel as it came, and the command line, where LinuxKit has them."""
        tree, kernel = self.assembly.whole(), self.kernel_program()
        tree.put("boot/kernel", Node("file", 0o644, data=Slice(kernel, 0, kernel.stat().st_size)))
        tree.put("boot/cmdline", text_file(self.cmdline))
        if self.assembly.files.ucode:
            digest, size = self.assembly.files.ucode
            tree.put("boot/ucode.cpio", Node("file", 0o644, data=Slice(self.store.verified(digest), 0, size)))
        return tree

    def fits(self, path: Path, limit_bytes: int, what: str) -> int:
        """A file's size.

        Raises:
            BuildError: it is too large for what it goes into.
        """
        size = path.stat().st_size
        if size >= limit_bytes:
            raise BuildError(
                f"{what} takes less than {limit_bytes >> 20} MiB, and here it is {size >> 20} MiB",
                "Put less into the spec's images, and large data on a disk.",
            )
        return size
