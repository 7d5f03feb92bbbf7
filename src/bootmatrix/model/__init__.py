"""Frozen values that flow from one stage to the next."""

from bootmatrix.model.artefact import Artefact, Bootable, Built, BuiltFile, Forkable
from bootmatrix.model.bisection import Bisection, Step
from bootmatrix.model.cell import (
    BootKind,
    Cell,
    ConsoleProof,
    ConsoleRule,
    Network,
    Part,
    Plan,
    RootPlace,
    Skip,
    Tier,
    Timeouts,
    Traits,
)
from bootmatrix.model.contents import Component, ImageContents
from bootmatrix.model.distribution import Catalogue, CatalogueEntry, RepositoryKernel
from bootmatrix.model.guest_size import GuestSize
from bootmatrix.model.image import (
    CopyFile,
    ImageConfig,
    ImageOverride,
    ImageRecipe,
    ImageSource,
    PackageRecipe,
    Registries,
    Registry,
    StoredImage,
)
from bootmatrix.model.kernel import CustomKernel, Kernel, KernelPart, Package
from bootmatrix.model.lock import Lock, Seen, SeenCells
from bootmatrix.model.matrix import (
    ConsolePattern,
    Exclude,
    Expect,
    Include,
    Matrix,
    Pattern,
    QemuArgs,
    ResourceRule,
    Xfail,
)
from bootmatrix.model.outcome import CollectedFile, Diagnostic, GuestMessage, Outcome, Phase, QmpEvent
from bootmatrix.model.profile import (
    Accelerator,
    AnyKernel,
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
from bootmatrix.model.record import (
    LOCAL,
    AcceptanceRecord,
    AttemptRecord,
    MachineUse,
    PhaseTime,
    Record,
    ResultFile,
    Run,
    RunRequest,
)
from bootmatrix.model.spec import Container, ContainerSettings, FileEntry, PrebuiltGuest, Spec, Volume
from bootmatrix.model.verdict import Evidence, Judgement, KernelFault, SubResult, Verdict
