"""The kernel in a FIT image of U-Boot: a flattened tree whose `images` hold data.

Sources: the Devicetree Specification, chapter 5; U-Boot's doc/usage/fit/source_file_format.
"""

import struct
from collections.abc import Iterator

from bootmatrix.errors import BuildError

MAGIC = b"\xd0\x0d\xfe\xed"
_BEGIN, _END, _PROPERTY, _NOP = 1, 2, 3, 4
_MAX_DEPTH = 16
_MAX_NODES = 10_000
_MAX_NAME_BYTES = 256
_KEPT = {"default", "kernel", "type", "data", "data-size", "data-position", "data-offset"}
"""Properties that are read. The names of others may overlap, and so be much longer than the file in all."""

Node = dict[str, bytes]


def fit_kernel(data: bytes) -> bytes | None:
    """Return the kernel of a FIT image, as packed as it is; None for other trees.

    That of the default configuration is taken, else the first one.

    Raises BuildError if it is damaged.
    """
    try:
        nodes = dict(_nodes(data))
        name = _kernel_name(nodes)
        return _content(data, nodes[name]) if name else None
    except (struct.error, IndexError, ValueError) as error:
        raise BuildError(f"the FIT image (U-Boot) is damaged: {error}") from error


def _kernel_name(nodes: dict[str, Node]) -> str:
    default = _text(nodes.get("/configurations", {}).get("default", b""))
    configured = _text(nodes.get(f"/configurations/{default}", {}).get("kernel", b""))
    kernels = [
        path
        for path, node in nodes.items()
        if path.count("/") == 2 and path.startswith("/images/") and _text(node.get("type", b"")).startswith("kernel")
    ]
    wanted = f"/images/{configured}"
    return wanted if wanted in kernels else next(iter(kernels), "")


def _content(data: bytes, node: Node) -> bytes:
    """Return an image's data: in the tree, or behind it (`mkimage -E`)."""
    if "data" in node:
        return node["data"]
    size = int.from_bytes(node["data-size"], "big") if "data-size" in node else -1
    (total,) = struct.unpack_from(">I", data, 4)
    if "data-position" in node:
        start = int.from_bytes(node["data-position"], "big")
    elif "data-offset" in node:
        start = -(-total // 4) * 4 + int.from_bytes(node["data-offset"], "big")
    else:
        raise ValueError("its kernel has no data")
    if size < 0 or start + size > len(data):
        raise ValueError("it is cut off")
    return data[start : start + size]


def _nodes(data: bytes) -> Iterator[tuple[str, Node]]:
    """Yield the nodes of a tree by path, each when it ends."""
    total, at, names = struct.unpack_from(">3I", data, 4)
    if total > len(data):
        raise ValueError("it is cut off")
    path: list[str] = []
    open_nodes: list[Node] = []
    count = 0
    while True:
        (token,) = struct.unpack_from(">I", data, at)
        at += 4
        if token == _BEGIN:
            end = data.index(b"\0", at, at + _MAX_NAME_BYTES)
            path.append(data[at:end].decode("ascii", "replace"))
            open_nodes.append({})
            at = -(-(end + 1) // 4) * 4
            count += 1
            if len(path) > _MAX_DEPTH or count > _MAX_NODES:
                raise ValueError("it has too many nodes")
        elif token == _END and path:
            yield "/".join(path), open_nodes.pop()
            path.pop()
        elif token == _PROPERTY and open_nodes:
            size, name = struct.unpack_from(">II", data, at)
            if at + 8 + size > len(data):
                raise ValueError("it is cut off")
            start = names + name
            end = data.index(b"\0", start, start + _MAX_NAME_BYTES)
            key = data[start:end].decode("ascii", "replace")
            if key in _KEPT:
                open_nodes[-1][key] = data[at + 8 : at + 8 + size]
            at = -(-(at + 8 + size) // 4) * 4
        elif token != _NOP:
            return


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("ascii", "replace")
