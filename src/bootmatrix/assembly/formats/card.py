"""Files of a board's SD card, without the vendor's non-free firmware."""

from pathlib import Path

from bootmatrix.assembly.formats import Format
from bootmatrix.assembly.formats.archives import write_members
from bootmatrix.assembly.formats.source import Source
from bootmatrix.assembly.kernel.wrappers import unwrapped
from bootmatrix.model import Card


def files(source: Source) -> Path:
    """Write a tar archive of kernel, initrd, device tree and firmware settings."""
    card = source.assembly.profile.card
    assert card
    return source.kept("card", lambda path: _write(source, card, path), card)


def _write(source: Source, card: Card, path: Path) -> None:
    members: list[tuple[str, Path | bytes]] = [
        ("cmdline.txt", f"{card.cmdline} {source.cmdline}\n".lstrip().encode()),
        ("config.txt", card.config.encode()),
        (card.kernel, unwrapped(source.kernel_program().read_bytes())),
        (card.initrd, source.initrd()),
    ]
    dtb, rest = source.described.dtb, source.assembly.files.dtbs
    if dtb:
        members.append((dtb.name, dtb.file))
    for name in card.dtbs:
        if name in rest and not (dtb and name == dtb.name):
            members.append((name, source.store.verified(rest[name][0])))
    write_members(path, members)


CARD = Format("files for a board's SD card, as a tar archive", {".tar": files}, "card")
