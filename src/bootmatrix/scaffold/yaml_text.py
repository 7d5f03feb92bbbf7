"""YAML for people: comments, editors' line, short lists in a line."""

from collections.abc import Mapping
from typing import Any

import yaml

MODELINE = "# yaml-language-server: $schema={kind}.schema.json"
"""Read by editors with the YAML language server; `bootmatrix schema KIND` prints the file."""
WIDTH = 110
SHORT = 88


class _Dumper(yaml.SafeDumper):
    """A dumper with blocks for long texts and one line for short lists."""

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        """Write short lists of plain values in one line."""
        values = list(sequence)
        is_plain = all(isinstance(value, str | int | float) and "\n" not in str(value) for value in values)
        is_short = is_plain and sum(len(str(value)) + 4 for value in values) < SHORT
        return super().represent_sequence(tag, values, flow_style=is_short or flow_style)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(tuple, lambda dumper, values: dumper.represent_sequence("tag:yaml.org,2002:seq", values))


def yaml_text(data: Mapping[str, Any], comment: str) -> str:
    """Write a mapping as YAML below a comment."""
    body = yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + body
