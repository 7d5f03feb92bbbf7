"""EC2: a snapshot by EBS's direct API, its image, a one-guest instance."""

import hashlib
import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from bootmatrix.cloud.blocks import Block, Progress, blocks, digest_of
from bootmatrix.cloud.place import KEPT, TAG, State, is_before, run_tag
from bootmatrix.errors import HostError, InfraError
from bootmatrix.model.cluster import CloudMachine, CloudRun

try:
    import boto3
    from botocore import exceptions
    from botocore.config import Config
    from botocore.exceptions import ClientError
except ImportError as missing:
    raise HostError("AWS needs boto3", "pip install 'bootmatrix[aws]'") from missing

GIB = 1 << 30
UPLOADS = 8
SAVE_EVERY = 64
WAIT_S = 900

DENIED = {"UnauthorizedOperation", "AuthFailure", "AccessDeniedException", "UnrecognizedClientException"}
GUESTS_END = "Client.InstanceInitiatedShutdown"
GONE = {"InvalidInstanceID.NotFound", "InvalidSnapshot.NotFound", "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"}
ENDED = {"shutting-down", "terminated", "stopping", "stopped"}
LIVE = ["pending", "running", "shutting-down", "stopping", "stopped"]
SLOW_DOWN = {"mode": "adaptive", "max_attempts": 10}
"""Throttled and lost requests are repeated; boto3 sends each with the same token, so nothing is made twice."""


class AwsPlace:
    """EC2 in one region, with boto3's usual credentials.

    Raises HostError if credentials or a region are missing.
    """

    name = "aws"

    def __init__(self, machine: CloudMachine | None, choice: CloudRun, folder: Path, keep: bool = False) -> None:
        self._machine, self._choice, self._folder = machine, choice, folder
        self.number = run_tag(keep)
        with faults():
            session = boto3.session.Session(region_name=choice.region or None)
            config = Config(retries=SLOW_DOWN, connect_timeout=20, read_timeout=60, max_pool_connections=UPLOADS)
            self._ec2: Any = session.client("ec2", config=config)
            self._ebs: Any = session.client("ebs", config=config)
            if session.get_credentials() is None:
                raise HostError("cannot find credentials for AWS", "Set AWS_PROFILE, or run 'aws configure'.")

    # ---- push -----------------------------------------------------------------------------------------------------

    def push(self, disk: Path, title: str) -> str:
        """Upload a disk's blocks that are not zero, and register an image; return its id.

        Raises InfraError if the cloud fails.
        """
        assert self._machine
        with faults():
            digest = digest_of(disk)
            snapshot = self._upload(disk, digest)
            self._wait_for(snapshot)
            return str(
                self._ec2.register_image(
                    Name=f"{title[:80]}-{digest[:12]}-{secrets.token_hex(4)}",
                    Architecture=self._machine.architecture,
                    BootMode=self._machine.boot_mode,
                    VirtualizationType="hvm",
                    EnaSupport=True,
                    RootDeviceName="/dev/xvda",
                    BlockDeviceMappings=[
                        {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, "DeleteOnTermination": True}}
                    ],
                    TagSpecifications=self._tags("image"),
                )["ImageId"]
            )

    def _upload(self, disk: Path, digest: str) -> str:
        gib = -(-disk.stat().st_size // GIB)
        progress = Progress(self._folder / f"aws-{digest}.json", f"{digest} {self._ec2.meta.region_name} {self.number}")
        if progress.snapshot and not self._is_open(progress.snapshot):
            progress.end()
        if not progress.snapshot:
            started = self._ebs.start_snapshot(
                VolumeSize=gib, ClientToken=secrets.token_hex(16), Timeout=60, Tags=self._tag_list()
            )
            progress.snapshot = str(started["SnapshotId"])
            progress.save()
        total, aggregate = 0, hashlib.sha256()
        with ThreadPoolExecutor(UPLOADS) as pool:
            remaining = blocks(disk)
            for batch in iter(lambda: list(islice(remaining, SAVE_EVERY)), []):
                todo = [block for block in batch if block.index not in progress.done]
                for _ in pool.map(lambda block: self._put(progress.snapshot, block), todo):
                    pass
                progress.done |= {block.index for block in todo}
                progress.save()
                total += len(batch)
                for block in batch:
                    aggregate.update(block.digest)
        self._ebs.complete_snapshot(
            SnapshotId=progress.snapshot,
            ChangedBlocksCount=total,
            Checksum=b64encode(aggregate.digest()).decode(),
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )
        snapshot = progress.snapshot
        progress.end()
        return snapshot

    def _put(self, snapshot: str, block: Block) -> None:
        self._ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=block.index,
            BlockData=block.data,
            DataLength=len(block.data),
            Checksum=block.checksum,
            ChecksumAlgorithm="SHA256",
        )

    def _is_open(self, snapshot: str) -> bool:
        try:
            (status,) = self._ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
        except (ClientError, ValueError):
            return False
        return bool(status["State"] == "pending")

    def _wait_for(self, snapshot: str) -> None:
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            (status,) = self._ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
            if status["State"] == "completed":
                return
            if status["State"] == "error":
                raise InfraError(f"AWS: the snapshot {snapshot} failed: {status.get('StateMessage', '')}")
            time.sleep(2)
        raise InfraError(f"AWS: the snapshot {snapshot} was not completed within {WAIT_S} s")

    # ---- an instance ----------------------------------------------------------------------------------------------

    def start(self, image: str) -> str:
        """Start an instance that is terminated when its guest powers off; return its id.

        Raises InfraError if the cloud has none to give, or fails.
        """
        assert self._machine
        kind = self._choice.instance_type or self._machine.instance_type
        options = {"ClientToken": self.number, "MetadataOptions": {"HttpEndpoint": "disabled"}}
        return self.run_instance(image, kind, spot=self._choice.spot, **options)

    def run_instance(self, image: str, kind: str, *, spot: bool, **options: Any) -> str:
        """Start an instance that is terminated when it turns itself off; return its id."""
        if spot:
            options["InstanceMarketOptions"] = {"MarketType": "spot"}
        with faults():
            started = self._ec2.run_instances(
                ImageId=image,
                InstanceType=kind,
                MinCount=1,
                MaxCount=1,
                InstanceInitiatedShutdownBehavior="terminate",
                TagSpecifications=[*self._tags("instance"), *self._tags("volume")],
                **options,
            )
        return str(started["Instances"][0]["InstanceId"])

    def instance(self, name: str) -> dict[str, Any]:
        """Describe an instance. Raises InfraError if the cloud fails."""
        with faults():
            return dict(self._ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0])

    def console(self, instance: str) -> bytes:
        """Return the last 64 KiB of the console; nothing yet for a new instance."""
        with faults():
            try:
                answer = self._ec2.get_console_output(InstanceId=instance, Latest=True)
            except ClientError as error:
                if error.response["Error"]["Code"] != "UnsupportedOperation":
                    raise
                answer = self._ec2.get_console_output(InstanceId=instance)  # of machines before Nitro
        return str(answer.get("Output") or "").encode("utf-8", "replace")

    def state(self, instance: str) -> State:
        """Return whether the instance has ended, and by whom."""
        description = self.instance(instance)
        if description["State"]["Name"] not in ENDED:
            return State()
        code = str((description.get("StateReason") or {}).get("Code", "unknown"))
        return State("guest" if code == GUESTS_END else "host", code)

    # ---- the end --------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove what this run has made; the instance first, as it uses the image."""
        self._remove(self.number, 0)

    def sweep(self, older_s: float) -> list[str]:
        """Remove what runs of this account and region left, if it is older."""
        return self._remove("*", older_s)

    def _remove(self, number: str, older_s: float) -> list[str]:
        tag = {"Name": f"tag:{TAG}", "Values": [number]}
        before = datetime.now(UTC).timestamp() - older_s
        removed: list[str] = []
        with faults():
            instances = self._instances(tag, before)
            if instances:
                self._ec2.terminate_instances(InstanceIds=instances)
                self._ec2.get_waiter("instance_terminated").wait(InstanceIds=instances)
                removed += instances
            ec2, free = self._ec2, [tag, {"Name": "status", "Values": ["available"]}]
            images = ec2.describe_images(Owners=["self"], Filters=[tag])["Images"]
            snapshots = ec2.describe_snapshots(OwnerIds=["self"], Filters=[tag])["Snapshots"]
            volumes = ec2.describe_volumes(Filters=free)["Volumes"]
            for things, name, made, end in (
                (images, "ImageId", "CreationDate", ec2.deregister_image),
                (snapshots, "SnapshotId", "StartTime", ec2.delete_snapshot),
                (volumes, "VolumeId", "CreateTime", ec2.delete_volume),
            ):
                for thing in things:
                    if _is_old(thing, thing[made], before):
                        self._end(end, **{name: thing[name]})
                        removed.append(thing[name])
        return removed

    def _instances(self, tag: dict[str, Any], before: float) -> list[str]:
        live = [tag, {"Name": "instance-state-name", "Values": LIVE}]
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=live)
        instances = [instance for page in pages for group in page["Reservations"] for instance in group["Instances"]]
        return [instance["InstanceId"] for instance in instances if _is_old(instance, instance["LaunchTime"], before)]

    def _end(self, call: Any, **arguments: str) -> None:
        try:
            call(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] not in GONE:
                raise

    def _tag_list(self) -> list[dict[str, str]]:
        return [{"Key": TAG, "Value": self.number}]

    def _tags(self, kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": self._tag_list()}]


def _is_old(thing: dict[str, Any], made: object, before: float) -> bool:
    """Return whether a thing was made before a time, and not by `push`."""
    is_kept = any(tag["Key"] == TAG and tag["Value"] == KEPT for tag in thing.get("Tags", ()))
    return not is_kept and is_before(made, before)


@contextmanager
def faults() -> Iterator[None]:
    """Translate faults of boto3.

    Raises HostError if credentials are missing or insufficient, InfraError if the cloud fails, or has no room.
    """
    hint = "Set AWS_PROFILE or run 'aws configure'; docs/where-to-run.md lists the permissions."
    try:
        yield
    except (exceptions.NoCredentialsError, exceptions.NoRegionError, exceptions.ProfileNotFound) as error:
        raise HostError(f"AWS: {error}", hint) from error
    except exceptions.ClientError as error:
        code, words = (str(error.response["Error"].get(key, "")) for key in ("Code", "Message"))
        kind = HostError if code in DENIED else InfraError
        raise kind(f"AWS: {error.operation_name}: {code}: {words[:300]}", hint if code in DENIED else "") from error
    except (exceptions.BotoCoreError, OSError) as error:
        raise InfraError(f"AWS does not answer: {str(error)[:300]}") from error
