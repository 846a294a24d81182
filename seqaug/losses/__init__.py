"""Next-item losses on one signature: loss(hidden, table, target, *, negatives=, weight=, valid=)."""

from seqaug.losses._base import ItemLoss
from seqaug.losses.buckets import RECELoss, SCELoss
from seqaug.losses.contrastive import InfoNCELoss
from seqaug.losses.focal import FocalLoss, SoftmaxFocalLoss
from seqaug.losses.pairwise import BCELoss, BPRLoss, GBCELoss
from seqaug.losses.sampled import SampledSoftmaxLoss
from seqaug.losses.softmax import CELoss, ICELoss

__all__ = [
    "BCELoss",
    "BPRLoss",
    "CELoss",
    "FocalLoss",
    "GBCELoss",
    "ICELoss",
    "InfoNCELoss",
    "ItemLoss",
    "RECELoss",
    "SCELoss",
    "SampledSoftmaxLoss",
    "SoftmaxFocalLoss",
]
