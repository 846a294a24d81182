"""Every choice of a run, where its default comes from, and what each named system is."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch

from recsys.errors import UsageError, choose

OPERATORS = ("crop", "mask", "reorder", "substitute")
# Sampled negatives of each loss that needs them, and what shares them: one per target as SASRec has it, 256 as gSASRec.
NEGATIVES = {
    "bce": (1, "position"), "focal": (1, "position"), "bpr": (1, "position"), "gbce": (256, "position"),
    "sampled": (256, "row"),
}  # fmt: skip
LOSSES = ("ice", "ce", "softmax-focal", "sce", "rece", *NEGATIVES)
ENCODER_NAMES = ("sasrec", "gru4rec")
POLICIES = ("uniform", "each-once", "adaptive")
WEIGHTINGS = ("none", "batch_sum", "row", "mean_one")
REDUCTIONS = ("expected", "token", "row")
DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("ddp",)
PRECISIONS = ("32", "64", "bf16", "16")
MATMULS = ("highest", "high", "medium")
BATCHES = ("length", "random")
# How a run is carried out, not what it is.
CARRIED_OUT = ("threads", "device", "devices", "strategy", "matmul")


@dataclass(frozen=True)
class Settings:
    """One run of one system. The defaults are the recipe that was measured best; ``PAPER`` is the paper's."""

    system: str = "rmhsaocl"
    data: str = "shop"
    # what a step scores
    loss: str = "ice"
    negatives: int = 0  # per target, for the losses that sample them; 0 = as many as is usual for the loss
    leak: bool = False  # spare a user's held-out items as negatives, as much published code does
    reduction: str = (
        "expected"  # divide by the expected number of targets per batch, their number, or row by row
    )
    operators: tuple[str, ...] = OPERATORS
    # each operator as likely, each once over the views of a row, or by what it has brought to rows of the same length
    policy: str = "uniform"
    rate: tuple[float, float] = (0.2, 0.7)
    alpha: float = 0.4
    views: int = 1
    mixes: tuple[int, int] = (0, 0)  # over positions, over features
    weighting: str = "none"
    future: str = "keep"
    pad_mix: str = "keep"
    swap_rows: tuple[float, float] = (0.15, 0.15)  # rate of Swap on the rows of an epoch, targets and all
    contrast: float = 0.1  # weight of the contrast between views, in the systems that have one
    temperature: float = 1.0  # of that contrast
    # the encoder
    encoder: str = "sasrec"
    dim: int = 256
    layers: int = 2
    heads: int = 2
    max_length: int = 50
    dropout: float = 0.5
    cosine: float = 0.07  # temperature of scores that are cosines; 0 = products
    # the loop
    prefixes: bool = False  # a row of its own for every target, instead of a target at every slot
    average: float = 0.995  # decay of the running average of the weights that is tested; 0 = no average
    stages: int = 1
    epochs: int = 200
    patience: int = 10
    batch_size: int = 256
    batches: str = "length"  # which rows come together: those of like length (less work), or any: random
    lr: float = 1e-3
    seed: int = 0
    device: str = "auto"
    devices: int = 1  # processes that share each batch
    strategy: str = "ddp"  # how they do
    precision: str = "32"
    matmul: str = "highest"  # precision of float32 products in training, as torch names it
    threads: int = 0  # 0 = all cores

    @property
    def hybrid(self) -> bool:
        """Whether rows are swapped, or views or mixes are added to the loss."""
        return self.views > 0 or self.mixes != (0, 0) or self.swap_rows != (0, 0)

    @property
    def augmented(self) -> bool:
        """Whether there is a control to compare with."""
        return self.hybrid or family(self.system) in OTHERS

    @property
    def needs_control(self) -> bool:
        """Whether the weights of the control are where it starts."""
        return self.stages == 2 or family(self.system) == "diffuasr"

    @property
    def has_stages(self) -> bool:
        """Whether what is trained first decides what is trained on then."""
        return self.stages == 2 or family(self.system) in ("asrep", "diffuasr")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Settings as they were written; what an older file does not name was not there yet. TypeError if they are none."""
        pairs: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        settings = cls(**(BEFORE | PUBLISHED | pairs))
        for field in dataclasses.fields(cls):
            value = getattr(settings, field.name)
            if not _alike(value, field.default):
                raise TypeError(f"{field.name}={value!r}")
        return settings


def _alike(value: Any, usual: Any) -> bool:
    """Whether a value is of the kind of the usual one; a whole number may stand for a float."""
    if isinstance(usual, tuple):
        return isinstance(value, tuple) and all(_alike(part, usual[0]) for part in value)
    return type(value) is type(usual) or (type(value) is int and type(usual) is float)


AS_THEY_ARE = (0.0, 0.0)  # rows
PLAIN: dict[str, Any] = {"views": 0, "mixes": (0, 0), "swap_rows": AS_THEY_ARE}
# What the published systems have, and every system with a loss that asks of each item by itself, which cosines make worse.
PUBLISHED: dict[str, Any] = {"cosine": 0.0, "average": 0.0, "dim": 64}
# What a run was before there was a setting for it.
BEFORE: dict[str, Any] = {"prefixes": False, "swap_rows": AS_THEY_ARE}
BINARY = ("bce", "focal", "bpr", "gbce")
# A loss that asks of each item by itself rests on plateaus longer than ten epochs.
PATIENT: dict[str, Any] = {"patience": 40}
SYSTEMS: dict[str, dict[str, Any]] = {
    "rmhsaocl": {},
    "basrec": {
        "loss": "bce", "operators": ("reorder", "substitute"), "views": 4, "mixes": (3, 3),
        "weighting": "batch_sum", "future": "mix", "pad_mix": "embedding", "swap_rows": AS_THEY_ARE,
    },
    "sasrec": {"loss": "bce", **PLAIN},
}  # fmt: skip
SYSTEMS |= {f"sasrec-{loss}": {"loss": loss, **PLAIN} for loss in LOSSES if loss != "bce"}

SYSTEMS["gsasrec"] = SYSTEMS["sasrec-gbce"]

# The systems of examples/systems with their own losses; each is also there with the loss of RM-HSAOCL.
CONTRASTIVE = ("cl4srec", "duorec", "coserec", "ticoserec")
OTHERS: dict[str, dict[str, Any]] = {
    "cl4srec": {"loss": "bce"},
    "duorec": {"loss": "ice"},
    "coserec": {"loss": "bce"},
    "ticoserec": {"loss": "bce"},
    "asrep": {"loss": "bce"},
    "diffuasr": {"loss": "bce"},
}
SYSTEMS |= {name: values | PLAIN for name, values in OTHERS.items()}
SYSTEMS |= {
    f"{name}-ice": {"loss": "ice", **PLAIN} for name, values in OTHERS.items() if values["loss"] != "ice"
}

# All three systems in a few minutes; its products are too small to share among threads.
# A temperature does not carry over from sparser data: at 0.07 the rows of the shop are learnt by heart. Nor do swaps: its rows are
# generated item after item, so that their order is no chance.
SHOP: dict[str, Any] = {
    "epochs": 60, "patience": 5, "threads": 1, "cosine": 0.15, "dim": 64, "swap_rows": AS_THEY_ARE,
}  # fmt: skip

# Its batches are of random rows: a mean over the targets of each batch of like length counts those of short rows more.
PAPER: dict[str, Any] = {
    "dropout": 0.1, "patience": 20, "reduction": "token", "batches": "random",
}  # fmt: skip
PAPER_AUGMENTATION: dict[str, Any] = {
    "stages": 2, "views": 4, "mixes": (3, 3), "weighting": "batch_sum", "future": "mix", "pad_mix": "embedding",
    "swap_rows": AS_THEY_ARE,
}  # fmt: skip
PAPER_DATA: dict[str, dict[str, Any]] = {  # alpha, rate and dropout of the second stage
    "Beauty": {"alpha": 0.4, "rate": (0.2, 0.7), "dropout": 0.1},
    "Sports": {"alpha": 0.3, "rate": (0.1, 0.8), "dropout": 0.1},
    "Yelp": {"alpha": 0.5, "rate": (0.2, 0.5), "dropout": 0.1},
    "Home": {"alpha": 0.5, "rate": (0.3, 0.7), "dropout": 0.05},
}
AUGMENTATION = (
    "operators",
    "policy",
    "rate",
    "alpha",
    "views",
    "mixes",
    "weighting",
    "future",
    "pad_mix",
    "swap_rows",
    "stages",
)
CONTRAST = ("contrast", "temperature")


def family(system: str) -> str:
    """The system without the loss that it may have been given instead of its own: cl4srec of cl4srec-ice."""
    return system.split("-")[0]


def resolve(system: str, given: dict[str, Any], paper: bool, data_name: str) -> Settings:
    """Settings of ``system``: defaults, then the system, then the paper (if asked for), then what was given."""
    choose("--system", system, SYSTEMS)
    chosen = dict(SYSTEMS[system], system=system, data=data_name)
    other = family(system) in OTHERS
    plain = chosen.get("views") == 0
    if plain:
        idle = AUGMENTATION if other else (*AUGMENTATION, *CONTRAST, "loss")
        given = {name: value for name, value in given.items() if name not in idle}
    binary = (chosen | given).get("loss") in BINARY
    if binary:
        chosen |= PATIENT
    if data_name == "shop":
        chosen |= SHOP
    if paper:
        chosen |= PAPER
        chosen |= PAPER_DATA.get(data_name, {})
        if not plain:
            chosen |= PAPER_AUGMENTATION
    if paper or binary:
        chosen |= PUBLISHED
    settings = check(dataclasses.replace(Settings(), **(chosen | given)))
    return dataclasses.replace(settings, system=name_of(family(system), settings.loss)) if other else settings


def name_of(system: str, loss: str) -> str:
    """The name of a system of examples/systems under a loss: its own, or another."""
    return system if loss == OTHERS[system]["loss"] else f"{system}-{loss}"


NAMES = {*SYSTEMS, *(f"{system}-{loss}" for system in OTHERS for loss in LOSSES)}


def control_of(settings: Settings) -> str:
    """The system that differs from an augmented one in nothing but the augmentation."""
    return plain_of(settings.loss)


def plain_of(loss: str) -> str:
    """The plain system of a loss."""
    return "sasrec" if loss == "bce" else f"sasrec-{loss}"


def check(settings: Settings) -> Settings:
    """Return ``settings`` if every value is possible, else raise an error that names the first that is not."""
    if settings.system not in NAMES:  # it is also the name of a folder
        raise UsageError(f"expected a system that --system has made, got system={settings.system!r}")
    if not settings.operators:
        raise UsageError(f"expected --operators with at least one of {', '.join(OPERATORS)}, got none")
    for name in settings.operators:
        choose("--operators", name, OPERATORS)
    choose("--policy", settings.policy, POLICIES)
    for name in ("rate", "swap_rows"):
        low, high = getattr(settings, name)
        if not 0 <= low <= high <= 1:
            raise UsageError(
                f"expected --{name.replace('_', '-')} A-B with 0 <= A <= B <= 1, got {name}={low:g}-{high:g}"
            )
    choose("--loss", settings.loss, LOSSES)
    choose("--encoder", settings.encoder, ENCODER_NAMES)
    choose("--weighting", settings.weighting, WEIGHTINGS)
    choose("--reduction", settings.reduction, REDUCTIONS)
    choose("--precision", settings.precision, PRECISIONS)
    choose("--matmul", settings.matmul, MATMULS)
    choose("--batches", settings.batches, BATCHES)
    choose("--device", settings.device, DEVICES)
    choose("--strategy", settings.strategy, STRATEGIES)
    here = {
        "gpu": torch.cuda.is_available(),
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not here.get(settings.device, True):
        raise UsageError(f"expected a device of this machine, got device={settings.device}; use --device cpu")
    choose("--future", settings.future, ("keep", "mix"))
    choose("--pad-mix", settings.pad_mix, ("keep", "embedding"))
    for name, least in LEAST.items():
        value = getattr(settings, name)
        if value < least:
            raise UsageError(f"expected --{name.replace('_', '-')} of at least {least}, got {name}={value}")
    if settings.seed >= 2**32:
        raise UsageError(f"expected --seed below 2**32, got seed={settings.seed}")
    if min(settings.mixes) < 0:
        raise UsageError(
            f"expected --mixes P+F with P, F >= 0, got mixes={settings.mixes[0]}+{settings.mixes[1]}"
        )
    if not 0 < settings.alpha < math.inf:
        raise UsageError(f"expected --alpha above 0 and finite, got alpha={settings.alpha:g}")
    if not 0 <= settings.contrast < math.inf:
        raise UsageError(f"expected --contrast of at least 0 and finite, got contrast={settings.contrast:g}")
    if not 0 < settings.temperature < math.inf:
        raise UsageError(
            f"expected --temperature above 0 and finite, got temperature={settings.temperature:g}"
        )
    if not 0 <= settings.cosine < math.inf:
        raise UsageError(f"expected --cosine of at least 0 and finite, got cosine={settings.cosine:g}")
    if not 0 < settings.lr < math.inf:
        raise UsageError(f"expected --lr above 0 and finite, got lr={settings.lr:g}")
    if not 0 <= settings.dropout < 1:
        raise UsageError(f"expected --dropout with 0 <= dropout < 1, got dropout={settings.dropout:g}")
    if not 0 <= settings.average < 1:
        raise UsageError(f"expected --average with 0 <= average < 1, got average={settings.average:g}")
    if settings.stages not in (1, 2):
        raise UsageError(f"expected --stages 1 or 2, got stages={settings.stages}")
    if settings.dim % settings.heads:
        raise UsageError(
            f"expected --dim divisible by --heads, got dim={settings.dim}, heads={settings.heads}"
        )
    return settings


LEAST = {
    "views": 0, "epochs": 1, "patience": 1, "batch_size": 1, "max_length": 1, "dim": 1, "layers": 1, "heads": 1,
    "negatives": 0, "seed": 0, "threads": 0, "devices": 1,
}  # fmt: skip
