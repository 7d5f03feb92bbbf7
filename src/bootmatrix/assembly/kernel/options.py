"""Options of a kernel's configuration that guests need (options.toml)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, get_args

from bootmatrix.errors import InputError
from bootmatrix.model import Cell, Machine
from bootmatrix.packaged import packaged_table

Purpose = Literal["base", "containers", "roots", "network", "agent", "kunit"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ANY_SPEC: tuple[Purpose, ...] = ("containers", "roots", "network")
"""All that a spec may need, if its containers are not known."""
_SET = re.compile(rb"^CONFIG_(\w+)=([^\r\n]*)", re.MULTILINE)
MAX_CONFIG_BYTES = 16 << 20


@dataclass(frozen=True)
class Need:
    """One entry of options.toml. An option `A|B` is met by either symbol."""

    purpose: Purpose
    what: str
    options: Sequence[str]
    also: Sequence[str] = ()
    module: bool = False
    since: str = ""
    when: Mapping[str, str] = field(default_factory=dict)

    def holds_for(self, machine: Machine) -> bool:
        """Return whether a machine has this need."""
        return all(fnmatchcase(str(getattr(machine, key) or ""), pattern) for key, pattern in self.when.items())


@dataclass(frozen=True)
class MissingOption:
    """A symbol (or `A|B`) that is not set, or is a module and must not be.

    `since` is the version that its kernel is too old for.
    """

    symbol: str
    what: str
    is_module: bool = False
    since: str = ""

    def __str__(self) -> str:
        needed = f" as of Linux {self.since}" if self.since else "=y, and it is a module" if self.is_module else ""
        return f"CONFIG_{self.symbol.replace('|', ' or CONFIG_')}{needed} ({self.what})"


@lru_cache(maxsize=1)
def load_needs() -> tuple[Need, ...]:
    """Load options.toml."""
    return tuple(Need(**entry) for entry in packaged_table("assembly/kernel/options.toml")["need"])


def needs_of(machine: Machine, *purposes: Purpose) -> Iterator[Need]:
    """Yield what a machine's guests need, for `base` and further purposes."""
    wanted = {"base", *purposes}
    yield Need("base", "the machine", machine.kernel_options, also=machine.faster_kernel_options)
    yield from (need for need in load_needs() if need.purpose in wanted and need.holds_for(machine))


def missing_options(
    config: bytes, machine: Machine, *purposes: Purpose, release: str = ""
) -> tuple[MissingOption, ...]:
    """Compare a `.config` with what guests need; with a release, its age."""
    return tuple(_missing(set_options(config), release, machine, *purposes))


@lru_cache(maxsize=16)
def set_options(config: bytes) -> Mapping[str, bytes]:
    """Parse a configuration once for all cells of a kernel."""
    return {match[1].decode(): match[2] for match in _SET.finditer(config[:MAX_CONFIG_BYTES])}


def _missing(
    values: Mapping[str, bytes], release: str, machine: Machine, *purposes: Purpose
) -> Iterator[MissingOption]:
    for need in needs_of(machine, *purposes):
        is_old = bool(need.since and release) and _version(release) < _version(need.since)
        for option in need.options:
            states = [values.get(symbol) for symbol in option.split("|")]
            if b"y" in states or (need.module and b"m" in states):
                if is_old:
                    yield MissingOption(option, need.what, since=need.since)
                continue
            yield MissingOption(option, need.what, is_module=b"m" in states)


def is_built_in(module: str, config: bytes) -> bool:
    """Return whether a configuration has a module built in, by its name."""
    return any(set_options(config).get(f"{module.upper()}{suffix}") == b"y" for suffix in ("", "_FS"))


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


def summarize(options: Sequence[object], most: int = 5) -> str:
    """Join the first few missing options, and count the others."""
    more = f" and {len(options) - most} more" if len(options) > most else ""
    return ", ".join(map(str, options[:most])) + more


def lacking_line(cell: Cell, release: str, options: Sequence[object]) -> str:
    """Return a line on what the kernel of a cell lacks."""
    return f"{cell.target}/{cell.kernel}: the kernel {release} lacks {summarize(options)}"


def fragment(machine: Machine, *purposes: Purpose) -> str:
    """Return a commented fragment for scripts/kconfig/merge_config.sh."""
    lines = []
    for need in needs_of(machine, *purposes):
        symbols = [*need.also, *(option.split("|")[0] for option in need.options)]
        lines += [f"# {need.what}", *(f"CONFIG_{symbol}=y" for symbol in symbols)]
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def parse_purposes(words: tuple[str, ...]) -> tuple[Purpose, ...]:
    """Check the names of purposes. Raises InputError if one is unknown."""
    for word in words:
        if word not in PURPOSES:
            raise InputError(f"--for: unknown purpose {word!r}: must be one of {', '.join(PURPOSES)}")
    wanted = {*words, *(ANY_SPEC if "containers" in words else ())}
    return tuple(purpose for purpose in PURPOSES if purpose in wanted)
