"""Records of the store: how values become bytes, and who keeps them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """Converts a value to a record and back."""

    load: Callable[[bytes], T]
    dump: Callable[[T], bytes]


JSON: Codec[Any] = Codec(json.loads, lambda value: json.dumps(value).encode())

TEXT = Codec(bytes.decode, str.encode)


def model_codec(model: type[M]) -> Codec[M]:
    """Return the codec of a pydantic model."""
    return Codec(model.model_validate_json, lambda value: value.model_dump_json().encode())


class Memos(Protocol):
    """The part of the store that keeps small records by kind and key."""

    def memo(self, kind: str, key: str) -> bytes | None:
        """Return the record of a kind under a key, if any."""

    def set_memo(self, kind: str, key: str, value: bytes) -> None:
        """Keep a record."""
