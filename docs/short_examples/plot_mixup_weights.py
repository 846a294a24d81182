r"""
The weight of a mixed view
==========================

The published weight of a view, :math:`\omega = 1 / (\lambda \cdot rate)` scaled to [0, 1] over the batch, is one number for
each row. But :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)` is close to 0 for some row of every batch, and that row
takes all the weight.
"""

import matplotlib.pyplot as plt
import torch

import seqaug as sa

# %%
# A batch of 256 rows, one view each.

items = torch.arange(1, 13).repeat(256, 1)
crop = sa.Crop(0.2, 0.7)


def weights(weighting: str) -> torch.Tensor:
    mixup = sa.MixupOp(crop, alpha=0.4, weighting=weighting)
    return mixup.sample(items, generator=torch.Generator().manual_seed(0)).weight


# %%
# Row by row, one row gets 1 and half of the rows next to nothing: the loss on the views is as good as switched off.
# ``"batch_sum"`` gives every row the sum over the batch, which is what the published figures come from; ``"mean_one"`` clips
# what is extreme and keeps a mean of 1; ``"none"`` is 1.

for name in ("row", "batch_sum", "mean_one", "none"):
    w = weights(name)
    print(f"{name:>9}: median {w.median():.2e}, largest {w.max():.2f}, sum {w.sum():.1f}")

# %%
# The weights of the rows, in order.

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name in ("row", "mean_one", "none"):
    axes.semilogy(weights(name).sort().values.clamp(min=1e-8), label=name)
axes.set_xlabel("row, by weight")
axes.set_ylabel("weight")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()
