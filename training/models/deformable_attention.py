"""Multi-scale deformable attention in plain PyTorch, by GridSample or by gather.

Zhu et al.: "Deformable DETR", ICLR 2021, in the form of ViT-Adapter (Chen et al., ICLR 2023).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shapes = Sequence[tuple[int, int]]


def reference_points(query_shapes: Shapes, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cell centres of the given grids in [-1, 1], as (x, y): [1, sum(h*w), 1, 2]."""
    grids = []
    for h, w in query_shapes:
        y = (2 * torch.arange(h, device=device, dtype=dtype) + 1) / h - 1
        x = (2 * torch.arange(w, device=device, dtype=dtype) + 1) / w - 1
        grids.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2))
    return torch.cat(grids)[None, :, None]


def sample_grid(value: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of `value` [N, C, h, w] at `points` [N, Q, P, 2] in [-1, 1]: [N, C, Q, P].

    Zeros outside, half-pixel centres: what GridSample computes with align_corners=False.
    """
    return F.grid_sample(value, points, mode="bilinear", align_corners=False)


def sample_gather(value: Tensor, points: Tensor) -> Tensor:
    """The same as `sample_grid` by four gathers, for TensorRT, which miscompiles GridSample."""
    n, c, h, w = value.shape
    _, q, p, _ = points.shape
    x, y = ((points[..., 0] + 1) * w - 1) / 2, ((points[..., 1] + 1) * h - 1) / 2  # [N, Q, P]
    x0, y0 = x.floor(), y.floor()
    flat = value.flatten(2)  # [N, C, h*w]
    result = value.new_zeros(())
    for dy in (0, 1):
        for dx in (0, 1):
            xi, yi = x0 + dx, y0 + dy
            weight = (1 - (x - xi).abs()) * (1 - (y - yi).abs())
            inside = (xi >= 0) & (xi <= w - 1) & (yi >= 0) & (yi <= h - 1)
            index = yi.clamp(0, h - 1) * w + xi.clamp(0, w - 1)
            index = index.to(torch.int64).reshape(n, 1, q * p).expand(n, c, q * p)
            corner = flat.gather(2, index).view(n, c, q, p)
            result = result + corner * (weight * inside.to(weight.dtype))[:, None]
    return result


class DeformableAttention(nn.Module):
    """Each query reads a few learnt points of each level around its reference point.

    Args:
        width: d, channels of queries, values and output.
        levels: number of value maps.
        heads: attention heads; `width * value_ratio` must be divisible by it.
        points: sampled points per head and level.
        value_ratio: width of the values relative to d.
    """

    def __init__(
        self, width: int, levels: int, heads: int, points: int = 4, value_ratio: float = 1.0
    ) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.gather = False  # set before an export for TensorRT
        value_width = int(width * value_ratio)
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value = nn.Linear(width, value_width)
        self.output = nn.Linear(value_width, width)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.zeros_(self.offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().max(-1, keepdim=True).values
        steps = torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        bias = direction.view(self.heads, 1, 1, 2) * steps
        with torch.no_grad():
            self.offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, query: Tensor, reference: Tensor, value: Tensor, shapes: Shapes) -> Tensor:
        """Attend.

        Args:
            query: [B, Q, d].
            reference: [1, Q, 1, 2], (x, y) in [-1, 1].
            value: [B, sum(h*w), d], the levels one after the other.
            shapes: (h, w) of each level.

        Returns:
            [B, Q, d].
        """
        b, q, _ = query.shape
        heads, levels, points = self.heads, self.levels, self.points
        values = self.value(value)
        depth = values.shape[-1] // heads
        # Pixels of each level to [-1, 1]: on the small weights, not on every query's offsets.
        # Filled, not copied, in place: a copy from the host cannot be part of a CUDA graph.
        sides = [query.new_full((1,), 2 / side) for h, w in shapes for side in (w, h)]
        pixel = torch.cat(sides).view(1, levels, 1, 2)
        pixel = pixel.expand(heads, levels, points, 2).reshape(-1)
        offsets = F.linear(query, self.offsets.weight * pixel[:, None], self.offsets.bias * pixel)
        offsets = offsets.view(b, q, heads, levels, points, 2)
        weights = self.weights(query).view(b, q, heads, levels * points).softmax(-1)
        weights = weights.transpose(1, 2).reshape(b * heads, 1, q, levels * points)
        sample = sample_gather if self.gather else sample_grid
        sampled = []
        for level, (chunk, (h, w)) in enumerate(
            zip(values.split([h * w for h, w in shapes], 1), shapes, strict=True)
        ):
            where = reference[:, :, None] + offsets[:, :, :, level]  # [B, Q, heads, P, 2]
            where = where.transpose(1, 2).reshape(b * heads, q, points, 2)
            maps = chunk.transpose(1, 2).reshape(b * heads, depth, h, w)
            sampled.append(sample(maps, where))
        mixed = (torch.cat(sampled, -1) * weights).sum(-1)  # [B*heads, depth, Q]
        return self.output(mixed.view(b, heads * depth, q).transpose(1, 2))
