"""Next-item losses on one signature: loss(hidden, table, target, *, negatives=, weight=, valid=)."""

from seqaug.losses.focal import FocalLoss
from seqaug.losses.pairwise import BCELoss
from seqaug.losses.softmax import CELoss, ICELoss

__all__ = ["BCELoss", "CELoss", "FocalLoss", "ICELoss"]
