"""The user tier: programs on the host's kernel, by qemu-user."""

from typing import Literal

from bootmatrix.model.base import Model

UserRole = Literal["onboot", "service", "check", "onshutdown"]


class UserBind(Model):
    """A bind of a container. `source` is a path of the guest's tree."""

    source: str
    destination: str
    is_readonly: bool = False


class UserContainer(Model):
    """A container of the user tier.

    `root` is its root in the guest's tree. `capabilities` hold in the container's own namespaces only.
    `limit_s` limits a check or an onboot container.
    """

    role: UserRole
    name: str
    root: str
    arguments: tuple[str, ...]
    environment: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    binds: tuple[UserBind, ...] = ()
    tmpfs: tuple[str, ...] = ()
    is_readonly: bool = False
    capabilities: tuple[str, ...] = ()
    has_network: bool = True
    limit_s: float = 60


class UserEnd(Model):
    """The end of a container; `was_stopped` if it ran until all were stopped."""

    number: int
    status: int
    was_stopped: bool = False


class UserOutcome(Model):
    """All observations of a run in the user tier.

    `emulator` is the program, empty if the host's processor runs these programs itself. `fault` is the reason why the
    containers could not be started. `missing_calls` are numbers of system calls that the emulator lacks, by
    container. `is_late`: it was stopped by the limit of all. `finished`: the last line of the account is there.
    """

    emulator: str
    kernel_release: str
    started: tuple[int, ...] = ()
    ends: tuple[UserEnd, ...] = ()
    missing_calls: dict[int, tuple[int, ...]] = {}
    fault: str = ""
    is_late: bool = False
    finished: bool = False
    wall_s: float = 0
