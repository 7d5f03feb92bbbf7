"""Specs: LinuxKit's YAML and prebuilt guests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from bootmatrix.model.base import Model, Name
from bootmatrix.model.cell import ConsoleProof, ConsoleRule
from bootmatrix.model.resources import Resources

CHECK = "bootmatrix.check"
"""Annotation of a service that decides the cell; the value is its time limit, such as `60s`."""
ARCH = "bootmatrix.arch"
"""Annotation: architectures, separated by blanks; on others the whole spec is skipped."""
MODULES = "bootmatrix.modules"
"""Annotation or image label: kernel modules that the container needs, separated by blanks."""
CONSOLE = "bootmatrix.console"
"""Annotation for specs with a foreign init: the text that the container prints on a pass."""
NETWORK = "bootmatrix.network"
"""Annotation or image label: `guest`, or `user`, adds a network card on an isolated network. As an annotation also
`outbound`, a network that leads outside, and `none`, which leaves the card out."""
NETWORKS = ("none", "guest", "user", "outbound")
RESOURCES = "bootmatrix.resources"
"""Annotation: memory and CPUs that the guest needs for the container, such as `memory=2G cpus=2`."""
RESULTS = "bootmatrix.results"
"""Annotation: paths in the container, separated by blanks, that are sent to the host when it has ended."""
STOP = "bootmatrix.stop"
"""Annotation of a service: the time that it has to end after SIGTERM, such as `20s`; then it is killed."""
PID1 = "bootmatrix.pid1"
"""Annotation of a service, `true`: its program, such as systemd, is the guest's first process. Init is beside it."""
ANNOTATIONS = (CHECK, ARCH, MODULES, CONSOLE, NETWORK, RESOURCES, RESULTS, STOP, PID1)
PREFIX = "bootmatrix."
"""Prefix of annotations that belong to bootmatrix: no other than ANNOTATIONS may have it."""

OctalMode = Annotated[str, StringConstraints(pattern=r"^0*[0-7]{1,4}$")]
IdOrName = int | str


class KernelSection(Model):
    """Kernel settings; `image` is for kernel `spec`, `cmdline` appended."""

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
"""Default destinations by mount type, as in LinuxKit."""


class IdMapping(Model):
    """A range of user or group IDs of a container, and its start on the host."""

    model_config = ConfigDict(populate_by_name=True)

    host_id: int = Field(default=0, alias="hostID")
    container_id: int = Field(default=0, alias="containerID")
    size: int = 0


class Mount(Model):
    """An OCI mount; type and destination may follow from each other."""

    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    destination: str = ""
    uid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="uidmappings")
    gid_mappings: tuple[IdMapping, ...] | None = Field(default=None, alias="gidmappings")

    model_config = ConfigDict(populate_by_name=True)

    @property
    def usual_type(self) -> str:
        """The type, or the one that the source or destination implies; empty if unknown."""
        if self.type:
            return self.type
        return self.source if self.source in MOUNT_POINTS else "tmpfs" if self.destination == "/dev" else ""

    @property
    def usual_destination(self) -> str:
        """The destination, or the one that the type implies; empty if unknown."""
        return self.destination or MOUNT_POINTS.get(self.usual_type, "")


class Device(Model):
    """An OCI device node. The path `all` allows all devices of a type."""

    path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    mode: str = ""


class Interface(Model):
    """A network interface that is moved into, or created for, a container."""

    name: str = ""
    add: str = ""
    peer: str = ""
    create_in_root: bool = Field(default=False, alias="createInRoot")


class BindNS(Model):
    """Paths at which a container's namespaces are kept."""

    cgroup: str | None = None
    ipc: str | None = None
    mnt: str | None = None
    net: str | None = None
    pid: str | None = None
    user: str | None = None
    uts: str | None = None


class Runtime(Model):
    """Actions of init around a container."""

    cgroups: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] | None = None
    mkdir: tuple[str, ...] | None = None
    interfaces: tuple[Interface, ...] | None = None
    bind_ns: BindNS | None = Field(default=None, alias="bindNS")
    namespace: str | None = None


class ContainerSettings(Model):
    """All fields of a container except its name and image; None means unset.

    The image label `org.mobyproject.config` has the same fields as JSON: the defaults.
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
        """The time limit of a check; None for other containers."""
        return (self.annotations or {}).get(CHECK)


class Volume(Model):
    """A folder shared by containers: an image's files, or empty at first.

    `format` is `filesystem`, the image's files, or `oci`, an OCI layout of the image for `platforms`.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
    image: str = ""
    readonly: bool = False
    format: Literal["", "filesystem", "oci"] = ""
    platforms: tuple[str, ...] = ()


class FileEntry(Model):
    """A file of the guest's root; `mode` is octal, `source` beside the spec."""

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
    """A guest built elsewhere, described by a `*.guest.yml`.

    File names are relative to it and may contain the profile's names in braces: `out/{arch}-initrd.img`. With an
    initrd and without a kernel, it boots on the kernels of the matrix.
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
        """True if it boots on kernels of the matrix."""
        return bool(self.initrd) and not self.kernel


class Spec(Model):
    """A LinuxKit YAML file; `notes` list accepted, unused keys.

    `own` is a prebuilt guest; then all other fields are empty. `asked_by` maps images and sources of a merged spec
    to the files that name them.
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
        """Return the file that names an image or a source."""
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
        """SHA-256 of the content; the order of keys and comments do not matter."""
        value = self.model_dump(mode="json", exclude={"name", "path", "notes"})
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


_NAMES = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""

CAPABILITIES = tuple(f"CAP_{name}" for name in _NAMES.split())
_ENGINES = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID"
    " SYS_CHROOT"
)
ENGINE_CAPABILITIES = tuple(f"CAP_{name}" for name in _ENGINES.split())
"""Capabilities that engines give by default (moby: oci/caps/defaults.go), for which images of registries are made."""
