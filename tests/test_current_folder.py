"""The current folder may be a checkout of somebody else: nothing in it runs on the host, or in the place of a guest's
firmware."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.cli.exec import kernel_files
from bootmatrix.cli.matrix import rest_of_newest
from bootmatrix.cli.options import results_folder
from bootmatrix.errors import FileError, HostError, InputError
from bootmatrix.load.catalogue import load_catalogues
from bootmatrix.load.cluster import load_cloud_machine
from bootmatrix.load.data_paths import CHECKOUT, PACKAGE, arch_folders
from bootmatrix.load.kernels import kernels_file, load_custom_kernels
from bootmatrix.load.profile import load_profile, load_profiles
from bootmatrix.load.registries import load_registries, registries_file
from bootmatrix.model import Plan, Run, RunRequest
from bootmatrix.model.run_config import RunConfig, SourceConfig
from bootmatrix.qemu import sandbox
from bootmatrix.runs.run_store import STARTED_FILE
from bootmatrix.workspace import kept_server
from bootmatrix.workspace.finished import RunOptions
from bootmatrix.workspace.kept_client import guests_folder, key_of
from bootmatrix.workspace.kept_server import KeptSettings
from bootmatrix.workspace.planned_run import PlannedRun, check_tiers, load_resumable, resume_command
from bootmatrix.workspace.run import begin
from bootmatrix.workspace.workspace import Workspace
from command_line import Tool, tool
from samples import green_records, make_cell, write_run

__all__ = ["tool"]
FIRMWARE = "qboot.rom"


def test_firmware_is_not_taken_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FIRMWARE).write_bytes(b"of somebody else")
    monkeypatch.chdir(tmp_path)
    with sandbox.opened(["qemu", "-bios", FIRMWARE]) as files:
        assert files.arguments == ("qemu", "-bios", FIRMWARE)
    with sandbox.opened(["qemu", "-bios", str(tmp_path / FIRMWARE)]) as files:
        assert files.arguments[-1].startswith("/dev/fd/")


def test_no_python_module_of_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "anyio", "bootmatrix"):
        (tmp_path / f"{name}.py").write_text("open('taken-over', 'w')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(HostError, match="unknown architecture 'none'"):
        kept_server.start(KeptSettings("0", "hello", "none", "6.1", 1.0, {"cache": str(tmp_path / "cache")}))
    assert not (tmp_path / "taken-over").exists()
    # Without the option it would have been: the check above can fail.
    unsafe = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run([sys.executable, "-c", "import bootmatrix"], env=unsafe, check=True, timeout=60)
    assert (tmp_path / "taken-over").exists()


def test_every_python_that_is_started_skips_it() -> None:
    commands = [
        (file.name, words)
        for file in PACKAGE.rglob("*.py")
        for words in re.findall(r"[\[(]sys\.executable, ([^,\])]+)", file.read_text(encoding="utf-8"))
    ]
    assert len(commands) >= 2
    assert {words for _, words in commands} == {'"-P"'}, commands
    assert "PYTHONSAFEPATH=1" in (PACKAGE / "execute/dask/slurm.py").read_text(encoding="utf-8")


PROFILE = """\
extends: x86_64
description: as it came with a project
machines:
  board:
    extends: x86_64/q35
    description: the same
    %s
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("arguments: [-plugin, ./evil.so]", "'-plugin' is not an allowed QEMU argument"),
        ('arguments: [-chardev, "file,id=x,path=/home/u/.bashrc"]', "-chardev 'file' is not allowed"),
        ("arguments: [-sandbox, 'off']", "'-sandbox' is not allowed"),
        ("arguments: [-readconfig, ./x]", "'-readconfig' is not allowed"),
        ("arguments: [-L, .]", "'-L' is not an allowed QEMU argument"),
        ('arguments: [-device, "usb-mtp,rootdir=/"]', "-device 'usb-mtp' is not allowed"),
        ('machine: "q35,dumpdtb=/home/u/.bashrc"', "'dumpdtb' is not allowed"),
        ('machine: "q35,firmware=x"', "'firmware' is not allowed"),
        ('network: "virtio-net-pci,romfile=/etc/shadow"', "'romfile' is not allowed"),
        ('disk: "usb-storage,pcap=/home/u/.bashrc"', "'pcap' is not allowed"),
        ('accelerators: ["tcg,device=/dev/x"]', "'device' is not allowed"),
        ('cpu_models: {old: "max,file=/x"}', "'file' is not allowed"),
    ],
)
def test_a_profile_cannot_open_the_host(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE % line)
    with pytest.raises(FileError) as caught:
        load_profile(path, {"x86_64": CHECKOUT / "arch/x86_64.yml"})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["kernel", "qemu", "debian", "gnu", "uname"])
def test_a_name_of_a_profile_is_no_path(tmp_path: Path, name: str) -> None:
    """Packages to try are copied to a folder of Debian's name, and emulators are looked for by the others."""
    path = tmp_path / "mine.yml"
    path.write_text(f"{PROFILE % 'memory_mib: 256'}names: {{{name}: ../../elsewhere}}\n")
    with pytest.raises(FileError, match=rf"mine\.yml:\d+: .*{name}"):
        load_profile(path, {"x86_64": CHECKOUT / "arch/x86_64.yml"})


@pytest.mark.parametrize("name", ["./evil.deb", "-oDPkg::Pre-Invoke::=./evil", "qemu evil", "sudo-", "qemu; evil", ""])
def test_a_package_of_a_profile_is_a_name(tmp_path: Path, name: str) -> None:
    """CI installs it as root."""
    path = tmp_path / "mine.yml"
    path.write_text(PROFILE % f'qemu_package: "{name}"')
    with pytest.raises(FileError, match=r"mine\.yml:\d+: .*qemu_package"):
        load_profile(path, {"x86_64": CHECKOUT / "arch/x86_64.yml"})


def test_shipped_profiles_need_none_of_that() -> None:
    assert len(load_profiles(arch_folders())) > 10


def test_a_saved_run_cannot_open_the_host(tmp_path: Path) -> None:
    _, folder = write_run(tmp_path / "reports", green_records())
    (folder / "run.json").unlink()
    started = json.loads((folder / STARTED_FILE).read_text())
    cell = json.loads(green_records()[0].cell.model_dump_json())
    cell |= {"kernel": "not-run-yet", "qemu_args": ["-device", "edu"]}
    started |= {"order": {"plan": {"cells": [cell]}, "inputs": {}, "locked": False}}
    (folder / STARTED_FILE).write_text(json.dumps(started))
    assert load_resumable(folder)[1].plan.cells[0].qemu_args == ("-device", "edu")
    cell["qemu_args"] = ["-plugin", "/tmp/evil.so"]
    (folder / STARTED_FILE).write_text(json.dumps(started))
    with pytest.raises(InputError, match="'-plugin' is not an allowed QEMU argument"):
        load_resumable(folder)


def test_a_runtime_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `su`, the variable names a folder whose owner could replace what we make there."""
    others = Path("/usr")
    if os.getuid() == 0:
        others = tmp_path / "theirs"
        others.mkdir()
        os.chown(others, 65534, 65534)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(others))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert guests_folder().parent == tmp_path


def _load_all() -> None:
    profiles = load_profiles(arch_folders())
    load_catalogues()
    load_custom_kernels(kernels_file(), profiles)
    load_registries(registries_file())
    load_cloud_machine("aws", profiles["x86_64"])


@pytest.mark.parametrize(
    "name", ["arch/x.yml", "arch/clouds/aws.yml", "kernels/x.yml", "kernels.yml", "registries.yml"]
)
def test_no_link_in_it_shows_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A message about a file quotes it, and a log of CI may be public."""
    (tmp_path / "private").write_text("token-of-mine:\n")
    link = tmp_path / "project" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "private")
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(InputError, match="a link out of") as caught:
        _load_all()
    assert "token" not in str(caught.value)
    link.unlink()
    (tmp_path / "private").rename(tmp_path / "project" / "ours")
    link.symlink_to(tmp_path / "project" / "ours")
    with pytest.raises(InputError, match="token-of-mine"):
        _load_all()


@pytest.mark.parametrize("tier", ["user", "docker"])
def test_a_matrix_alone_runs_nothing_on_the_hosts_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool, tier: str
) -> None:
    (tmp_path / "a.yml").write_text('init: [bootmatrix/init]\nonboot: [{name: a, image: "@pkg:./none"}]\n')
    (tmp_path / "a.matrix.yml").write_text(f'specs: [a.yml]\narch: [x86_64]\nkernel: ["6.1"]\ntier: [{tier}]\n')
    refused = tool("matrix", "a.matrix.yml")
    assert refused.returncode == 2
    assert f"the tier {tier!r} runs programs on this host's kernel, and only a file asks for it" in refused.stderr
    assert f"--tier {tier}, or for all runs BOOTMATRIX_TIERS={tier}." in refused.stderr
    assert not (tmp_path / "reports").exists()
    assert tool("matrix", "a.matrix.yml", "--tier", tier).returncode == 3, "its image is missing, which is told later"
    monkeypatch.setenv("BOOTMATRIX_TIERS", f"hardware, {tier}")
    assert tool("matrix", "a.matrix.yml").returncode == 3


@pytest.mark.parametrize("text", ["hunter2: a\n", "- hunter2\n", "hunter2\n", "a: b\n hunter2: [\n", "@hunter2: 1\n"])
@pytest.mark.parametrize("command", ["validate", "plan", "matrix"])
def test_a_matrix_shows_no_file_outside_of_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool, command: str, text: str
) -> None:
    (tmp_path / "private").write_text(text)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    names = ["../private", str(tmp_path / "private"), "link"]
    (project / "link").symlink_to("../private")
    for name in names:
        (project / "a.matrix.yml").write_text(f'specs: [{name}]\narch: [x86_64]\nkernel: ["6.1"]\n')
        done = tool(command, "a.matrix.yml")
        assert done.returncode == (0 if command == "validate" and "not a valid spec" not in done.stderr else 2)
        assert "hunter2" not in done.stdout + done.stderr
    if command != "validate":
        assert "not a valid spec. It is outside of the project that names it; bootmatrix validate" in done.stderr
    own = project / "own"
    own.write_text(text)
    (project / "a.matrix.yml").write_text('specs: [own]\narch: [x86_64]\nkernel: ["6.1"]\n')
    assert "not a valid spec" not in tool("plan", "a.matrix.yml").stderr


@pytest.mark.parametrize("words", [["lock"], ["fetch", "--locked"]])
def test_the_lock_beside_a_matrix_is_no_link_out_of_its_project(tmp_path: Path, tool: Tool, words: list[str]) -> None:
    """Nobody has named that file: the user would not see what is overwritten."""
    mine, project = tmp_path / "bashrc", tmp_path / "project"
    mine.write_text("precious")
    project.mkdir()
    (project / "a.matrix.yml").write_text('specs: [hello]\narch: [x86_64]\nkernel: ["6.1"]\n')
    (project / "a.matrix.lock").symlink_to("../bashrc")
    done = tool(words[0], str(project / "a.matrix.yml"), *words[1:], "--offline")
    assert done.returncode == 2, done.stderr
    assert f"a.matrix.lock: a link out of {project}" in done.stderr
    assert mine.read_text() == "precious"
    (project / "a.matrix.lock").unlink()
    (project / "a.matrix.lock").symlink_to("locks/today")
    assert "a link out of" not in tool(words[0], str(project / "a.matrix.yml"), *words[1:], "--offline").stderr


@pytest.mark.parametrize("path", ["out", "/var/out", "out/logs"])
@pytest.mark.parametrize("link", ["out", "out/out", "out/logs/logs"])
def test_a_guests_files_are_not_written_through_its_links(tmp_path: Path, tool: Tool, path: str, link: str) -> None:
    """Program and guest may be of the same checkout: `--get out` would write a file of them into a home."""
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to("/tmp")
    shown = tool("exec", "--arch", "none", "--get", path, "--", "true")
    leads_out = link in {"out", f"{Path(path).name}/{Path(path).name}", f"{path}/{Path(path).name}"}
    assert ("a link out of" in shown.stderr) is leads_out, shown.stderr
    assert shown.returncode == (2 if leads_out else 125)


def test_no_file_is_kept_through_a_link_of_it(tmp_path: Path) -> None:
    assert results_folder(tmp_path / "out") == results_folder(tmp_path / "out")
    (tmp_path / "out/console.log").symlink_to(tmp_path / "bashrc")
    with pytest.raises(InputError, match=r"--keep .*out: console\.log in it is a link"):
        results_folder(tmp_path / "out")


def test_the_same_words_mean_another_kept_guest_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec, kernels or mirrors of one folder make no guest for commands of another."""
    for name in ("mine", "theirs", "plain", "empty"):
        (tmp_path / name).mkdir()
    for name in ("mine", "theirs"):
        (tmp_path / name / "app.yml").touch()
    (tmp_path / "theirs/registries.yml").touch()

    def key(folder: str, name: str) -> str:
        monkeypatch.chdir(tmp_path / folder)
        return key_of({"name": name, "arch": "x86_64", "kernel": "6.1"})

    assert len({key(folder, "app.yml") for folder in ("mine", "theirs", "plain")}) == 3
    assert key("plain", "redis:7") == key("empty", "redis:7") != key("theirs", "redis:7")
    before = key("plain", "redis:7")
    monkeypatch.setenv("BOOTMATRIX_ARCHIVE", "http://archive.example/debian")
    assert key("plain", "redis:7") != before


def test_the_same_words_mean_another_kept_guest_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept guest of an image's old archive, or of a kernel before its last build, would pass for the new one."""
    monkeypatch.chdir(tmp_path)
    words = {"archive": "./saved.tar", "type": "oci-archive:saved.tar", "layout": "./oci", "spec": "saved.tar+app.yml"}
    for name in ("saved.tar", "oci/index.json", "app.yml", "kernels.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")

    def keys() -> dict[str, str]:
        return {kind: key_of({"name": name, "arch": "x86_64", "kernel": "6.1"}) for kind, name in words.items()}

    before = keys()
    assert keys() == before
    (tmp_path / "saved.tar").write_text("new")
    assert {kind for kind, key in keys().items() if key != before[kind]} == {"archive", "type", "spec"}
    (tmp_path / "oci/index.json").write_text("new")
    assert keys()["layout"] != before["layout"]
    words = {"image": "debian"}
    (tmp_path / "debian").mkdir()
    before = keys()
    (tmp_path / "debian/control").touch()
    assert keys() == before, "a folder of the name of an image"
    (tmp_path / "kernels.yml").write_text("new")
    assert keys() != before


def test_a_kept_guest_of_a_kernel_is_another_after_its_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vmlinuz").write_text("old")
    (tmp_path / "kernels.yml").write_text("kernels: {mine: {x86_64: {parts: [{kind: image, path: vmlinuz}]}}}\n")
    before = kernel_files("mine")
    assert len(before) == 1
    assert kernel_files("mine") == before != kernel_files("6.1")
    (tmp_path / "vmlinuz").write_text("new")
    assert kernel_files("mine") != before


def test_a_run_that_came_with_it_is_not_taken_up_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(cache=tmp_path / "cache", reports=tmp_path / "reports", offline=True)
    planned = workspace.plan("hello", arch=["x86_64"], kernel=["6.1"])
    run = begin(planned, "", RunOptions()).path
    gc.collect()  # its process ended: nobody holds it
    resumed = rest_of_newest(workspace, planned, RunOptions())
    assert resumed and resumed.name == run.name, capsys.readouterr().out
    shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(run)
    (tmp_path / "copy").rename(run)
    assert rest_of_newest(workspace, planned, RunOptions()) is None
    assert "was not begun with this cache. If you trust it: --resume" in capsys.readouterr().out


def test_a_saved_run_alone_runs_nothing_on_the_hosts_kernel(tmp_path: Path) -> None:
    cell = make_cell("x86_64", "pc", "user").model_copy(update={"tier": "user"})
    order = RunRequest(plan=Plan(cells=(cell,)))
    before = Run(name="r", title="t", tool_version="1", started_at="2026-01-01T00:00:00+00:00", order=order)
    config = RunConfig(SourceConfig(tmp_path), {}, {})
    planned = PlannedRun(order.plan, config, "t", tmp_path, before=before)
    with pytest.raises(InputError, match="only a file asks for it"):
        check_tiers(planned)
    check_tiers(replace(planned, tiers=("user",)))
    assert resume_command(Path("r"), order) == "bootmatrix matrix --resume r --tier user"
