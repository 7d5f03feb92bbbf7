"""Compute Engine by five REST calls: disk, image, instance, console, end."""

import hashlib
import os
import re
import secrets
import subprocess
import time
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx

from bootmatrix.cloud.place import KEPT, TAG, State, is_before, run_tag
from bootmatrix.errors import HostError, InfraError, UntrustedError
from bootmatrix.model.cluster import CloudMachine, CloudRun
from bootmatrix.redact import RedactedUrl
from bootmatrix.source.connection import origin_of

COMPUTE = "https://compute.googleapis.com/compute/v1"
UEFI = "UEFI_COMPATIBLE"
"""The feature of an image that boots by UEFI, without which some machines refuse it (images.insert)."""
STORAGE = "https://storage.googleapis.com"
CHUNK_BYTES = 8 << 20
"""A piece of a resumable upload: a multiple of 256 KiB."""
TRIES, PAUSE_S = 7, 1.0
AGAIN = {408, 429, 500, 502, 503, 504}
WAIT_S = 900

NOT_GUESTS = ("preempted", "hostError", "automaticRestart")
"""Operations by which the cloud ends an instance."""
RUNNING = {"PROVISIONING", "STAGING", "RUNNING", "REPAIRING"}


class GcpPlace:
    """Compute Engine in one zone of a project.

    A token comes from CLOUDSDK_AUTH_ACCESS_TOKEN, or from `gcloud auth print-access-token`.

    Raises HostError if project, bucket, zone or token are missing.
    """

    name = "gcp"

    def __init__(self, machine: CloudMachine | None, choice: CloudRun, keep: bool = False) -> None:
        self._machine, self._choice = machine, choice
        self.number = run_tag(keep)
        for value, option in (
            (choice.project, "--project"),
            (choice.region, "--region ZONE"),
            (choice.bucket, "--bucket"),
        ):
            if not value:
                raise HostError(f"gcp needs {option}")
        compute = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", COMPUTE).rstrip("/")
        self._project = f"{compute}/projects/{choice.project}"
        self._zone = f"{self._project}/zones/{choice.region}"
        self._storage = os.environ.get("STORAGE_EMULATOR_HOST", STORAGE).rstrip("/")
        self._http = httpx.Client(timeout=60, headers={"Authorization": f"Bearer {_token()}"})

    # ---- requests -------------------------------------------------------------------------------------------------

    def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request, again if it is throttled or its answer is lost.

        Raises HostError if the token is refused, InfraError if the cloud refuses or does not answer.
        """
        fault = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1) * (0.5 + secrets.randbelow(100) / 100))
            try:
                answer = self._http.request(method, url, **options)
            except httpx.TransportError as error:
                fault = str(error) or type(error).__name__
                continue
            if answer.status_code not in AGAIN:
                return self._checked(method, url, answer)
            fault = f"status {answer.status_code}"
        raise InfraError(f"GCP does not answer: {method} {url.partition('?')[0]}: {fault}")

    def _checked(self, method: str, url: str, answer: httpx.Response) -> httpx.Response:
        if answer.is_success or answer.status_code in {308, 404, 409}:
            return answer
        words = re.sub(r"\s+", " ", answer.text)[:300]
        kind = HostError if answer.status_code in {401, 403} else InfraError
        hint = "Log in: gcloud auth login. docs/where-to-run.md lists the permissions." if kind is HostError else ""
        raise kind(f"GCP: {method} {url.partition('?')[0]}: {answer.status_code}: {words}", hint)

    def _insert(self, where: str, kind: str, body: dict[str, Any]) -> None:
        """Make a thing and wait for it; the request's number makes it idempotent."""
        url = f"{where}/{kind}"
        self._operation(self._ask("POST", url, params={"requestId": str(uuid.uuid4())}, json=body), where)

    def _operation(self, answer: httpx.Response, where: str) -> None:
        if answer.status_code == 409:  # the first request had succeeded, and its answer was lost
            return
        if answer.status_code == 404:
            raise InfraError(f"GCP: {answer.request.url.path}: not found")
        operation, end = _fields(answer), time.monotonic() + WAIT_S
        while operation.get("status") != "DONE":
            if time.monotonic() > end:
                raise InfraError(f"GCP: {operation.get('operationType')} takes more than {WAIT_S} s")
            time.sleep(PAUSE_S)
            operation = _fields(self._ask("GET", f"{where}/operations/{operation['name']}"))
        errors = (operation.get("error") or {}).get("errors") or ()
        if errors:
            words = "; ".join(f"{error.get('code')}: {error.get('message')}" for error in errors)
            raise InfraError(f"GCP: {operation.get('operationType')}: {words[:300]}")

    # ---- push and start -------------------------------------------------------------------------------------------

    def push(self, disk: Path, title: str) -> str:
        """Upload `disk.raw` in its archive, and make an image of it; return its name.

        Raises InfraError if the cloud fails.
        """
        assert self._machine
        name = f"bootmatrix-{secrets.token_hex(8)}"
        self._upload(disk, f"{name}.tar.gz")
        body = {
            "name": name,
            "description": title,
            "architecture": self._machine.architecture,
            "rawDisk": {"source": f"{STORAGE}/{self._choice.bucket}/{name}.tar.gz"},
            "labels": {TAG: self.number},
            "guestOsFeatures": [{"type": UEFI}] if self._machine.boot_mode == "uefi" else [],
        }
        self._insert(f"{self._project}/global", "images", body)
        self._delete_object(f"{name}.tar.gz")
        return name

    def _upload(self, disk: Path, name: str) -> None:
        """Upload in pieces; after a fault, go on where the bucket says that it is."""
        url = f"{self._storage}/upload/storage/v1/b/{self._choice.bucket}/o"
        size = disk.stat().st_size
        meta = {"metadata": {TAG: self.number}}
        begun = self._ask("POST", url, params={"uploadType": "resumable", "name": name}, json=meta)
        session, position, digest = begun.headers.get("Location", ""), 0, hashlib.md5(usedforsecurity=False)
        if not session:
            raise InfraError(f"GCP: the bucket {self._choice.bucket} takes no upload", "Does it exist?")
        self._check_session(session)
        answer, idle = begun, 0
        with disk.open("rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
            while position < size:
                file.seek(position)
                data = file.read(CHUNK_BYTES)
                span = f"bytes {position}-{position + len(data) - 1}/{size}"
                answer = self._ask("PUT", session, content=data, headers={"Content-Range": span})
                before, position = position, size if answer.is_success else _received(answer)
                idle = 0 if position > before else idle + 1
                if idle == TRIES:
                    raise InfraError(f"GCP: the upload does not go on: status {answer.status_code}", "Run it again.")
        if _fields(answer).get("md5Hash") != b64encode(digest.digest()).decode():
            raise InfraError("GCP: the bucket has other bytes than were sent")

    def _check_session(self, session: str) -> None:
        """Refuse to send the token to another server. Raises UntrustedError."""
        try:
            is_ours = origin_of(httpx.URL(session)) == origin_of(httpx.URL(self._storage))
        except httpx.InvalidURL:
            is_ours = False
        if not is_ours:
            raise UntrustedError(f"GCP: the bucket sends the upload to {RedactedUrl(session[:200])}: refused")

    def start(self, image: str) -> str:
        """Start an instance; return its name. Raises InfraError if that fails."""
        assert self._machine
        kind = self._choice.instance_type or self._machine.instance_type
        name = f"bootmatrix-{self.number}"
        spot = {"provisioningModel": "SPOT", "instanceTerminationAction": "STOP"} if self._choice.spot else {}
        body = {
            "name": name,
            "machineType": f"zones/{self._choice.region}/machineTypes/{kind}",
            "disks": [
                {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": f"global/images/{image}"}}
            ],
            "networkInterfaces": [{"network": "global/networks/default"}],
            "labels": {TAG: self.number},
            "scheduling": {"automaticRestart": False, **spot},
        }
        self._insert(self._zone, "instances", body)
        return name

    def console(self, instance: str) -> bytes:
        """Return the last part of the serial port's output, 1 MiB at most."""
        answer = self._ask("GET", f"{self._zone}/instances/{instance}/serialPort", params={"port": 1})
        return str(_fields(answer).get("contents", "")).encode("utf-8", "replace")

    def state(self, instance: str) -> State:
        """Return whether the instance has ended, and by whom."""
        answer = self._ask("GET", f"{self._zone}/instances/{instance}")
        if answer.status_code == 404:
            return State("host", "the instance is gone")
        instance_now = _fields(answer)
        if instance_now.get("status") in RUNNING:
            return State()
        words = f'targetId="{instance_now.get("id")}"'
        operations = _fields(self._ask("GET", f"{self._zone}/operations", params={"filter": words})).get("items", ())
        kinds = [str(operation.get("operationType", "")).rpartition(".")[2] for operation in operations]
        by_cloud = [kind for kind in kinds if kind in NOT_GUESTS]
        return State("host", by_cloud[0]) if by_cloud else State("guest", ", ".join(kinds))

    # ---- the end --------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Remove what this run has made."""
        self._remove(f"labels.{TAG}={self.number}", self.number, 0)

    def sweep(self, older_s: float) -> list[str]:
        """Remove what runs left in this project and zone, if it is older."""
        return self._remove(f"labels.{TAG}:*", "", older_s)

    def _remove(self, words: str, number: str, older_s: float) -> list[str]:
        removed, before = [], time.time() - older_s
        for where, kind in ((self._zone, "instances"), (f"{self._project}/global", "images")):
            for item in _fields(self._ask("GET", f"{where}/{kind}", params={"filter": words})).get("items", ()):
                if item.get("labels", {}).get(TAG) != KEPT and is_before(item["creationTimestamp"], before):
                    answer = self._ask("DELETE", f"{where}/{kind}/{item['name']}")
                    if answer.status_code != 404:
                        self._operation(answer, where)
                    removed.append(str(item["name"]))
        url = f"{self._storage}/storage/v1/b/{self._choice.bucket}/o"
        for item in _fields(self._ask("GET", url, params={"prefix": "bootmatrix-"})).get("items", ()):
            tag = item.get("metadata", {}).get(TAG)
            if tag and tag in {number or tag} and is_before(item["timeCreated"], before):
                self._delete_object(str(item["name"]))
                removed.append(str(item["name"]))
        return removed

    def _delete_object(self, name: str) -> None:
        self._ask("DELETE", f"{self._storage}/storage/v1/b/{self._choice.bucket}/o/{name}")


def _fields(answer: httpx.Response) -> dict[str, Any]:
    """Return the fields of an answer. Raises InfraError if it is not JSON."""
    try:
        value = answer.json()
    except ValueError:  # also of an invalid encoding
        value = None
    if not isinstance(value, dict):
        raise InfraError(f"GCP: {answer.request.url.host} does not answer in JSON", "Is there a proxy in between?")
    return value


def _received(answer: httpx.Response) -> int:
    """Return how many bytes of an upload have arrived."""
    match = re.fullmatch(r"bytes=0-(\d+)", answer.headers.get("Range", ""))
    return int(match[1]) + 1 if match else 0


def _token() -> str:
    """Return an access token. Raises HostError if it is missing."""
    if token := os.environ.get("CLOUDSDK_AUTH_ACCESS_TOKEN", ""):
        return token
    hint = "Set CLOUDSDK_AUTH_ACCESS_TOKEN, or install gcloud and run 'gcloud auth login'."
    command = ["gcloud", "auth", "print-access-token", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError("cannot find credentials for GCP", hint) from error
    if done.returncode or not done.stdout.strip():
        raise HostError(f"gcloud has no credentials: {done.stderr.strip()[:200]}", hint)
    return done.stdout.strip()
