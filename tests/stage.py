"""The whole tool with a QEMU that emulates nothing: an architecture of our own, whose machines are scenarios."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TESTS = Path(__file__).parent
BOOTMATRIX = (sys.executable, "-m", "bootmatrix.cli.main")
MODEL = "x86_64"
"""The profile that the one of the tests is made from."""

SPEC = """
init: ["@pkg:./images/init", "@pkg:./images/crun"]
onboot:
  - {name: prepare, image: "@pkg:./images/busybox", command: [/bin/true]}
  - {name: prepare, image: "@pkg:./images/busybox", command: [/bin/true]}
onshutdown:
  - {name: sweep, image: "@pkg:./images/busybox", command: [/bin/true]}
services:
  - {name: server, image: "@pkg:./images/busybox", command: [/bin/sleep, "600"]}
  - {name: ping, image: "@pkg:./images/busybox", command: [/bin/true], annotations: {bootmatrix.check: 1s}}
  - {name: write, image: "@pkg:./images/busybox", command: [/bin/true], annotations: {bootmatrix.check: 1s}}
"""
"""What the fake QEMU's guests say that they run."""


@dataclass(frozen=True)
class Stage:
    """A folder with a spec, `fake.yml`, and an architecture `fake` that has a machine for each scenario."""

    folder: Path

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    @property
    def go(self) -> Path:
        """Guests that linger end when this file is there."""
        return self.folder / "go"

    @property
    def latest(self) -> Path:
        return self.reports / "latest"

    def environment(self) -> dict[str, str]:
        # Variables of the tests' own environment must not decide anything here.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BOOTMATRIX_REPORTS")}
        return {**ours, "PATH": f"{self.folder / 'bin'}:{ours['PATH']}", "CI": "true"}

    def command(self, *arguments: str) -> list[str]:
        return [*BOOTMATRIX, *arguments]

    def run(self, *arguments: str, limit_s: float = 120, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return self.run_program(*self.command(*arguments), limit_s=limit_s, text=text)

    def run_program(
        self, *words: str, limit_s: float = 120, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run any program as `run` does; `text` is its input."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def matrix(self, *machines: str, more: str = "retries: 0\n") -> str:
        """Write a matrix of machines; its name."""
        arch = json.dumps([f"fake/{machine}" for machine in machines])
        (self.folder / "all.matrix.yml").write_text(f'specs: [fake.yml]\narch: {arch}\nkernel: ["6.1"]\n{more}')
        return "all.matrix.yml"

    def starts(self) -> list[tuple[int, str]]:
        """Process id and scenario of every fake QEMU that was started."""
        pids = self.folder / "pids"
        lines = pids.read_text().splitlines() if pids.exists() else []
        return [(int(pid), scenario) for pid, scenario in map(str.split, lines)]

    def record(self, machine: str) -> dict[str, Any]:
        """The record of a machine's cell in the newest run."""
        path = self.latest / "cells/fake/fake" / machine / "6.1/record.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def verdict(self, machine: str) -> tuple[str, str]:
        judgement = self.record(machine)["judgement"]
        return judgement["verdict"], judgement["reason"]


def set_up(folder: Path, scenarios: Iterable[str]) -> Stage:
    """A stage with these scenarios, each a machine of that name: `-then-` is a comma, and `.1` makes several of one."""
    stage = Stage(folder)
    for name in ("bin", "arch"):
        (folder / name).mkdir()
    (folder / "images").symlink_to(ROOT / "specs/images")
    (folder / "fake.yml").write_text(SPEC)
    _write_profile(folder / "arch/fake.yml", scenarios)
    _write_program(folder, "")
    stage.run("build", "fake.yml", "--arch", "fake", "--kernel", "6.1", "-o", "built")
    release = json.loads((folder / "built-bootable.json").read_text(encoding="utf-8"))["bootable"]["kernel_release"]
    _write_program(folder, release)
    return stage


def _write_profile(path: Path, scenarios: Iterable[str]) -> None:
    profile = yaml.safe_load((ROOT / f"arch/{MODEL}.yml").read_text(encoding="utf-8"))
    board = {
        **next(iter(profile["machines"].values())),
        "qemu": "qemu-system-fake",
        "memory_mib": 128,
        "time_factor": 1,
    }
    board["accelerators"] = ["tcg"]  # to find out whether KVM works takes a boot, and here every start is counted
    machines = {name: {**board, "arguments": ["-prom-env", f"fake={_scenario(name)}"]} for name in scenarios}
    profile.update(description="what only the tests have", aliases=[], machines=machines)
    path.write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")


def _scenario(machine: str) -> str:
    return machine.split(".", maxsplit=1)[0].replace("-then-", ",")


def _write_program(folder: Path, release: str) -> None:
    # Of our environment a QEMU gets little.
    variables = {
        "FAKE_QEMU_RELEASE": release,
        "FAKE_QEMU_TURNS": folder / "turns",
        "FAKE_QEMU_PIDS": folder / "pids",
        "FAKE_QEMU_GO": folder / "go",
    }
    words = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items() if str(value))
    program = folder / "bin/qemu-system-fake"
    program.write_text(f'#!/bin/sh\n{words} exec {sys.executable} {TESTS}/fake_qemu.py "$@"\n')
    program.chmod(0o755)
