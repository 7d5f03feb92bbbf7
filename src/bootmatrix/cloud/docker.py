"""Run a spec in a container engine, with init as the engine's process.

Init gets its settings by a variable, greets on the container's terminal, and signs its account with the nonce that
comes back, as on a machine whose console is the result channel. The kernel is the engine's.
"""

import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bootmatrix.assembly.initrd.privileges import POWERFUL
from bootmatrix.assembly.tree import Tree
from bootmatrix.cloud.root import ForeignPrograms, container_configs, write_root
from bootmatrix.cloud.talk import SETTINGS, SETTINGS_VARIABLE, Talk
from bootmatrix.errors import InfraError
from bootmatrix.model.spec import ENGINE_CAPABILITIES
from bootmatrix.source.images.docker_api import connect, engine_faults

LABEL = "org.bootmatrix.run"
LIMIT_S = 120
"""Limit of one reply of the engine."""
REPOSITORY = "bootmatrix.local/run"

OWN = "CAP_SYS_ADMIN"
"""Init's own: it mounts, and starts containers in namespaces."""


@dataclass(frozen=True)
class ContainerNeeds:
    """Containers' capabilities, and whether one has power over the kernel."""

    capabilities: frozenset[str]
    is_privileged: bool


def find_needs(tree: Tree) -> ContainerNeeds:
    """Read what a root's containers may do from their OCI configurations."""
    names: set[str] = set()
    has_devices = False
    for _, config in container_configs(tree):
        sets = config.get("process", {}).get("capabilities") or {}
        names |= {name for values in sets.values() for name in values}
        has_devices = has_devices or bool(config.get("linux", {}).get("devices"))
    return ContainerNeeds(frozenset(names - set(ENGINE_CAPABILITIES)), has_devices or bool(names & set(POWERFUL)))


class DockerPlace:
    """A container engine; DOCKER_HOST selects it. One object is for one run.

    Raises InfraError if the engine does not answer.
    """

    name = "docker"

    def __init__(self) -> None:
        with engine_faults():
            self._client = connect(LIMIT_S)
            version = self._client.version()
        self.kernel = str(version.get("KernelVersion", ""))
        self.arch = str(version.get("Arch", ""))
        self._number = secrets.token_hex(8)

    def run(self, root: Tree, talk: Talk) -> None:
        """Run init in a guest's root to its end. Blocking.

        Raises ForeignPrograms if the engine cannot execute the root's programs, InfraError if the engine fails.
        """
        try:
            with engine_faults():
                with tempfile.TemporaryFile() as file:
                    write_root(root, file)
                    file.seek(0)
                    self._client.import_image(file, repository=REPOSITORY, tag=self._number)
                self._run(find_needs(root), talk)
        finally:
            self.remove()
        if not talk.messages and self.arch and b"exec format error" in talk.transcript:
            raise ForeignPrograms(f"the engine's host is {self.arch}, and cannot execute programs of this architecture")

    def _run(self, needs: ContainerNeeds, talk: Talk) -> None:
        host = self._client.create_host_config(
            privileged=needs.is_privileged,
            cap_add=sorted(name.removeprefix("CAP_") for name in {*needs.capabilities, OWN}),
            # Engines' filters refuse keyrings and mounts, which the OCI runtime in the container needs.
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            network_mode="none",
        )
        container = self._client.create_container(
            f"{REPOSITORY}:{self._number}",
            entrypoint=["/init"],
            tty=True,
            stdin_open=True,
            environment=[f"{SETTINGS_VARIABLE}={SETTINGS}"],
            host_config=host,
            labels={LABEL: self._number},
        )["Id"]
        attached = self._client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        talk.start()
        self._client.start(container)
        try:
            _listen(getattr(attached, "_sock", attached), talk)
        finally:
            attached.close()
        if not talk.limit:
            talk.status = int(self._client.wait(container, timeout=LIMIT_S)["StatusCode"])
            talk.host_error = str(self._client.inspect_container(container)["State"].get("Error") or "")

    def remove(self) -> None:
        """Remove the run's container and image; `sweep` gets the rest. Blocking."""
        with suppress(InfraError), engine_faults():
            self._remove_containers(f"{LABEL}={self._number}")
        with suppress(InfraError), engine_faults():
            self._client.remove_image(f"{REPOSITORY}:{self._number}", force=True)

    def _remove_containers(self, label: str) -> list[str]:
        containers = self._client.containers(all=True, filters={"label": label})
        for container in containers:
            self._client.remove_container(container["Id"], force=True)
        return [str(container["Id"])[:12] for container in containers]

    def sweep(self) -> list[str]:
        """Remove the containers and images of all runs, running ones too.

        Raises InfraError if the engine fails.
        """
        with engine_faults():
            removed = [f"container {name}" for name in self._remove_containers(LABEL)]
            for image in self._client.images(name=REPOSITORY):
                for tag in image.get("RepoTags") or ():
                    self._client.remove_image(tag, force=True)
                    removed.append(f"image {tag}")
        return removed


def _listen(socket: Any, talk: Talk) -> None:
    """Read to the end of a container, or to its limit."""
    while (left_s := talk.left_s) > 0:
        socket.settimeout(left_s)
        try:
            data = socket.recv(65536)
        except TimeoutError:
            break
        if data and (reply := talk.feed(data)):
            socket.sendall(reply)
        if not data or talk.limit:
            talk.end()
            return
    talk.end("time")
