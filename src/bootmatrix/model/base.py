"""The common base of all values: frozen, strict, and closed to unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class Model(BaseModel):
    """A frozen value. Input is read from JSON types in strict mode: no number becomes a string, no string a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hexadecimal, without a prefix."""

NAME = "[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
"""A name that is safe as a file name: it has no slash and does not begin with a dot or a dash."""

Board = Annotated[str, StringConstraints(pattern=f"^{NAME}(@{NAME})?$")]
"""A machine's name, perhaps with one of its CPU models: `virt@cortex-a72`. Safe as a file name too."""
