"""Clouds as places to run a spec: arch/clouds/*.yml."""

from bootmatrix.model.base import Model


class CloudMachine(Model):
    """An architecture in a cloud.

    `format` is that of `bootmatrix build`, `suffix` the end of its file's name; the others are the cloud's own words.
    """

    format: str
    suffix: str
    architecture: str
    boot_mode: str
    instance_type: str


class Cloud(Model):
    """A cloud's machines, by OCI's names of architectures."""

    instances: dict[str, CloudMachine]


class CloudRun(Model):
    """Choices for one run in a cloud. Empty: the cloud's or its file's default."""

    region: str = ""
    project: str = ""
    bucket: str = ""
    instance_type: str = ""
    spot: bool = False
