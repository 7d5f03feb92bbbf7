"""Address and trust of the archive: arguments, environment and the host's apt."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from bootmatrix.errors import HostError, InputError
from bootmatrix.redact import RedactedUrl

DEFAULT_ADDRESS = "http://ftp.debian.org/debian"
"""Debian's documented default (sources.list(5), debian.org/mirror/list)."""
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("pgp", "gpg"))
"""Files of the package debian-archive-keyring."""
MAX_AGE_H = 24.0
MAX_FUTURE_S = 10.0
"""Default of Acquire::Max-FutureTime in apt.conf(5)."""
_KEYRING_HINT = "Install the package debian-archive-keyring, or set BOOTMATRIX_KEYRING to a file of keys."


@dataclass(frozen=True)
class AptSource:
    """The used fields of an entry of the host's apt sources."""

    address: str
    suites: tuple[str, ...]
    components: tuple[str, ...]

    def is_debian(self) -> bool:
        """Return whether the entry is Debian's main archive over HTTP.

        Security updates and archives of other distributions are not.
        """
        url = urlsplit(self.address)
        is_main = "main" in self.components and not all("security" in suite for suite in self.suites)
        return url.scheme in {"http", "https"} and url.path.rstrip("/").endswith("/debian") and is_main


class Settings:
    """Settings of the archive. Each value is determined when it is first needed.

    `offline` forbids downloads. `refresh` ignores the age of cached indexes. `allow_older`
    accepts releases of suites that are older than ones seen before, such as snapshots.
    """

    signers = ""
    """A digest of the keys; empty for those of the archive."""

    def __init__(
        self,
        address: str | None = None,
        offline: bool = False,
        refresh: bool = False,
        apt: Path = Path("/etc/apt"),
        allow_older: bool = False,
    ) -> None:
        self._explicit = address
        self.offline, self.refresh, self.allow_older = offline, refresh, allow_older
        self._apt = apt

    @cached_property
    def address(self) -> str:
        """Return the archive's address.

        It is the argument, else BOOTMATRIX_ARCHIVE, else the host's own, else Debian's default.

        Raises InputError if it is not an HTTP address.
        """
        address = self._explicit or os.environ.get("BOOTMATRIX_ARCHIVE")
        if address is None:
            address = next((source.address for source in apt_sources(self._apt) if source.is_debian()), DEFAULT_ADDRESS)
        if not _is_http(address):
            raise InputError(
                f"the archive's address {str(RedactedUrl(address))!r} is not an HTTP address",
                f"Use an address like {DEFAULT_ADDRESS}",
            )
        return address.rstrip("/")

    @property
    def redacted_address(self) -> RedactedUrl:
        """Return the archive's address for messages."""
        return RedactedUrl(self.address)

    @cached_property
    def keyring(self) -> Path:
        """Return the archive's keyring. Raises HostError if it is missing."""
        configured = os.environ.get("BOOTMATRIX_KEYRING")
        for path in (Path(configured).expanduser().absolute(),) if configured else KEYRINGS:
            if path.is_file():
                return path
        raise HostError(f"the archive's keys were not found: {configured or KEYRINGS[-1]}", _KEYRING_HINT)

    @cached_property
    def max_age_s(self) -> float:
        """The age from which on an index is renewed."""
        return max_age_s()

    @cached_property
    def apt_options(self) -> dict[str, str]:
        """Return the host's apt configuration, with names in lower case.

        It is empty without apt.
        """
        try:
            dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        lines = re.findall(r'^(\S+) "(.*)";$', dump.stdout, re.MULTILINE)
        return {name.lower(): value for name, value in lines}

    @property
    def checks_valid_until(self) -> bool:
        """Return whether expired indexes are refused, as the host's apt does."""
        return self.checks_date and self._is_on("acquire::check-valid-until")

    @property
    def checks_date(self) -> bool:
        """Return whether indexes dated in the future are refused, as the host's apt does."""
        return self._is_on("acquire::check-date")

    @property
    def max_future_s(self) -> float:
        """Return the tolerance for dates in the future, as clocks differ.

        It is that of the host's apt, else 10 s.
        """
        value = self.apt_options.get("acquire::max-futuretime", "")
        return float(value) if value.isascii() and value.isdigit() else MAX_FUTURE_S

    def _is_on(self, option: str) -> bool:
        value = self.apt_options.get(option, "true")
        return value.lower() not in {"false", "no", "0", "off", "without", "disable"}

    @property
    def proxy(self) -> str | None:
        """Return the proxy of the host's apt; None if the environment sets one."""
        import urllib.request  # slow import, and most builds need no network

        url = urlsplit(self.address)
        if {url.scheme, "all"} & urllib.request.getproxies_environment().keys():
            return None
        name = f"acquire::{url.scheme}::proxy"
        value = self.apt_options.get(f"{name}::{url.hostname}") or self.apt_options.get(name)
        return value if value and value.upper() != "DIRECT" else None


def _is_http(address: str) -> bool:
    try:
        url = urlsplit(address)
        return url.scheme in {"http", "https"} and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        return False


def apt_sources(folder: Path) -> Iterator[AptSource]:
    """Iterate over the entries of sources.list and sources.list.d.

    Both formats of sources.list(5) are read. Unreadable files are skipped.
    """
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if path.suffix == ".list":
            yield from _one_line_entries(text)
        elif path.suffix == ".sources":
            yield from _deb822_entries(text)


def _one_line_entries(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            yield AptSource(match[1], (match[2],), tuple(match[3].split()))


def _deb822_entries(text: str) -> Iterator[AptSource]:
    from debian.deb822 import Deb822  # slow import

    for entry in Deb822.iter_paragraphs(text.splitlines()):
        words = {name.lower(): value.split() for name, value in entry.items()}
        if "deb" in words.get("types", ()) and words.get("enabled", ["yes"]) != ["no"]:
            for address in words.get("uris", ()):
                yield AptSource(address, tuple(words.get("suites", ())), tuple(words.get("components", ())))


def max_age_s() -> float:
    """Return the greatest age of an index: 24 h, or BOOTMATRIX_MAX_AGE_H hours.

    Raises InputError if the environment variable is not a number.
    """
    hours = os.environ.get("BOOTMATRIX_MAX_AGE_H") or str(MAX_AGE_H)
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", hours):
        raise InputError(f"BOOTMATRIX_MAX_AGE_H={hours!r} is not a number of hours")
    return float(hours) * 3600
