"""Loading: files to values; nothing past this package sees a raw dict."""

from collections.abc import Mapping, Sized
from pathlib import Path

from bootmatrix.errors import InputError
from bootmatrix.load.catalogue import load_catalogue, with_catalogues
from bootmatrix.load.cluster import load_cloud, load_cluster
from bootmatrix.load.document import Document, Location, read_document
from bootmatrix.load.expand import product
from bootmatrix.load.facts import find_limits
from bootmatrix.load.images import find_source
from bootmatrix.load.local_files import matching, project_root
from bootmatrix.load.matrix import SUFFIXES, kernel_names, load_matrix
from bootmatrix.load.merge import load_spec
from bootmatrix.load.profile import load_profile
from bootmatrix.load.recipe import PLACEHOLDER, RECIPE, find_recipe, is_package, load_package, load_recipe
from bootmatrix.load.registries import load_registries
from bootmatrix.load.spec import SECTIONS, load_one, spec_files
from bootmatrix.model import Profile
from bootmatrix.model.cluster import Cluster
from bootmatrix.model.image import DOCKERFILE_KIND, RECIPE_KIND


def load_any(path: Path, profiles: Mapping[str, Profile]) -> str:
    """Check a file of any kind, a matrix's specs, a spec's images.

    Raises InputError if the file is invalid.
    """
    if len(spec_files(path)) > 1:
        return _describe_spec(path, profiles)
    if path.name.endswith(SUFFIXES):
        profiles = with_catalogues(profiles, kernel_names(path))
        matrix = load_matrix(path, profiles)
        cells = product(matrix, path.parent, profiles)
        for spec in dict.fromkeys(cell.spec for cell in cells):
            _describe_spec(Path(spec), profiles)
        counts = f"{_count(matrix.specs, 'spec')}, {_count(cells, 'cell')} before exclusions"
        return "; ".join([f"a matrix: {counts}", *matrix.notes])
    return _describe_image(path) if path.name == RECIPE else _describe_by_keys(path, profiles)


def _describe_image(path: Path) -> str:
    if is_package(path.parent):
        return f"a LinuxKit package, built from its {load_package(path.parent).dockerfile} with a Docker engine"
    recipe = load_recipe(path)
    parts = [f"from {recipe.base}"] if recipe.base else []
    parts += [_count(recipe.packages, "package")] if recipe.packages else []
    parts += [_describe_debs(path.parent, pattern) for pattern in recipe.debs]
    parts += [_count(recipe.files, "file")] if recipe.files else []
    steps = ["scripts of packages"] if recipe.configure else []
    steps += [_count(recipe.prepare, "command")] if recipe.prepare else []
    parts += [f"{' and '.join(steps)} in a guest"] if steps else []
    return f"an image: {', '.join(parts) or 'empty'}"


def _describe_debs(folder: Path, pattern: str) -> str:
    """Return a pattern of local packages with its files' number, of all kinds."""
    names = list(matching(folder, PLACEHOLDER.sub("*", pattern), project_root(folder / RECIPE)))
    return f"local packages {pattern} ({_count(names, 'file')} now)"


def _describe_by_keys(path: Path, profiles: Mapping[str, Profile]) -> str:
    data = read_document(path).data
    if "registries" in data:
        return f"registries: {', '.join(load_registries(path).registries)}"
    if "kernels" in data and "format" in data:
        catalogue = load_catalogue(path)
        return f"a kernel catalogue: {_count(catalogue.kernels, 'kernel')} of {catalogue.description}"
    if "instances" in data:
        return f"a cloud: {_count(load_cloud(path).instances, 'kind')} of instances"
    if data.keys() & Cluster.model_fields.keys():
        return _describe_cluster(load_cluster(str(path)))
    if "machines" in data:
        profile = load_profile(path)
        return f"a profile: {_count(profile.machines, 'machine')}, {_count(profile.kernels, 'kernel')}"
    return _describe_spec(path, profiles)


def _describe_cluster(cluster: Cluster) -> str:
    if cluster.hosts:
        return f"a cluster: {_count(cluster.workers, 'host')}, {_count(cluster.boards, 'board')}"
    kind = next(name for name in ("slurm", "scheduler", "ec2") if getattr(cluster, name))
    return f"a cluster: {kind}"


def _describe_spec(path: Path, profiles: Mapping[str, Profile]) -> str:
    files = spec_files(path)
    if len(files) > 1:
        described = [f"{file.name} is {_describe_spec(file, profiles)}" for file in files]
        load_spec(path)
        return f"{len(files)} specs, merged: {'; '.join(described)}"
    spec, document = load_one(path)
    if spec.own:
        parts = [name for name in ("kernel", "initrd", "disk") if getattr(spec.own, name)]
        return "; ".join([f"a prebuilt guest: {', '.join(parts)}", *spec.notes])
    limits = find_limits(spec, profiles)
    for index, image in enumerate(spec.init):
        _check_image(document, ("init", index), image, path)
    for section in SECTIONS:
        for index, container in enumerate(getattr(spec, section)):
            _check_image(document, (section, index, "image"), container.image, path)
    document.raise_faults()
    services = [service for service in spec.services if service.check is None]
    parts = [f"{len(spec.onboot)} onboot", _count(services, "service"), _count(spec.checks, "check")]
    only = [f"{limit.container} is for {', '.join(limit.archs)} only" for limit in limits]
    return "; ".join(["a spec: " + ", ".join(parts), *only, *spec.notes])


def _check_image(document: Document, place: Location, reference: str, path: Path) -> None:
    try:
        source = find_source(reference, path, ())
        if source.kind == RECIPE_KIND:
            load_recipe(Path(source.path))
        elif source.kind == DOCKERFILE_KIND:
            load_package(Path(source.path))
    except InputError as error:
        document.complain(place, str(error))


def _count(items: Sized, word: str) -> str:
    number = len(items)
    return f"{number} {word}" + ("" if number == 1 else "s")
