"""JSON Schemas of people's files, generated from the model, for editors."""

from typing import Any

from bootmatrix.load.extends import EXTENDS, FLAVOUR
from bootmatrix.model import Catalogue, ImageRecipe, Matrix, PrebuiltGuest, Profile, Registries, Spec
from bootmatrix.model.base import Model
from bootmatrix.model.cluster import Cluster

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: dict[str, type[Model]] = {
    "spec": Spec,
    "guest": PrebuiltGuest,
    "matrix": Matrix,
    "profile": Profile,
    "catalogue": Catalogue,
    "image": ImageRecipe,
    "registries": Registries,
    "cluster": Cluster,
}
KINDS = tuple(MODELS)

FROM_THE_FILE = {
    "spec": ("name", "path", "notes", "own"),
    "profile": ("name", "own", "catalogue"),
    "catalogue": ("name", "folder"),
    "matrix": ("notes",),
}
"""Fields that are not written in the file: they are derived from it."""
ACCEPTED = {
    "spec": {
        "trust": {"type": "object", "description": "accepted but not used"},
        "outputs": {"type": "array", "description": "accepted but not used"},
    }
}
"""Keys that are accepted and not part of the model."""

Json = dict[str, Any]


def json_schema(kind: str) -> Json:
    """Return the schema of one of KINDS."""
    schema = MODELS[kind].model_json_schema(by_alias=True)
    for name in FROM_THE_FILE.get(kind, ()):
        schema["properties"].pop(name)
    schema["properties"] |= ACCEPTED.get(kind, {})
    schema["required"] = [name for name in schema.get("required", ()) if name in schema["properties"]]
    if kind == "matrix":
        for name in ("xfail", "console", "qemu_args", "expect", "resources"):
            entries = schema["properties"][name]
            text = [{"type": "string"}] if name not in {"expect", "resources"} else []
            schema["properties"][name] = {"anyOf": [entries, entries["items"], *text]}  # one entry needs no list
            schema["properties"][name] |= {"deprecated": True} if entries.pop("deprecated", False) else {}
        _durations(schema["$defs"]["Timeouts"])
    if kind == "guest":
        schema["properties"]["console"]["anyOf"].append({"type": "string"})
    if kind == "profile":
        for extending in (schema, schema["$defs"]["Machine"]):
            _extending(extending)
            extending["properties"][FLAVOUR] = {"type": "string", "description": "of the kernels that name none"}
        schema["$defs"]["KernelSource"]["required"].remove(FLAVOUR)
        schema["$defs"]["Names"].pop("required")  # some may be inherited
    return {"$schema": DIALECT, **schema}


def _extending(schema: Json) -> None:
    """Relax a schema for `extends`: no required keys; null drops a value."""
    for key, value in schema["properties"].items():
        schema["properties"][key] = {"anyOf": [value, {"type": "null"}]}
    schema["properties"][EXTENDS] = {"type": "string"}
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": [EXTENDS]}]


def _durations(timeouts: Json) -> None:
    """Times are numbers of seconds, or text such as `1m30s`."""
    for value in timeouts["properties"].values():
        number = {"type": value.pop("type"), **{key: value.pop(key) for key in _bounds(value)}}
        value["anyOf"] = [number, {"type": "string"}]


def _bounds(value: Json) -> list[str]:
    return [key for key in value if key.startswith(("minimum", "maximum", "exclusive"))]
