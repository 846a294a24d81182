"""A denoising diffusion model of the vectors before a row, guided by the row.

Forward (Ho et al., 2020, Eq. 4): x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise, with a_t the product of 1 - beta_s up to t.
A network learns to name the noise (Eq. 14). Backward in a few deterministic steps (DDIM; Song et al., 2021, Eq. 12),
guided without a classifier (Ho and Salimans, 2022, Eq. 6): the network also learns without the row, and what the row
changes in its answer is taken more than once.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

STEPS = 1000
BETA = (1e-4, 0.02)  # linear from the first step to the last
SAMPLED_STEPS = 20
UNGUIDED = 0.1  # share of the training rows whose guide is hidden
LARGEST = 5.0  # standard deviations of a clean vector: at the first steps small errors are blown up
GUIDANCE = 1.0  # what the guide changes is taken 1 + this many times


class Diffusion(nn.Module):
    """Noise on ``slots`` vectors, and the network that takes it away.

    Args:
        slots: vectors of a sample.
        guide: vectors of the row that are looked at.
        dim: features of a vector; scale them to a variance of about 1.
        width, layers, heads: of the transformer over the noisy vectors and the guide.
    """

    kept: Tensor

    def __init__(
        self, slots: int, guide: int, dim: int, *, width: int = 64, layers: int = 3, heads: int = 4
    ) -> None:
        super().__init__()
        self.slots, self.dim, self.width = slots, dim, width
        kept = (1 - torch.linspace(*BETA, STEPS, dtype=torch.float64)).cumprod(0)
        self.register_buffer("kept", kept.float(), persistent=False)  # a_t of step t - 1
        self.into = nn.Linear(dim, width)
        self.places = nn.Embedding(slots + guide, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, dim)

    def noisy(self, x: Tensor, step: Tensor, noise: Tensor) -> Tensor:
        """q(x_t | x_0): mean sqrt(a_t) x, variance 1 - a_t. ``step`` (rows,) is in 0..STEPS - 1."""
        kept = rearrange(self.kept[step], "b -> b 1 1")
        return kept.sqrt() * x + (1 - kept).sqrt() * noise

    def forward(self, x: Tensor, real: Tensor, step: Tensor, guide: Tensor, seen: Tensor) -> Tensor:
        """The noise in ``x``.

        Args:
            x: (rows, slots, features) noisy vectors.
            real: (rows, slots) bool: which of them there are.
            step: (rows,) how noisy.
            guide: (rows, guide, features) vectors of the row after them.
            seen: (rows, guide) bool: which of them the network may look at.

        Returns:
            (rows, slots, features).
        """
        tokens = self.into(torch.cat([x, guide], 1)) + self.places.weight[: x.shape[1] + guide.shape[1]]
        tokens = tokens + rearrange(self.time(self._waves(step)), "b d -> b 1 d")
        hidden = ~torch.cat([real, seen], 1)
        return self.out(self.blocks(tokens, src_key_padding_mask=hidden)[:, : x.shape[1]])

    def loss(
        self, x: Tensor, real: Tensor, guide: Tensor, seen: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mean squared error of the named noise over the real vectors, at a random step."""
        step = torch.randint(STEPS, (len(x),), device=x.device, generator=generator)
        noise = torch.randn(x.shape, device=x.device, generator=generator)
        guided = torch.rand(len(x), device=x.device, generator=generator) >= UNGUIDED
        named = self(self.noisy(x, step, noise), real, step, guide, seen & guided[:, None])
        return (named - noise).square().mean(2)[real].mean()

    @torch.no_grad()
    def sample(self, guide: Tensor, seen: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Vectors (rows, slots, features) that may come before the guide."""
        rows = len(guide)
        x = torch.randn(rows, self.slots, self.dim, device=guide.device, generator=generator)
        real = torch.ones(rows, self.slots, dtype=torch.bool, device=guide.device)
        steps = torch.linspace(STEPS - 1, 0, SAMPLED_STEPS).round().long().tolist()
        for now, then in zip(steps, [*steps[1:], None], strict=True):
            step = torch.full((rows,), now, device=guide.device)
            with_guide = self(x, real, step, guide, seen)
            without = self(x, real, step, guide, torch.zeros_like(seen))
            noise = with_guide + GUIDANCE * (with_guide - without)
            clean = (x - (1 - self.kept[now]).sqrt() * noise) / self.kept[now].sqrt()
            clean = clean.clamp(-LARGEST, LARGEST)
            if then is None:
                return clean
            noise = (x - self.kept[now].sqrt() * clean) / (1 - self.kept[now]).sqrt()  # that of what was kept
            x = self.kept[then].sqrt() * clean + (1 - self.kept[then]).sqrt() * noise
        raise AssertionError("there is a last step")

    def _waves(self, step: Tensor) -> Tensor:
        """(rows, width): the step as sines and cosines of wave lengths from 2 pi to STEPS times that."""
        half = self.width // 2
        slower = STEPS ** (-torch.arange(half, device=step.device) / half)
        angle = step[:, None] * slower
        return torch.cat([angle.sin(), angle.cos()], 1)
