"""What every loss is made with."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from seqaug._checks import check_choice
from seqaug.losses._tokens import Rule

REDUCTIONS = ("token", "row", "sum", "none")


class ItemLoss(nn.Module):
    """Settings, their checks and their repr.

    Args:
        reduction: "token" divides by the number of real targets (weights only multiply), "row" takes the
            mean of each row and then of the rows with a real target, "sum" adds up, "none" gives one value
            per position.
        denominator: divide by this instead (token: of tokens, row: of rows), for batches of unequal size that
            shall weigh by what is in them: the expected number of tokens per batch.
        ignore_index: the id of padding among targets; it may lie outside the table.
    """

    needs_negatives: ClassVar[bool] = False

    def __init__(
        self, *, reduction: str = "token", denominator: float | None = None, ignore_index: int = 0
    ) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        if denominator is not None:
            if isinstance(denominator, bool) or not isinstance(denominator, (int, float)):
                raise TypeError(f"denominator must be a number above 0, got denominator={denominator!r}")
            if not 0 < denominator < float("inf"):
                raise ValueError(f"denominator must be above 0 and finite, got denominator={denominator!r}")
            if reduction not in ("token", "row"):
                raise ValueError(
                    f"denominator={denominator!r} has no meaning with reduction={reduction!r}: "
                    "use reduction='token' or 'row'"
                )
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int):
            raise TypeError(f"ignore_index must be an id, got ignore_index={ignore_index!r}")
        self.reduction = reduction
        self.denominator = denominator
        self.ignore_index = ignore_index

    @property
    def rule(self) -> Rule:
        return Rule(self.reduction, self.denominator, self.ignore_index)

    def extra_repr(self) -> str:
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        settings.pop("training")
        defaults = {"reduction": "token", "denominator": None, "ignore_index": 0}
        return ", ".join(
            f"{name}={value!r}"
            for name, value in settings.items()
            if name not in defaults or value != defaults[name]
        )
