"""Resource limits of a container: `resources` of LinuxKit's YAML.

The keys are those of opencontainers/runtime-spec, config-linux.md, except for `blockio` and the size of huge pages,
which is a number of bytes.
"""

from pydantic import ConfigDict, Field

from bootmatrix.model.base import Model


class Limits(Model):
    """A group of limits; None means unset."""

    model_config = ConfigDict(populate_by_name=True)


class DeviceRule(Limits):
    """Access (r, w, m) to devices: all of a type, or of a number."""

    allow: bool = False
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


class MemoryLimits(Limits):
    """Bytes; -1 means unlimited."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = Field(default=None, alias="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = Field(default=None, alias="disableOOMKiller")


class Cpu(Limits):
    """CPU limits.

    Shares are relative; quotas, periods and those of realtime are microseconds; cpus and mems are lists like `0-3`.
    """

    shares: int | None = None
    quota: int | None = None
    period: int | None = None
    realtime_runtime: int | None = Field(default=None, alias="realtimeRuntime")
    realtime_period: int | None = Field(default=None, alias="realtimePeriod")
    cpus: str | None = None
    mems: str | None = None


class Pids(Limits):
    """The maximum number of processes and threads."""

    limit: int | None = None


class WeightDevice(Limits):
    """A block device's weight."""

    major: int = 0
    minor: int = 0
    weight: int | None = None
    leaf_weight: int | None = Field(default=None, alias="leafWeight")


class ThrottleDevice(Limits):
    """A block device's rate, in bytes or operations a second."""

    major: int = 0
    minor: int = 0
    rate: int = 0


class BlockIo(Limits):
    """Block I/O limits. Weights are between 10 and 1000."""

    weight: int | None = None
    leaf_weight: int | None = Field(default=None, alias="leafWeight")
    weight_device: tuple[WeightDevice, ...] | None = Field(default=None, alias="weightDevice")
    throttle_read_bps: tuple[ThrottleDevice, ...] | None = Field(default=None, alias="throttleReadBpsDevice")
    throttle_write_bps: tuple[ThrottleDevice, ...] | None = Field(default=None, alias="throttleWriteBpsDevice")
    throttle_read_iops: tuple[ThrottleDevice, ...] | None = Field(default=None, alias="throttleReadIOPSDevice")
    throttle_write_iops: tuple[ThrottleDevice, ...] | None = Field(default=None, alias="throttleWriteIOPSDevice")


class HugepageLimit(Limits):
    """Maximum bytes of huge pages of a size, in bytes."""

    page_size: int = Field(default=0, alias="pageSize")
    limit: int = 0


class InterfacePriority(Limits):
    """A network interface's priority."""

    name: str = ""
    priority: int = 0


class Network(Limits):
    """The class of a container's packets, and priorities by interface."""

    class_id: int | None = Field(default=None, alias="classID")
    priorities: tuple[InterfacePriority, ...] | None = None


class Resources(Limits):
    """All resource limits of a container."""

    devices: tuple[DeviceRule, ...] | None = None
    memory: MemoryLimits | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    blockio: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] | None = Field(default=None, alias="hugepageLimits")
    network: Network | None = None
