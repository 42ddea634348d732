"""What tells attention where its tokens are: BEiT's relative bias and DINOv3's rotations."""

import math

import torch
from torch import Tensor, nn

from training.models.resizing import resize_table


class RelativeBias(nn.Module):
    """A learnt bias for each head and offset between two patches (Bao et al.: BEiT, ICLR 2022).

    Args:
        heads: of the attention.
        grid: (rows, columns) of patches that the table is stored for.
        prefix: number of tokens before the patches.

    `table` [heads, 2 rows - 1, 2 columns - 1] holds the offsets, `cls` [heads, 3] what a prefix
    token reads of patches, patches of a prefix token, and prefix tokens of each other.
    """

    def __init__(self, heads: int, grid: tuple[int, int], prefix: int) -> None:
        super().__init__()
        rows, columns = grid
        self.table = nn.Parameter(torch.zeros(heads, 2 * rows - 1, 2 * columns - 1))
        self.prefix = prefix
        self.cls = nn.Parameter(torch.zeros(heads, 3)) if prefix else None

    def forward(self, size: tuple[int, int]) -> Tensor:
        """The bias on the scores: [heads, prefix + N, prefix + N] for a grid of `size`."""
        rows, columns = size
        n = rows * columns
        table = resize_table(self.table, size).flatten(1)
        y, x = (torch.arange(k, device=table.device) for k in size)
        y, x = y.repeat_interleave(columns), x.repeat(rows)
        dy, dx = y[:, None] - y + rows - 1, x[:, None] - x + columns - 1
        bias = table[:, (dy * (2 * columns - 1) + dx).flatten()].unflatten(1, (n, n))
        if self.cls is None:
            return bias
        heads, prefix = len(table), self.prefix
        reads, is_read, between = self.cls[:, :, None, None].unbind(1)  # [heads, 1, 1] each
        top = torch.cat([between.expand(heads, prefix, prefix), reads.expand(heads, prefix, n)], 2)
        return torch.cat([top, torch.cat([is_read.expand(heads, n, prefix), bias], 2)], 1)


def rotations(size: tuple[int, int], width: int, base: float, like: Tensor) -> Tensor:
    """Angles of the axial rotary embedding of DINOv3: cosine and sine, [2, N, width].

    Patch centres in [-1, 1] along each axis turn `width / 4` pairs of channels each
    (Simeoni et al.: "DINOv3", 2025, without its training-time shift, jitter and rescaling).
    """
    periods = base ** torch.arange(0, 1, 4 / width, device=like.device)  # [width / 4]
    y, x = ((2 * torch.arange(k, device=like.device) + 1) / k - 1 for k in size)
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1).flatten(0, 1)  # [N, 2]
    angles = (2 * math.pi * centres[:, :, None] / periods).flatten(1).tile(2)
    return torch.stack([angles.cos(), angles.sin()]).to(like.dtype)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """The last tokens of `x` [B, heads, M, width] turned by `turn` [2, N, width], N <= M."""
    turn = turn.to(x.dtype)
    prefix = x.shape[2] - turn.shape[1]
    before, patches = x[:, :, :prefix], x[:, :, prefix:]
    a, b = patches.chunk(2, -1)
    turned = patches * turn[0] + torch.cat([-b, a], -1) * turn[1]
    return torch.cat([before, turned], 2)
