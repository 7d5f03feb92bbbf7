"""JSON schema of run.json, generated from the model."""

from __future__ import annotations

from typing import Any

from bootmatrix.model import Run
from bootmatrix.runs.run_json import FORMAT

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run_schema() -> dict[str, Any]:
    """Return the schema of the current run format."""
    schema = Run.model_json_schema(mode="serialization")
    schema["properties"]["format"] = {"const": FORMAT, "title": "Format", "description": "The version of this layout."}
    return {"$schema": DIALECT, **schema, "title": f"run.json of bootmatrix, format {FORMAT}"}
