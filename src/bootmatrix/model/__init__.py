"""Frozen values that flow from one stage to the next."""

from bootmatrix.model.artefact import Artefact, Bootable, Built, BuiltFile, Forkable
from bootmatrix.model.bisection import Bisection, Step
from bootmatrix.model.cell import BootKind, Cell, ConsoleProof, ConsoleRule, Plan, Skip, Timeouts, Traits
from bootmatrix.model.contents import Component, ImageContents
from bootmatrix.model.image import (
    CopyFile,
    ImageConfig,
    ImageOverride,
    ImageRecipe,
    ImageSource,
    PackageRecipe,
    StoredImage,
)
from bootmatrix.model.kernel import CustomKernel, Kernel, KernelPart, Package
from bootmatrix.model.known_results import Seen, SeenCells
from bootmatrix.model.lock import Lock
from bootmatrix.model.matrix import ConsolePattern, Exclude, Expect, Include, Matrix, Pattern, QemuArgs, Xfail
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
from bootmatrix.model.record import AttemptRecord, PhaseTime, Record, ResultFile, Run, RunRequest
from bootmatrix.model.registry import Registries, Registry
from bootmatrix.model.spec import Container, ContainerSettings, FileEntry, PrebuiltGuest, Spec, Volume
from bootmatrix.model.verdict import Evidence, Judgement, KernelFault, SubResult, Verdict

__all__ = [
    "Accelerator",
    "Artefact",
    "AttemptRecord",
    "Bios",
    "Bisection",
    "BootKind",
    "Bootable",
    "Built",
    "BuiltFile",
    "Card",
    "Cell",
    "Component",
    "ConsolePattern",
    "ConsoleProof",
    "ConsoleRule",
    "Container",
    "ContainerSettings",
    "CopyFile",
    "CustomKernel",
    "Diagnostic",
    "Efi",
    "Evidence",
    "Exclude",
    "Expect",
    "FileEntry",
    "Firmware",
    "Forkable",
    "GuestMessage",
    "ImageConfig",
    "ImageContents",
    "ImageOverride",
    "ImageRecipe",
    "ImageSource",
    "Include",
    "Judgement",
    "Kernel",
    "KernelFault",
    "KernelForm",
    "KernelPart",
    "KernelSource",
    "Lock",
    "Machine",
    "Matrix",
    "Names",
    "Outcome",
    "Package",
    "PackageRecipe",
    "Pattern",
    "Phase",
    "PhaseTime",
    "Plan",
    "PrebuiltGuest",
    "Profile",
    "QemuArgs",
    "QmpEvent",
    "Record",
    "Registries",
    "Registry",
    "ResultFile",
    "Run",
    "RunRequest",
    "Seen",
    "SeenCells",
    "Skip",
    "Spec",
    "Step",
    "StoredImage",
    "SubResult",
    "Timeouts",
    "Traits",
    "Verdict",
    "Volume",
    "Xfail",
]
