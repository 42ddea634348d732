"""The plain vision transformer trunk: patches in, tokens out, block by block.

Dosovitskiy et al., ICLR 2021; LayerScale: Touvron et al. 2021; drop path: Huang et al. 2016.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-6


class DropPath(nn.Module):
    """Drops a residual branch per sample with the given probability while training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.dim() - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)


class Attention(nn.Module):
    """Multi-head self-attention; the scale multiplies the queries before the product."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if torch.onnx.is_in_onnx_export() or not x.is_cuda:  # backward is faster so on a CPU
            scores = (q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)
            attended = scores.softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(attended.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    """Pre-norm transformer block with optional LayerScale."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, drop_path: float, layer_scale: float | None
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop_path = DropPath(drop_path)
        self.scale1: nn.Parameter | float = 1.0
        self.scale2: nn.Parameter | float = 1.0
        if layer_scale is not None:
            self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
            self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.scale1 * self.attn(self.norm1(x)))
        return x + self.drop_path(self.scale2 * self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """Patch embedding, position embedding and blocks. The adapter calls the parts itself.

    Args:
        width, depth, heads, mlp_ratio: the transformer's size.
        patch: side of a patch in pixels.
        grid: (rows, columns) that the position embedding is stored for; resized bicubically.
        drop_path: rate of the last block, rising linearly from 0.
        layer_scale: initial value, or None for none.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        patch: int = 16,
        grid: tuple[int, int] = (30, 40),
        drop_path: float = 0.0,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.pos_embed = nn.Parameter(torch.empty(1, width, *grid))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, rate, layer_scale) for rate in rates
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def embed(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens [B, N, d] of `image` [B, 3, H, W], and their grid (H/16, W/16)."""
        x = self.patch_embed(image)
        size = (x.shape[2], x.shape[3])
        x = x + self.position(size)
        return x.flatten(2).transpose(1, 2), size

    def position(self, size: tuple[int, int]) -> Tensor:
        """The position embedding for a grid of `size`: [1, d, rows, columns]."""
        if size == self.grid:
            return self.pos_embed
        return F.interpolate(self.pos_embed, size=size, mode="bicubic", align_corners=False)
