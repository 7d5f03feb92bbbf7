"""A suite's InRelease file: signed by the archive, it says which indexes there are, and their digests."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

from bootmatrix.errors import HostError, InfraError, NetworkError, UntrustedError
from bootmatrix.model.base import Model, Sha256
from bootmatrix.store import Store, model_codec

LIMIT_BYTES = 8 << 20
"""Debian's InRelease files have up to 0.3 MB."""
_FORMAT = 2
_INDEX = re.compile(r"main/binary-([a-z0-9-]+)/Packages(\.xz|\.gz)")
_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_GPGV_TIMEOUT_S = 30


class IndexFile(Model):
    """A compressed list of packages, and what it must be. `path` is below the suite's folder."""

    path: str
    sha256: Sha256
    size_bytes: int


class Release(Model):
    """What a suite's verified InRelease says. `indexes` holds the list of packages of each architecture.

    `date` and `valid_until` are RFC 2822 dates as they stand in the file; `valid_until` may be empty.
    """

    origin: str = ""
    suite: str
    codename: str = ""
    date: str = ""
    valid_until: str = ""
    by_hash: bool = False
    indexes: dict[str, IndexFile]

    def check_suite(self, wanted: str) -> None:
        """See that it is of the suite that was asked for.

        Raises:
            UntrustedError: it is another suite's.
        """
        if wanted not in {self.suite, self.codename}:
            raise UntrustedError(
                f"the archive's file for suite {wanted} is signed for suite {self.suite} ({self.codename})",
                "The mirror is misconfigured, or someone is tampering with it: use another with BOOTMATRIX_ARCHIVE.",
            )

    def is_over(self) -> bool:
        """Whether it says that its time is over."""
        return bool(self.valid_until) and parse_date(self.valid_until) < datetime.now(UTC)

    def is_early(self, tolerance_s: float = 0) -> bool:
        """Return whether it is of a time that has not come yet."""
        return parse_date(self.date) > datetime.now(UTC) + timedelta(seconds=tolerance_s)

    def too_early(self, wanted: str) -> InfraError:
        """Return what is to be said of one whose time has not come yet."""
        return InfraError(
            f"the archive's index of {wanted} is of {self.date}, which is in the future, and must not be trusted yet",
            "See that the clock is right: `date` says what this machine believes. As for apt, Acquire::Max-FutureTime "
            "in apt.conf says how many seconds are let pass.",
        )

    def too_old(self, wanted: str) -> InfraError:
        """What is to be said of one whose time is over."""
        return InfraError(
            f"the archive's index of {wanted} was valid until {self.valid_until}, and must not be trusted any more",
            "Use a mirror that is up to date (BOOTMATRIX_ARCHIVE), see that the clock is right, or, for an archive "
            'that is meant to stand still, set Acquire::Check-Valid-Until "false" in apt.conf.',
        )


def verified_release(data: bytes, keyring: Path, store: Store) -> Release:
    """What an InRelease file says, if a key of the keyring signed it; remembered, so that a file is verified once.

    Raises:
        UntrustedError: no good signature.
        HostError: gpgv is missing.
        NetworkError: it is no InRelease file.
    """
    key = json.dumps([_FORMAT, hashlib.sha256(data).hexdigest(), hashlib.sha256(keyring.read_bytes()).hexdigest()])
    return store.cached(
        "release",
        key,
        lambda: parse_release(signed_text(data, keyring).decode(errors="replace")),
        model_codec(Release),
    )


def signed_text(data: bytes, keyring: Path) -> bytes:
    """The part of a clear-signed file that its signature covers, and nothing else.

    As apt does, it takes one good signature for enough, so that a file may also be signed by keys not known here.

    Raises:
        UntrustedError: no good signature, or a bad one.
        HostError: gpgv is missing.
        NetworkError: the data is not clear-signed.
    """
    if not data.startswith(_BEGIN) or data.count(_BEGIN) != 1:
        raise NetworkError(
            "the server sent something else than an InRelease file",
            "A network's log-in page does that, or a wrong address: see BOOTMATRIX_ARCHIVE.",
        )
    with tempfile.TemporaryDirectory(prefix="bootmatrix-") as folder:
        text = Path(folder) / "text"
        status = _gpgv(["--keyring", str(keyring), "--output", str(text)], data)
        words = {line.split(" ")[1] for line in status.splitlines() if line.startswith("[GNUPG:] ")}
        if "GOODSIG" not in words or "BADSIG" in words or not text.is_file():
            raise UntrustedError(
                f"the archive's index is not signed by a key of {keyring}: {_explain(status)}",
                "Update the package debian-archive-keyring, or name the archive's keys with BOOTMATRIX_KEYRING.",
            )
        return text.read_bytes()


def _gpgv(arguments: list[str], data: bytes) -> str:
    """What gpgv says of data on its status channel (GnuPG's doc/DETAILS)."""
    command = ["gpgv", "--status-fd", "1", "--weak-digest", "SHA1", *arguments, "-"]
    try:
        result = subprocess.run(command, input=data, capture_output=True, timeout=_GPGV_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        message = "gpgv is not installed, and the archive's signatures cannot be checked without it"
        raise HostError(message, "apt-get install gpgv") from error
    except subprocess.TimeoutExpired as error:
        raise HostError(f"gpgv did not end within {_GPGV_TIMEOUT_S} s") from error
    return result.stdout.decode(errors="replace")


def _explain(status: str) -> str:
    """The lines of gpgv's status that say why, in its own words."""
    telling = ("BADSIG", "ERRSIG", "NO_PUBKEY", "EXPKEYSIG", "REVKEYSIG", "EXPSIG", "NODATA")
    lines = [line.removeprefix("[GNUPG:] ") for line in status.splitlines()]
    return "; ".join(line for line in lines if line.startswith(telling)) or "no signature"


def parse_release(text: str) -> Release:
    """The fields of a Release file that matter here.

    Raises:
        NetworkError: they are not there.
    """
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
    found = _INDEX.fullmatch(words[2]) if len(words) == 3 else None
    if found and re.fullmatch(r"[0-9a-f]{64}", words[0]) and words[1].isdigit():
        known = indexes.get(found[1])
        if known is None or found[2] == ".xz":  # the smaller one
            indexes[found[1]] = IndexFile(path=words[2], sha256=words[0], size_bytes=int(words[1]))


def parse_date(text: str) -> datetime:
    """A date of a Release file.

    Raises:
        NetworkError: it is none.
    """
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise NetworkError(f"the archive's InRelease file holds no date: {text[:100]!r}") from error
    return date if date.tzinfo else date.replace(tzinfo=UTC)
