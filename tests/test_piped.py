"""Specs that come by a pipe or on the standard input are read as files in the current folder."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from stage import Stage, set_up


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_up(tmp_path_factory.mktemp("piped"), ("sound",))


@pytest.mark.parametrize(
    ("command", "more", "words"),
    [
        ("validate", "", "- <fake.yml"),
        ("plan", "--arch fake", "/dev/stdin <fake.yml"),
        ("plan", "--arch fake", "<(cat fake.yml)"),
        ("plan", "--arch fake", "/dev/fd/5 5< <(cat fake.yml)"),
        ("matrix", "--arch fake", "- < <(cat fake.yml)"),
        ("run", "--arch fake", "- <fake.yml"),
        ("build", "--arch fake -o x", "- <fake.yml"),
    ],
)
def test_a_spec_comes_by_a_pipe(stage: Stage, command: str, more: str, words: str) -> None:
    line = f"{shlex.join(stage.command(command))} {words.partition(' ')[0] if words[0] != '<' else words} {more}"
    line += f" {words.partition(' ')[2]}" if words[0] != "<" else ""
    done = stage.run_program("bash", "-c", line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(Path(stage.folder).glob("stdin*")), "nothing is left"


def test_what_is_wrong_in_it_is_said_with_its_line(stage: Stage) -> None:
    done = stage.run("validate", "-", text="init: []\nservcies: []\n")
    assert done.returncode == 2
    assert "stdin.yml:2: unknown key 'servcies'" in done.stderr
