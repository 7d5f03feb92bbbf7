"""The newest release of each suite that was ever seen, so that an older one is known for what it is: rolled back."""

from __future__ import annotations

import json
from datetime import datetime

from bootmatrix.errors import UntrustedError
from bootmatrix.source.release import Release, parse_date
from bootmatrix.store import Store

KIND = "newest-release"
"""Of records in the store: a date in ISO 8601 by the archive's origin and the suite's name, whatever mirror gave it."""


class ReleaseOrder:
    """Compares releases with those that this cache has seen. For any number of threads and processes."""

    def __init__(self, store: Store, allows_older: bool) -> None:
        self._store, self._allows_older = store, allows_older

    def is_behind(self, suite: str, release: Release) -> bool:
        """Return whether a newer release of the suite was seen, and older ones are not allowed."""
        seen = max(filter(None, (self._newest(key) for key in _keys(suite, release))), default=None)
        return not self._allows_older and seen is not None and parse_date(release.date) < seen

    def accept(self, suite: str, release: Release) -> None:
        """Note a release as seen.

        Raises:
            UntrustedError: a newer one was seen before.
            NetworkError: it has no date.
        """
        date = parse_date(release.date)
        for key in _keys(suite, release):
            with self._store.once(KIND, key):
                seen = self._newest(key)
                if seen is None or date > seen:
                    self._store.set_memo(KIND, key, date.isoformat().encode())
                elif date < seen and not self._allows_older:
                    raise rolled_back(suite, release, seen)

    def _newest(self, key: str) -> datetime | None:
        known = self._store.memo(KIND, key)
        return datetime.fromisoformat(known.decode()) if known is not None else None


def rolled_back(suite: str, release: Release, seen: datetime) -> UntrustedError:
    """Return what is to be said of a release that is older than another one."""
    newest = f"{seen:%a, %d %b %Y %H:%M:%S %Z}"
    return UntrustedError(
        f"the archive's index of {suite} is of {release.date}, and one of {newest} was seen before: it was rolled "
        "back, or the mirror lags behind",
        "Try again later, or use another mirror (--archive, BOOTMATRIX_ARCHIVE). If it is older on purpose, as a "
        "snapshot is, say --allow-older-release, or give it a cache of its own (--cache).",
    )


def _keys(suite: str, release: Release) -> list[str]:
    """Return the keys of a release: by the name that it was asked for, and by its codename."""
    names = dict.fromkeys(filter(None, (suite, release.codename)))
    return [json.dumps([release.origin, name]) for name in names]
