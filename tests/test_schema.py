"""JSON Schemas of the files that people write: generated from the model, held against real files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bootmatrix.load.data_paths import CHECKOUT, specs_folder
from bootmatrix.load.document import read_document
from bootmatrix.load.schema import KINDS, json_schema

CORPUS = Path(__file__).parent / "corpus" / "linuxkit"


def kind_of(path: Path) -> str:
    if path.name == "build.yml":
        return "image"
    if path.parent.name == "arch":
        return "profile"
    if path.parent.name == "kernels":
        return "catalogue"
    return "matrix" if path.name.endswith(".matrix.yml") else "spec"


FILES = [
    *sorted(specs_folder().rglob("*.yml")),
    *sorted((CHECKOUT / "arch").glob("*.yml")),
    *sorted((CHECKOUT / "kernels").glob("*.yml")),
    *sorted(CORPUS.glob("*.yml")),
]


def faults(kind: str, data: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(json_schema(kind)).iter_errors(data)]


def test_schemas_are_schemas() -> None:
    for kind in KINDS:
        Draft202012Validator.check_schema(json_schema(kind))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_fit_their_schema(path: Path) -> None:
    assert not faults(kind_of(path), read_document(path).data)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("spec", {"sevices": []}),
        ("spec", {"name": "x"}),
        ("spec", {"services": [{"name": "a"}]}),
        ("spec", {"services": [{"name": "a", "image": "b", "capabilities_add": []}]}),
        ("spec", {"services": [{"name": "a", "image": "b", "readonly": "yes"}]}),
        ("spec", {"files": [{"path": "x", "mode": 644}]}),
        ("matrix", {"specs": ["a"], "arch": ["all"]}),
        ("matrix", {"specs": ["a"], "arch": ["all"], "kernel": ["6.1"], "timeouts": {"boot": []}}),
        ("profile", {"name": "x"}),
        ("image", {"package": []}),
        ("catalogue", {"description": "x", "format": "apt", "architectures": {}, "kernels": {}}),
    ],
)
def test_what_is_faulty_does_not_fit(kind: str, data: Any) -> None:
    assert faults(kind, data)


def test_times_of_a_matrix_are_numbers_or_durations() -> None:
    timeouts = {"boot": 60, "services": "1m30s"}
    assert not faults("matrix", {"specs": ["a"], "arch": ["all"], "kernel": ["6.1"], "timeouts": timeouts})


def test_an_expectation_is_a_list_or_stands_alone() -> None:
    cells = {"specs": ["a"], "arch": ["all"], "kernel": ["6.1"]}
    for key in ("xfail", "console"):
        assert not faults("matrix", {**cells, key: "text"})
    assert not faults(
        "matrix", {**cells, "console": {"text": "fine", "forbid": ["bad"]}, "xfail": [{"reason": "known"}]}
    )
    assert faults("matrix", {**cells, "console": {"reason": "known"}})
    assert not faults("guest", {"disk": "a.img", "console": "fine"})
    assert not faults("guest", {"disk": "a.img", "console": {"text": "fine"}})
    assert json_schema("matrix")["properties"]["expect"]["deprecated"]
    assert not faults("matrix", {**cells, "expect": {"console": "fine", "forbid": ["bad"]}})
    assert not faults("matrix", {**cells, "expect": [{"reason": "known"}]})
    assert faults("matrix", {**cells, "expect": {"consloe": "fine"}})
    assert not faults("guest", {"disk": "a.img", "expect": {"console": "fine"}})
    assert faults("guest", {"disk": "a.img", "expect": {}})
