"""Names of runs' folders: the time, and the title."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

MAX_TITLE = 60


def new_folder(reports: Path, title: str) -> Path:
    """Make the folder of a new run; its parent is there."""
    while True:
        path = free_name(reports, title)
        with suppress(FileExistsError):
            path.mkdir()
            return path


def free_name(reports: Path, title: str) -> Path:
    """Return the path of a run that does not exist, named by the time and its title."""
    words = re.sub(r"[^A-Za-z0-9_.+-]+", "-", title)[:MAX_TITLE].strip("-.") or "run"
    name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{words}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(path for path in map(reports.joinpath, names) if not path.exists())
