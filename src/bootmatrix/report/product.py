"""The tested product in words: names, versions, digests, changes. Pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bootmatrix.history.values import Comparison, InputChange
from bootmatrix.model import Component, ImageContents, Record, Verdict
from bootmatrix.report.sanitize import one_line

FEW_NAMES = 4
"""Products that a headline names."""
SHORT_DIGEST = 12


@dataclass(frozen=True)
class ProductLine:
    """A product of one version. `digests` are pairs of an architecture and a SHA-256."""

    kind: str
    name: str
    version: str
    digests: tuple[tuple[str, str], ...]

    @property
    def architectures(self) -> tuple[str, ...]:
        """The architectures that were tested."""
        return tuple(dict.fromkeys(architecture for architecture, _ in self.digests if architecture))

    @property
    def title(self) -> str:
        """`redis-server 5:7.0.15-1`."""
        return f"{self.name} {self.version}".strip()

    def __str__(self) -> str:
        aside = ", ".join(self.architectures)
        if len(self.digests) == 1:
            aside += f"{', ' if aside else ''}sha256 {self.digests[0][1][:SHORT_DIGEST]}…"
        return f"{self.title} ({aside})" if aside else self.title


@dataclass(frozen=True)
class ContentsView:
    """One image of a cell: its name, components, and what came with them."""

    image: str
    roles: str
    named: tuple[str, ...]
    others: tuple[str, ...]


def product_lines(records: Iterable[Record]) -> tuple[ProductLine, ...]:
    """Collect the products of the tried cells, each version once."""
    lines: dict[tuple[str, str, str], dict[tuple[str, str], None]] = {}
    for record in records:
        if record.verdict is Verdict.SKIP:
            continue
        for part in record.product:
            key = part.kind, one_line(part.name), one_line(part.version)
            lines.setdefault(key, {})[one_line(part.architecture), part.sha256] = None
    return tuple(ProductLine(*key, tuple(digests)) for key, digests in lines.items())


def mixed_products(records: Iterable[Record]) -> Iterator[str]:
    """Yield the products that differ between cells of one spec and architecture."""
    first: dict[tuple[str, ...], Component] = {}
    told: set[str] = set()
    for record in records:
        for part in record.product:
            key = record.cell.spec, record.cell.arch, part.kind, part.name, part.architecture
            other = first.setdefault(key, part)
            words = f"{part.name} {part.architecture}".rstrip()
            if other.sha256 != part.sha256 and words not in told:
                told.add(words)
                yield one_line(f"{words}: {other.version or other.sha256[:12]} and {part.version or part.sha256[:12]}")


def product_words(lines: Sequence[ProductLine]) -> str:
    """Name the products for a headline: `redis-server 5:7.0.15-1 (ARCH, ARCH)`."""
    words = [str(line) for line in lines[:FEW_NAMES]]
    if len(lines) > FEW_NAMES:
        words.append(f"{len(lines) - FEW_NAMES} more")
    return ", ".join(words)


def view_contents(contents: Iterable[ImageContents]) -> tuple[ContentsView, ...]:
    """Make the view of a cell's images."""
    return tuple(
        ContentsView(
            one_line(image.image) or "files of the spec",
            ", ".join(image.roles),
            tuple(_component(part) for part in image.named),
            tuple(_component(part) for part in image.others),
        )
        for image in contents
    )


def _component(part: Component) -> str:
    where = ", a local file" if part.is_local else ""
    aside = ", ".join(word for word in (part.architecture, f"sha256 {part.sha256}") if word)
    return one_line(f"{part.name} {part.version}".strip() + f" ({aside}{where})")


def version_changes(comparison: Comparison | None, records: Iterable[Record]) -> str:
    """Describe changed versions: `redis-server 7.0.15 → 7.0.16; 13 unchanged`."""
    if comparison is None or not comparison.baseline:
        return ""
    records = list(records)
    compared = [change for change in comparison.changes if change.before and change.now not in {"", "skip"}]
    images = tested_images(records)
    inputs = [entry for change in compared for entry in change.inputs if is_version(entry, images)]
    words = list(dict.fromkeys(_change(entry) for entry in inputs))
    changed = {entry.name for entry in inputs}
    ids = {change.id for change in compared}
    same = _unchanged((record for record in records if record.cell.id in ids), changed)
    return "; ".join([*(words or ["no package changed"]), *([same] if same else [])]) if words or same else ""


def tested_images(records: Iterable[Record]) -> set[str]:
    """Return the digests of the images that are products themselves."""
    return {part.sha256 for record in records for part in record.product if part.kind == "image"}


def is_version(entry: InputChange, images: Collection[str]) -> bool:
    """Return whether an input is a package, a file, or a tested image."""
    return entry.kind in {"package", "file"} or bool(entry.now and entry.kind == "image" and entry.now.digest in images)


def _change(entry: InputChange) -> str:
    before = entry.before.version if entry.before else ""
    now = entry.now.version if entry.now else ""
    if entry.before is None:
        return one_line(f"{entry.name} {now} added".replace("  ", " "))
    if entry.now is None:
        return one_line(f"{entry.name} {before} removed".replace("  ", " "))
    if before == now:
        version = f" {now}" if now else ""
        return one_line(f"{entry.name}{version}: other contents (sha256 {entry.now.digest[:SHORT_DIGEST]}…)")
    return one_line(f"{entry.name} {before} → {now}")


def _unchanged(records: Iterable[Record], changed: set[str]) -> str:
    names = dict.fromkeys(
        part.name
        for record in records
        for image in record.contents
        for part in (*image.named, *image.others)
        if part.kind == "package" and part.name not in changed
    )
    if not names:
        return ""
    first, *others = sorted(names, key=lambda name: (name != "libc6", list(names).index(name)))
    return (
        one_line(first)
        + (f" and {len(others)} more package{'s' if len(others) > 1 else ''}" if others else "")
        + " unchanged"
    )
