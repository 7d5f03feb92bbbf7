"""Frozen values: what flows from one stage to the next."""

from bootmatrix.model.artefact import Artefact, Bootable, Built, BuiltFile, Forkable
from bootmatrix.model.bisection import Bisection, Step
from bootmatrix.model.cell import BootKind, Cell, ConsoleProof, Plan, Skip, Timeouts, Traits
from bootmatrix.model.image import (
    CopyFile,
    GivenImage,
    ImageConfig,
    ImageRecipe,
    ImageSource,
    PackageRecipe,
    StoredImage,
)
from bootmatrix.model.kernel import Kernel, KernelPart, OwnKernel, Package
from bootmatrix.model.known_results import Seen, SeenCells
from bootmatrix.model.lock import Lock
from bootmatrix.model.matrix import Exclude, Expect, Include, Matrix, Pattern, QemuArgs
from bootmatrix.model.outcome import Diagnostic, GuestMessage, Outcome, Phase, QmpEvent
from bootmatrix.model.profile import (
    Accelerator,
    Bios,
    Card,
    Efi,
    Firmware,
    KernelForm,
    KernelSource,
    Machine,
    Names,
    Profile,
)
from bootmatrix.model.record import Order, PhaseTime, Record, ResultFile, Run, Try
from bootmatrix.model.registry import Registries, Registry
from bootmatrix.model.spec import Container, ContainerSettings, File, OwnGuest, Spec, Volume
from bootmatrix.model.verdict import Evidence, Judgement, SubResult, Trouble, Verdict

__all__ = [
    "Accelerator",
    "Artefact",
    "Bios",
    "Bisection",
    "BootKind",
    "Bootable",
    "Built",
    "BuiltFile",
    "Card",
    "Cell",
    "ConsoleProof",
    "Container",
    "ContainerSettings",
    "CopyFile",
    "Diagnostic",
    "Efi",
    "Evidence",
    "Exclude",
    "Expect",
    "File",
    "Firmware",
    "Forkable",
    "GivenImage",
    "GuestMessage",
    "ImageConfig",
    "ImageRecipe",
    "ImageSource",
    "Include",
    "Judgement",
    "Kernel",
    "KernelForm",
    "KernelPart",
    "KernelSource",
    "Lock",
    "Machine",
    "Matrix",
    "Names",
    "Order",
    "Outcome",
    "OwnGuest",
    "OwnKernel",
    "Package",
    "PackageRecipe",
    "Pattern",
    "Phase",
    "PhaseTime",
    "Plan",
    "Profile",
    "QemuArgs",
    "QmpEvent",
    "Record",
    "Registries",
    "Registry",
    "ResultFile",
    "Run",
    "Seen",
    "SeenCells",
    "Skip",
    "Spec",
    "Step",
    "StoredImage",
    "SubResult",
    "Timeouts",
    "Traits",
    "Trouble",
    "Try",
    "Verdict",
    "Volume",
]
