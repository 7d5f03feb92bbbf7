"""Matrices: `*.matrix.yml`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec

from bootmatrix.console.kernel_messages import NOTE, load_messages
from bootmatrix.errors import InputError
from bootmatrix.load.document import Document, Location, describe, read_document
from bootmatrix.load.expand import find_targets, matches, product, unknown_kernels
from bootmatrix.load.images import check_override
from bootmatrix.load.qemu_args import parse_qemu_args
from bootmatrix.load.spec import check_foreign, find_spec
from bootmatrix.load.validate import validate
from bootmatrix.model import ConsolePattern, ImageOverride, Matrix, Pattern, Profile, Xfail
from bootmatrix.model.durations import duration_s

P = ParamSpec("P")
SHORT_FORMS = {"xfail": "reason", "console": "text", "expect": "", "qemu_args": "args", "resources": ""}
"""Keys whose only entry needs no list, and the entry's key that may stand alone."""
MAX_MATCHES = 20_000_000
"""Limit of comparisons of a matrix's entries with its cells, about a minute."""
SUFFIXES = (".matrix.yml", ".matrix.yaml")


def load_matrix(path: Path, profiles: Mapping[str, Profile]) -> Matrix:
    """Load a matrix. Times may be numbers of seconds or durations.

    Raises InputError if the file is invalid, has unknown names, or an exception that matches no cell.
    """
    document = read_document(path)
    _read_times(document)
    for key, text_key in SHORT_FORMS.items():
        _read_short_form(document, key, text_key)
    matrix = validate(document, Matrix, notes=())
    _check_expect(document, matrix)
    for name, source in matrix.images.items():
        _try(document, ("images", name), check_override, ImageOverride(pattern=name, source=source))
    for index, rule in enumerate(matrix.resources):
        _try(document, ("resources", index, "memory"), lambda entry: entry.size, rule)
    _check_fail_on(document, matrix)
    _check_names(document, matrix, path.parent, profiles)
    document.raise_faults()
    names = (*matrix.specs, *(entry.spec for entry in matrix.include))
    check_foreign((find_spec(name, path.parent) for name in names), path.parent)
    _check_cells(document, matrix, path.parent, profiles)
    document.raise_faults()
    return _replace_expect(matrix, path)


def _read_times(document: Document) -> None:
    timeouts = document.data.get("timeouts")
    if not isinstance(timeouts, dict):
        return
    for phase, value in timeouts.items():
        try:
            if isinstance(value, str | bool):
                timeouts[phase] = duration_s(str(value).lower())
            elif isinstance(value, int | float):  # others are reported by the model's own validation
                timeouts[phase] = duration_s(f"{value:.3f}s")
        except InputError as error:
            document.complain(("timeouts", phase), f"{phase!r}: {error.message}")


def kernel_names(path: Path) -> set[str]:
    """Return all kernel names in a matrix file, which may be invalid otherwise.

    Raises InputError if the file cannot be read.
    """
    data = read_document(path).data
    kernels = data.get("kernel")
    entries = [entry for value in data.values() if isinstance(value, list) for entry in value]
    names = [*(kernels if isinstance(kernels, list) else [kernels])]
    names += [entry.get("kernel") for entry in entries if isinstance(entry, dict)]
    return {name for name in names if isinstance(name, str)}


def _read_short_form(document: Document, key: str, text_key: str) -> None:
    """Turn one entry for all cells into a list; `text_key` allows a text."""
    entry = document.data.get(key)
    if isinstance(entry, dict):
        document.data[key] = [entry]
        document.move((key,), (key, 0))
    elif isinstance(entry, str) and text_key:
        document.data[key] = [{text_key: entry}]
    elif isinstance(entry, str):
        document.complain((key,), f"{key!r} must be an entry, or a list of some, not {describe(entry)}")


def _check_fail_on(document: Document, matrix: Matrix) -> None:
    known = [message.name for message in load_messages() if message.severity == NOTE]
    for index, name in enumerate(matrix.fail_on):
        if name not in known:
            document.complain(("fail_on", index), f"{name!r} must be one of {', '.join(known)}")


def _check_expect(document: Document, matrix: Matrix) -> None:
    """Note deprecated `expect` entries that are neither xfail nor console."""
    for index, entry in enumerate(matrix.expect):
        if (entry.reason is None) == (entry.console is None):
            document.complain(
                ("expect", index),
                "an entry of 'expect' must have either 'reason' (known failures) "
                "or 'console' (text that proves a pass)",
            )
        elif entry.console is None and (entry.forbid or entry.stays):
            document.complain(("expect", index), "'forbid' and 'stays' require 'console'")


def _replace_expect(matrix: Matrix, path: Path) -> Matrix:
    """Move the entries of the deprecated `expect` to `xfail` and `console`."""
    if not matrix.expect:
        return matrix
    xfail, console = list(matrix.xfail), list(matrix.console)
    for entry in matrix.expect:
        cells = entry.model_dump(include={"spec", "arch", "kernel"})
        if entry.reason is not None:
            xfail.append(Xfail(**cells, reason=entry.reason))
        elif entry.console is not None:
            console.append(ConsolePattern(**cells, text=entry.console, forbid=entry.forbid, stays=entry.stays))
    note = f"{path}: 'expect' is deprecated: write 'xfail' (reason) or 'console' (text, forbid, stays)"
    return matrix.model_copy(
        update={"xfail": tuple(xfail), "console": tuple(console), "expect": (), "notes": (*matrix.notes, note)}
    )


def _check_names(document: Document, matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> None:
    """Check each spec and architecture by itself, so that faults have a line."""
    for index, spec in enumerate(matrix.specs):
        _try(document, ("specs", index), find_spec, spec, base)
    for index, arch in enumerate(matrix.arch):
        _try(document, ("arch", index), find_targets, [arch], profiles)
    for index, entry in enumerate(matrix.include):
        _try(document, ("include", index, "spec"), find_spec, entry.spec, base)
        _try(document, ("include", index, "arch"), find_targets, [entry.arch], profiles)
    for index, qemu_args in enumerate(matrix.qemu_args):
        _try(document, ("qemu_args", index, "args"), parse_qemu_args, qemu_args.args, base)
    for key, patterns in _patterns(matrix):
        for index, pattern in enumerate(patterns):
            if pattern.spec is not None and "/" in pattern.spec:
                _try(document, (key, index, "spec"), find_spec, pattern.spec, base)
            if pattern.arch is not None:
                _try(document, (key, index, "arch"), find_targets, [pattern.arch], profiles)


def _patterns(matrix: Matrix) -> Iterator[tuple[str, Sequence[Pattern]]]:
    """Yield entries for some of the cells, by their key."""
    for key in ("exclude", "xfail", "console", "expect", "qemu_args", "resources"):
        yield key, getattr(matrix, key)


def _try(document: Document, place: Location, act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        act(*args, **kwargs)
    except InputError as error:
        document.complain(place, str(error))


def _check_cells(document: Document, matrix: Matrix, base: Path, profiles: Mapping[str, Profile]) -> None:
    try:
        cells = product(matrix, base, profiles)
    except InputError as error:
        document.complain((), str(error))
        return
    for kernel, message in unknown_kernels(cells, profiles):
        document.complain(_kernel_place(matrix, kernel), message)
    entries = sum(len(patterns) for _, patterns in _patterns(matrix))
    if entries * len(cells) > MAX_MATCHES:
        document.complain((), f"{entries} entries for some of {len(cells)} cells are too many. Split the matrix")
        return
    for key, patterns in _patterns(matrix):
        for index, pattern in enumerate(patterns):
            if not any(matches(pattern, cell, profiles, base) for cell in cells):
                document.complain((key, index), f"this entry of {key!r} matches no cell of the matrix")


def _kernel_place(matrix: Matrix, kernel: str) -> Location:
    if kernel in matrix.kernel:
        return ("kernel", matrix.kernel.index(kernel))
    return next(("include", index, "kernel") for index, entry in enumerate(matrix.include) if entry.kernel == kernel)
