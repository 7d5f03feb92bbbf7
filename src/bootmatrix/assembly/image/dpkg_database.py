"""dpkg's database of packages that were unpacked on the host (dpkg(1)).

The packages are in the state `unpacked`: `dpkg --configure -a` in a guest then runs their scripts.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.assembly.tree import Node, Tree, directory, text_file
from bootmatrix.errors import BuildError
from bootmatrix.source.deb import open_data, read_control_files

FOLDER = "var/lib/dpkg"
STATUS = f"{FOLDER}/status"
LIST_LIMIT_BYTES = 256 << 20
"""Limit of a file of the database; a status of 4,000 packages has 6 MB."""
SCRIPTS = {"preinst", "postinst", "prerm", "postrm", "config"}
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_FILE = re.compile(r"[a-z0-9][a-z0-9-]*")
_TRIGGER = re.compile(r"interest(-noawait|-await)? +(\S+)")


@dataclass(frozen=True)
class UnpackedPackage:
    """A package whose files are in a tree: its control files and its paths."""

    control: dict[str, bytes]
    paths: tuple[str, ...]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of one line of its control file."""
        lines = self.control["control"].decode("utf-8", "replace").splitlines()
        pairs = (line.partition(":") for line in lines if line[:1].strip())
        return {name: value.strip() for name, _, value in pairs}

    @property
    def name(self) -> str:
        """The name of its files in the database."""
        fields = self.fields
        is_shared = fields.get("Multi-Arch") == "same"
        return f"{fields['Package']}:{fields['Architecture']}" if is_shared else fields["Package"]


def read_unpacked(path: Path) -> UnpackedPackage:
    """Read a package's control files and paths. Raises BuildError if damaged."""
    control = read_control_files(path)
    with open_data(path) as archive:
        paths = tuple(_listed(member.name) for member in archive)
    package = UnpackedPackage(control, paths)
    fields = package.fields if "control" in control else {}
    if not all(_NAME.fullmatch(fields.get(name, "")) for name in ("Package", "Architecture")):
        raise BuildError(f"{path}: the control file lacks a valid Package or Architecture")
    return package


def has_database(tree: Tree) -> bool:
    """Return whether a root has dpkg's database."""
    node = tree.get(STATUS)
    return node is not None and node.kind == "file"


def register(tree: Tree, packages: Sequence[UnpackedPackage]) -> None:
    """Add packages to the database of a root, which is made if missing.

    Raises BuildError if a file of it is too large.
    """
    for name in ("info", "alternatives", "updates", "triggers", "parts"):
        tree.put(f"{FOLDER}/{name}", directory())
    for name in ("diversions", "statoverride", "triggers/File"):
        if tree.get(f"{FOLDER}/{name}") is None:
            tree.put(f"{FOLDER}/{name}", text_file(""))
    tree.put(f"{FOLDER}/info/format", text_file("1\n"))
    for package in packages:
        _put_files(tree, package)
        _put_triggers(tree, package)
    _append(tree, STATUS, "".join(f"{_paragraph(tree, package)}\n" for package in packages))


def _listed(name: str) -> str:
    path = name.removeprefix("./").strip("/")
    return f"/{path}" if path not in {"", "."} else "/."


def _put_files(tree: Tree, package: UnpackedPackage) -> None:
    start = f"{FOLDER}/info/{package.name}"
    for name, data in package.control.items():
        if name != "control" and _FILE.fullmatch(name):
            tree.put(f"{start}.{name}", Node("file", 0o755 if name in SCRIPTS else 0o644, data=data))
    tree.put(f"{start}.list", text_file("".join(f"{path}\n" for path in package.paths)))


def _put_triggers(tree: Tree, package: UnpackedPackage) -> None:
    lines: dict[str, list[str]] = {}
    for line in package.control.get("triggers", b"").decode("utf-8", "replace").splitlines():
        match = _TRIGGER.fullmatch(line.partition("#")[0].strip())
        if match is None:
            continue
        interested = package.name + ("/noawait" if match[1] == "-noawait" else "")
        if match[2].startswith("/"):
            lines.setdefault("File", []).append(f"{match[2]} {interested}\n")
        elif _NAME.fullmatch(match[2]):
            lines.setdefault(match[2], []).append(f"{interested}\n")
    for name, own in lines.items():
        _append(tree, f"{FOLDER}/triggers/{name}", "".join(dict.fromkeys(own)))


def _append(tree: Tree, path: str, text: str) -> None:
    node = tree.get(path)
    if node is not None and node.size > LIST_LIMIT_BYTES:
        raise BuildError(f"the image's /{path} has {node.size} bytes, more than any of dpkg's")
    before = node.read() if node is not None and node.kind == "file" else b""
    tree.put(path, Node("file", 0o644, data=before + text.encode()))


def _paragraph(tree: Tree, package: UnpackedPackage) -> str:
    text = package.control["control"].decode("utf-8", "replace").strip("\n")
    first, _, rest = text.partition("\n")
    status = "Status: install ok unpacked"
    lines = [first, status, rest] if first.startswith("Package:") else [status, text]
    conffiles = list(_conffiles(tree, package))
    return "\n".join([*lines, *(["Conffiles:", *conffiles] if conffiles else []), ""])


def _conffiles(tree: Tree, package: UnpackedPackage) -> Iterable[str]:
    digests: dict[Node, str] = {}  # a hostile list may name a large file a million times, in many spellings
    lines = package.control.get("conffiles", b"").decode("utf-8", "replace").splitlines()
    for path in dict.fromkeys(map(str.strip, lines)):
        node = tree.get(path) if path.startswith("/") else None
        if node is not None and node.kind == "file":
            if node not in digests:
                digests[node] = _md5(node)
            yield f" {path} {digests[node]}"


def _md5(node: Node) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in node.pieces():
        digest.update(piece)
    return digest.hexdigest()
