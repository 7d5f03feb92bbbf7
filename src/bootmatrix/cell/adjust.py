"""Changes that a cell makes to its spec: the kernel command line, and the limits of checks."""

from __future__ import annotations

from bootmatrix.model import Cell, Container, Spec
from bootmatrix.model.spec import CHECK


def adjusted(spec: Spec, cell: Cell) -> Spec:
    """Return the spec with what the cell appends and limits; the spec itself if there is nothing."""
    if cell.append:
        spec = _appended(spec, cell.append)
    if cell.limit_s is not None:
        spec = spec.model_copy(update={"services": tuple(_limited(one, cell.limit_s) for one in spec.services)})
    return spec


def _appended(spec: Spec, words: str) -> Spec:
    if spec.own:
        own = spec.own.model_copy(update={"cmdline": f"{spec.own.cmdline} {words}".strip()})
        return spec.model_copy(update={"own": own})
    kernel = spec.kernel.model_copy(update={"cmdline": f"{spec.kernel.cmdline} {words}".strip()})
    return spec.model_copy(update={"kernel": kernel})


def _limited(service: Container, limit_s: float) -> Container:
    if service.check is None:
        return service
    return service.model_copy(update={"annotations": {**(service.annotations or {}), CHECK: f"{limit_s:.3f}s"}})
