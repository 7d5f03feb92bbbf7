"""Specs in a real container engine, by `run --on docker`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.cli.main import main
from bootmatrix.cloud.docker import LABEL, find_needs, retag
from bootmatrix.errors import BuildError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from engine_fixtures import Engine

pytest_plugins = ("engine_fixtures",)

INIT = 'init: ["@pkg:./images/init", "@pkg:./images/crun"]\nonboot:\n'
ONBOOT = '  - {{name: {name}, image: "@pkg:./images/busybox", command: [/bin/sh, -c, "{script}"]{more}}}\n'
HOST = load_profiles([CHECKOUT / "arch"])[platform.machine()]
OURS = {"label": LABEL}

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs one onboot container on the engine, for this machine's architecture."""
    monkeypatch.setenv("DOCKER_HOST", engine.address)

    (tmp_path / "images").symlink_to(CHECKOUT / "specs/images")

    def execute(script: str, *arguments: str, more: str = "") -> tuple[int, str]:
        container = ONBOOT.format(name="one", script=script, more=more)
        (tmp_path / "mine.yml").write_text(INIT + container)
        status = main(["run", str(tmp_path / "mine.yml"), "--on", "docker", "--arch", HOST.name, *arguments])
        return status, "".join(capfd.readouterr())

    return execute


def test_a_spec_passes_and_leaves_nothing(engine: Engine, run: Run, tmp_path: Path) -> None:
    before = sorted(path.name for path in Path("/dev").iterdir())
    status, output = run("echo said", "--keep", str(tmp_path / "kept"))
    assert status == 0, output
    assert f"user-pass: 1 of 1 results passed on docker (on the kernel of the engine, {os.uname().release}" in output
    assert "one| said" in output
    assert b"one| said" in (tmp_path / "kept/console.log").read_bytes()
    assert (engine.client.containers(all=True, filters=OURS), engine.client.images("bootmatrix.local/run")) == ([], [])
    assert sorted(path.name for path in Path("/dev").iterdir()) == before


def test_a_label_gives_no_power_over_the_host(run: Run, tmp_path: Path) -> None:
    """An image of somebody else asks for everything; the spec does not."""
    assert run("true")[0] == 0  # the engine is there
    recipe = tmp_path / "own"
    recipe.mkdir()
    label = json.dumps(
        {"capabilities": ["all"], "devices": [{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}]}
    )
    (recipe / "build.yml").write_text(f"from: bootmatrix/busybox\nlabels: {{org.mobyproject.config: '{label}'}}\n")
    spec = tmp_path / "label.yml"
    one = '  - {name: one, image: "@pkg:./own", command: [/bin/sh, -c, "true"]%s}\n'
    spec.write_text(INIT + one % "")
    arguments = ["run", str(spec), "--on", "docker", "--arch", HOST.name]
    assert main(arguments) == 2
    spec.write_text(INIT + one % ", capabilities: [CAP_CHOWN], devices: []")
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "onboot container one exited with status 3"),
        (
            "echo 'bootmatrix 4 0000000000000000 onboot one exit 0'; echo 'bootmatrix: end pass'; exit 4",
            "status 4",
        ),
        ("echo TAP version 13; echo 1..1; echo not ok 1 - tested", "tested"),
    ],
)
def test_a_failure_is_one(run: Run, script: str, reason: str) -> None:
    status, output = run(script)
    assert status == 1, output
    assert "user-fail: " in output
    assert reason in output.splitlines()[-1] or reason in output.splitlines()[-2]


def test_a_limit_ends_the_container(engine: Engine, run: Run) -> None:
    status, output = run("sleep 1000", "--timeout", "5s")
    assert (status, "user-fail: it did not end within 5 s" in output) == (1, True), output
    assert engine.client.containers(all=True, filters=OURS) == []


def test_capabilities_of_a_container_are_given(run: Run) -> None:
    status, output = run("ip link set lo down", more=", capabilities: [CAP_NET_ADMIN], net: new")
    assert status == 0, output


def test_an_engine_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    assert run("true")[0] == 3


def test_options_of_qemu_are_refused(run: Run) -> None:
    assert run("true", "--gdb")[0] == 2
    assert run("true", "--memory", "512M")[0] == 2


def test_an_image_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(json.dumps({}).encode())
    with pytest.raises(BuildError, match="not an image of the format docker"):
        find_needs(tmp_path / "x")


def test_tags_are_ours_alone(tmp_path: Path) -> None:
    import tarfile

    from bootmatrix.assembly.formats.archives import write_members

    index = {"manifests": [{"annotations": {"io.containerd.image.name": "redis:latest"}}]}
    members = [
        ("manifest.json", json.dumps([{"RepoTags": ["redis:latest"]}]).encode()),
        ("index.json", json.dumps(index).encode()),
    ]
    write_members(tmp_path / "in", [*members, ("blob", b"data")])
    with (tmp_path / "out").open("wb") as out:
        retag(tmp_path / "in", "bootmatrix.local/run:1", out)
    with tarfile.open(tmp_path / "out") as archive:
        texts = {member.name: (archive.extractfile(member) or out).read() for member in archive}
    assert b"redis" not in texts["manifest.json"] + texts["index.json"]
    assert (texts["blob"], b"bootmatrix.local/run:1" in texts["manifest.json"]) == (b"data", True)
