"""Which cells a matrix comes to, in which order, and what is skipped and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bootmatrix.errors import InputError
from bootmatrix.load.data_paths import arch_folders
from bootmatrix.load.profile import load_profiles
from bootmatrix.model import ConsoleProof, Matrix, Plan, Traits
from bootmatrix.plan import matrix_from_arguments, narrowed, plan, verifying

PROFILES = load_profiles(arch_folders())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two specs in a folder below the current one."""
    monkeypatch.chdir(tmp_path)
    folder = Path("specs")
    folder.mkdir()
    for name in ("a.yml", "b.yml"):
        (folder / name).write_text("init: []\n")
    return folder


def matrix(**fields: Any) -> Matrix:
    return Matrix.model_validate({"specs": ("a.yml",), "arch": ("x86_64",), "kernel": ("6.1",)} | fields)


def planned(folder: Path, **fields: Any) -> Plan:
    return plan(matrix(**fields), folder, PROFILES)


def ids(found: Plan) -> list[str]:
    return [cell.id for cell in found.cells]


def test_the_product_in_its_order(folder: Path) -> None:
    found = planned(folder, specs=("b.yml", "a.yml"), arch=("armv7/raspi2b", "x86_64"), kernel=("7.2", "6.1"))
    assert ids(found) == [
        "b/armv7/raspi2b/7.2",
        "b/armv7/raspi2b/6.1",
        "b/x86_64/7.2",
        "b/x86_64/6.1",
        "a/armv7/raspi2b/7.2",
        "a/armv7/raspi2b/6.1",
        "a/x86_64/7.2",
        "a/x86_64/6.1",
    ]
    assert found.cells[0].spec == "specs/b.yml"
    assert not found.skips


def test_a_cell_knows_what_may_matter_beside_its_names(folder: Path) -> None:
    cells = planned(folder, arch=("ppc64le", "armv7"), kernel=("7.2-64k", "6.1")).cells
    traits = {cell.id: cell.traits for cell in cells}
    assert traits["a/ppc64le/7.2-64k"] == Traits(bits=64, endian="little", page_kib=64, kernel_version="7.2")
    assert traits["a/armv7/6.1"] == Traits(bits=32, endian="little", page_kib=4, kernel_version="6.1", va_bits=32)


def test_all_means_each_default_machine_and_each_of_its_kernels(folder: Path) -> None:
    found = planned(folder, arch=("all",), kernel=("all",))
    assert ids(found) == [
        f"a/{profile.name}/{kernel}"
        for profile in PROFILES.values()
        for kernel in profile.kernels_of(profile.default_machine())
    ]
    assert all(cell.machine_is_default for cell in found.cells)
    assert not found.skips


def test_doubles_are_one(folder: Path) -> None:
    found = planned(
        folder,
        specs=("a.yml", "./a.yml"),
        arch=("amd64", "x86_64", "x86_64/q35"),
        kernel=("6.1", "6.1"),
        include=({"spec": "a.yml", "arch": "x64", "kernel": "6.1"},),
    )
    assert ids(found) == ["a/x86_64/6.1"]


def test_a_kernel_that_one_architecture_lacks_is_skipped_there(folder: Path) -> None:
    found = planned(folder, arch=("x86_64", "ppc64le"), kernel=("5.10",))
    assert ids(found) == ["a/x86_64/5.10"]
    assert [skip.cell.id for skip in found.skips] == ["a/ppc64le/5.10"]
    assert found.skips[0].reason.startswith("the profile ppc64le has no kernel '5.10'; it has 6.1, 6.12")


def test_a_kernel_that_all_lack_is_bad_input(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none of the selected architectures has a kernel '6\.2'"):
        planned(folder, kernel=("6.1", "6.2"))


def test_exclude_and_include(folder: Path) -> None:
    found = planned(
        folder,
        specs=("a.yml", "b.yml"),
        arch=("armv7", "armv7/raspi2b"),
        exclude=({"arch": "armv7/raspi2b", "spec": "b", "reason": "too slow"},),
        include=({"spec": "b.yml", "arch": "ppc64el", "kernel": "7.2"},),
    )
    assert ids(found) == ["a/armv7/6.1", "a/armv7/raspi2b/6.1", "b/armv7/6.1", "b/ppc64le/7.2"]
    assert [(skip.cell.id, skip.reason) for skip in found.skips] == [("b/armv7/raspi2b/6.1", "too slow")]


def test_an_architecture_without_a_machine_excludes_all_of_them(folder: Path) -> None:
    found = planned(
        folder, arch=("x86_64", "armv7", "armv7/raspi2b"), exclude=({"arch": "armhf", "reason": "not today"},)
    )
    assert ids(found) == ["a/x86_64/6.1"]
    assert len(found.skips) == 2


def test_what_is_expected_stands_on_the_cell(folder: Path) -> None:
    found = planned(
        folder,
        kernel=("6.1", "7.2"),
        xfail=({"kernel": "7.2", "reason": "bug 5"}, {"spec": "a.yml", "kernel": "7.2", "reason": "bug 6"}),
        timeouts={"boot": 5.0},
        retries=3,
    )
    assert [cell.expect for cell in found.cells] == ["", "bug 5; bug 6"]
    assert {(cell.timeouts.boot, cell.retries) for cell in found.cells} == {(5.0, 3)}


@pytest.mark.parametrize("kernel", ["../x", "", "a b", "x" * 65])
def test_a_kernel_name_is_a_name(folder: Path, kernel: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a kernel"):
        planned(folder, kernel=(kernel,))


def test_the_matrix_of_a_command_line(folder: Path) -> None:
    found = matrix_from_arguments(["specs/a.yml"], (), (), PROFILES)
    assert ids(plan(found, Path(), PROFILES)) == [
        f"a/{name}/6.1" for name, profile in PROFILES.items() if "6.1" in profile.kernels
    ]
    found = matrix_from_arguments(["specs/a.yml"], ("armhf",), ("7.2", "6.1"), PROFILES)
    assert ids(plan(found, Path(), PROFILES)) == ["a/armv7/7.2", "a/armv7/6.1"]
    with pytest.raises(InputError, match="unknown architecture"):
        matrix_from_arguments(["specs/a.yml"], ("mips",), (), PROFILES)


def test_a_matrix_is_narrowed_with_what_it_includes(folder: Path) -> None:
    whole = matrix(
        arch=("x86_64", "ppc64le"),
        kernel=("6.1", "7.2"),
        include=(
            {"spec": "b.yml", "arch": "ppc64el", "kernel": "6.12"},
            {"spec": "b.yml", "arch": "x86_64", "kernel": "6.1"},
        ),
    )
    assert narrowed(whole, (), (), PROFILES) == whole
    only = plan(narrowed(whole, ("ppc64el",), (), PROFILES), folder, PROFILES)
    assert ids(only) == ["a/ppc64le/6.1", "a/ppc64le/7.2", "b/ppc64le/6.12"]
    only = plan(narrowed(whole, (), ("6.1",), PROFILES), folder, PROFILES)
    assert ids(only) == ["a/x86_64/6.1", "a/ppc64le/6.1", "b/x86_64/6.1"]


def test_plans_are_the_same_each_time(folder: Path) -> None:
    fields: dict[str, Any] = {"specs": ("b.yml", "a.yml"), "arch": ("all",), "kernel": ("newest", "5.10")}
    assert planned(folder, **fields) == planned(folder, **fields)


def test_a_pass_by_the_console_is_for_the_cells_that_an_entry_fits(folder: Path) -> None:
    console = ({"spec": "a.yml", "text": "fine", "forbid": ("bad",), "stays": True},)
    found = planned(folder, specs=("a.yml", "b.yml"), console=console, xfail=({"reason": "known"},))
    assert [(cell.spec_name, cell.expect) for cell in found.cells] == [("a", "known"), ("b", "known")]
    assert found.cells[0].proof == ConsoleProof(console="fine", forbid=("bad",), stays=True)
    assert found.cells[1].proof is None


def test_a_guest_with_a_kernel_of_its_own_is_one_cell_of_each_architecture(folder: Path) -> None:
    (folder / "disk.guest.yml").write_text("disk: a.img\n")
    (folder / "pair.guest.yml").write_text("kernel: k\ninitrd: i\n")
    (folder / "initrd.guest.yml").write_text("initrd: i\n")
    specs = ("disk.guest.yml", "pair.guest.yml", "initrd.guest.yml")
    found = planned(folder, specs=specs, arch=("x86_64", "armv7"), kernel=("6.1", "7.2"))
    assert ids(found) == [
        "disk.guest/x86_64/own",
        "disk.guest/armv7/own",
        "pair.guest/x86_64/own",
        "pair.guest/armv7/own",
        "initrd.guest/x86_64/6.1",
        "initrd.guest/x86_64/7.2",
        "initrd.guest/armv7/6.1",
        "initrd.guest/armv7/7.2",
    ]


def limited(folder: Path, *annotations: str) -> None:
    containers = "".join(
        f"  - {{name: c{number}, image: x, annotations: {{bootmatrix.arch: {text!r}}}}}\n"
        for number, text in enumerate(annotations)
    )
    (folder / "a.yml").write_text(f"init: []\nservices:\n{containers}")


def test_a_spec_is_skipped_where_a_container_of_it_does_not_run(folder: Path) -> None:
    limited(folder, "amd64 arm64 ppc64le", "aarch64 x86_64")
    found = planned(folder, specs=("a.yml", "b.yml"), arch=("x86_64", "armv7", "ppc64le"))
    assert ids(found) == ["a/x86_64/6.1", "b/x86_64/6.1", "b/armv7/6.1", "b/ppc64le/6.1"]
    assert {skip.cell.id: skip.reason for skip in found.skips} == {
        "a/armv7/6.1": "c0 of this spec is for x86_64, aarch64, ppc64le only",
        "a/ppc64le/6.1": "c1 of this spec is for aarch64, x86_64 only",
    }


@pytest.mark.parametrize(("text", "message"), [("x68_64", "a.yml: bootmatrix.arch of c0: unknown"), (" ", "names no")])
def test_an_architecture_that_is_not_known_is_no_limit(folder: Path, text: str, message: str) -> None:
    limited(folder, text)
    with pytest.raises(InputError, match=message):
        planned(folder)


def test_cells_to_be_verified_are_spread_over_those_that_may_be_forked(folder: Path) -> None:
    found = planned(folder, arch=("x86_64", "armv7/raspi2b"), kernel=("5.10", "6.1", "6.12", "7.2"))

    def chosen(count: int) -> list[str]:
        return [cell.id for cell in verifying(found, count, lambda cell: cell.arch == "x86_64").cells if cell.verify]

    assert chosen(2) == ["a/x86_64/5.10", "a/x86_64/6.12"]
    assert chosen(9) == ["a/x86_64/5.10", "a/x86_64/6.1", "a/x86_64/6.12", "a/x86_64/7.2"]
    assert not [cell for cell in verifying(found, 2, lambda _: False).cells if cell.verify]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("known.yml", ["known"]),
        ("known", ["known"]),
        ("sub/known.yml", ["known"]),
        ("./sub/../sub/known.yml", ["known"]),
        ("good.yml+sub/known.yml", ["good+known"]),
        ("good.yml+known.yml", ["good+known"]),
        ("good+known", ["good+known"]),
        ("good.yml+sub/bad.yml", ["good+bad"]),
        ("good.yml", []),
        ("bad.yml", []),
        ("known.yml+good.yml", []),
        ("sub/known", []),
    ],
)
def test_a_spec_is_named_as_a_whole(folder: Path, name: str, expected: list[str]) -> None:
    """Never by one of the files that are merged in it."""
    (folder / "sub").mkdir()
    for file in ("good.yml", "sub/known.yml", "sub/bad.yml"):
        (folder / file).write_text("init: []\n")
    specs = ("sub/known.yml", "good.yml+sub/bad.yml", "good.yml+sub/known.yml")
    found = planned(folder, specs=specs, xfail=({"spec": name, "reason": "known to fail"},))
    assert [cell.spec_name for cell in found.cells if cell.expect] == expected
    left = planned(folder, specs=specs, exclude=({"spec": name, "reason": "not today"},))
    assert [skip.cell.spec_name for skip in left.skips] == expected


def test_a_folder_that_is_named_has_to_be_the_same(folder: Path) -> None:
    for sub in ("one", "two"):
        (folder / sub).mkdir()
        (folder / sub / "a.yml").write_text("init: []\n")
    xfail = ({"spec": "two/a.yml", "reason": "known"},)
    assert [cell.expect for cell in planned(folder, specs=("one/a.yml",), xfail=xfail).cells] == [""]
    assert [cell.expect for cell in planned(folder, specs=("two/a.yml",), xfail=xfail).cells] == ["known"]
    with pytest.raises(InputError, match=r"three/a\.yml: file not found"):
        planned(folder, specs=("one/a.yml",), xfail=({"spec": "three/a.yml", "reason": "known"},))
