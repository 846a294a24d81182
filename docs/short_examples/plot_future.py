"""
Which views look ahead
======================

With left padding, Reorder and Insert bring items to earlier slots, where a causal model would see its target. How often depends on
the rate; ``edit.future`` says where.
"""

import matplotlib.pyplot as plt
import torch

import seqaug as sa

# %%
# Rows of 3 to 20 items out of 100, and for each item a neighbour.

V = 100
generator = torch.Generator().manual_seed(0)
lengths = torch.randint(3, 21, (2000,), generator=generator).tolist()
rows = [torch.randint(1, V + 1, (length,), generator=generator) for length in lengths]
items = sa.pad_sequences(rows, length=24)
neighbours = torch.randint(1, V + 1, (V + 2, 1), generator=generator)

# %%
# The share of a view's real slots that show something newer than the row had there.

rates = [step / 20 for step in range(1, 20)]
operators = {
    "Reorder": lambda rate: sa.Reorder(rate, rate),
    "Insert": lambda rate: sa.Insert(rate, rate, neighbours),
    "Crop, Mask, Delete": lambda rate: sa.Compose(
        [sa.Crop(rate, rate), sa.Mask(rate, rate, mask_id=V + 1), sa.Delete(rate, rate)]
    ),
}
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, operator in operators.items():
    edits = [operator(rate).sample(items, generator=generator) for rate in rates]
    axes.plot(rates, [(edit.future.sum() / edit.valid.sum()).item() for edit in edits], label=name)
axes.set_xlabel("rate")
axes.set_ylabel("slots that look ahead")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# A loss on a view leaves those slots out.

view = sa.Reorder(0.2, 0.7).sample(items, generator=generator)
hidden, table = torch.randn(*items.shape, 8, generator=generator), torch.randn(V + 2, 8, generator=generator)
target = torch.roll(items, -1, dims=1)
target[:, -1] = 0
loss = sa.ICELoss(catalog=slice(1, V + 1))
print(loss(hidden, table, target, valid=view.valid & ~view.future))
