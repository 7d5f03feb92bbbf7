"""EC2 instances for workers, removed by their run or turned off alone."""

import secrets
from pathlib import Path
from typing import Any

from bootmatrix.cloud.aws import ENDED, AwsPlace, faults
from bootmatrix.errors import InfraError
from bootmatrix.model.cluster import CloudRun, Ec2


class AwsMachines(AwsPlace):
    """Instances of one run, which have a tag of it. Its methods block."""

    def __init__(self, settings: Ec2, folder: Path) -> None:
        super().__init__(None, CloudRun(region=settings.region), folder)
        self._settings = settings

    def start_machine(self, user_data: str) -> str:
        """Start an instance that is terminated when it turns itself off; return its id.

        Raises InfraError if the cloud has none to give, or fails.
        """
        settings = self._settings
        options: dict[str, Any] = {"SubnetId": settings.subnet} if settings.subnet else {}
        options |= {"SecurityGroupIds": [settings.security_group]} if settings.security_group else {}
        options |= {"ClientToken": secrets.token_hex(16), "UserData": user_data}
        return self.run_instance(settings.image, settings.instance_type, spot=settings.spot, **options)

    def address(self, machine: str) -> str:
        """Return an instance's address, public if possible; empty at first.

        Raises InfraError if it has ended, as a spot machine that was taken back.
        """
        instance = self.instance(machine)
        if instance["State"]["Name"] in ENDED:
            code = (instance.get("StateReason") or {}).get("Code", "unknown")
            raise InfraError(f"{machine} has ended: {code}")
        return str(instance.get("PublicIpAddress") or instance.get("PrivateIpAddress") or "")

    def end_machine(self, machine: str) -> None:
        """Terminate an instance. Raises InfraError if the cloud fails."""
        with faults():
            self._ec2.terminate_instances(InstanceIds=[machine])
