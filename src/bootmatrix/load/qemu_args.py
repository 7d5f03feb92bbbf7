"""QEMU arguments of users that reach no host, and change no evidence."""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bootmatrix.errors import InputError
from bootmatrix.load.validate import suggest
from bootmatrix.packaged import packaged_table

FILE_OF_OPTIONS = "load/qemu_options.toml"
FILE = "file="
"""Before the name of a drive's file, which is always the last of its words."""


@dataclass(frozen=True)
class Option:
    """The allowed values of a QEMU option.

    `kinds` are the allowed first words; if empty, all but those that `not_kinds` matches. `keys` are the allowed keys;
    if empty, all but `not_keys`.
    """

    kinds: frozenset[str] = frozenset()
    not_kinds: str = "(?!)"
    keys: frozenset[str] = frozenset()
    not_keys: frozenset[str] = frozenset()
    has_value: bool = True


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


HOST_DEVICES = r"(?:guest-)?loader|(?:vfio|vhost|u2f|virtio-input-host)\b.*|usb-(?:host|mtp)|canokey|ccid-card-emulated"
"""Devices that overwrite the files to boot, or hand files and devices of the host to the guest."""
HOST_KEYS = _set(
    "cdat db dir evdev fd file filename frudatafile hidraw host host-path host_ip hostaddr hostbus hostdevice hostport"
    " ibdev initrd kernel logfile mem-path path pcap romfile rootdir sdrfile sysfsdev vhostfd"
)
"""Properties of QEMU's devices that name files, devices or addresses of the host; `pcap` is even written. They may be
empty: `romfile=` leaves out a ROM."""
BOARD_KEYS = _set("append dtb dumpdtb firmware initrd kernel")
"""Properties of boards that name files (`-M help`); `dumpdtb` writes one."""
ACCELERATOR_KEYS = _set("device")


@cache
def load_options() -> dict[str, Option]:
    """Load the options that can be given, of qemu_options.toml."""
    return {name: _option(**entry) for name, entry in packaged_table(FILE_OF_OPTIONS)["options"].items()}


def _option(*, no_host: bool = False, has_value: bool = True, **words: str) -> Option:
    lists: dict[str, Any] = {name: _set(text) for name, text in words.items()}
    host = {"not_kinds": HOST_DEVICES, "not_keys": HOST_KEYS} if no_host else {}
    return Option(has_value=has_value, **lists | host)


def parse_qemu_args(text: str, folder: Path) -> tuple[str, ...]:
    """Split and check arguments in shell syntax.

    File names are relative to `folder`, and returned absolute.

    Raises InputError if an argument is not allowed, or a drive's file does not exist.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text!r} cannot be split into QEMU's arguments: {error}") from error
    if not words:
        raise InputError("empty QEMU arguments")
    return tuple(_checked(words, folder))


def check_words(words: Iterable[str]) -> None:
    """Check arguments that are split already, of a profile or of a saved run.

    Raises InputError if an argument is not allowed.
    """
    for _ in _checked(list(words), Path("/")):
        pass


def check_value(value: str, forbidden: frozenset[str], kinds: str = HOST_DEVICES) -> None:
    """Check an option's value in a profile: board, device, accelerator.

    Raises InputError if it names a file or a device of the host.
    """
    parts = split_value(value)
    if value.startswith("{") or not value.isprintable():
        raise InputError(f"{value[:60]!r}: must be NAME,KEY=VALUE,…")
    if any(re.fullmatch(kinds, kind) for kind in _kinds(parts)):
        raise InputError(f"{parts[0][:60]!r} is not allowed: it gives the guest a part of the host")
    wrong = sorted(_named_keys(parts) & forbidden)
    if wrong:
        raise InputError(f"{wrong[0]!r} is not allowed: it names a file or a device of the host")


def _checked(words: list[str], folder: Path) -> Iterator[str]:
    rest = list(words)
    while rest:
        name = rest.pop(0)
        name = name[1:] if name.startswith("--") else name
        option = load_options().get(name)
        if option is None:
            raise _refused(name)
        yield name
        if option.has_value:
            if not rest:
                raise InputError(f"QEMU's argument {name} has no value")
            yield _value(name, option, rest.pop(0), folder)


def _refused(name: str) -> InputError:
    elsewhere = packaged_table(FILE_OF_OPTIONS)["elsewhere"]
    reason = next((why for why, names in elsewhere.items() if name in names.split()), "")
    if reason:
        return InputError(f"QEMU's argument {name[:60]!r} is not allowed: {reason}")
    options = suggest(name, load_options())
    return InputError(f"{name[:60]!r} is not an allowed QEMU argument.{options}")


def _value(name: str, option: Option, value: str, folder: Path) -> str:
    parts = split_value(value)
    keys, kinds = {part.partition("=")[0] for part in parts}, _kinds(parts)
    if value.startswith("{") or not value.isprintable():
        raise InputError(f"{name} {value[:60]!r}: must be KEY=VALUE,…")
    if {"help", "?"} & keys:
        raise InputError(f"{name} {value[:60]!r} prints QEMU's help and boots nothing", "Run the QEMU program itself.")
    if name == "-global":
        kinds = [kind.partition(".")[0] for kind in kinds]
    bad = next((kind for kind in kinds if _is_excluded(kind, option)), None)
    if bad is not None:
        available = f"; of {name}, there are {', '.join(sorted(option.kinds))}" if option.kinds else ""
        raise InputError(f"{name} {bad[:60]!r} is not allowed{available}")
    wrong = sorted(keys - option.keys if option.keys else _named_keys(parts) & option.not_keys)
    if wrong:
        raise InputError(f"{name}: {wrong[0][:60]!r} is not allowed")
    if name == "-drive":
        return _drive(parts, folder)
    return _confined(value, parts) if name == "-netdev" and "user" in kinds else value


def _is_excluded(kind: str, option: Option) -> bool:
    return kind not in option.kinds if option.kinds else bool(re.fullmatch(option.not_kinds, kind))


def _named_keys(parts: Iterable[str]) -> set[str]:
    """Return keys with a value, also `DEVICE.KEY=VALUE`, `property=KEY`."""
    pairs = [part.partition("=") for part in parts]
    names = {name for key, _, value in pairs if value for name in (key, *key.split("."))}
    return names | {value for key, _, value in pairs if key == "property"}


def _kinds(parts: list[str]) -> list[str]:
    """Return the kinds that an option's value names: its first word, or a key.

    If a key is repeated, QEMU takes the last one.
    """
    keys = ("driver=", "qom-type=", "backend=", "type=")
    named = [part.removeprefix(key) for part in parts for key in keys if part.startswith(key)]
    return named if named and "=" in parts[0] else [parts[0], *named]


def _drive(parts: list[str], folder: Path) -> str:
    files = [part.removeprefix(FILE) for part in parts if part.startswith(FILE)]
    rest = [part for part in parts if not part.startswith(FILE)]
    if len(files) != 1 or any(part.count("=") != 1 for part in rest):
        raise InputError("-drive takes KEY=VALUE,…, and one file=")
    if not {"readonly=on", "snapshot=on", "media=cdrom"} & set(rest):
        raise InputError(
            f"-drive: {files[0]} would be writable, and several guests may use it",
            "Add readonly=on, or snapshot=on: then writes of the guest are discarded.",
        )
    path = (folder / files[0]).absolute()
    if not path.is_file():
        raise InputError(f"-drive: {path} is not a regular file")
    return ",".join(part.replace(",", ",,") for part in (*rest, FILE + str(path)))


def _confined(value: str, parts: list[str]) -> str:
    """Restrict a network so that the guest cannot reach the host's."""
    restrict = [part for part in parts if part.partition("=")[0] in {"restrict", "r"}]
    if restrict and restrict != ["restrict=on"]:
        raise InputError("-netdev: a guest cannot reach the host's network: restrict is on")
    return value if restrict else f"{value},restrict=on"


def split_value(value: str) -> list[str]:
    """Split an option's value at commas; a doubled comma is a literal one (qemu(1))."""
    return [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
