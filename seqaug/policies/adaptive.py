"""AdaptivePolicy: learns while training which operator helps rows of which length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqaug._checks import can_look, check_count, check_number, check_tensor
from seqaug._random import uniform
from seqaug.edit import Edit
from seqaug.operator import Augmentation
from seqaug.packed_edit import PackedEdit
from seqaug.policies.members import Members, PolicyNoise, draw_shared, plan_chosen

_LARGEST = 1e30  # so that sums over a batch stay finite
_NOISE = 1e-5  # rewards that differ by less than this share of their mean differ by rounding


@dataclass(frozen=True, eq=False)
class AdaptiveEdit(Edit):
    """An edit that remembers the length bucket of each row, to be handed back to :meth:`AdaptivePolicy.update`.

    Args:
        bucket: (B,) int64; number of the row's length bucket.
    """

    bucket: Tensor | None = None


class AdaptivePolicy(Members):
    """One operator per row, by weights that are learned for rows of each length from a reward.

    A gradient-free bandit: for each bucket of lengths and each operator it keeps a running mean q of the reward, in units of
    the bucket's own running mean absolute deviation from its running mean, and draws by floor / M + (1 - floor) * softmax(q / temperature).
    During the first ``warmup`` updates all operators are drawn as often.

    Args:
        operators: operators or policies that agree on pad id and side.
        buckets: largest length of each bucket but the last, ascending; rows above the last bound share one more bucket.
        floor: share of the draws that stays uniform, in [0, 1]: no operator is ever given up.
        momentum: share of the old mean that an update keeps, in [0, 1).
        temperature: of the softmax; small values follow small differences.
        warmup: updates, with a finite reward at least, before the weights are used.

    Raises:
        TypeError: a member is not an operator.
        ValueError: members that disagree, or a number outside its range.

    Example:
        >>> import torch, seqaug as sa
        >>> policy = sa.AdaptivePolicy([sa.Crop(0.5, 0.5), sa.Mask(0.5, 0.5, mask_id=99)], warmup=0)
        >>> items = torch.tensor([[0, 1, 2, 3]] * 64)
        >>> for _ in range(50):
        ...     edit = policy.sample(items)
        ...     policy.update(edit, reward=(edit.choice == 1).float())  # here the mask always helps
        >>> bool(policy.weights[0, 1] > 0.8)
        True

    Source: Sutton and Barto, Reinforcement Learning, 2018, sections 2.4 and 2.8.
    """

    bounds: Tensor
    value: Tensor
    mean: Tensor
    deviation: Tensor
    seen: Tensor
    updates: Tensor

    def __init__(
        self,
        operators: Sequence[Augmentation],
        *,
        buckets: Sequence[int] = (3, 6, 12, 24),
        floor: float = 0.2,
        momentum: float = 0.95,
        temperature: float = 0.1,
        warmup: int = 100,
    ) -> None:
        super().__init__(operators)
        if not isinstance(buckets, Iterable):
            raise TypeError(f"buckets must be a list of lengths, got buckets={buckets!r}")
        listed = list(buckets)
        for bound in listed:
            check_count("buckets", bound, 0)
        if listed != sorted(set(listed)):
            raise ValueError(f"buckets must be ascending, got buckets={tuple(listed)}")
        check_number("floor", floor, 0.0, 1.0)
        check_number("momentum", momentum, 0.0, 1.0)
        if momentum == 1.0:  # it would never learn
            raise ValueError(f"momentum must be below 1, got momentum={momentum!r}: 0.95 is usual")
        check_number("temperature", temperature, 1e-6, 1e6)
        check_count("warmup", warmup, 0)
        self.buckets = tuple(listed)
        self.floor = float(floor)
        self.momentum = float(momentum)
        self.temperature = float(temperature)
        self.warmup = warmup
        rows = len(listed) + 1
        self.register_buffer("bounds", torch.tensor(listed, dtype=torch.int64), persistent=False)
        self.register_buffer("value", torch.zeros(rows, len(self.members), dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(rows, 1, dtype=torch.float32))
        self.register_buffer("deviation", torch.zeros(rows, 1, dtype=torch.float32))
        self.register_buffer("seen", torch.zeros(rows, 1, dtype=torch.bool))  # buckets that ever had a reward
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @property
    def weights(self) -> Tensor:
        """(buckets, operators) float32: the probability of each operator for rows of each bucket of lengths."""
        members = len(self.members)
        learned = self.floor / members + (1 - self.floor) * (self.value / self.temperature).softmax(1)
        return torch.where(self.updates < self.warmup, 1.0 / members, learned)

    def draw(self, items: Tensor, generator: torch.Generator | None = None) -> PolicyNoise:
        choice = uniform((items.shape[0],), items.device, generator)
        return PolicyNoise(choice, draw_shared(self.operators, items, generator))

    def plan(self, items: Tensor, noise: PolicyNoise, timestamps: Tensor | None = None) -> AdaptiveEdit:
        count = (items != self.pad_id).sum(1)
        bucket = (count[:, None] > self.bounds).sum(1)
        # The last threshold is 1 but for rounding: left out, so that no draw falls behind it.
        thresholds = self.weights.cumsum(1)[bucket, :-1]  # (batch, operators - 1)
        choice = (noise.choice[:, None] >= thresholds).sum(1)
        picked = plan_chosen(self.plans, choice, items, noise.members, timestamps)
        return AdaptiveEdit(picked.source, picked.replaced, picked.rate, self.pad_id, choice, bucket)

    @torch.no_grad()
    def update(self, edit: Edit | PackedEdit, reward: Tensor) -> None:
        """Learn from one batch; nothing waits for the device.

        Args:
            edit: as sampled by this policy.
            reward: (B,) float; larger is better, as the fall of the row's loss. Rows with a reward that is not finite are
                passed over, and what is beyond 1e30 counts as 1e30.

        Raises:
            TypeError: ``edit`` was not sampled by an :class:`AdaptivePolicy`, or ``reward`` is not a tensor.
            ValueError: ``reward`` is not one number per row, or, on a CPU, ``edit`` is of a policy with more operators or buckets.
        """
        if not isinstance(edit, (AdaptiveEdit, PackedEdit)) or edit.bucket is None or edit.choice is None:
            raise TypeError(
                f"edit must be one that an AdaptivePolicy sampled, got {type(edit).__name__}: "
                "pass policy.sample(items), or mix.edit of a MixupOp around the policy"
            )
        if check_tensor("reward", reward, "of one number per row").shape != edit.choice.shape:
            raise ValueError(
                f"reward must be one number per row {tuple(edit.choice.shape)}, got reward.shape={tuple(reward.shape)}"
            )
        rows, members = self.value.shape
        if can_look(edit.choice) and bool((edit.choice >= members).any() | (edit.bucket >= rows).any()):
            raise ValueError(
                f"edit must be one that this policy of {members} operators and {rows} buckets sampled, got choices up to "
                f"{int(edit.choice.max())} and buckets up to {int(edit.bucket.max())}: another policy's"
            )
        reward = reward.detach().float()
        known = reward.isfinite()
        reward = reward.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-_LARGEST, _LARGEST)
        # Sums rather than products of matrices, which autocast would make in few bits.
        cell = torch.nn.functional.one_hot(edit.bucket * members + edit.choice, rows * members)
        cell = (cell * known[:, None]).float()
        count = cell.sum(0).view(rows, members)
        among = count.sum(1, keepdim=True)
        had = among > 0

        def mean_of_bucket(x: Tensor) -> Tensor:
            return (cell * x[:, None]).sum(0).view(rows, members).sum(1, keepdim=True) / among.clamp(min=1)

        batch_mean = mean_of_bucket(reward)
        # The first rewards of a bucket are all it knows.
        before = torch.where(self.seen, self.mean, batch_mean)
        # From the mean so far, not from the batch's own: a bucket with one row per batch would never deviate.
        away = reward - before.squeeze(1)[edit.bucket]
        deviation = mean_of_bucket(away.abs())
        keep = torch.where(self.seen, self.momentum, 0.0)
        self.deviation.copy_(torch.where(had, keep * self.deviation + (1 - keep) * deviation, self.deviation))
        unit = self.deviation.clamp(min=1e-30).maximum(_NOISE * before.abs())
        gain = (cell * away[:, None]).sum(0).view(rows, members) / count.clamp(min=1) / unit
        self.value.copy_(
            torch.where(count > 0, self.momentum * self.value + (1 - self.momentum) * gain, self.value)
        )
        self.mean.copy_(torch.where(had, before + (1 - self.momentum) * (batch_mean - before), self.mean))
        self.seen.logical_or_(had)
        self.updates.add_(known.any())

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, buckets={self.buckets}, floor={self.floor!r}, momentum={self.momentum!r}, "
            f"temperature={self.temperature!r}, warmup={self.warmup}"
        )
