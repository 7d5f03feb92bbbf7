"""The program that a container starts: can the guest run it?

A program that is in no folder of PATH fails in the guest, after its boot. One for another architecture, or without its
loader or libraries, fails there with a message that misleads: `no such file or directory`. Whatever is in doubt is left
to the guest.
"""

import io
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bootmatrix.assembly.image.builder import Builder, image_tree
from bootmatrix.assembly.initrd.bundle_spec import BundleSpec
from bootmatrix.assembly.initrd.runtime_config import DEFAULT_PATH
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.errors import BootmatrixError, BuildError
from bootmatrix.model import ImageRecipe, Profile
from bootmatrix.model.profile import has_magic
from bootmatrix.source.elf import HEADER_BYTES, describe, is_program, read_program
from bootmatrix.store import Store

FORMAT = "6"
SCRIPT = b"#!"
MAX_LINE_BYTES = 256
"""Limit of a script's first line, as in Linux (BINPRM_BUF_SIZE)."""
UNIX_LINES = "Linux takes it for a part of the interpreter's name: write the file with Unix line ends."
MAX_INTERPRETERS = 4
MAX_PROGRAM_BYTES = 512 << 20
"""Limit of programs whose libraries are checked."""
LIBC = re.compile(r"ld-linux|ld64\.so|ld\.so|libc\.so|libm\.so|libdl\.so|libpthread\.so|librt\.so")
"""Files of Debian's libc6."""


@dataclass(frozen=True)
class ProgramFault:
    """A reason why a program cannot run.

    `missing` is the file that it lacks, if any; `advice` a remedy other than to add it.
    """

    text: str
    missing: str = ""
    advice: str = ""

    @property
    def packages(self) -> tuple[str, ...]:
        """Names that Debian's package of the file would have (Debian Policy, 8.1)."""
        return file_packages(self.missing) if self.missing else ()


def check_program(bundle: BundleSpec, profile: Profile, store: Store) -> ProgramFault | None:
    """Check a container's program, once for each image and command."""
    config = bundle.image.config
    arguments = bundle.settings.command if bundle.settings.command is not None else (*config.entrypoint, *config.cmd)
    path = next((text for text in (*(bundle.settings.env or ()), *config.env) if text.startswith("PATH=")), "")
    search = [arguments[:2], path or DEFAULT_PATH, bundle.settings.cwd or config.workdir]
    key = json.dumps([FORMAT, bundle.image.digest, search, _has_binds(bundle), profile.programs, profile.name])

    def find() -> tuple[str, str, str]:
        try:
            fault = _find_fault(bundle, arguments, path or DEFAULT_PATH, profile, store)
        except BuildError:  # links in a loop, and the like: the build says so
            fault = None
        return (fault.text, fault.missing, fault.advice) if fault else ("", "", "")

    text, missing, advice = store.cached("program", key, find)
    return ProgramFault(text, missing, advice) if text else None


def check_programs(bundles: Iterable[BundleSpec], profile: Profile, builder: Builder) -> None:
    """Check all containers' programs. Raises BuildError if one cannot run."""
    for bundle in bundles:
        fault = check_program(bundle, profile, builder.store)
        if fault:
            container = bundle.container
            message = f"container {container.name} ({container.image}): {fault.text}"
            raise BuildError(message, _advice(fault, profile, builder))


def _advice(fault: ProgramFault, profile: Profile, builder: Builder) -> str:
    if fault.advice:
        return fault.advice
    if not fault.missing:
        return f"Whatever the image's label says: build it for {profile.names.oci}."
    suites = tuple(dict.fromkeys((*ImageRecipe().suites, *profile.suites)))
    for name in fault.packages:
        with suppress(BootmatrixError):
            builder.archive.closure([name], (), suites, profile.names.debian)
            return f"The archive's package {name} has it: add it to the image's 'packages' (try: --packages {name})."
    return f"Add it to the image{', or link the program statically' if '.so' in fault.missing else ''}."


def file_packages(path: str) -> tuple[str, ...]:
    """Return possible packages of a file: `libssl3` for `libssl.so.3`."""
    name = posixpath.basename(path)
    if "ld-musl" in name:
        return ("musl",)
    if LIBC.match(name):
        return ("libc6",)
    match = re.fullmatch(r"(lib.+)-([0-9.]+)\.so", name) or re.fullmatch(r"(lib.+?)\.so\.?([0-9.]*)", name)
    if match is None:
        return () if ".so" in name else (name,)
    stem, version = match[1].lower().replace("_", "-"), match[2]
    joined = f"{stem}-{version}" if stem[-1].isdigit() else f"{stem}{version}"
    return tuple(dict.fromkeys((joined, f"{joined}t64", f"{stem}-{version}".rstrip("-"), stem)))


def _find_fault(
    bundle: BundleSpec, arguments: Sequence[str], path: str, profile: Profile, store: Store
) -> ProgramFault | None:
    tree = image_tree(bundle.image, store)
    folder = bundle.settings.cwd or bundle.image.config.workdir
    name = arguments[0] if arguments else ""
    if name and "/" not in name and not _has_binds(bundle) and _lookup(name, path, folder, tree) is None:
        return ProgramFault(f"no program {name[:200]} in the image", name)
    if fault := _script_fault(name, path, folder, tree) if not _has_binds(bundle) else None:
        return fault
    for word in arguments[:2]:  # the second one is what an entrypoint's script starts
        if word.startswith("-"):
            break
        for program in _interpreters(word, path, folder, tree):
            if fault := _fault_of(program, bundle, profile, tree):
                return fault
    return None


def _interpreters(word: str, path: str, folder: str, tree: Tree) -> Iterator[tuple[str, Node]]:
    """Yield the program that a word names, and the interpreters of scripts."""
    for _ in range(MAX_INTERPRETERS):
        match = _lookup(word, path, folder, tree)
        if match is None:
            return
        yield match
        word = _interpreter(_first_line(match[1]))
        if not word:
            return


def _script_fault(word: str, path: str, folder: str, tree: Tree) -> ProgramFault | None:
    """Return the fault of a script, or of its interpreter, whose own is not there."""
    for name, node in _interpreters(word, path, folder, tree):
        line = _first_line(node)
        wanted = _interpreter(line)
        if wanted and line.endswith(f"{wanted}\r".encode()):
            return ProgramFault(f"the first line of the script {name} ends in a carriage return", advice=UNIX_LINES)
        if wanted and _lookup(wanted, path, folder, tree) is None:
            return ProgramFault(f"the script {name} needs {wanted}, which the image lacks", wanted)
    return None


def _interpreter(line: bytes) -> str:
    """Return what a script's first line starts; empty without one."""
    words = line[2:].decode("utf-8", "replace").split() if line[:2] == SCRIPT else []
    is_found = len(words) > 1 and words[0] == "/usr/bin/env" and words[1][0] != "-"
    return words[is_found] if words else ""


def _first_line(node: Node) -> bytes:
    return _start(node)[:MAX_LINE_BYTES].split(b"\n")[0]


def _start(node: Node) -> bytes:
    """Return the first bytes of a file."""
    return next(iter(node.pieces()), b"")


def _lookup(word: str, path: str, folder: str, tree: Tree) -> tuple[str, Node] | None:
    """Find a program as execvp(3) does; None if it is not there."""
    names = [posixpath.join(folder or "/", word)] if "/" in word else []
    names = names or [posixpath.join(part, word) for part in path.removeprefix("PATH=").split(":") if part]
    for name in names:
        where = tree.resolve(posixpath.normpath(name).lstrip("/"), whole=True)
        node = tree.nodes.get(where)
        if node is not None and node.kind == "file":
            return name, node
    return None


def _has_binds(bundle: BundleSpec) -> bool:
    """Return whether files may come from outside of the image."""
    runtime = bundle.settings.runtime
    return bool(bundle.settings.binds or bundle.settings.mounts or (runtime and runtime.mounts))


def _fault_of(program: tuple[str, Node], bundle: BundleSpec, profile: Profile, tree: Tree) -> ProgramFault | None:
    name, node = program
    start = _start(node)[:HEADER_BYTES]
    if not is_program(start):
        return None
    if profile.programs and not any(has_magic(start, magic) for magic in profile.programs):
        return ProgramFault(f"{name} in the image is a program for {describe(start)}, and the guest is {profile.name}")
    return _missing_library(name, node, bundle, tree)


def _missing_library(name: str, node: Node, bundle: BundleSpec, tree: Tree) -> ProgramFault | None:
    """Return the fault of a program without its loader or libraries."""
    program = read_program(io.BytesIO(node.read())) if node.size <= MAX_PROGRAM_BYTES else None
    if program is None or not program.interpreter:
        return None
    if _has_binds(bundle):
        return None
    present = {path.rpartition("/")[2] for path in tree.nodes}
    if tree.nodes.get(tree.resolve(program.interpreter.lstrip("/"), whole=True)) is None:
        text = f"{name} needs the loader {program.interpreter}, which the image lacks"
        return ProgramFault(text, program.interpreter)
    lacking = next((library for library in program.libraries if posixpath.basename(library) not in present), "")
    if not lacking:
        return None
    text = f"{name} needs the library {lacking}, which the image lacks"
    return ProgramFault(text, lacking)
