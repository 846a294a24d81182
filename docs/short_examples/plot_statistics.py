"""
What each operator does to a data set
=====================================

Before training: how many rows stay as they are, how long they come out, how much is new, and how often a slot shows its own target.
"""

import matplotlib.pyplot as plt
import torch

import seqaug as sa

# %%
# Rows as short as those of a shop: most have a handful of items, a few have many. Items that follow each other are often alike.

V = 500
generator = torch.Generator().manual_seed(0)
lengths = (2 + torch.empty(3000).exponential_(0.2, generator=generator)).long().clamp(max=50).tolist()
rows = [
    (
        torch.randint(0, V, (1,), generator=generator)
        + torch.randint(0, 20, (length + 1,), generator=generator)
    )
    % V
    + 1
    for length in lengths
]
items = sa.pad_sequences([row[:-1] for row in rows], length=50)
target = sa.pad_sequences([row[1:] for row in rows], length=50)
timestamps = torch.rand(items.shape, generator=generator).cumsum(1)
similar = sa.ItemSimilarity.from_sequences(rows, num_items=V, k=10)

# %%
# One draw for every row, counted.

operators = {
    "Crop": sa.Crop(0.2, 0.7),
    "Mask": sa.Mask(0.2, 0.7, mask_id=V + 1),
    "Reorder": sa.Reorder(0.2, 0.7),
    "Substitute": sa.Substitute(0.2, 0.7, similar),
    "exclude_row": sa.Substitute(0.2, 0.7, similar, exclude_row=True),
    "Insert": sa.Insert(0.2, 0.7, similar),
    "Delete": sa.Delete(0.2, 0.7),
    "TimeCrop": sa.TimeCrop(0.2, 0.7),
    "TimeMask": sa.TimeMask(0.2, 0.7, mask_id=V + 1),
    "TimeReorder": sa.TimeReorder(0.2, 0.7),
    "RepeatPad": sa.RepeatPad(),
}
operators["Policy"] = sa.Policy([operators[name] for name in ("Crop", "Mask", "Reorder", "Substitute")])
seen = {
    name: sa.inspect.summarize(operator, items, target, timestamps=timestamps, generator=generator)
    for name, operator in operators.items()
}
for name, one in seen.items():
    print(f"{name:12}{one}")

# %%
# The same as a picture.

figure, panels = plt.subplots(1, 4, figsize=(9, 3.2), sharey=True, layout="constrained")
for axes, (field, title) in zip(
    panels,
    [
        ("unchanged", "rows unchanged"),
        ("length", "length"),
        ("new", "new ids"),
        ("leaked", "show their target"),
    ],
    strict=True,
):
    axes.barh(list(seen), [getattr(one, field) for one in seen.values()], color="#4c78a8")
    axes.set_title(title, size=10)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].invert_yaxis()
plt.show()

# %%
# And one row, before and after: ``edit.describe(row, items)`` in words, ``sa.inspect.draw`` as a picture.

short = sa.pad_sequences([[11, 12, 13, 14, 15, 16]], length=8)
edit = sa.Compose([sa.Reorder(1.0, 1.0), sa.Mask(0.2, 0.2, mask_id=99)]).sample(short, generator=generator)
print(edit.describe(0, short))
figure, axes = plt.subplots(figsize=(6, 1.8), layout="constrained")
sa.inspect.draw(axes, edit, 0, short)
plt.show()
