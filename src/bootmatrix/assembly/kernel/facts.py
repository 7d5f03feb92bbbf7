"""Facts of a kernel's configuration, such as page size and address width."""

import hashlib
import re

from bootmatrix.assembly.image.builder import Builder
from bootmatrix.assembly.kernel.options import ANY_SPEC, missing_options, set_options, summarize
from bootmatrix.assembly.kernel.package import unpack_kernel
from bootmatrix.assembly.kernel.probe import page_kib_of
from bootmatrix.model import Kernel, Machine

UNKNOWN = "?"
HEADINGS = ("pages", "HZ", "preemption", "VA bits", "32-bit programs", "32-bit time", "config", "lacks")
_HZ = re.compile(rb"^CONFIG_HZ=(\d+)$", re.MULTILINE)
_PREEMPTION = re.compile(rb"^CONFIG_(PREEMPT(?:_NONE|_VOLUNTARY|_LAZY|_RT)?)=y$", re.MULTILINE)
_VA_BITS = re.compile(rb"^CONFIG_\w*VA_BITS=(\d+)$|^CONFIG_\w*VA_BITS_(?:SV)?(\d+)=y$", re.MULTILINE)
_LEVELS = re.compile(rb"^CONFIG_PGTABLE_LEVELS=(\d)$", re.MULTILINE)
MAX_LACKING = 3
"""Options that are named."""


def kernel_facts(kernel: Kernel, machine: Machine, builder: Builder) -> tuple[str, ...]:
    """Return the values of HEADINGS for a kernel's configuration.

    Raises BootmatrixError if the kernel is unavailable.
    """
    files = unpack_kernel(kernel, builder.archive, builder.store)
    if not files.config:
        return (UNKNOWN,) * len(HEADINGS)
    return config_facts(builder.store.verified(files.config).read_bytes(), machine, kernel.release)


def config_facts(config: bytes, machine: Machine, release: str = "") -> tuple[str, ...]:
    """Return the facts of a configuration, as `kernel_facts` does."""
    values = set_options(config)
    lacking = [option.symbol for option in missing_options(config, machine, *ANY_SPEC, release=release)]
    return (
        f"{page_kib_of(config)}k",
        _first(_HZ, config),
        _first(_PREEMPTION, config).removeprefix("PREEMPT_").lower(),
        _address_width(config),
        "yes" if "COMPAT" in values or "64BIT" not in values else "no",
        "yes" if "COMPAT_32BIT_TIME" in values else "no",
        hashlib.sha256(config).hexdigest()[:12],
        summarize(lacking, MAX_LACKING),
    )


def _first(pattern: re.Pattern[bytes], config: bytes) -> str:
    match = pattern.search(config)
    return next(filter(None, match.groups())).decode() if match else UNKNOWN


def _address_width(config: bytes) -> str:
    """Return the width that the configuration names, else its levels of page tables."""
    width = _first(_VA_BITS, config)
    levels = _first(_LEVELS, config)
    return f"{levels} levels" if width == UNKNOWN and levels != UNKNOWN else width
