"""A suite's InRelease file: the signed list of its indexes and their digests."""

import hashlib
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from bootmatrix.errors import HostError, InfraError, NetworkError, UntrustedError
from bootmatrix.model.base import Model, Sha256
from bootmatrix.store import Store, model_codec, temporary_folder

LIMIT_BYTES = 8 << 20
"""Debian's InRelease files have up to 0.3 MB."""
_FORMAT = 2
_INDEX = re.compile(r"main/binary-([a-z0-9-]+)/Packages(\.xz|\.gz)")
_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_GPGV_TIMEOUT_S = 30


class IndexFile(Model):
    """A compressed list of packages. `path` is relative to the suite's folder."""

    path: str
    sha256: Sha256
    size_bytes: int


class Release(Model):
    """Content of a suite's verified InRelease file.

    `indexes` maps architectures to their lists of packages. `date` and `valid_until` are RFC 2822 dates as in the
    file; `valid_until` may be empty.
    """

    origin: str = ""
    suite: str
    codename: str = ""
    date: str = ""
    valid_until: str = ""
    by_hash: bool = False
    indexes: dict[str, IndexFile]

    def check_suite(self, suite: str) -> None:
        """Check a release's suite. Raises UntrustedError if it is another.

        Some archives give one codename to several suites, `NAME` and `NAME-proposed`: there it names the first alone.
        """
        is_part = self.suite.startswith(f"{self.codename}-")
        if suite not in {self.suite, *(() if is_part else (self.codename,))}:
            raise UntrustedError(
                f"the archive's file for suite {suite} is signed for suite {self.suite} ({self.codename})",
                "The mirror is misconfigured, or someone is tampering with it: use another with BOOTMATRIX_ARCHIVE.",
            )

    def is_over(self) -> bool:
        """Return whether the release has expired."""
        return bool(self.valid_until) and parse_date(self.valid_until) < datetime.now(UTC)

    def is_early(self, tolerance_s: float = 0) -> bool:
        """Return whether the release is dated in the future."""
        return parse_date(self.date) > datetime.now(UTC) + timedelta(seconds=tolerance_s)

    def too_early(self, suite: str) -> InfraError:
        """Return the error for a release dated in the future."""
        return InfraError(
            f"the archive's index of {suite} is dated {self.date}, which is in the future",
            "Check this machine's clock with `date`. As for apt, Acquire::Max-FutureTime in apt.conf is the tolerance "
            "in seconds.",
        )

    def too_old(self, suite: str) -> InfraError:
        """Return the error for an expired release."""
        return InfraError(
            f"the archive's index of {suite} has expired: it was valid until {self.valid_until}",
            "Use an up-to-date mirror (BOOTMATRIX_ARCHIVE), and check this machine's clock. For an archive that never "
            'changes, set Acquire::Check-Valid-Until "false" in apt.conf.',
        )


def verified_release(data: bytes, keyring: Path, store: Store) -> Release:
    """Parse an InRelease file that a key of the keyring signed.

    The result is cached, so that each file is verified once.

    Raises UntrustedError without a good signature, HostError if gpgv is missing, NetworkError if it is not an InRelease
    file.
    """
    key = json.dumps([_FORMAT, hashlib.sha256(data).hexdigest(), hashlib.sha256(keyring.read_bytes()).hexdigest()])
    return store.cached(
        "release", key, lambda: parse_release(signed_text(data, keyring).decode(errors="replace")), model_codec(Release)
    )


def signed_text(data: bytes, keyring: Path) -> bytes:
    """Return the part of a clear-signed file that its signature covers.

    As for apt, one good signature is enough: the file may also be signed by unknown keys.

    Raises UntrustedError without a good signature, or with a bad one; HostError if gpgv is missing; NetworkError if the
    data is not clear-signed.
    """
    if not data.startswith(_BEGIN) or data.count(_BEGIN) != 1:
        raise NetworkError(
            "the server did not send an InRelease file",
            "Possible causes are a network's log-in page and a wrong address (BOOTMATRIX_ARCHIVE).",
        )
    with temporary_folder() as folder:
        text = folder / "text"
        status = run_gpgv(["--keyring", str(keyring), "--output", str(text), "-"], data)
        words = {line.split(" ")[1] for line in status.splitlines() if line.startswith("[GNUPG:] ")}
        if "GOODSIG" not in words or "BADSIG" in words or not text.is_file():
            raise UntrustedError(
                f"the archive's index is not signed by a key of {keyring}: {explain(status)}",
                "Update the package debian-archive-keyring, or set BOOTMATRIX_KEYRING to the archive's keys.",
            )
        return text.read_bytes()


def run_gpgv(arguments: list[str], data: bytes = b"") -> str:
    """Run gpgv, and return its status lines (GnuPG's doc/DETAILS).

    Raises HostError if it is missing, or does not end.
    """
    command = ["gpgv", "--status-fd", "1", "--weak-digest", "SHA1", *arguments]
    try:
        result = subprocess.run(command, input=data, capture_output=True, timeout=_GPGV_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        message = "gpgv is not installed: cannot check the archive's signatures"
        raise HostError(message, "apt-get install gpgv") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"gpgv did not end within {_GPGV_TIMEOUT_S} s") from error
    return result.stdout.decode(errors="replace")


def explain(status: str) -> str:
    """Select the status lines of gpgv that name the fault."""
    telling = ("BADSIG", "ERRSIG", "NO_PUBKEY", "EXPKEYSIG", "REVKEYSIG", "EXPSIG", "NODATA")
    lines = [line.removeprefix("[GNUPG:] ") for line in status.splitlines()]
    return "; ".join(line for line in lines if line.startswith(telling)) or "no signature"


def parse_release(text: str) -> Release:
    """Parse a Release file. Raises NetworkError if fields are missing."""
    fields: dict[str, str] = {}
    indexes: dict[str, IndexFile] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith(" "):
            if section == "SHA256":
                _add_index(line.split(), indexes)
        else:
            section, _, value = line.partition(":")
            fields[section] = value.strip()
    if "Suite" not in fields and "Codename" not in fields:
        raise NetworkError("the archive's InRelease file names no suite")
    return Release(
        origin=fields.get("Origin", ""),
        suite=fields.get("Suite", ""),
        codename=fields.get("Codename", ""),
        date=fields.get("Date", ""),
        valid_until=fields.get("Valid-Until", ""),
        by_hash=fields.get("Acquire-By-Hash") == "yes",
        indexes=indexes,
    )


def _add_index(words: list[str], indexes: dict[str, IndexFile]) -> None:
    match = _INDEX.fullmatch(words[2]) if len(words) == 3 else None
    if match and re.fullmatch(r"[0-9a-f]{64}", words[0]) and words[1].isdigit():
        listed = indexes.get(match[1])
        if listed is None or match[2] == ".xz":  # the smaller one
            indexes[match[1]] = IndexFile(path=words[2], sha256=words[0], size_bytes=int(words[1]))


def parse_date(text: str) -> datetime:
    """Parse a date of a Release file. Raises NetworkError if it is invalid."""
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise NetworkError(f"invalid date in the archive's InRelease file: {text[:100]!r}") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
