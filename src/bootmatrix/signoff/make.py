"""Creation of a sign-off in the run's folder."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from bootmatrix.errors import InputError
from bootmatrix.history.values import Comparison
from bootmatrix.model import Run
from bootmatrix.signoff.agreement import check_agreement
from bootmatrix.signoff.content import Acceptance, SignOff, sign_off
from bootmatrix.signoff.manifest import (
    MANIFEST_FILE,
    SIGNOFF_FOLDER,
    outside_signoff,
    survey,
    without_signoff,
    write_lines,
)
from bootmatrix.signoff.page import print_pdf, render_signoff
from bootmatrix.signoff.sent_report import REPORT_FILE, attested, digest_of, render_sent
from bootmatrix.signoff.statement import as_bytes, key_id, sign, statement
from bootmatrix.signoff.verify import BUNDLE_FILE, ENVELOPE_FILE, PAGE_FILE, PDF_FILE, STATEMENT_FILE
from bootmatrix.store import sha256_of


@dataclass(frozen=True)
class Request:
    """Request for a sign-off.

    `key` is a private key's file, `token` an identity's to sign with instead.

    `trust` is the configuration of another sigstore instance than the public one.

    `check` refuses a run whose verdicts are not those of its evidence (InputError).
    """

    folder: Path
    run: Run
    release: str
    check: Callable[[Run, Path], None]
    acceptances: Sequence[Acceptance] = ()
    comparison: Comparison | None = None
    key: Path | None = None
    token: str = ""
    trust: Path | None = None
    pdf: bool = True

    @property
    def signer(self) -> str:
        """The signer in words; empty for an unsigned one."""
        if self.key:
            return f"key id {key_id(self.key)}"
        if not self.token:
            return ""
        return f"signed by {_identity().name_in(self.token)}"

    @property
    def verify_options(self) -> str:
        """Options of the command that verifies it."""
        return " --key PUBLIC_KEY" if self.key else " --identity NAME --issuer URL" if self.token else ""

    def attest(self, payload: bytes) -> tuple[str, bytes]:
        """Return the name and contents of the attestation's file."""
        if self.key:
            return ENVELOPE_FILE, sign(payload, self.key)
        if self.token:
            return BUNDLE_FILE, _identity().sign_by_identity(payload, self.token, self.trust)
        return STATEMENT_FILE, payload


def _identity() -> ModuleType:
    """Import signatures by an identity. Raises HostError without sigstore."""
    from bootmatrix.signoff import identity

    return identity


@dataclass(frozen=True)
class Written:
    """Result of a sign-off; `notes` are about missing parts."""

    folder: Path
    signed: SignOff
    notes: tuple[str, ...]


def write_signoff(request: Request) -> Written:
    """Sign a run off; all files appear at once, or none.

    Raises InputError if the run cannot be signed off, the name is in use, or the key is invalid; OSError if a file
    cannot be read or written.
    """
    target = request.folder / SIGNOFF_FOLDER / request.release
    if target.exists():
        raise InputError(f"{target} already exists", "Choose another --release, or remove that folder first.")
    contents = survey(request.folder)
    if contents.faults:
        raise InputError(f"{request.folder}: {contents.faults[0]}", "Remove it from the run.")
    check_agreement(request.folder, request.run)
    request.check(request.run, request.folder)
    lines = write_lines(without_signoff(contents.files))
    (request.folder / SIGNOFF_FOLDER).mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{request.release}.", suffix=".part", dir=target.parent))
    try:
        (work / MANIFEST_FILE).write_bytes(lines)
        signed = sign_off(
            request.run,
            release=request.release,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            acceptances=request.acceptances,
            comparison=request.comparison,
            manifest_sha256=sha256_of(work / MANIFEST_FILE),
            empty_folders=tuple(outside_signoff(contents.empty)),
        )
        notes = _write(work, signed, request)
        _make_durable(work)
        work.rename(target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if not any(target.parent.iterdir()):
            target.parent.rmdir()
        raise
    return Written(target, signed, notes)


def _write(work: Path, signed: SignOff, request: Request) -> tuple[str, ...]:
    (work / PAGE_FILE).write_bytes(render_signoff(signed, request.verify_options))
    fault = print_pdf(work / PAGE_FILE, work / PDF_FILE) if request.pdf else ""
    sent = render_sent(signed, request.folder, request.signer, request.verify_options)
    names = [MANIFEST_FILE, PAGE_FILE, *([PDF_FILE] if (work / PDF_FILE).exists() else [])]
    digests = {**{name: sha256_of(work / name) for name in names}, REPORT_FILE: digest_of(sent)}
    name, attestation = request.attest(as_bytes(statement(signed, digests)))
    (work / name).write_bytes(attestation)
    (work / REPORT_FILE).write_bytes(attested(sent, attestation))
    unsigned = "" if request.signer else "not signed: --sign-key KEY protects it from more than accidents"
    return tuple(note for note in (fault, unsigned) if note)


def _make_durable(work: Path) -> None:
    work.chmod(0o755)
    for file in work.iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
