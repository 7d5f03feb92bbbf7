"""A testbed: one kept guest at a time, owned by the process of its server."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bootmatrix.errors import AgentError, BuildError, HostError
from bootmatrix.fsio import write_atomic
from bootmatrix.packaged import packaged
from bootmatrix.workspace import kept_client, kept_server
from bootmatrix.workspace.kept_client import KeptGuest

KEEP_S = 30.0
"""For a guest whose server ended before it owned the guest."""
STOPS = 4
"""Requests to stop a guest, each of which waits for `STOP_S`."""
FOLDER = "/tmp/autopkgtest"  # noqa: S108  (in the guest)
USER = "test"
ISOLATION = {"none": (), "container": ("isolation-container",), "machine": ("isolation-container", "isolation-machine")}
"""Capabilities by option. A guest isolates as a machine does, but has no init system, which some tests need."""


@dataclass(frozen=True)
class TestbedSettings:
    """Settings of testbeds, as JSON values of `KeptSettings`.

    `record` is a file for descriptions of all guests. `isolation` is `container` or `machine` for tests that need it.
    `packages` limit apt's lists to them and their possible dependencies. `modules` of the kernel are loaded.
    """

    __test__ = False

    name: str
    arch: str
    kernel: str
    workspace: Mapping[str, Any] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    record: Path | None = None
    isolation: str = "none"
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


class Testbed:
    """A testbed that is closed or open. Blocking.

    `program` runs a command of a kept guest: `[--terminal] FOLDER -- COMMAND…`.
    """

    __test__ = False

    def __init__(self, settings: TestbedSettings, program: Sequence[str]) -> None:
        self._settings, self._program = settings, program
        self._numbers = count(1)
        self._guest: KeptGuest | None = None
        self._owner: Any = None
        self._has_user = False
        self._records: list[Mapping[str, Any]] = []

    @property
    def is_open(self) -> bool:
        """True if there is a guest."""
        return self._guest is not None

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The features of README.virtualisation-server that testbeds have."""
        user = (f"suggested-normal-user={USER}",) if self._has_user else ()
        return ("root-on-testbed", "revert", "revert-full-system", *ISOLATION[self._settings.isolation], *user)

    def open(self) -> str:
        """Boot a guest; return a folder for all. Raises BootmatrixError on a fault."""
        settings = self._settings
        folder = kept_server.start(
            kept_server.KeptSettings(
                f"autopkgtest-{os.getpid()}-{next(self._numbers)}",
                *(settings.name, settings.arch, settings.kernel, KEEP_S, settings.workspace, settings.selection),
                modules=settings.modules,
            )
        )
        self._guest = KeptGuest(folder, {})
        self._owner = self._owning(folder)
        if settings.packages:
            kept_client.request(self._guest, {"list_only": settings.packages})
        script = packaged("autopkgtest/prepare.sh", folder=FOLDER, user=USER)
        self._has_user = bool(self._check(("sh", "-c", script), "prepare folder, user and apt's lists"))
        return FOLDER

    def close(self) -> None:
        """Stop the guest, if there is one, and wait for its end."""
        guest, self._guest = self._guest, None
        if guest is None:
            return
        try:
            self._note(guest)
        finally:
            if self._owner:
                self._owner.close()
            _stop(guest)

    def command(self, *, terminal: bool = False) -> list[str]:
        """Return the command before which a command of the testbed is put."""
        assert self._guest
        options = ["--terminal"] if terminal else []
        return [*self._program, *options, str(self._guest.folder), "--"]

    def run(self, words: Sequence[str], *, terminal: bool = False, streams: tuple[Any, Any] = (None, None)) -> int:
        """Run a command with streams of this process; return its exit status."""
        source, target = streams
        command = [*self.command(terminal=terminal), *words]
        return subprocess.run(command, stdin=source, stdout=target, stderr=target, check=False).returncode

    def copy(self, direction: str, here: str, there: str) -> None:
        """Copy a file or folder: `put` into the guest, `get` out of it.

        Raises BuildError if it cannot be copied, AgentError if the guest has ended.
        """
        assert self._guest
        request = {"copy": {"direction": direction, "here": here, "there": there, "exact": True}}
        answer = kept_client.request(self._guest, request)
        if answer.get("status"):
            raise BuildError("; ".join(answer.get("messages", ())))

    def _owning(self, folder: Path) -> Any:
        end = kept_client.connect(folder)
        if end is None:
            raise AgentError("the guest has ended")
        kept_client.send_message(end, {"own": True})
        kept_client.receive_message(end)
        return end

    def _check(self, words: Sequence[str], purpose: str) -> str:
        command = [*self.command(), *words]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if result.returncode:
            said = (result.stderr or result.stdout).decode("utf-8", "replace").strip()[-1000:]
            raise BuildError(f"cannot {purpose} in the guest: exit status {result.returncode}: {said}")
        return result.stdout.decode("utf-8", "replace")

    def _note(self, guest: KeptGuest) -> None:
        """Add the description of a guest to the record."""
        if self._settings.record is None:
            return
        try:
            self._records.append(kept_client.request(guest, {"describe": True}).get("description", {}))
        except AgentError as error:
            self._records.append({"cell": self._settings.arch, "fault": str(error)})
        data = json.dumps({"guests": self._records}, indent=1)
        write_atomic(self._settings.record, data.encode())


def _stop(guest: KeptGuest) -> None:
    """Stop a guest; on a busy host that takes its time."""
    for _ in range(STOPS - 1):
        with suppress(HostError):
            kept_client.stop(guest)
            return
    kept_client.stop(guest)
