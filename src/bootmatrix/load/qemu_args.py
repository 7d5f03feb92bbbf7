"""Arguments of the user's own for QEMU: those that can change nothing of what a verdict rests on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.validate import suggest

FILE = "file="
"""Before the name of a drive's file, which is always the last of its words."""


@dataclass(frozen=True)
class Option:
    """What an option of QEMU's may say. `kinds` are the first words that it may have, all but `not_kinds` if none.

    `keys` are those that it may have, all but `not_keys` if none.
    """

    kinds: frozenset[str] = frozenset()
    not_kinds: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    not_keys: frozenset[str] = frozenset()
    has_value: bool = True


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


OPTIONS: Mapping[str, Option] = {
    "-audiodev": Option(kinds=_set("none")),
    "-chardev": Option(kinds=_set("null ringbuf"), not_keys=_set("logfile")),
    "-device": Option(not_kinds=_set("loader guest-loader")),  # which write over what was to be booted
    "-drive": Option(
        keys=_set(
            "file if id index bus unit media format readonly snapshot cache aio discard detect-zeroes werror rerror"
        )
    ),
    "-fw_cfg": Option(not_keys=_set("file")),
    "-global": Option(),
    "-icount": Option(not_keys=_set("rr rrfile rrsnapshot")),
    "-netdev": Option(kinds=_set("user hubport"), not_keys=_set("guestfwd hostfwd smb tftp")),
    "-numa": Option(),
    "-object": Option(kinds=_set("cryptodev-backend-builtin iothread memory-backend-ram rng-builtin throttle-group")),
    "-overcommit": Option(),
    "-prom-env": Option(),
    "-rtc": Option(),
    "-smbios": Option(not_keys=_set("file path")),
    "-usb": Option(has_value=False),
    "-uuid": Option(),
    "-vga": Option(),
}
"""Options that can be given. The others choose what is booted, or where, or open a way to the host; or they are what a
verdict rests on: the channels, what QEMU does when its guest leaves, how it is confined."""

ELSEWHERE = {
    "the machine's profile says it: docs/add-an-architecture.md": _set(
        "-M -machine -cpu -smp -m -accel -enable-kvm -bios -pflash -dtb -display -nographic"
    ),
    "the kernel axis and the spec say it, with words for the kernel under kernel: {cmdline: …}": _set(
        "-kernel -initrd -append"
    ),
    "verdicts rest on it": _set(
        "-serial -monitor -mon -qmp -action -no-reboot -no-shutdown -watchdog-action -S -daemonize -sandbox -incoming"
        " -semihosting -semihosting-config -nodefaults -readconfig"
    ),
}
"""Why an option cannot be given, where there is more to say than that."""


def parse_qemu_args(text: str, folder: Path) -> tuple[str, ...]:
    """The arguments in a text that is split as a shell does; names of files are from `folder`, and come out absolute.

    Raises:
        InputError: one is not to be had, or a drive's file is not there.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text!r} cannot be split into QEMU's arguments: {error}") from error
    if not words:
        raise InputError("no argument for QEMU is given")
    return tuple(_checked(words, folder))


def _checked(words: list[str], folder: Path) -> Iterator[str]:
    rest = list(words)
    while rest:
        name = rest.pop(0)
        name = name[1:] if name.startswith("--") else name
        option = OPTIONS.get(name)
        if option is None:
            raise _refused(name)
        yield name
        if option.has_value:
            if not rest:
                raise InputError(f"QEMU's argument {name} has no value")
            yield _value(name, option, rest.pop(0), folder)


def _refused(name: str) -> InputError:
    reason = next((why for why, names in ELSEWHERE.items() if name in names), "")
    if reason:
        return InputError(f"QEMU's argument {name[:60]!r} cannot be given: {reason}")
    known = suggest(name, OPTIONS)
    return InputError(f"{name[:60]!r} is none of the arguments that can be given to QEMU.{known}")


def _value(name: str, option: Option, value: str, folder: Path) -> str:
    parts = split_value(value)
    keys = {part.partition("=")[0] for part in parts}
    kinds = _kinds(parts)
    if value.startswith("{") or not value.isprintable():
        raise InputError(f"{name} {value[:60]!r}: this is to be written as KEY=VALUE,…")
    if {"help", "?"} & keys:
        raise InputError(f"{name} {value[:60]!r} asks QEMU for help and boots nothing", "Ask the QEMU program itself.")
    bad = next(
        (kind for kind in kinds if kind in option.not_kinds or (option.kinds and kind not in option.kinds)), None
    )
    if bad is not None:
        known = f"; of {name}, there are {', '.join(sorted(option.kinds))}" if option.kinds else ""
        raise InputError(f"{name} {bad[:60]!r} cannot be given{known}")
    wrong = sorted(keys - option.keys if option.keys else keys & option.not_keys)
    if wrong:
        raise InputError(f"{name}: {wrong[0][:60]!r} cannot be given")
    if name == "-drive":
        return _drive(parts, folder)
    return _confined(value, parts) if name == "-netdev" and "user" in kinds else value


def _kinds(parts: list[str]) -> list[str]:
    """What an option's value says it is of: by its first word, or by a key, of several of which QEMU takes the last."""
    keys = ("driver=", "qom-type=", "backend=", "type=")
    named = [part.removeprefix(key) for part in parts for key in keys if part.startswith(key)]
    return named if named and "=" in parts[0] else [parts[0], *named]


def _drive(parts: list[str], folder: Path) -> str:
    files = [part.removeprefix(FILE) for part in parts if part.startswith(FILE)]
    others = [part for part in parts if not part.startswith(FILE)]
    if len(files) != 1 or any(part.count("=") != 1 for part in others):
        raise InputError("-drive takes KEY=VALUE,…, and one file=")
    if not {"readonly=on", "snapshot=on", "media=cdrom"} & set(others):
        raise InputError(
            f"-drive: {files[0]} could be written to, and several guests may have it",
            "Add readonly=on, or snapshot=on: then what the guest writes is forgotten.",
        )
    path = (folder / files[0]).absolute()
    if not path.is_file():
        raise InputError(f"-drive: {path} is no file, or not there")
    return ",".join(part.replace(",", ",,") for part in (*others, FILE + str(path)))


def _confined(value: str, parts: list[str]) -> str:
    """A network on which no guest reaches the host's, as the one that specs can ask for."""
    given = [part for part in parts if part.partition("=")[0] in {"restrict", "r"}]
    if given and given != ["restrict=on"]:
        raise InputError("-netdev: a guest has no way to the host's network: restrict is on")
    return value if given else f"{value},restrict=on"


def split_value(value: str) -> list[str]:
    """The parts of an option's value; a comma that stands twice is one of a part's own (qemu(1))."""
    return [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
