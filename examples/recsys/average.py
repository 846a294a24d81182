"""The running average of an encoder's weights over training steps: what is tested instead of the last step's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from recsys.encoders import Encoder


class Average(nn.Module):
    """mean <- d * mean + (1 - d) * weights after every step, with d = min(decay, (1 + steps) / (10 + steps)).

    The smaller d of the first steps lets go of the weights that training began with (as in the averages of TensorFlow,
    ExponentialMovingAverage, num_updates).

    Args:
        encoder: whose weights are averaged; it is not changed.
        decay: in (0, 1).
    """

    steps: Tensor

    def __init__(self, encoder: Encoder, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, encoder: Encoder) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        decay = torch.clamp((1 + self.steps) / (10 + self.steps), max=self.decay)
        for mean, now in zip(self.encoder.parameters(), encoder.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
