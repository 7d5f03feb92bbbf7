"""`bootmatrix signoff` in a folder of runs, with keys to sign with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bootmatrix.cli.main import main
from bootmatrix.model import Record
from bootmatrix.report.writer import write_reports
from samples import green_records, write_run

RELEASE = "influxdb-1.6.7"


class Tool:
    """`bootmatrix signoff` in one folder of runs."""

    def __init__(self, reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.reports, self._capsys = reports, capsys

    def __call__(self, *arguments: str | Path, status: int = 0) -> str:
        found = main(["signoff", *map(str, arguments), "--reports", str(self.reports)])
        shown = self._capsys.readouterr()
        assert found == status, shown.out + shown.err
        return shown.out + shown.err

    def make(self, folder: Path, *more: str | Path, status: int = 0) -> str:
        """Sign a run off for the release."""
        return self(folder, "--release", RELEASE, "--no-pdf", *more, status=status)


@pytest.fixture
def signing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    return Tool(tmp_path / "reports", capsys)


def written(signing: Tool, records: list[Record], interrupted: bool = False) -> Path:
    """Write a run with its reports; its folder."""
    run, folder = write_run(signing.reports, records, interrupted=interrupted)
    write_reports(run, folder)
    return folder


@pytest.fixture
def green(signing: Tool) -> Path:
    return written(signing, green_records())


def write_keys(folder: Path, kind: str = "ed25519", password: bytes = b"") -> tuple[Path, Path]:
    """Write a new private and public key in PEM."""
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_private_key(SECP256R1())
    how = BestAvailableEncryption(password) if password else NoEncryption()
    private, public = folder / f"{kind}.pem", folder / f"{kind}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def statement(folder: Path) -> dict[str, Any]:
    """Read the statement of a sign-off that is not signed."""
    found: dict[str, Any] = json.loads((folder / "signoff" / RELEASE / "attestation.json").read_text())
    return found
