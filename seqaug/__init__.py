"""seqaug: batched, on-device augmentation of item sequences, and next-item losses that never build tokens x catalog."""

from importlib.metadata import PackageNotFoundError, version

from seqaug import functional, inspect
from seqaug.collate import Collate
from seqaug.crossmix import CrossMixup, Pair
from seqaug.edit import Edit
from seqaug.expand import Expansion, prefixes, windows
from seqaug.feature_mask import DroppedFeatures, FeatureMask
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
    Swap,
    TimeCrop,
    TimeInsert,
    TimeMask,
    TimeReorder,
    TimeSubstitute,
    gap_variance,
)
from seqaug.packed import Packed, pack
from seqaug.packed_edit import PackedEdit
from seqaug.packed_mix import PackedMix, PackedPair
from seqaug.padding import check_batch, lengths, pad_sequences
from seqaug.policies import (
    AdaptivePolicy,
    Compose,
    EachOnce,
    LengthPolicy,
    Maybe,
    Policy,
    SomeOf,
    VariancePolicy,
)
from seqaug.refresh import RefreshNeighbours
from seqaug.retrieval import target_ranks, top_items
from seqaug.sharding import ShardedTable, gather_rows, split_rows
from seqaug.similarity import ItemSimilarity
from seqaug.soft_target import SoftTarget
from seqaug.sparse_table import SparseTable

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
    "Collate",
    "Compose",
    "Crop",
    "CrossMixup",
    "Delete",
    "DroppedFeatures",
    "EachOnce",
    "Edit",
    "Expansion",
    "FeatureMask",
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
    "Packed",
    "PackedEdit",
    "PackedMix",
    "PackedPair",
    "Pair",
    "Policy",
    "PopularityNegatives",
    "RECELoss",
    "RefreshNeighbours",
    "Reorder",
    "RepeatPad",
    "SCELoss",
    "SampledSoftmaxLoss",
    "ShardedTable",
    "SoftTarget",
    "SoftmaxFocalLoss",
    "SomeOf",
    "SparseTable",
    "Substitute",
    "Swap",
    "TimeCrop",
    "TimeInsert",
    "TimeMask",
    "TimeReorder",
    "TimeSubstitute",
    "UniformNegatives",
    "VariancePolicy",
    "check_batch",
    "functional",
    "gap_variance",
    "gather_rows",
    "inspect",
    "lengths",
    "pack",
    "pad_sequences",
    "prefixes",
    "split_rows",
    "target_ranks",
    "top_items",
    "windows",
]
