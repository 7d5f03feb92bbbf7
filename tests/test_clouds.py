"""Runs in clouds: against moto's AWS and a small Compute Engine. No real cloud is reached from here."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from bootmatrix.cli.main import main
from bootmatrix.cloud import gcp as gcp_module
from bootmatrix.cloud.aws import AwsPlace
from bootmatrix.cloud.blocks import BLOCK_BYTES, Progress, blocks
from bootmatrix.cloud.gcp import GcpPlace
from bootmatrix.cloud.place import CloudPace, ConsoleTail, check_spec
from bootmatrix.cloud.place import run as run_in
from bootmatrix.errors import HostError, InfraError, InputError, UntrustedError
from bootmatrix.load.cluster import load_cloud_machine
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import Bootable, Profile, Verdict
from bootmatrix.model.artefact import ExpectedFiles
from bootmatrix.model.cluster import CloudRun
from cloud_servers import Aws, Gcp, Project, Server, serve

RELEASE = "6.1.0-1-cloud-amd64"
PASSED = (
    f"bootmatrix: ready {RELEASE}\r\nbootmatrix: onboot hello start\r\nhello| hi\r\nbootmatrix: onboot hello exit 0\r\n"
    f"bootmatrix: services up\r\nbootmatrix: shutdown\r\nbootmatrix: end pass {'a' * 64}\r\n"
).encode()
BOOTABLE = Bootable(kernel_release=RELEASE, onboot=("hello",), protocol=2)
PACE = CloudPace(limit_s=20, poll_s=0.05, lag_s=0.3)
PROFILES = load_profiles([CHECKOUT / "arch"])
MACHINE, ARM = PROFILES["x86_64"], PROFILES["aarch64"]
CHOICE = CloudRun(region="eu-west-1")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def aws(moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A region, behind a proxy with consoles."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "eu-west-1"}
    for name, value in {**keys, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    state: dict[str, Any] = {"moto": moto, "started": []}
    with serve(Aws, tmp_path, state) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        state["session"] = boto3.session.Session(region_name="eu-west-1")
        server.instances.console = PASSED
        yield server


@pytest.fixture
def gcp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A project, with a bucket."""
    monkeypatch.setattr(gcp_module, "PAUSE_S", 0.01)
    with serve(Gcp, tmp_path, Project()) as server:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", f"{server.address}/compute/v1")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
        monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "good")
        server.instances.console = PASSED
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A sparse disk with data in its first and its fifth block."""
    path = tmp_path / "small.raw"
    with path.open("wb") as file:
        file.write(b"first")
        file.seek(4 * BLOCK_BYTES + 7)
        file.write(b"fifth")
        file.truncate(8 << 20)
    return path


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "small.img.tar.gz"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("disk.raw")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"bytes"))
    path.write_bytes(gzip.compress(data.getvalue()))
    return path


def aws_place(tmp_path: Path, **more: Any) -> AwsPlace:
    return AwsPlace(load_cloud_machine("aws", MACHINE), CloudRun(region="eu-west-1", **more), tmp_path / "uploads")


def gcp_place(machine: Profile = MACHINE, **more: Any) -> GcpPlace:
    choice = CloudRun(region="z", project="p", bucket="b", **more)
    return GcpPlace(load_cloud_machine("gcp", machine), choice)


def left(server: Server) -> list[str]:
    """Resources of bootmatrix that are left in the region."""
    ec2 = server.state["session"].client("ec2", endpoint_url=server.state["moto"])
    tag = [{"Name": "tag-key", "Values": ["bootmatrix"]}]
    live = {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]}
    return [
        *(one["ImageId"] for one in ec2.describe_images(Owners=["self"], Filters=tag)["Images"]),
        *(one["SnapshotId"] for one in ec2.describe_snapshots(OwnerIds=["self"], Filters=tag)["Snapshots"]),
        *(one["VolumeId"] for one in ec2.describe_volumes(Filters=tag)["Volumes"]),
        *(str(one) for one in ec2.describe_instances(Filters=[*tag, live])["Reservations"]),
    ]


# ---- AWS ----------------------------------------------------------------------------------------------------------


def test_blocks_that_are_not_zero(disk: Path) -> None:
    found = {block.index: block.data.strip(b"\0") for block in blocks(disk)}
    assert found == {0: b"first", 4: b"fifth"}


def test_a_run_on_aws_passes_and_leaves_nothing(aws: Server, disk: Path, tmp_path: Path) -> None:
    aws.faults.throttled = {"PUT /snapshots": 1, "RunInstances": 1}
    judgement, console = run_in(aws_place(tmp_path), disk, BOOTABLE, PACE, print)
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True)
    assert "judged by its console alone" in judgement.reason
    assert console == PASSED
    assert left(aws) == []
    assert sum("PUT /snapshots" in request for request in aws.faults.requests) == 3
    (registered,) = [one for one in aws.faults.requests if "Action=RegisterImage" in one]
    assert "BootMode=legacy-bios" in registered


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        (b"hello exit 0", b"hello exit 3", Verdict.FAIL),
        (b"bootmatrix: end pass", b"end pass", Verdict.FAIL),
        (b"bootmatrix: onboot hello exit 0", b"hello| bootmatrix: onboot hello exit 0", Verdict.FAIL),
        (b"hello| hi", b"[    1.000000] Kernel panic - not syncing: x", Verdict.PANIC),
        (b"hello| hi", b"hello| TAP version 13\r\nhello| 1..1\r\nhello| not ok 1 - t", Verdict.FAIL),
        (RELEASE.encode(), b"6.6.6", Verdict.INFRA_ERROR),
        (PASSED, PASSED + PASSED, Verdict.FAIL),
    ],
)
def test_consoles_that_do_not_pass(
    aws: Server, disk: Path, tmp_path: Path, old: bytes, new: bytes, verdict: Verdict
) -> None:
    aws.instances.console = PASSED.replace(old, new)
    pace = replace(PACE, limit_s=5) if b": end" in old else PACE  # the end never comes
    assert run_in(aws_place(tmp_path), disk, BOOTABLE, pace, print)[0].verdict is verdict
    assert left(aws) == []


def test_an_answer_lost_after_an_instance_was_made(aws: Server, disk: Path, tmp_path: Path) -> None:
    """Moto ignores the token of a repetition, and makes a second instance; both are removed."""
    aws.faults.lost = {"RunInstances": 1}
    assert run_in(aws_place(tmp_path), disk, BOOTABLE, PACE, print)[0].verdict is Verdict.PASS
    tokens = {one.split("ClientToken=")[1].split("&")[0] for one in aws.faults.requests if "RunInstances" in one}
    assert (len(tokens), left(aws)) == (1, [])


def test_an_upload_goes_on(aws: Server, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = aws_place(tmp_path)
    monkeypatch.setattr("bootmatrix.cloud.aws.SAVE_EVERY", 1)
    monkeypatch.setattr(AwsPlace, "_is_open", lambda self, snapshot: True)  # moto completes snapshots at their start
    aws.faults.throttled = {"/blocks/4": 99}
    with monkeypatch.context() as hasty:
        hasty.setattr("bootmatrix.cloud.aws.SLOW_DOWN", {"max_attempts": 1})
        with pytest.raises(InfraError):
            again = aws_place(tmp_path)
            again.number = place.number
            again.push(disk, "x")
    aws.faults.throttled = {}
    aws.faults.requests.clear()
    place.push(disk, "x")
    put = [re.match(r"PUT /snapshots/[^/]+/blocks/(\d+)", one) for one in aws.faults.requests]
    assert [match[1] for match in put if match] == ["4"]
    place.clean()


def test_a_sweep_takes_what_is_left_and_keeps_what_was_pushed(
    aws: Server, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, kept = aws_place(tmp_path), AwsPlace(load_cloud_machine("aws", MACHINE), CHOICE, tmp_path, keep=True)
    image = kept.push(disk, "kept")
    killed.start(killed.push(disk, "x"))
    assert main(["cloud", "sweep", "aws"]) == 0
    assert "0 removed" in capsys.readouterr().out  # it is new
    assert main(["cloud", "sweep", "aws", "--older-than", "1s"]) in {0}
    assert sorted(one[:3] for one in left(aws)) == ["ami", "sna"]
    assert image in left(aws)
    kept.clean()
    assert image in left(aws)  # what was pushed is its owner's to remove
    ec2 = aws.state["session"].client("ec2", endpoint_url=aws.state["moto"])
    ec2.deregister_image(ImageId=image)
    for snapshot in left(aws):
        ec2.delete_snapshot(SnapshotId=snapshot)


def test_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Server) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(HostError, match="cannot find credentials for AWS"):
        aws_place(tmp_path)
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HostError, match="cannot find credentials for GCP"):
        gcp_place()


# ---- GCP ----------------------------------------------------------------------------------------------------------


def test_a_run_on_gcp_passes_and_leaves_nothing(gcp: Server, packed: Path) -> None:
    gcp.faults.throttled = {"POST /compute/v1/projects/p/global/images": 1}
    gcp.faults.lost = {"POST /compute/v1/projects/p/zones/z/instances": 1, "PUT /session": 1}
    judgement, _ = run_in(gcp_place(), packed, BOOTABLE, PACE, print)
    assert (judgement.verdict, judgement.is_weak) == (Verdict.PASS, True), judgement
    assert (gcp.state.images, gcp.state.instances, gcp.state.objects) == ({}, {}, {})


def test_an_image_says_that_it_boots_by_uefi(gcp: Server, packed: Path) -> None:
    for machine in (MACHINE, ARM):
        gcp_place(machine).push(packed, "x")
    made = [(image["architecture"], image["guestOsFeatures"]) for image in gcp.state.images.values()]
    assert made == [("X86_64", []), ("ARM64", [{"type": "UEFI_COMPATIBLE"}])]


def test_a_spot_machine_that_is_taken_back(gcp: Server, packed: Path) -> None:
    gcp.state.preempted, gcp.instances.console = True, PASSED[:60]
    judgement, _ = run_in(gcp_place(spot=True), packed, BOOTABLE, PACE, print)
    assert (judgement.verdict, "preempted" in judgement.reason) == (Verdict.INFRA_ERROR, True)
    assert gcp.state.instances == {}


def test_a_token_that_is_refused(gcp: Server, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "bad")
    with pytest.raises(HostError, match="401"):
        gcp_place().push(packed, "x")


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/session/x", "//127.0.0.2/x", "/session/x", "http://[", "x:y"])
def test_the_token_goes_to_no_other_server(
    gcp: Server, packed: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Gcp._bucket

    def elsewhere(handler: Gcp, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        status, answer, headers = bucket(handler, path, query, body)
        return status, answer, {**headers, "Location": place}

    monkeypatch.setattr(Gcp, "_bucket", elsewhere)
    with pytest.raises(UntrustedError, match="sends the upload to"):
        gcp_place().push(packed, "x")


@pytest.mark.parametrize("answer", [(404, {}, {}), (308, {}, {}), (308, {}, {"Range": "bytes=0-0"})])
def test_an_upload_that_does_not_go_on(
    gcp: Server, packed: Path, answer: tuple[int, Any, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Gcp._bucket
    monkeypatch.setattr(
        Gcp, "_bucket", lambda handler, *words: answer if handler.command == "PUT" else bucket(handler, *words)
    )
    with pytest.raises(InfraError, match=f"does not go on: status {answer[0]}"):
        gcp_place().push(packed, "x")


def test_a_page_in_the_place_of_json(gcp: Server, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gcp, "_compute", lambda *_: (200, "please log in", {}))
    with pytest.raises(InfraError, match=r"127\.0\.0\.1 does not answer in JSON"):
        gcp_place().push(packed, "x")


# ---- both ---------------------------------------------------------------------------------------------------------


def test_pieces_of_a_console_are_joined() -> None:
    tail = ConsoleTail()
    text = b"".join(b"%06d" % number for number in range(200))
    assert (tail.add(text[:100]), tail.add(text[:100]), tail.add(text[:700])) == (text[:100], b"", text[100:700])
    tail.add(text[100:900])
    assert (tail.transcript, tail.is_cut) == (text[:900], False)
    tail.add(b"something else")
    assert tail.is_cut


def test_a_console_that_repeats_its_lines_loses_none() -> None:
    """The end that is known comes again after lines that are new."""
    tail, ticks, fault = ConsoleTail(), b"server| tick\n" * 200, b"[   12.345678] BUG: Bad page state\n"
    tail.add(ticks)
    assert tail.add(ticks[13:] + fault + ticks) == fault + ticks
    assert tail.add(b"\xef\xbf\xbd" + (ticks + fault + ticks)[3:] + b"end\n") == b"end\n", "half of a character"
    assert tail.add(fault + ticks) == b"", "an older answer"
    assert (tail.transcript, tail.is_cut) == (ticks + fault + ticks + b"end\n", False)
    for piece in (b"end", b"abc", b"after a gap\n" + ticks):
        tail.add(piece)
    assert tail.is_cut and tail.transcript.endswith(b"abcafter a gap\n" + ticks)


def test_specs_that_a_console_cannot_carry() -> None:
    with pytest.raises(InputError, match="needs bootmatrix's init"):
        check_spec(Bootable(reports=False))
    with pytest.raises(InputError, match="does not carry files"):
        check_spec(Bootable(results=(ExpectedFiles(container="x", paths=("/a",)),)))


def test_an_architecture_that_a_cloud_lacks() -> None:
    with pytest.raises(InputError, match="aws has no machine for s390x"):
        load_cloud_machine("aws", load_profiles([CHECKOUT / "arch"])["s390x"])


def test_an_upload_that_is_not_ours_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(json.dumps({"key": "other", "snapshot": "snap-1", "done": [1]}))
    assert Progress(tmp_path / "x", "mine").snapshot == ""


@pytest.mark.boots
def test_a_real_guest_behind_the_server(
    aws: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is uploaded by blocks, read back from moto, and booted; its console is what the cloud shows."""
    aws.instances.boots = True
    status = main(
        ["run", "hello", "--on", "aws", "--arch", "x86_64", "--poll", "0.5", "--keep", str(tmp_path / "kept")]
    )
    output = capsys.readouterr().out
    assert status == 0, output
    assert "pass: 1 of 1 results passed on aws (judged by its console alone" in output
    assert b"hello from x86_64" in (tmp_path / "kept/console.log").read_bytes()
    assert left(aws) == []
