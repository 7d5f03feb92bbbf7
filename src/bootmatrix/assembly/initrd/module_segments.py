"""Segments of initrds with modules of a kernel."""

from __future__ import annotations

import json

from bootmatrix.assembly.image.builder import EPOCH_S, Builder
from bootmatrix.assembly.initrd.cache import FORMAT, Segment, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.kernel.package import (
    KernelFiles,
    every_module_tree,
    module_tree,
)
from bootmatrix.model import Kernel


def module_segment(kernel: Kernel, files: KernelFiles, paths: list[str], builder: Builder) -> Segment:
    """Return the segment with some of the modules, by their paths."""
    by_path = {module.path: module for module in files.modules.values()}
    key = modules_key(kernel, files, paths)
    modules = [by_path[path] for path in paths]
    return segment(key, builder, lambda: write_cpio(module_tree(kernel, files, modules, builder.store), EPOCH_S))


def modules_key(kernel: Kernel, files: KernelFiles, paths: list[str]) -> str:
    """Return the key of that segment."""
    return json.dumps(["modules", FORMAT, kernel.release, files.pack, files.config, paths])


def every_module_segment(kernel: Kernel, files: KernelFiles, builder: Builder) -> Segment:
    """Return the segment with all modules."""
    key = json.dumps(["every module", FORMAT, kernel.release, files.pack])
    return segment(key, builder, lambda: write_cpio(every_module_tree(kernel, files, builder.store), EPOCH_S))
