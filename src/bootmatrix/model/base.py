"""The common base of all values: frozen, strict, and closed to unknown keys."""

import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError


class Model(BaseModel):
    """A frozen value of finite numbers; numbers and strings are not converted.

    Validators and serialisers are built on first use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True, allow_inf_nan=False)

    def model_post_init(self, _context: Any) -> None:
        """Share what pydantic keeps per value, and nobody asks for.

        Without it a record takes 38 KiB instead of 16, and half as long again to load.
        """
        object.__setattr__(self, "__pydantic_fields_set__", _field_names(type(self)))

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.model_post_init(None)
        return copied


def as_json(value: Model, indent: int | None = None) -> bytes:
    """A value as JSON in UTF-8."""
    with suppress(ValueError):  # text of a guest may hold lone surrogates, which pydantic refuses to write
        return value.model_dump_json(indent=indent).encode()
    return json.dumps(value.model_dump(), ensure_ascii=False, indent=indent).encode("utf-8", "replace")


@cache
def _field_names(kind: type[BaseModel]) -> set[str]:
    return set(kind.model_fields)


@contextmanager
def many_made() -> Iterator[None]:
    """Disable garbage collection while many lasting values are created."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def first_fault(error: ValidationError) -> str:
    """Return pydantic's first fault with its place: `cells.0.id: …`."""
    fault = error.errors(include_url=False)[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hexadecimal, without a prefix."""


def _checked_time(text: str) -> str:
    """Return a time. Raises ValueError if not RFC 3339, or out of range."""
    try:
        if not text.isascii() or not text.isprintable():  # Python takes any character between date and time
            raise ValueError
        datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"not a time: {text[:40]!r}") from error
    return text


Time = Annotated[str, AfterValidator(_checked_time)]
"""A time of RFC 3339."""


def _checked_run_name(text: str) -> str:
    """Return the name of a run's folder as it is. Raises ValueError if it is a path."""
    if "/" in text or "\0" in text or text in {".", ".."}:
        raise ValueError(f"a path in place of the name of a run: {text[:80]!r}")
    return text


RunName = Annotated[str, AfterValidator(_checked_run_name)]
"""The name of a run's folder, beside other runs."""

NAME = "[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
"""A name that is safe as a file name: it has no slash and does not begin with a dot or a dash."""

Board = Annotated[str, StringConstraints(pattern=f"^{NAME}(@{NAME})?$")]
"""A machine's name, optionally with a CPU model: `virt@cortex-a72`. Safe as a file name."""
