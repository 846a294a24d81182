"""Operators: one file each."""

from seqaug.operators.crop import Crop
from seqaug.operators.delete import Delete
from seqaug.operators.insert import Insert
from seqaug.operators.mask import Mask
from seqaug.operators.reorder import Reorder
from seqaug.operators.repeat import RepeatPad
from seqaug.operators.substitute import Substitute
from seqaug.operators.swap import Swap
from seqaug.operators.timed import TimeCrop, TimeInsert, TimeMask, TimeReorder, TimeSubstitute, gap_variance

__all__ = [
    "Crop",
    "Delete",
    "Insert",
    "Mask",
    "Reorder",
    "RepeatPad",
    "Substitute",
    "Swap",
    "TimeCrop",
    "TimeInsert",
    "TimeMask",
    "TimeReorder",
    "TimeSubstitute",
    "gap_variance",
]
