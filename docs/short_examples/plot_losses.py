"""
What the losses ask for
=======================

The loss of one target and how hard it pulls, as the target's score rises while those of the other items stay at 0.
"""

import matplotlib.pyplot as plt
import torch

import seqaug as sa

# %%
# One hidden state that is also the vector of item 1, in a catalog of 1,000; item 2 is the negative.

V = 1000
scores = torch.linspace(-4, 14, 181)
table = torch.zeros(V + 2, 1)
table[1] = 1.0
negatives = torch.tensor([2])
losses = {
    "ICE": (sa.ICELoss(catalog=slice(1, V + 1), reduction="none"), {}),
    "BCE, one negative": (sa.BCELoss(reduction="none"), {"negatives": negatives}),
    "Focal, one negative": (sa.FocalLoss(reduction="none"), {"negatives": negatives}),
}

# %%
# With one negative the pull is gone once the target beats that one; over the whole catalog it goes on until the target beats all
# of them together, at about log V.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, (loss, options) in losses.items():
    hidden = scores[:, None].clone().requires_grad_()  # (tokens, features)
    value = loss(hidden, table, torch.ones(len(scores), dtype=torch.int64), **options)
    (slope,) = torch.autograd.grad(value.sum(), hidden)
    left.plot(scores, value.detach(), label=name)
    right.plot(scores, -slope[:, 0])
left.set_ylabel("loss")
right.set_ylabel("pull on the target's score")
for axes in (left, right):
    axes.axvline(torch.log(torch.tensor(float(V))), color="#bbbbbb", linewidth=1)
    axes.set_xlabel("score of the target (grey: log V)")
    axes.spines[["top", "right"]].set_visible(False)
left.legend(frameon=False)
plt.show()
