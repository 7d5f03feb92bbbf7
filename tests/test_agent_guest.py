"""Commands in real guests: one guest for all of a test, killed at its end."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import bootmatrix
from bootmatrix.errors import AgentError, GuestFileError
from bootmatrix.model.cell import Network
from bootmatrix.workspace.selection import Selection

pytestmark = pytest.mark.boots
LIMIT_S, BOARD_LIMIT_S = 300, 1200


async def use(guest: bootmatrix.Guest, folder: Path) -> None:
    assert (await guest.run(["sh", "-c", "cat; exit 3"], input=b"\0\xff")).stdout == b"\0\xff"
    data = bytes(range(256)) * 4096
    (folder / "data").write_bytes(data)
    await guest.put(folder / "data", "/tmp")
    await guest.get("/tmp/data", folder / "back")
    assert (folder / "back").read_bytes() == data
    processes = (await guest.run(["ps", "-e", "-o", "comm="])).text.split()
    assert len(processes) == 2, processes  # the first process of its namespace, and ps
    for path in ("/init", "/etc/bootmatrix", "/containers", "/dev/vport0p1", "/dev/hvc0"):
        assert (await guest.run(["test", "-e", path])).status == 1, path
    assert (await guest.run(["sh", "-c", "echo c >/proc/sysrq-trigger"])).status != 0
    with pytest.raises(bootmatrix.CommandError, match="No such file"):
        await guest.run(["/nowhere"])
    with pytest.raises(GuestFileError, match="No such file"):  # which is no end of the guest, to be waited for
        await guest.get("/nowhere", folder)
    with pytest.raises(TimeoutError):
        await guest.run(["sleep", "100"], timeout=1)


async def outlive(guest: bootmatrix.Guest, folder: Path) -> None:
    """All processes but init are killed while the agent is in the middle of a frame: it is started again."""
    await guest.run(["truncate", "-s", "500M", "/tmp/large"])

    async def fetch() -> None:
        with pytest.raises(AgentError, match="started again"):
            await guest.get("/tmp/large", folder / "large")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetch)
        await anyio.sleep(0.3)
        with pytest.raises(AgentError, match="started again"):
            await guest.run(["sh", "-c", "echo i >/proc/sysrq-trigger; sleep 60"], privileged=True)
    assert not (folder / "large").exists()
    assert (await guest.run(["echo", "back"])).text == "back\n"


async def die(guest: bootmatrix.Guest) -> None:
    """The guest's kernel panics under a command."""
    with pytest.raises(AgentError, match="panic"):
        await guest.run(["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 60"], privileged=True)


@pytest.mark.parametrize(
    ("arch", "network"),
    [
        ("x86_64", "guest"),
        # Raspberry Pis have no virtio: the agent's frames go over the serial console.
        *(pytest.param(arch, None, marks=pytest.mark.long) for arch in ("s390x", "armv7/raspi2b")),
        # Its network card is on USB, and appears late.
        pytest.param("aarch64/raspi3b", "guest", marks=pytest.mark.long),
    ],
)
def test_a_guest(arch: str, network: Network | None, tmp_path: Path) -> None:
    """With a network there are a DHCP client and its binds, and so a view of the root for containers."""

    async def run() -> None:
        with anyio.fail_after(BOARD_LIMIT_S if "/" in arch else LIMIT_S):
            async with bootmatrix.Workspace().guest(arch=arch, selection=Selection(network=network)) as guest:
                if network:
                    assert "dhcpcd" in (await guest.run(["cat", "/etc/resolv.conf"])).text
                await use(guest, tmp_path)
                await outlive(guest, tmp_path)
                await die(guest)

    anyio.run(run)
