"""Hypothesis profiles. `--hypothesis-profile=long` looks ten times as hard."""

import torch
from hypothesis import HealthCheck, settings

# No deadline: the first call of a torch function is much slower than the others.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True, suppress_health_check=_SLOW)
settings.register_profile("long", deadline=None, max_examples=300, suppress_health_check=_SLOW)
settings.load_profile("ci")

# The tensors are so small that threads only wait for one another.
torch.set_num_threads(1)
