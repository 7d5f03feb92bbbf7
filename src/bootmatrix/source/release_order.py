"""Detect rollback: remember the newest release of each suite."""

import json
from datetime import datetime

from bootmatrix.errors import UntrustedError
from bootmatrix.source.release import Release, parse_date
from bootmatrix.store import Store

KIND = "newest-release"
"""Kind of the records: an ISO 8601 date by the archive's origin and the suite, for all mirrors."""
_FORMAT = 2
"""Version of the keys of other signers than the archive's."""


class ReleaseOrder:
    """Compare releases with those that this cache has seen, of the same signers.

    `signers` is empty for the archive, else a digest of keys: who has others cannot make the archive's releases old.
    For any number of threads and processes.
    """

    def __init__(self, store: Store, allows_older: bool, signers: str = "") -> None:
        self._store, self._allows_older, self._signers = store, allows_older, signers

    def is_behind(self, suite: str, release: Release) -> bool:
        """Return whether a newer release was seen, and older ones are forbidden."""
        newest = max(filter(None, (self._newest(key) for key in self._keys(suite, release))), default=None)
        return not self._allows_older and newest is not None and parse_date(release.date) < newest

    def accept(self, suite: str, release: Release) -> None:
        """Record a release as seen.

        Raises UntrustedError if a newer one was seen before, NetworkError if it has no date.
        """
        date = parse_date(release.date)
        for key in self._keys(suite, release):
            with self._store.once(KIND, key):
                newest = self._newest(key)
                if newest is None or date > newest:
                    self._store.set_memo(KIND, key, date.isoformat().encode())
                elif date < newest and not self._allows_older:
                    raise rolled_back(suite, release, newest)

    def _newest(self, key: str) -> datetime | None:
        record = self._store.memo(KIND, key)
        return datetime.fromisoformat(record.decode()) if record is not None else None

    def _keys(self, suite: str, release: Release) -> list[str]:
        """Return a release's keys: by its requested name, and by its own.

        That is its codename, as its suite may be `stable` today. Some archives give one codename to several suites,
        `NAME` and `NAME-updates`, whose dates are independent.
        """
        is_part = release.suite.startswith(f"{release.codename}-")
        own = release.suite if is_part else release.codename
        owner = [self._signers, _FORMAT] if self._signers else []
        return [json.dumps([release.origin, name, *owner]) for name in dict.fromkeys(filter(None, (suite, own)))]


def rolled_back(suite: str, release: Release, newest_date: datetime) -> UntrustedError:
    """Return the error for a release that is older than one seen before."""
    newest = f"{newest_date:%a, %d %b %Y %H:%M:%S %Z}"
    return UntrustedError(
        f"the archive's index of {suite} was rolled back, or the mirror is outdated: its date is {release.date}, and "
        f"one of {newest} was seen before",
        "Try again later, or use another mirror (--archive, BOOTMATRIX_ARCHIVE). For an intended older archive, such "
        "as a snapshot, use --allow-older-release or a separate cache (--cache).",
    )
