"""A cell's changes to its spec: command line, and limits of checks."""

from bootmatrix.model import Cell, Container, Spec
from bootmatrix.model.spec import CHECK, NETWORK


def adjusted(spec: Spec, cell: Cell) -> Spec:
    """Return the spec with the cell's appended arguments and limits."""
    if cell.append:
        spec = _appended(spec, cell.append)
    if cell.network is not None:
        spec = _networked(spec, cell.network)
    if cell.limit_s is not None:
        spec = spec.model_copy(update={"services": tuple(_limited(service, cell.limit_s) for service in spec.services)})
    return spec


def _appended(spec: Spec, words: str) -> Spec:
    if spec.own:
        own = spec.own.model_copy(update={"cmdline": f"{spec.own.cmdline} {words}".strip()})
        return spec.model_copy(update={"own": own})
    kernel = spec.kernel.model_copy(update={"cmdline": f"{spec.kernel.cmdline} {words}".strip()})
    return spec.model_copy(update={"kernel": kernel})


def _networked(spec: Spec, network: str) -> Spec:
    """Return the spec with this network as an annotation of its containers."""
    sections = {name: getattr(spec, name) for name in ("onboot", "services", "onshutdown")}
    changed = {
        name: tuple(
            container.model_copy(update={"annotations": {**(container.annotations or {}), NETWORK: network}})
            for container in containers
        )
        for name, containers in sections.items()
    }
    return spec.model_copy(update=changed)


def _limited(service: Container, limit_s: float) -> Container:
    if service.check is None:
        return service
    return service.model_copy(update={"annotations": {**(service.annotations or {}), CHECK: f"{limit_s:.3f}s"}})
