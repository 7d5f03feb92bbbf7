"""Validation of documents against the model, with errors in plain words."""

import difflib
import json
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bootmatrix.load.document import Document, Location, describe, read_document
from bootmatrix.model.base import Model
from bootmatrix.model.cell import PRINTABLE
from bootmatrix.model.cluster import ADDRESS, TLS_ADDRESS, USER

M = TypeVar("M", bound=Model)

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$": "a name: letters, digits and _ . + -, 64 at most, "
    "the first one a letter or a digit",
    r"^0*[0-7]{1,4}$": 'an octal mode such as "0644"',
    r"^\d+(\.\d+)*$": 'a version such as "7.2"',
    r"^qemu-system-[a-z0-9_]+$": "the name of a QEMU system emulator, qemu-system-…",
    r"^linux/[a-z0-9]+(/[a-z0-9]+)?$": "an OCI platform, linux/ARCHITECTURE or linux/ARCHITECTURE/VARIANT",
    r"^[^\x00-\x1f\x7f]+$": "one line of printable text",
    PRINTABLE: "one line of printable text",
    r"^([1-9][0-9]{0,6}[MG]|auto)$": "an amount of memory such as 512M or 2G, or auto",
    r"^[0-9a-f]{64}$": "a SHA-256 in lower-case hexadecimal",
    ADDRESS: "a host name or an IP address",
    TLS_ADDRESS: "an address tls://HOST:PORT",
    USER: "a user's name",
}


def suggest(word: str, candidates: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the nearest, else all candidates."""
    options = sorted(set(candidates))
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(options)}" if options else ""


def read_model(path: Path, model: type[M]) -> tuple[M, Document]:
    """Read a file of one value. Raises InputError if it is invalid."""
    document = read_document(path)
    return validate(document, model), document


def validate(document: Document, model: type[M], **preset: Any) -> M:
    """Validate a document as a value. The file cannot set the fields `preset`.

    Raises FileError with all faults, including those of reading.
    """
    names = keys_at(model, ()) - set(preset)
    for key in set(preset) & set(document.data):
        document.complain((key,), f"unknown key {key!r}.{suggest(key, names)}")
    try:
        value = model.model_validate_json(json.dumps(document.data | preset), by_alias=True, by_name=False)
    except ValidationError as error:
        _note(document, model, set(preset), error.errors(include_url=False))
        document.raise_faults()
        raise
    document.raise_faults()
    return value


def _note(document: Document, model: type[Model], preset: set[str], errors: Iterable[ErrorDetails]) -> None:
    errors = tuple(errors)
    unknown = {_place(document, error) for error in errors if error["type"] == "extra_forbidden"}
    grouped: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        location = _place(document, error)
        if location not in document.faults and not _follows(error, location, {*unknown, *document.faults}):
            grouped.setdefault(location, []).append(error)
    for location, group in grouped.items():
        if group[0]["type"] == "extra_forbidden":
            key, around = str(location[-1]), location[:-1]
            names = keys_at(model, around) - (set() if around else preset)
            document.complain(location, f"unknown key {key!r}.{suggest(key, names)}")
        else:
            document.complain(location, _message(document, location, group))


def _follows(error: ErrorDetails, location: Location, faulty: Iterable[Location]) -> bool:
    """Return whether a fault follows from a misspelt key or a faulty entry."""
    if error["type"] == "missing":
        beside = [str(place[-1]) for place in faulty if place and place[:-1] == location[:-1]]
        return bool(difflib.get_close_matches(str(location[-1]), beside, n=1))
    return error["type"] == "too_short" and any(place[:-1] == location for place in faulty if place)


def _place(document: Document, error: ErrorDetails) -> Location:
    """Return the location in the file; pydantic adds the branches of a union to it."""
    if error["type"] == "missing":
        return error["loc"]
    location = error["loc"]
    while location and location not in document.lines:
        location = location[:-1]
    return location


def _message(document: Document, location: Location, group: list[ErrorDetails]) -> str:
    error = group[0]
    text = document.texts.get(location, "")
    actual = describe(error["input"], text)
    if error["type"] in _KINDS:
        expected = " or ".join(dict.fromkeys(_KINDS.get(detail["type"], detail["msg"]) for detail in group))
        return f"{_name(location)}must be {expected}, not {actual}{_advice(expected, error['input'], text)}"
    match error["type"]:
        case "missing":
            return f"{_name(location[:-1])}has no {str(location[-1])!r}"
        case "string_pattern_mismatch":
            pattern = error["ctx"]["pattern"]
            words = f"must be {_FORMS.get(pattern, f'of the form {pattern}')}, not {actual}"
        case "literal_error":
            words = f"must be {error['ctx']['expected']}, not {actual}"
        case "string_too_short" | "too_short":
            words = "is empty"
        case "value_error" if isinstance(error["input"], dict | list):
            words = str(error["ctx"]["error"])
        case "value_error":
            words = f"is {actual}: {error['ctx']['error']}"
        case _:
            words = (error["msg"][:1].lower() + error["msg"][1:]).replace("should be", "must be")
            words = f"is {actual}: {words}"
    return f"{_name(location)}{words}"


def _name(location: Location) -> str:
    """Return `'a.b' ` as a sentence's subject: key, and entry's index."""
    keys = [index for index, part in enumerate(location) if isinstance(part, str)]
    if not keys:
        return "the file "
    entries = "".join(f"[{part}]" for part in location[keys[-1] + 1 :])
    return f"'{location[keys[-1]]}{entries}' "


def _advice(expected: str, value: Any, text: str) -> str:
    if expected.startswith("text") and isinstance(value, bool | int | float):
        return f'. Put it in quotes: "{text}"'
    if expected == "true or false" and str(value).lower() in {"yes", "no", "on", "off", "y", "n"}:
        return f". Write {'true' if str(value).lower() in {'yes', 'on', 'y'} else 'false'}"
    if expected == "a list" and isinstance(value, str):
        return f". Write [{text}]" if "\n" not in text and len(text) < 40 else ""
    return ""


def keys_at(model: Any, location: Location) -> set[str]:
    """Return the keys that a model has at a location; empty where any key is allowed."""
    for part in location:
        model = _inside(model, part)
    return set(_fields(model))


def _fields(model: Any) -> dict[str, Any]:
    if isinstance(model, type) and issubclass(model, Model):
        return {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    return {}


def _inside(kind: Any, part: str | int) -> Any:
    """Return a part's type: of a field, a list's entry, a mapping's value."""
    kind = _bare(kind)
    if isinstance(part, str) and part in _fields(kind):
        return _bare(_fields(kind)[part])
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return _bare(arguments[0])
    return _bare(arguments[1]) if get_origin(kind) in {dict, Mapping} else None


def _bare(kind: Any) -> Any:
    """Strip Annotated and None from a type."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in {Union, types.UnionType}:
        return _bare(next(branch for branch in get_args(kind) if branch is not types.NoneType))
    return kind
