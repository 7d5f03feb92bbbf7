"""Things that users try: a folder, a program, packages, an image, or none."""

import re
import shlex
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from bootmatrix.errors import InputError, readable
from bootmatrix.load.recipe import PACKAGE, has_stand_in
from bootmatrix.load.spec import find_spec
from bootmatrix.source import image_sources
from bootmatrix.source.compressed import MAGIC_BYTES, suffix_of
from bootmatrix.source.elf import MAGIC
from bootmatrix.source.images.reference import parse_reference
from bootmatrix.source.safe_archive import FAULTS, PaxArchive, open_packed_tar

ThingKind = Literal["folder", "program", "packages", "image", "none"]
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
PACKAGE_SUFFIX = ".deb"
SCRIPT = b"#!"
MAX_MEMBERS = 200
"""Members of an archive that are looked at."""
KINDS = "a folder, a program, .deb packages, an image's name or archive"


@dataclass(frozen=True)
class Thing:
    """A thing to try: `paths` may have placeholders; `image` a reference."""

    kind: ThingKind
    paths: tuple[str, ...] = ()
    image: str = ""

    @property
    def name(self) -> str:
        """A spec's name: the file's or image's, without version, architecture."""
        if self.kind == "image":
            path = re.sub(r":[^/:]*$", "", self.image.partition("@")[0]) or self.image
            return _safe(re.split(r"[/:]", path.rstrip("/"))[-1].split(".")[0])
        if self.kind == "none":
            return "try"
        if self.kind == "folder":
            return _safe(Path(self.paths[0]).resolve().name)
        if self.kind == "packages":
            return _safe(Path(self.paths[0]).name.split("_")[0].removesuffix(PACKAGE_SUFFIX))
        return _safe(re.sub(r"[-_.]*\{[^{}]*\}[-_.]*", "", Path(self.paths[0]).name))


def _safe(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:40].rstrip("-_.")
    return name or "try"


def find_thing(words: Sequence[str]) -> Thing:
    """Classify the words.

    Raises InputError if it has none of the kinds, or two of them.
    """
    if not words:
        return Thing("none")
    if all(word.endswith(PACKAGE_SUFFIX) for word in words):
        return Thing("packages", tuple(words))
    if len(words) > 1:
        raise InputError(
            f"{len(words)} things are named ({', '.join(words)[:200]}), and only packages can be several",
            "Name one thing. What follows '--' is the command: bootmatrix try THING -- COMMAND.",
        )
    return _single(words[0])


def _single(word: str) -> Thing:
    if not word or "\0" in word:
        raise InputError(f"{word!r} does not name {KINDS}")
    if PLACEHOLDER.search(word):
        return Thing("program", (word,))
    if word.startswith(PACKAGE) or image_sources.find_type(word):
        return Thing("image", image=_absolute(word))
    path = Path(word)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink() or word.startswith(("/", "./", "../", "~")):
            raise InputError(f"{word}: {error.strerror}") from error
        return _image(word)
    if "/" not in word and word not in {".", ".."} and _is_reference(word):
        raise InputError(
            f"{word!r} may be the {'folder' if stat.S_ISDIR(mode) else 'file'} ./{word} or the image docker://{word}",
            "Write one of the two.",
        )
    return _folder(path) if stat.S_ISDIR(mode) else _file(path, mode)


def _absolute(reference: str) -> str:
    """Return a reference with an absolute path, as it is written to a file elsewhere."""
    kind = image_sources.find_type(reference)
    image_sources.parse(reference, Path())
    if kind is None or not kind.IS_PATH:
        return reference
    return f"{kind.PREFIX}{Path(reference.removeprefix(kind.PREFIX)).absolute()}"


def _is_reference(word: str) -> bool:
    try:
        parse_reference(word)
    except InputError:
        return False
    return True


def _image(word: str) -> Thing:
    if has_stand_in(word):
        return Thing("image", image=word)
    if not _is_reference(word):
        raise InputError(f"{word[:200]!r} is not there, and cannot be an image's name", f"Name {KINDS}.")
    if "/" in word and Path(word).parent.is_dir():
        raise InputError(f"{word}: file not found", f"If it is an image: docker://{word}")
    return Thing("image", image=f"docker://{word}")


def _folder(path: Path) -> Thing:
    if (path / "oci-layout").is_file():
        return Thing("image", image=f"oci:{path.absolute()}")
    return Thing("folder", (str(path),))


def _file(path: Path, mode: int) -> Thing:
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: not a regular file or folder", f"Name {KINDS}.")
    with readable(path), path.open("rb") as file:
        start = file.read(4)
    if start == MAGIC or start[:2] == SCRIPT:
        return Thing("program", (str(path),))
    if path.suffix in {".yml", ".yaml"}:
        raise InputError(
            f"{path}: a YAML file",
            f"To boot a spec or a matrix: bootmatrix matrix {shlex.quote(str(find_spec(str(path))))}",
        )
    return Thing("image", image=_archive(path))


def _archive(path: Path) -> str:
    """Return an archive's reference. Raises InputError if it is not a tar."""
    try:
        with path.open("rb") as file:
            is_packed = bool(suffix_of(file.read(MAGIC_BYTES)))
            with open_packed_tar(file) if is_packed else PaxArchive.open(path, mode="r:") as archive:
                names = {name.removeprefix("./") for name in islice((member.name for member in archive), MAX_MEMBERS)}
    except FAULTS as error:
        raise InputError(f"{path}: a file of unknown kind", f"Name {KINDS}.") from error
    kind = "oci-archive" if "oci-layout" in names else "docker-archive" if "manifest.json" in names else "tar"
    return f"{kind}:{path.absolute()}"
