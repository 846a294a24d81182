"""Policies: which operator a row gets. They are operators themselves, so they nest."""

from seqaug.policies.adaptive import AdaptiveEdit, AdaptivePolicy
from seqaug.policies.compose import Compose
from seqaug.policies.length import LengthPolicy
from seqaug.policies.maybe import Maybe
from seqaug.policies.policy import Policy
from seqaug.policies.some_of import SomeOf

__all__ = ["AdaptiveEdit", "AdaptivePolicy", "Compose", "LengthPolicy", "Maybe", "Policy", "SomeOf"]
