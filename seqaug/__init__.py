"""seqaug: batched, on-device augmentation of item sequences, and next-item losses that never build tokens x catalog."""

from importlib.metadata import PackageNotFoundError, version

from seqaug.crossmix import CrossMixup, Pair
from seqaug.edit import Edit
from seqaug.mixup import Mix, Mixed, MixupOp
from seqaug.operator import Augmentation, Operator
from seqaug.operators import Crop, Delete, Insert, Mask, Reorder, Substitute
from seqaug.padding import check_batch, lengths, pad_sequences
from seqaug.policy import Compose, LengthPolicy, Maybe, Policy, SomeOf
from seqaug.similarity import ItemSimilarity
from seqaug.soft_target import SoftTarget
