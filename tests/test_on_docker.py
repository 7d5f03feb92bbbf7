"""Specs in a real container engine, by `run --on docker`."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bootmatrix.cell.borne_out import check_verdicts
from bootmatrix.cli.main import main
from bootmatrix.cloud.docker import LABEL
from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import CHECKOUT
from bootmatrix.load.profile import load_profiles
from bootmatrix.runs.run_store import load_run
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
    assert f"user-pass: 1 of 1 results passed on docker (on the kernel of docker, {os.uname().release}" in output
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


def test_a_row_of_a_matrix(engine: Engine, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Passes, failures and programs of other machines; judged again, and compared with their evidence."""
    other = next(name for name in load_profiles([CHECKOUT / "arch"]) if name != HOST.name and name not in HOST.aliases)
    for name, script in {"good": "true", "bad": "exit 3"}.items():
        (tmp_path / f"{name}.yml").write_text(INIT + ONBOOT.format(name="one", script=script, more=""))
    specs = [str(tmp_path / f"{name}.yml") for name in ("good", "bad")]
    words = ["matrix", *specs, "--arch", f"{HOST.name},{other}", "--tier", "docker", "--reports", str(tmp_path / "r")]
    assert main([*words, "--only", f"*/{HOST.name}/*", "--only", f"good/{other}/*"]) == 1
    folder = tmp_path / "r/latest"
    found = load_run(folder)
    assert {record.cell.id: str(record.verdict) for record in found.records} == {
        f"good/{HOST.name}/docker": "user-pass",
        f"bad/{HOST.name}/docker": "user-fail",
        f"good/{other}/docker": "user-unsupported",
    }
    check_verdicts(found, folder)
    (file,) = (folder / "cells/bad").rglob("record.json")
    record = json.loads(file.read_text())
    record["judgement"]["verdict"], record["expected"] = "user-pass", True
    file.write_text(json.dumps(record))
    (folder / "run.json").unlink()
    with pytest.raises(InputError, match="it says user-pass, and its evidence user-fail"):
        check_verdicts(load_run(folder), folder)
    assert engine.client.containers(all=True, filters=OURS) == []
    capfd.readouterr()


def test_a_run_that_ends_early_ends_its_container(engine: Engine, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(INIT + ONBOOT.format(name="one", script="sleep 1000", more=""))
    words = [sys.executable, "-m", "bootmatrix.cli.main", "matrix", "mine.yml", "--tier", "docker", "--arch", HOST.name]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while not engine.client.containers(filters=OURS):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert (engine.client.containers(all=True, filters=OURS), engine.client.images("bootmatrix.local/run")) == ([], [])
