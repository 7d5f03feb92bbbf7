"""Files of the package beside its code: scripts, examples, tables."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


def packaged(path: str, **values: object) -> str:
    """Read a text of the package; `values` replace words such as `@NAME@`.

    >>> packaged("scaffold/wait.sh").splitlines()[-1]
    'exit "$(cat /run/bootmatrix/status)"'
    """
    text = files("bootmatrix").joinpath(path).read_text(encoding="utf-8")
    return re.sub("@([A-Z_]+)@", lambda word: str(values[word[1].lower()]), text) if values else text


@cache
def packaged_table(path: str) -> dict[str, Any]:
    """Read a TOML file of the package, once."""
    return tomllib.loads(packaged(path))
