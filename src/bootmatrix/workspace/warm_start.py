"""Guests' inputs as they were at their last start: another one needs no plan.

Light: the modules that plan and build are not imported, which takes as long as a copied guest's start. What is kept
holds until a file of bootmatrix's or the user's changes that decides it, or an index of packages is to be asked for
again. The snapshot is read while other modules are imported, and compared with its digest while its copy comes up:
before that no command runs there.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bootmatrix.errors import BootmatrixError, DamagedCache
from bootmatrix.qemu.cgroup import places
from bootmatrix.snapshot.cache import SnapshotCache
from bootmatrix.store import Store
from bootmatrix.workspace.kept_client import FILES, NEARBY, stamps

if TYPE_CHECKING:
    from bootmatrix.model import Bootable, Cell, Machine
    from bootmatrix.snapshot.snapshot import ReadSnapshot, Snapshot

KIND = "warm-start"
PACKAGE = Path(__file__).resolve().parent.parent
SHIPPED = ("arch", "kernels", "specs")
"""Folders of a checkout whose files decide a guest; an installed package has them inside."""
LONGEST_S = 24 * 3600.0
"""Inputs are kept for at most this long."""


@dataclass(frozen=True)
class WarmStart:
    """Inputs of a guest that was started before, by a key of all that decided them.

    `fields` are the JSON values of `keep`.
    """

    store: Store
    fields: Mapping[str, Any]
    _loaded: Future[ReadSnapshot | None]

    def snapshot(self) -> Snapshot | None:
        """Return the unverified snapshot, if its disk is there too. Blocking."""
        loaded = self._loaded.result()
        return loaded.snapshot if loaded and self.store.has(self.fields["disk"]) else None

    def check_copy(self) -> None:
        """Verify the snapshot and the disk of a copy, which may run already. Blocking.

        Raises DamagedCache if one is damaged; it is removed.
        """
        loaded = self._loaded.result()
        if loaded and not loaded.is_sound():
            key = self.fields["snapshot"]
            SnapshotCache(self.store).discard(key)
            raise DamagedCache("a damaged snapshot of the cache was removed", "Run again to make another.", key)
        self.store.verified(self.fields["disk"])

    def check_others(self) -> None:
        """Verify the files that a copy needs not, such as the kernel. Blocking.

        Raises DamagedCache for one that is missing or damaged.
        """
        for sha256 in self.fields["others"]:
            self.store.verified(sha256)


def key_of(settings_key: str) -> str:
    """Return a key of settings, code, and the files that decide a guest."""
    digest = hashlib.sha256(settings_key.encode())
    shipped = () if (PACKAGE / "data").is_dir() else (str(PACKAGE.parent.parent / name) for name in SHIPPED)
    named = (path for name in FILES for path in os.environ.get(name, "").split(os.pathsep) if path)
    ours = (stamp for top in (str(PACKAGE), *shipped) for stamp in stamps(top))
    users = (stamp for top in (*NEARBY, *named) for stamp in stamps(top, is_deep=False))
    for stamp in sorted((*ours, *users)):
        digest.update(stamp.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def find(cache: Path, key: str) -> WarmStart | None:
    """Find a guest's inputs, and begin to read their files; None if nothing is kept."""
    if not (cache / "memo" / KIND).is_dir():  # a look makes no cache
        return None
    try:
        store = Store(cache)
        record = store.memo(KIND, key)
    except BootmatrixError:  # told by what follows
        return None
    fields = json.loads(record) if record else {}
    if not time.time() < fields.get("good_until_s", 0) < time.time() + LONGEST_S or not _is_same_qemu(fields):
        return None
    workers = ThreadPoolExecutor(2)
    workers.submit(places)
    loaded = workers.submit(SnapshotCache(store).load, fields["snapshot"])
    workers.shutdown(wait=False)
    return WarmStart(store, fields, loaded)


def _is_same_qemu(fields: Mapping[str, Any]) -> bool:
    """Return whether QEMU's file is that of the snapshot's key."""
    program, _, *stamp = json.loads(fields["snapshot"])["qemu"]
    try:
        status = os.stat(program)  # noqa: PTH116
    except OSError:
        return False
    return bool(stamp == [status.st_size, status.st_mtime_ns])


def keep(store: Store, key: str, good_until_s: float, guest: tuple[Machine, Bootable, Cell], **fields: object) -> None:
    """Keep a guest's inputs if it can be copied and the cache has its files.

    Raises HostError if the disk is full.
    """
    from bootmatrix.snapshot.pool import key_of as snapshot_key

    machine, bootable, cell = guest
    if not bootable.forkable:
        return
    disk, others = bootable.forkable.disk, (*bootable.parts().values(), bootable.forkable.initrd)
    if any(Path(artefact.path) != store.blob(artefact.sha256) for artefact in (disk, *others)):
        return
    values = {
        **fields,
        "good_until_s": min(good_until_s, time.time() + LONGEST_S - 1),
        "snapshot": snapshot_key(machine, bootable),
        "disk": disk.sha256,
        "others": sorted({artefact.sha256 for artefact in others}),
        "machine": machine.model_dump_json(),
        "bootable": bootable.model_dump_json(),
        "cell": cell.model_dump_json(),
    }
    store.set_memo(KIND, key, json.dumps(values).encode())
    store.forget_memos(KIND, older_than_s=LONGEST_S)
