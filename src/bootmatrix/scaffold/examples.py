"""The project of `bootmatrix new`: spec, images, matrix, CI files."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.fsio import write_atomic
from bootmatrix.load.schema import json_schema
from bootmatrix.scaffold.yaml_text import MODELINE

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
SCHEMAS = ("spec", "matrix", "image")
"""Schemas that are written beside the files, for editors."""

SPEC = """\
{modeline}
# The guest: which containers run, and which of them decide. Every key is LinuxKit's; docs/linuxkit.md lists them.
init:
  - bootmatrix/init       # boots, runs the containers, reports
  - bootmatrix/crun       # starts containers
services:
  # The service under test. Its image is made by images/{name}/build.yml.
  - name: {name}
    image: "@pkg:./images/{name}"
    capabilities: [CAP_NET_BIND_SERVICE]    # by default a container has none
  # The check: its exit status decides. It may wait for the service, within its time.
  - name: answers
    image: bootmatrix/busybox
    readonly: true
    command: [/bin/sh, /checks/answers]
    binds: ["/checks:/checks:ro"]
    annotations: {{bootmatrix.check: 60s}}
files:
  - path: checks/answers
    mode: "0644"
    contents: |
      # Each line of TAP is a result of its own in the report.
      echo "1..1"
      until wget -q -O - http://127.0.0.1:8080/ | grep -q "{name}"; do sleep 0.5; done
      echo "ok 1 - the service answers"
"""

RECIPE = """\
{modeline}
# The image of the service. No Docker is needed: packages come from the Debian archive, for each architecture.
from: bootmatrix/debian-small
packages: [busybox]                   # with their dependencies
# debs: ["./{name}_*_{{debian_arch}}.deb"]    # your own packages, one for each architecture, beside this file
files:
  - {{path: srv/index.html, contents: "{name} is here"}}
  # - {{path: usr/local/bin/{name}, source: "bin/{{arch}}/{name}", mode: "0755"}}    # or programs that you built
cmd: [/bin/busybox, httpd, -f, -p, "8080", -h, /srv]
"""

MATRIX = """\
{modeline}
# Which architectures and kernels: 'bootmatrix arch' and 'bootmatrix kernels' list them.
specs: [{name}.yml]
arch: [{archs}]
kernel: [default]                     # 6.1, or the first kernel of an architecture without it
# page_size: [all]                    # also kernels with other page sizes
# resources: {{memory: 1G, cpus: 2}}    # the size of the guests
# timeouts: {{services: 90}}            # seconds, for the fastest machine
# xfail:                              # known failures keep the run green
#   - {{kernel: "7.2", reason: "issue 42"}}
"""

GITHUB = """\
# For GitHub: copy it to .github/workflows/{name}.yml. Boots {name} on all of its architectures for every push.
name: bootmatrix
on: [push, pull_request]
permissions: {{contents: read}}
jobs:
  bootmatrix:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with: {{persist-credentials: false}}
      - uses: actions/cache@v4
        with: {{path: ~/.cache/bootmatrix, key: bootmatrix}}
      - run: pipx install bootmatrix
      - run: sudo apt-get update && sudo apt-get install --no-install-recommends -y {packages}
      - run: bootmatrix matrix {folder}{name}.matrix.yml
      - uses: actions/upload-artifact@v4    # the report, also of failures
        if: always()
        with: {{name: report, path: reports/}}
"""

GITLAB = """\
# For GitLab, in .gitlab-ci.yml: include: [{{local: {folder}ci/gitlab.yml}}]
bootmatrix:
  image: debian:13
  cache: {{key: bootmatrix, paths: [.cache/bootmatrix]}}
  variables: {{BOOTMATRIX_CACHE: $CI_PROJECT_DIR/.cache/bootmatrix}}
  before_script:
    - apt-get update && apt-get install --no-install-recommends -y pipx {packages}
    - pipx install bootmatrix
  script:
    - ~/.local/bin/bootmatrix matrix {folder}{name}.matrix.yml
  artifacts:
    when: always
    paths: [reports/]
    reports: {{junit: reports/*/junit.xml}}
"""


def write_example(folder: Path, archs: Iterable[str], packages: Iterable[str]) -> list[Path]:
    """Write an example project to a new folder; return the files.

    `packages` are those that a CI machine needs.

    Raises InputError if the folder exists and is not empty, or its name cannot be a spec's.
    """
    name = folder.resolve().name
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be the name of a spec", "Use letters, digits, - and _, at most 40.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists, and is not an empty folder", "Name a new folder.")
    texts = _texts(name, _shown(folder), ", ".join(archs), " ".join(packages))
    texts |= {f"{kind}.schema.json": json.dumps(json_schema(kind), indent=1) + "\n" for kind in SCHEMAS}
    paths = []
    for file, text in texts.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text.encode(), durable=False)
        paths.append(path)
    return paths


def _shown(folder: Path) -> str:
    """Return the folder as CI files name it, relative to the checkout."""
    path = os.path.relpath(folder)
    return "" if path.startswith("..") or path == "." else f"{path}/"


def _texts(name: str, folder: str, archs: str, packages: str) -> dict[str, str]:
    values = {"name": name, "folder": folder, "archs": archs, "packages": packages}

    def fill(text: str, kind: str = "", up: str = "") -> str:
        return text.format(**values, modeline=MODELINE.format(kind=f"{up}{kind}"))

    return {
        f"{name}.yml": fill(SPEC, "spec", "./"),
        f"{name}.matrix.yml": fill(MATRIX, "matrix", "./"),
        f"images/{name}/build.yml": fill(RECIPE, "image", "../../"),
        "ci/github.yml": fill(GITHUB),
        "ci/gitlab.yml": fill(GITLAB),
    }
