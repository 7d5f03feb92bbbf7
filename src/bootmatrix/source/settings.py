"""Where the archive is and how far it is trusted: from arguments, the environment, and the host's own apt."""

from __future__ import annotations

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
"""Debian's documented address of last resort (sources.list(5), debian.org/mirror/list)."""
KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("pgp", "gpg"))
"""Where the package debian-archive-keyring puts the archive's keys."""
MAX_AGE_H = 24.0
MAX_FUTURE_S = 10.0
"""As apt.conf(5) has it for Acquire::Max-FutureTime."""
_KEYRING_HINT = "Install the package debian-archive-keyring, or name a file of keys with BOOTMATRIX_KEYRING."


@dataclass(frozen=True)
class AptSource:
    """One entry of the host's apt sources, as far as it matters here."""

    address: str
    suites: tuple[str, ...]
    components: tuple[str, ...]

    def is_debian(self) -> bool:
        """Whether it serves Debian's main archive over HTTP; security and other distributions' archives are not it."""
        url = urlsplit(self.address)
        is_main = "main" in self.components and not all("security" in suite for suite in self.suites)
        return url.scheme in {"http", "https"} and url.path.rstrip("/").endswith("/debian") and is_main


class Settings:
    """What is known before anything is asked of the network. Each value is found when it is first needed.

    `offline` forbids downloads; `refresh` asks for newer indexes, however young those in the cache are; `allow_older`
    takes releases of suites that are older than others seen before, as those of a snapshot are.
    """

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
        """The archive's address: the argument, else BOOTMATRIX_ARCHIVE, else the host's own, else Debian's default.

        Raises:
            InputError: it is not an HTTP address.
        """
        address = self._explicit or os.environ.get("BOOTMATRIX_ARCHIVE")
        if address is None:
            address = next((source.address for source in apt_sources(self._apt) if source.is_debian()), DEFAULT_ADDRESS)
        if not _is_http(address):
            raise InputError(
                f"the archive's address {str(RedactedUrl(address))!r} is not an HTTP address",
                f"It looks like {DEFAULT_ADDRESS}",
            )
        return address.rstrip("/")

    @property
    def shown_address(self) -> RedactedUrl:
        """The archive's address for messages."""
        return RedactedUrl(self.address)

    @cached_property
    def keyring(self) -> Path:
        """The keys that may sign the archive.

        Raises:
            HostError: there are none.
        """
        own = os.environ.get("BOOTMATRIX_KEYRING")
        for path in (Path(own).expanduser().absolute(),) if own else KEYRINGS:
            if path.is_file():
                return path
        raise HostError(f"the archive's keys are not at {own or KEYRINGS[-1]}", _KEYRING_HINT)

    @cached_property
    def max_age_s(self) -> float:
        """How old an index may be before the archive is asked for a newer one: 24 h, or BOOTMATRIX_MAX_AGE_H hours.

        Raises:
            InputError: the environment holds no number.
        """
        hours = os.environ.get("BOOTMATRIX_MAX_AGE_H") or str(MAX_AGE_H)
        if not re.fullmatch(r"\d+(\.\d+)?", hours):
            raise InputError(f"BOOTMATRIX_MAX_AGE_H={hours!r} is not a number of hours")
        return float(hours) * 3600

    @cached_property
    def apt_options(self) -> dict[str, str]:
        """The host's apt configuration, names in lower case; empty where there is no apt."""
        try:
            shown = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        lines = re.findall(r'^(\S+) "(.*)";$', shown.stdout, re.MULTILINE)
        return {name.lower(): value for name, value in lines}

    @property
    def checks_valid_until(self) -> bool:
        """Whether an index past its Valid-Until is refused: as the host's apt does."""
        return self.checks_date and self._is_on("acquire::check-valid-until")

    @property
    def checks_date(self) -> bool:
        """Whether an index of the future is refused: as the host's apt does."""
        return self._is_on("acquire::check-date")

    @property
    def max_future_s(self) -> float:
        """How far in the future an index may be, as clocks differ: as the host's apt has it, and 10 s without that."""
        value = self.apt_options.get("acquire::max-futuretime", "")
        return float(value) if value.isascii() and value.isdigit() else MAX_FUTURE_S

    def _is_on(self, option: str) -> bool:
        value = self.apt_options.get(option, "true")
        return value.lower() not in {"false", "no", "0", "off", "without", "disable"}

    @property
    def proxy(self) -> str | None:
        """The proxy that the host's apt uses; None where the environment names one, which then counts."""
        import urllib.request  # it takes long to load, and most builds find all in the cache

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
    """Entries of sources.list and sources.list.d, in both formats of sources.list(5); unreadable ones are left out."""
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
        found = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if found:
            yield AptSource(found[1], (found[2],), tuple(found[3].split()))


def _deb822_entries(text: str) -> Iterator[AptSource]:
    from debian.deb822 import Deb822  # it takes long to load

    for entry in Deb822.iter_paragraphs(text.splitlines()):
        words = {name.lower(): value.split() for name, value in entry.items()}
        if "deb" in words.get("types", ()) and words.get("enabled", ["yes"]) != ["no"]:
            for address in words.get("uris", ()):
                yield AptSource(address, tuple(words.get("suites", ())), tuple(words.get("components", ())))
