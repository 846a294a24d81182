"""Policies: which operator a row gets. They are operators themselves, so they nest."""

from seqaug.policies.adaptive import AdaptiveEdit, AdaptivePolicy
from seqaug.policies.compose import Compose
from seqaug.policies.each_once import EachOnce
from seqaug.policies.length import LengthPolicy
from seqaug.policies.maybe import Maybe
from seqaug.policies.policy import Policy
from seqaug.policies.some_of import SomeOf
from seqaug.policies.variance import VariancePolicy

__all__ = [
    "AdaptiveEdit",
    "AdaptivePolicy",
    "Compose",
    "EachOnce",
    "LengthPolicy",
    "Maybe",
    "Policy",
    "SomeOf",
    "VariancePolicy",
]
