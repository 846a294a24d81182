"""A generated shop: the data set that needs no download.

Products come in families of like variants (the same case in other colours); families belong to departments, and
popularity follows a power law. Every family has a few usual successors (a phone, then its case). A customer likes two
departments and walks from family to family: mostly to a successor of the last one, at times to one of an earlier
one, else to any in a department they like; which variant it becomes is a matter of popularity. Nothing is bought twice
and most rows are short. A customer comes every so many days, more or less regularly, and may buy several things on one.
"""

from __future__ import annotations

import random
from itertools import accumulate

from recsys.datasets import Dataset

USERS, ITEMS, FAMILIES, DEPARTMENTS = 3000, 4500, 300, 15
SUCCESSORS = 4
FROM_LAST, FROM_EARLIER = 0.5, 0.2  # chance that an item follows the last one, one of the three before it
SHORTEST, LONGEST, GOES_ON = 5, 40, 0.75  # row lengths: 5 and then geometric


def generate(seed: int = 2025, users: int = USERS, items: int = ITEMS, families: int = FAMILIES) -> Dataset:
    """The shop of ``seed``; the same on every machine."""
    dice = random.Random(seed)
    family_of = [item % families for item in range(items)]
    variants = [[item for item in range(items) if family_of[item] == family] for family in range(families)]
    popularity = [list(accumulate(1 / (rank + 1) for rank in range(len(those)))) for those in variants]
    appeal = [1 / (rank + 10) for rank in range(families)]
    dice.shuffle(appeal)
    department = [family % DEPARTMENTS for family in range(families)]
    shelves = [[family for family in range(families) if department[family] == d] for d in range(DEPARTMENTS)]
    appeals = [list(accumulate(appeal[family] for family in shelf)) for shelf in shelves]

    def on_shelf(number: int) -> int:
        return dice.choices(shelves[number], cum_weights=appeals[number])[0]

    after = [[on_shelf(department[family]) for _ in range(SUCCESSORS)] for family in range(families)]
    habit = list(accumulate(1 / (rank + 1) for rank in range(SUCCESSORS)))

    longest = min(LONGEST, items // DEPARTMENTS // 2)  # half of what one department has
    rows: list[list[int]] = []
    for _ in range(users):
        liked = [dice.randrange(DEPARTMENTS), dice.randrange(DEPARTMENTS)]
        length = SHORTEST
        while length < longest and dice.random() < GOES_ON:
            length += 1
        row: list[int] = []
        while len(row) < length:
            luck = dice.random()
            if row and luck < FROM_LAST:
                family = dice.choices(after[family_of[row[-1]]], cum_weights=habit)[0]
            elif row and luck < FROM_LAST + FROM_EARLIER:
                family = dice.choices(after[family_of[dice.choice(row[-4:])]], cum_weights=habit)[0]
            else:
                family = on_shelf(dice.choice(liked))
            item = dice.choices(variants[family], cum_weights=popularity[family])[0]
            if item not in row:
                row.append(item)
        rows.append([item + 1 for item in row])
    clock = random.Random(seed + 1)  # of its own, so that the rows do not depend on it
    times = [_days(clock, len(row)) for row in rows]
    names = [str(number) for number in range(1, max(users, items) + 1)]
    return Dataset("shop", rows, items, names[:users], names[:items], times)


def _days(clock: random.Random, length: int) -> list[float]:
    """The day of each purchase: visits at a customer's own pace, some customers far more regular than others."""
    pace, regular = clock.uniform(5, 60), clock.randrange(1, 20)
    day = clock.randrange(1000)
    days = []
    for _ in range(length):
        days.append(float(day))
        if clock.random() < 0.7:  # else one more thing on the same visit
            day += 1 + round(clock.gammavariate(regular, pace / regular))
    return days
