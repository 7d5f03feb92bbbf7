"""Files with a digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator

from bootmatrix.model.base import Board, Model, Name, Sha256
from bootmatrix.model.cell import ConsoleProof

ArtefactKind = Literal["kernel", "initrd", "dtb", "firmware", "image", "disk", "attached"]


DiskFormat = Literal["raw", "qcow2", "vpc", "vmdk"]
"""QEMU's names of what a disk's file is like; vpc is a VHD."""


class Artefact(Model):
    """A file and what it is made of. `name` is for people: an image's reference, a kernel's release."""

    kind: ArtefactKind
    name: str
    path: str
    sha256: Sha256
    size_bytes: int

    @property
    def file(self) -> Path:
        """The file itself."""
        return Path(self.path)


class Forkable(Model):
    """What a bootable guest becomes when it is forked: the initrd of the guest that is copied, and the copy's disk."""

    initrd: Artefact
    disk: Artefact


LACKS_MODULE = "the kernel has no module "
"""How a note begins that one is missing which the machine or the spec asks for; it may be built in."""


class ExpectedFiles(Model):
    """Files that one container must leave; another one may have the same name. `section` is empty in old records."""

    container: str
    paths: tuple[str, ...]
    section: str = ""


class Bootable(Model):
    """What a machine boots: `cmdline` is the part that the spec and its images ask for.

    A guest that is made of a spec always has a kernel and an initrd; one that is brought along may have just a disk.

    `network` says whether the spec asks for a network card; `onboot`, `services`, `checks` and `onshutdown` are the
    containers' names in the order of the spec, which the guest must account for; `results` are the files that it must
    send, one entry for each container that has some. A guest whose init is not ours `reports` nothing: its `proof` is
    on its console. `protocol` is the version of docs/guest-protocol.md that its init speaks: 1 in records without it.
    `forkable` is what it becomes when forked, or else `cold_reason` says why it cannot; both are empty where nobody
    asked.
    `qemu_args` are arguments of the user's own, `attached` the files that these name. `privileged` names the containers
    that may reach init or the kernel, each with that by which it may.
    """

    kernel: Artefact | None = None
    kernel_release: str = ""
    initrd: Artefact | None = None
    unpacked_bytes: int = 0
    dtb: Artefact | None = None
    firmware: Artefact | None = None
    flash: tuple[Artefact, ...] = ()
    disk: Artefact | None = None
    disk_format: DiskFormat = "raw"
    disk_is_cd: bool = False
    cmdline: str = ""
    network: bool = False
    images: tuple[Artefact, ...] = ()
    onboot: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    checks: dict[str, float] = {}
    onshutdown: tuple[str, ...] = ()
    results: tuple[ExpectedFiles, ...] = ()
    reports: bool = True
    protocol: int = 1
    privileged: tuple[str, ...] = ()
    proof: ConsoleProof | None = None
    notes: tuple[str, ...] = ()
    forkable: Forkable | None = None
    cold_reason: str = ""
    qemu_args: tuple[str, ...] = ()
    attached: tuple[Artefact, ...] = ()

    @field_validator("results", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        """Records of earlier versions have the paths by the container's name."""
        if isinstance(value, dict):
            return tuple(ExpectedFiles(container=name, paths=tuple(paths)) for name, paths in value.items())
        if isinstance(value, list):  # of JSON, where a tuple is one
            return tuple(ExpectedFiles.model_validate(one, strict=False) for one in value)
        return value

    def parts(self) -> dict[str, Artefact]:
        """The files that QEMU is given, by a short name."""
        single = {
            "kernel": self.kernel,
            "initrd.img": self.initrd,
            "dtb": self.dtb,
            "firmware": self.firmware,
            "disk": self.disk,
        }
        flash = {f"flash{number}": artefact for number, artefact in enumerate(self.flash)}
        return {name: artefact for name, artefact in {**single, **flash}.items() if artefact}

    def with_parts(self, parts: Mapping[str, Artefact]) -> Self:
        """The same with other files, named as in `parts`."""
        flash = tuple(parts[f"flash{number}"] for number in range(len(self.flash)))
        names = {"kernel": "kernel", "initrd": "initrd.img", "dtb": "dtb", "firmware": "firmware", "disk": "disk"}
        return self.model_copy(update={"flash": flash, **{field: parts.get(name) for field, name in names.items()}})


class BuiltFile(Model):
    """A file that was built: the format that it belongs to, and the machine that it is for."""

    format: str
    machine: Board
    sha256: Sha256
    size_bytes: int


class Built(Model):
    """What `bootmatrix build` says of the files that it wrote, by what their names have after the prefix.

    `bootable` has no files: it says what the guest has to account for, whichever of them it boots from.
    """

    arch: Name
    bootable: Bootable
    files: dict[str, BuiltFile]
