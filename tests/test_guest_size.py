"""The memory of guests for an image, in which commands install packages and unpack trees."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bootmatrix import Selection, Workspace
from bootmatrix.errors import InputError
from bootmatrix.model import GuestSize
from bootmatrix.workspace.guest_plan import plan_guest, roomy_size
from samples import make_machine

TOOL = Path(sys.executable).with_name("bootmatrix")


@pytest.mark.parametrize(
    ("most_mib", "host_mib", "memory_mib"),
    [
        (65536, 16384, 2048),
        (65536, 4096, 1024),
        (65536, 1024, None),  # the machine's own
        (1024, 16384, 1024),
        (None, 16384, None),  # fixed
    ],
)
def test_a_guest_is_roomy_where_machine_and_host_have_the_memory(
    most_mib: int | None, host_mib: int, memory_mib: int | None
) -> None:
    machine = make_machine().model_copy(update={"max_memory_mib": most_mib})
    assert roomy_size(machine, host_mib) == GuestSize(memory_mib=memory_mib)


@pytest.mark.parametrize(("name", "is_roomy"), [("debian", True), ("hello", False)])
def test_only_guests_for_an_image_are_roomy(name: str, is_roomy: bool) -> None:
    def planned(selection: Selection | None = None) -> GuestSize:
        run, _ = plan_guest(lambda spec: Workspace().plan_single(spec, "x86_64", "6.1", selection), name)
        return run.cells[0].size

    assert bool(planned().memory_mib) is is_roomy
    assert planned(Selection(memory="256M", cpus=2)) == GuestSize(memory_mib=256, cpus=2)


def test_an_archive_or_a_layout_that_a_path_names_is_an_image(tmp_path: Path) -> None:
    def source(name: str) -> str:
        run, _ = plan_guest(lambda spec: Workspace().plan_single(spec, "x86_64", "6.1"), name)
        return run.config.sources.images[0].source

    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("bin"))
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout/oci-layout").touch()
    assert source(f"{tmp_path}/root.tar") == f"tar:{tmp_path}/root.tar"
    assert source(f"{tmp_path}/layout") == f"oci:{tmp_path}/layout"
    with pytest.raises(InputError, match=r"none.tar: No such file or directory"):
        source(f"{tmp_path}/none.tar")


@pytest.mark.boots
def test_a_shell_without_its_outbound_network_is_told(tmp_path: Path) -> None:
    words = [str(TOOL), "run", "hello", "--arch", "x86_64", "--network", "outbound", "--shell"]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    with subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        process.kill()  # it becomes QEMU
    assert said == "note: nothing leads outside from this guest, whose card is that of '--network guest'\n"
