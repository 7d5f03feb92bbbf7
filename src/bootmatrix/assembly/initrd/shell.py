"""A shell for the guest's root: init has none of its own."""

from __future__ import annotations

import json
from hashlib import sha256

from bootmatrix.assembly.image.builder import EPOCH_S, Builder, image_tree, make_image
from bootmatrix.assembly.initrd.cache import FORMAT, Segment, join, segment
from bootmatrix.assembly.initrd.cpio import write_cpio
from bootmatrix.assembly.tree import Node, Tree
from bootmatrix.load.data_paths import specs_folder
from bootmatrix.model import Bootable, Profile

IMAGE = "@pkg:./images/busybox"
"""The shipped image with a shell and small tools in one program."""
PROGRAM = "bin/busybox"
PLACE = "usr/lib/bootmatrix/busybox"
"""Its path in the guest, known to init."""


def shell_program(profile: Profile, builder: Builder) -> Node:
    """Return the program, which finds its tools by itself."""
    program = image_tree(make_image(IMAGE, specs_folder() / "x.yml", profile, builder), builder.store).get(PROGRAM)
    assert program
    return program


def with_shell(bootable: Bootable, profile: Profile, builder: Builder) -> Bootable:
    """Add a shell to an initrd, for `run --shell`."""
    if bootable.initrd is None:
        return bootable
    program = shell_program(profile, builder)
    tree = Tree()
    tree.put(PLACE, program)
    key = json.dumps(["shell", FORMAT, sha256(program.read()).hexdigest()])
    part = segment(key, builder, lambda: write_cpio(tree, EPOCH_S))
    initrd = Segment(bootable.initrd.sha256, bootable.initrd.size_bytes)
    return bootable.model_copy(update={"initrd": join((initrd, part), f"{bootable.initrd.name}, shell", builder)})
