"""What an operator brought: how far a row's loss fell between two visits, told to the policy that drew the operator."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

import seqaug as sa


class Progress(nn.Module):
    """Rewards of an :class:`~seqaug.AdaptivePolicy`, one visit late.

    A row is met once per epoch. The fall of its loss from one visit to the next is the reward of the operators that
    made its views at the first of the two. The loss is that of the row as it is, without augmentation, on its newest
    item: the place of a sequence where testing asks, too.

    Args:
        policy: that draws the operators and learns.
        rows: training rows in all.
        views: per row.
    """

    loss: Tensor
    choice: Tensor

    def __init__(self, policy: sa.AdaptivePolicy, rows: int, views: int) -> None:
        super().__init__()
        self.policy = policy
        self.register_buffer("loss", torch.full((rows,), torch.nan))  # no reward before the second visit
        self.register_buffer("choice", torch.zeros(views, rows, dtype=torch.int64))

    @torch.no_grad()
    def update(self, rows: Tensor, loss: Tensor, edits: list[sa.Edit]) -> None:
        """Reward the operators of the last visit, and remember those of this one.

        Args:
            rows: (B,) int64; which training rows these are.
            loss: (B,) float; their losses now.
            edits: of this visit's views, one per view.
        """
        fall = self.loss[rows] - loss
        for view, edit in enumerate(edits):
            if edit.choice is not None:
                self.policy.update(dataclasses.replace(edit, choice=self.choice[view, rows]), fall)
                self.choice[view, rows] = edit.choice
        self.loss[rows] = loss
