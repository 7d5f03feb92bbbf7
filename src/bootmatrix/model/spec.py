"""LinuxKit's YAML: what runs in the guest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.cell import ConsoleProof, ConsoleRule
from bootmatrix.model.resources import Resources

CHECK = "bootmatrix.check"
"""Annotation of a service that decides the cell; its value is the check's time limit, such as `60s`."""
ARCH = "bootmatrix.arch"
"""Annotation: names of architectures, apart by blanks; on all others the whole spec is skipped."""
MODULES = "bootmatrix.modules"
"""Annotation or image label: names of kernel modules that the container needs, apart by blanks."""
CONSOLE = "bootmatrix.console"
"""Annotation: for a spec whose init is not ours, the text that the container prints when all is well."""
NETWORK = "bootmatrix.network"
"""Annotation or image label: `user` gives the guest a network card on QEMU's user-mode network."""
RESULTS = "bootmatrix.results"
"""Annotation: paths in the container, apart by blanks, that the host gets when the container has ended."""

OctalMode = Annotated[str, StringConstraints(pattern=r"^0*[0-7]{1,4}$")]
IdOrName = int | str


class KernelSection(Model):
    """`image` is used by cells whose kernel is called `spec`; `cmdline` is added to the machine's."""

    image: str = ""
    cmdline: str = ""
    binary: str = ""
    tar: str | None = None
    ucode: str | None = None


MOUNT_POINTS = {
    "proc": "/proc",
    "devpts": "/dev/pts",
    "sysfs": "/sys",
    "cgroup": "/sys/fs/cgroup",
    "mqueue": "/dev/mqueue",
}
"""Where a mount of a type goes that names no destination, as in LinuxKit."""


class IdMapping(Model):
    """A range of user or group numbers of a container, and where it begins outside."""

    model_config = ConfigDict(populate_by_name=True)

    host_id: int = Field(default=0, alias="hostID")
    container_id: int = Field(default=0, alias="containerID")
    size: int = 0


class Mount(Model):
    """An OCI mount. What is empty was not given: a type and a destination may follow from each other."""

    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    destination: str = ""
    uid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="uidmappings")
    gid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="gidmappings")

    model_config = ConfigDict(populate_by_name=True)

    @property
    def usual_type(self) -> str:
        """The type, given or as the source or the destination has it; empty if neither says."""
        if self.type:
            return self.type
        return self.source if self.source in MOUNT_POINTS else "tmpfs" if self.destination == "/dev" else ""

    @property
    def usual_destination(self) -> str:
        """The destination, given or as the type has it; empty if neither says."""
        return self.destination or MOUNT_POINTS.get(self.usual_type, "")


class Device(Model):
    """An OCI device node. The path `all` stands for all devices of a type, which the container may then use."""

    path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    mode: str = ""


class Interface(Model):
    """A network interface that is moved into, or made for, a container."""

    name: str = ""
    add: str = ""
    peer: str = ""
    create_in_root: bool = Field(default=False, alias="createInRoot")


class BindNS(Model):
    """Paths that a container's namespaces are kept at."""

    cgroup: str | None = None
    ipc: str | None = None
    mnt: str | None = None
    net: str | None = None
    pid: str | None = None
    user: str | None = None
    uts: str | None = None


class Runtime(Model):
    """What the init does around a container."""

    cgroups: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] | None = None
    mkdir: tuple[str, ...] | None = None
    interfaces: tuple[Interface, ...] | None = None
    bind_ns: BindNS | None = Field(default=None, alias="bindNS")
    namespace: str | None = None


class ContainerSettings(Model):
    """Every field of a container except its name and image; what is None was not said.

    The image label `org.mobyproject.config` holds the same fields as JSON and gives the defaults.
    """

    model_config = ConfigDict(populate_by_name=True)

    capabilities: tuple[str, ...] | None = None
    capabilities_add: tuple[str, ...] | None = Field(default=None, alias="capabilities.add")
    ambient: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] | None = None
    binds: tuple[str, ...] | None = None
    binds_add: tuple[str, ...] | None = Field(default=None, alias="binds.add")
    devices: tuple[Device, ...] | None = None
    tmpfs: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    env: tuple[str, ...] | None = None
    cwd: str | None = None
    net: str | None = None
    pid: str | None = None
    ipc: str | None = None
    uts: str | None = None
    userns: str | None = None
    hostname: str | None = None
    readonly: bool | None = None
    masked_paths: tuple[str, ...] | None = Field(default=None, alias="maskedPaths")
    readonly_paths: tuple[str, ...] | None = Field(default=None, alias="readonlyPaths")
    uid: IdOrName | None = None
    gid: IdOrName | None = None
    additional_gids: tuple[IdOrName, ...] | None = Field(default=None, alias="additionalGids")
    no_new_privileges: bool | None = Field(default=None, alias="noNewPrivileges")
    oom_score_adj: int | None = Field(default=None, alias="oomScoreAdj")
    rootfs_propagation: str | None = Field(default=None, alias="rootfsPropagation")
    cgroups_path: str | None = Field(default=None, alias="cgroupsPath")
    resources: Resources | None = None
    sysctl: dict[str, str] | None = None
    rlimits: tuple[str, ...] | None = None
    uid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="uidMappings")
    gid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="gidMappings")
    annotations: dict[str, str] | None = None
    runtime: Runtime | None = None


class Container(ContainerSettings):
    """A container of onboot, onshutdown or services."""

    name: Name
    image: str

    @property
    def check(self) -> str | None:
        """The time limit of a check; None for what is not one."""
        return (self.annotations or {}).get(CHECK)


class Volume(Model):
    """A folder that containers share by its name: what an image holds, or nothing at first.

    `format` is `filesystem`, the image's files, or `oci`, an OCI layout of the image for `platforms`.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    image: str = ""
    readonly: bool = False
    format: Literal["", "filesystem", "oci"] = ""
    platforms: tuple[str, ...] = ()


class FileEntry(Model):
    """A file, folder or link of the guest's root. `mode` is octal; `source` is a file beside the spec."""

    path: str
    directory: bool = False
    symlink: str = ""
    contents: str | None = None
    source: str = ""
    metadata: str = ""
    optional: bool = False
    mode: OctalMode | None = None
    uid: IdOrName | None = None
    gid: IdOrName | None = None


class PrebuiltGuest(Model):
    """A guest that somebody brings along: what a `*.guest.yml` says.

    Names of files are relative to it, and may hold the profile's names in braces: `out/{arch}-initrd.img`. Without a
    kernel of its own, and with an initrd, it boots on the kernels of the matrix.
    """

    description: str = ""
    kernel: str = ""
    initrd: str = ""
    dtb: str = ""
    disk: str = ""
    cmdline: str = ""
    console: ConsoleRule | None = None
    expect: ConsoleProof | None = Field(default=None, json_schema_extra={"deprecated": True})

    @property
    def proof(self) -> ConsoleProof | None:
        """Console text that proves a pass, if the file names one."""
        return self.console.proof if self.console else self.expect

    @property
    def takes_kernels(self) -> bool:
        """Whether it boots on kernels of the matrix."""
        return bool(self.initrd) and not self.kernel


class Spec(Model):
    """A LinuxKit YAML file. `name` and `path` come from the file; `notes` say what was accepted and not used.

    `own` is what a `*.guest.yml` says, which has nothing of the rest. `asked_by` names, for a spec that is merged, the
    file that asks for an image or a source.
    """

    name: Name
    path: str
    kernel: KernelSection = KernelSection()
    init: tuple[str, ...] = ()
    onboot: tuple[Container, ...] = ()
    onshutdown: tuple[Container, ...] = ()
    services: tuple[Container, ...] = ()
    files: tuple[FileEntry, ...] = ()
    volumes: tuple[Volume, ...] = ()
    notes: tuple[str, ...] = ()
    own: PrebuiltGuest | None = None
    asked_by: Mapping[str, str] = Field({}, exclude=True)

    def asker(self, name: str) -> str:
        """The file that asks for an image or a source."""
        return self.asked_by.get(name, self.path)

    @property
    def containers(self) -> tuple[Container, ...]:
        """All containers, in the order of the sections."""
        return (*self.onboot, *self.services, *self.onshutdown)

    @property
    def checks(self) -> tuple[Container, ...]:
        """Services that decide the cell."""
        return tuple(service for service in self.services if service.check is not None)

    def digest(self) -> str:
        """SHA-256 of what it says: another order of keys, or a comment, changes nothing."""
        value = self.model_dump(mode="json", exclude={"name", "path", "notes"})
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
