"""Files with a digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import field_validator

from bootmatrix.model.base import Board, Model, Name, Sha256
from bootmatrix.model.cell import ConsoleProof
from bootmatrix.model.contents import ImageContents

ArtefactKind = Literal["kernel", "initrd", "dtb", "firmware", "image", "disk", "root", "attached"]


DiskFormat = Literal["raw", "qcow2", "vpc", "vmdk"]
"""QEMU's names of disk image formats; vpc is a VHD."""


class Artefact(Model):
    """A file with its digest; `name` is a reference, or a release."""

    kind: ArtefactKind
    name: str
    path: str
    sha256: Sha256
    size_bytes: int

    @property
    def file(self) -> Path:
        """The path as a Path."""
        return Path(self.path)


class Forkable(Model):
    """The forked form of a bootable: the template's initrd, and each clone's disk."""

    initrd: Artefact
    disk: Artefact


LACKS_MODULE = "the kernel has no module "
LACKS_OPTION = "the kernel's configuration lacks "
"""Prefixes of notes on what the machine or the spec needs, and the kernel lacks. A module may be built in."""


class ExpectedFiles(Model):
    """Files that one container must leave. `section` is empty in old records.

    Containers of different sections may share a name.
    """

    container: str
    paths: tuple[str, ...]
    section: str = ""


AgentMode = Literal["", "serve", "hold", "collect"]
"""Presence of the agent: never; while services run, until the host shuts the guest down; once it has failed; or in the
end, if result files are too large for messages."""


class Bootable(Model):
    """The files and settings that a machine boots.

    A guest made from a spec always has a kernel and an initrd; a prebuilt one may have just a disk.

    `roots` are disks with the roots of large images, named by their serial numbers.

    `cmdline` is the part from the spec and its images. `network`: the spec needs a network card, `outbound` one that
    leads outside. `onboot`,
    `services`, `checks` and `onshutdown` are container names in the order of the spec. The guest must account for
    all of them. `stops` are seconds that services have to end. `results` are the files that it must send, one entry
    per container. `reports` is false for a guest with a foreign init: its `proof` is on its console. `protocol` is the
    version of docs/guest-protocol.md that its init speaks: 1 in records without it. `forkable` is the forked form, or
    `cold_reason` says why there cannot be
    one; both are empty if not requested. `qemu_args` are the user's own arguments, `attached` the files that these
    name. `agent` says when the guest has an agent (docs/agent.md). `privileged` names the containers that may reach
    init or the kernel, each with its means; `self_granted` those to which their image's label gives power or devices;
    `daemons` the init images whose daemons or runtime, which run as init does, are not
    known. `contents` lists the packages and files of each image. `fail_on` is the cell's.
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
    roots: tuple[Artefact, ...] = ()
    cmdline: str = ""
    network: bool = False
    outbound: bool = False
    images: tuple[Artefact, ...] = ()
    contents: tuple[ImageContents, ...] = ()
    onboot: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    checks: dict[str, float] = {}
    stops: dict[str, float] = {}
    onshutdown: tuple[str, ...] = ()
    results: tuple[ExpectedFiles, ...] = ()
    reports: bool = True
    protocol: int = 1
    privileged: tuple[str, ...] = ()
    self_granted: tuple[str, ...] = ()
    daemons: tuple[str, ...] = ()
    proof: ConsoleProof | None = None
    notes: tuple[str, ...] = ()
    forkable: Forkable | None = None
    cold_reason: str = ""
    qemu_args: tuple[str, ...] = ()
    attached: tuple[Artefact, ...] = ()
    agent: AgentMode = ""
    fail_on: tuple[str, ...] = ()

    @field_validator("results", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        """Convert records of earlier versions, which have the paths by container name."""
        if isinstance(value, dict):
            return tuple(ExpectedFiles(container=name, paths=tuple(paths)) for name, paths in value.items())
        if isinstance(value, list):  # of JSON, where a tuple is one
            return tuple(ExpectedFiles.model_validate(entry, strict=False) for entry in value)
        return value

    def parts(self) -> dict[str, Artefact]:
        """The files passed to QEMU, by a short name."""
        single = {
            "kernel": self.kernel,
            "initrd.img": self.initrd,
            "dtb": self.dtb,
            "firmware": self.firmware,
            "disk": self.disk,
        }
        flash = {f"flash{number}": artefact for number, artefact in enumerate(self.flash)}
        roots = {f"root{number}": artefact for number, artefact in enumerate(self.roots)}
        return {name: artefact for name, artefact in {**single, **flash, **roots}.items() if artefact}

    @property
    def reaches_host(self) -> bool:
        """True if QEMU would open files by it, or take arguments of its own."""
        return bool(self.parts() or self.forkable or self.attached or self.qemu_args or self.agent)

    def with_parts(self, parts: Mapping[str, Artefact]) -> Self:
        """Replace files, named as in `parts`."""
        flash = tuple(parts[f"flash{number}"] for number in range(len(self.flash)))
        roots = tuple(parts[f"root{number}"] for number in range(len(self.roots)))
        names = {"kernel": "kernel", "initrd": "initrd.img", "dtb": "dtb", "firmware": "firmware", "disk": "disk"}
        return self.model_copy(
            update={"flash": flash, "roots": roots, **{field: parts.get(name) for field, name in names.items()}}
        )


class BuiltFile(Model):
    """A built file with its output format and its machine."""

    format: str
    machine: Board
    sha256: Sha256
    size_bytes: int


class Built(Model):
    """Manifest of `bootmatrix build`: written files, by name after the prefix.

    `bootable` has no files: it lists what the guest must account for, whichever file it boots from.
    """

    arch: Name
    bootable: Bootable
    files: dict[str, BuiltFile]
