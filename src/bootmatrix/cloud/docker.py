"""Run a spec in a container engine: the output format `docker`, with init as the engine's process.

Init gets its settings by a variable, greets on the container's terminal, and signs its account with the nonce that
comes back, as on a machine whose console is the result channel. The kernel is the engine's.
"""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bootmatrix.assembly.initrd.privileges import POWERFUL
from bootmatrix.boot.protocol import Conversation
from bootmatrix.errors import BuildError, InfraError, InputError
from bootmatrix.judge.elsewhere import Elsewhere, judge_signed
from bootmatrix.model import Bootable, GuestMessage, Judgement, Outcome
from bootmatrix.source.images.docker_api import connect, engine_faults

SETTINGS = "BOOTMATRIX=bootmatrix.channel=console bootmatrix.exit=exit"
"""Init's settings, by the variable that src/guest/settings.h names."""
LABEL = "org.bootmatrix.run"
LIMIT_S = 120
"""Limit of one reply of the engine."""
CONSOLE_BYTES = 32 << 20
"""Limit of a container's output."""
CONFIG_BYTES = 1 << 20
DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"),
        *("NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
    )
)
"""Capabilities that engines give by default (moby: oci/caps/defaults.go)."""
OWN = "CAP_SYS_ADMIN"
"""Init's own: it mounts, and starts containers in namespaces."""
ENDED = {"exited", "dead"}
Follow = Callable[[bytes], object]


@dataclass(frozen=True)
class ContainerNeeds:
    """Capabilities of the spec's containers, and whether one has a device, or power over the kernel."""

    capabilities: frozenset[str]
    is_privileged: bool


def find_needs(archive: Path) -> ContainerNeeds:
    """Read what the containers of an image may do, from their OCI configurations.

    Raises BuildError if the image is not one of the format `docker`.
    """
    names: set[str] = set()
    has_devices = False
    for config in _configs(archive):
        sets = config.get("process", {}).get("capabilities") or {}
        names |= {name for values in sets.values() for name in values}
        has_devices = has_devices or bool(config.get("linux", {}).get("devices"))
    return ContainerNeeds(frozenset(names - DEFAULT_CAPABILITIES), has_devices or bool(names & set(POWERFUL)))


def _configs(archive: Path) -> Iterator[dict[str, Any]]:
    try:
        with tarfile.open(archive) as image:
            (saved,) = json.loads(_member(image, "manifest.json"))
            layer = image.extractfile(saved["Layers"][0])
            assert layer
            with tarfile.open(fileobj=layer) as root:
                for member in root:
                    parts = member.name.removeprefix("./").split("/")
                    if parts[0] == "containers" and parts[-1] == "config.json" and len(parts) == 4:
                        yield json.loads(_read(root, member))
    except (tarfile.TarError, KeyError, ValueError, TypeError, AssertionError) as error:
        raise BuildError(f"{archive}: not an image of the format docker") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    return _read(archive, archive.getmember(name))


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None or member.size > CONFIG_BYTES:
        raise ValueError(member.name)
    return file.read()


def retag(archive: Path, tag: str, out: IO[bytes]) -> None:
    """Copy an image with another tag, so that loading it takes no tag of the user's."""
    with tarfile.open(archive) as source, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as target:
        for member in source:
            if member.name in {"manifest.json", "index.json"}:
                document = json.loads(_read(source, member))
                if member.name == "manifest.json":
                    document[0]["RepoTags"] = [tag]
                else:
                    document["manifests"][0]["annotations"] = {"io.containerd.image.name": tag}
                data = json.dumps(document, sort_keys=True).encode()
                member.size = len(data)
                target.addfile(member, io.BytesIO(data))
            else:
                target.addfile(member, source.extractfile(member))


class DockerPlace:
    """A container engine; DOCKER_HOST selects it.

    Raises:
        InfraError: the engine does not answer.
    """

    def __init__(self) -> None:
        with engine_faults():
            self._client = connect(LIMIT_S)
            version = self._client.version()
        self.kernel = str(version.get("KernelVersion", ""))
        self.arch = str(version.get("Arch", ""))

    def run(self, archive: Path, bootable: Bootable, limit_s: float, folder: Path, follow: Follow) -> Judgement:
        """Run an image to its end and judge it; its console is saved in the folder.

        Raises:
            InputError: init is not bootmatrix's, and would change this host's devices; or an image's label asks for
                power over this host.
            InfraError: the engine fails.
        """
        if not bootable.reports:
            raise InputError(
                "--on docker needs bootmatrix's init: others mount the devices of the engine's host",
                'Name "@pkg:./images/init" or linuxkit/init under init.',
            )
        if bootable.self_granted:
            raise InputError(
                "--on docker: by the labels of images, containers would have power over the engine's host: "
                f"{'; '.join(bootable.self_granted)[:400]}",
                "An image cannot grant itself that. If it is intended, set the same keys in the spec.",
            )
        needs, number = find_needs(archive), secrets.token_hex(8)
        tag = f"bootmatrix.local/run:{number}"
        try:
            with engine_faults():
                self._load(archive, tag)
                outcome, status, transcript = self._run(tag, number, needs, (limit_s, follow))
        finally:
            self._remove(number, tag)
        (folder / "console.log").write_bytes(transcript)
        place = Elsewhere("docker", self.kernel, status)
        return judge_signed(place, outcome, bootable, transcript)

    def _load(self, archive: Path, tag: str) -> None:
        with tempfile.TemporaryFile() as file:
            retag(archive, tag, file)
            file.seek(0)
            for _ in self._client.load_image(file):
                pass

    def _run(
        self, tag: str, number: str, needs: ContainerNeeds, watch: tuple[float, Follow]
    ) -> tuple[Outcome, int | None, bytes]:
        host = self._client.create_host_config(
            privileged=needs.is_privileged,
            cap_add=sorted(name.removeprefix("CAP_") for name in {*needs.capabilities, OWN}),
            # Engines' filters refuse keyrings and mounts, which the OCI runtime in the container needs.
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            network_mode="none",
        )
        container = self._client.create_container(
            tag, tty=True, stdin_open=True, environment=[SETTINGS], host_config=host, labels={LABEL: number}
        )["Id"]
        attached = self._client.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        start = time.monotonic()
        started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._client.start(container)
        talk = _Talk(getattr(attached, "_sock", attached), start, *watch)
        try:
            limit = talk.listen()
        finally:
            attached.close()
        status, host_error = None, ""
        if not limit:
            status = int(self._client.wait(container, timeout=LIMIT_S)["StatusCode"])
            state = self._client.inspect_container(container)["State"]
            host_error = str(state.get("Error") or "")
        if not talk.messages and self.arch and b"exec format error" in talk.transcript:
            host_error = f"the engine's host is {self.arch}, and cannot execute programs of this architecture"
        outcome = Outcome(
            exit_status=status,
            ended_by="host" if limit else "guest",
            limit=limit,
            host_error=host_error,
            messages=tuple(talk.messages),
            rejected=talk.conversation.rejected,
            result_fault=talk.conversation.fault,
            started_at=started_at,
            wall_s=time.monotonic() - start,
            console_bytes=len(talk.transcript),
        )
        return outcome, status, bytes(talk.transcript)

    def _remove(self, number: str, tag: str) -> None:
        """Remove a run's containers and image; what cannot be removed is left for `sweep`."""
        with suppress(InfraError), engine_faults():
            self._remove_containers(f"{LABEL}={number}")
        with suppress(InfraError), engine_faults():
            self._client.remove_image(tag, force=True)

    def _remove_containers(self, label: str) -> list[str]:
        found = self._client.containers(all=True, filters={"label": label})
        for container in found:
            self._client.remove_container(container["Id"], force=True)
        return [str(container["Id"])[:12] for container in found]

    def sweep(self) -> list[str]:
        """Remove the containers and images of all runs, also of those that run now; return what was removed.

        Raises InfraError if the engine fails.
        """
        with engine_faults():
            removed = [f"container {name}" for name in self._remove_containers(LABEL)]
            for image in self._client.images(name="bootmatrix.local/run"):
                for tag in image.get("RepoTags") or ():
                    self._client.remove_image(tag, force=True)
                    removed.append(f"image {tag}")
        return removed


class _Talk:
    """The host's end of a container's terminal: init's greeting is answered once, all output is kept."""

    def __init__(self, socket: Any, start: float, limit_s: float, follow: Follow) -> None:
        self.conversation = Conversation(secrets.token_hex(16), noisy=True)
        self.messages: list[GuestMessage] = []
        self.transcript = bytearray()
        self._socket, self._start, self._limit_s, self._follow = socket, start, limit_s, follow

    def listen(self) -> str:
        """Read to the end of the container; return the limit that ended it before, if any."""
        while (left_s := self._start + self._limit_s - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                break
            if not data:
                return ""
            if len(self.transcript) + len(data) > CONSOLE_BYTES:
                return "flood"
            self.transcript += data
            self._follow(data)
            self.messages += self.conversation.feed(data, time.monotonic() - self._start)
            if reply := self.conversation.take_reply():
                self._socket.sendall(reply)
        return "time"
