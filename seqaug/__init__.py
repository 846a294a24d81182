"""seqaug: batched, on-device augmentation of item sequences, and next-item losses that never build tokens x catalog."""

from importlib.metadata import PackageNotFoundError, version

from seqaug import functional, inspect
from seqaug.crossmix import CrossMixup, Pair
from seqaug.edit import Edit
from seqaug.losses import (
    BCELoss,
    BPRLoss,
    CELoss,
    FocalLoss,
    GBCELoss,
    ICELoss,
    InfoNCELoss,
    RECELoss,
    SampledSoftmaxLoss,
    SCELoss,
    SoftmaxFocalLoss,
)
from seqaug.mixup import Mix, Mixed, MixupOp
from seqaug.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
from seqaug.operator import Augmentation, Operator
from seqaug.operators import (
    Crop,
    Delete,
    Insert,
    Mask,
    Reorder,
    RepeatPad,
    Substitute,
    TimeCrop,
    TimeInsert,
    TimeMask,
    TimeReorder,
    TimeSubstitute,
)
from seqaug.padding import check_batch, lengths, pad_sequences
from seqaug.policies import AdaptivePolicy, Compose, LengthPolicy, Maybe, Policy, SomeOf
from seqaug.similarity import ItemSimilarity
from seqaug.soft_target import SoftTarget

try:
    __version__ = version("seqaug")
except PackageNotFoundError:  # a checkout that is on the path but not installed
    __version__ = "0.0.0"

__all__ = [
    "AdaptivePolicy",
    "Augmentation",
    "BCELoss",
    "BPRLoss",
    "CELoss",
    "Compose",
    "Crop",
    "CrossMixup",
    "Delete",
    "Edit",
    "FocalLoss",
    "GBCELoss",
    "ICELoss",
    "InBatchNegatives",
    "InfoNCELoss",
    "Insert",
    "ItemSimilarity",
    "LengthPolicy",
    "Mask",
    "Maybe",
    "Mix",
    "Mixed",
    "MixupOp",
    "Operator",
    "Pair",
    "Policy",
    "PopularityNegatives",
    "RECELoss",
    "Reorder",
    "RepeatPad",
    "SCELoss",
    "SampledSoftmaxLoss",
    "SoftTarget",
    "SoftmaxFocalLoss",
    "SomeOf",
    "Substitute",
    "TimeCrop",
    "TimeInsert",
    "TimeMask",
    "TimeReorder",
    "TimeSubstitute",
    "UniformNegatives",
    "check_batch",
    "functional",
    "inspect",
    "lengths",
    "pad_sequences",
]
