"""The plain vision transformer trunk: patches in, tokens out, block by block.

Dosovitskiy et al., ICLR 2021; LayerScale: Touvron et al. 2021; drop path: Huang et al. 2016;
attention in windows, with a few blocks that see all: Li et al., ViTDet, ECCV 2022.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models.positions import RelativeBias, rotate, rotations

EPS = 1e-6
Position = Literal["absolute", "relative", "rotary"]


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
    """Multi-head self-attention; the scale multiplies the queries before the product.

    `bias` is BEiT's, added to the scores. With a `window`, only tokens of the same square of that
    side attend to each other; what the last squares have outside of the grid is zeros.
    """

    def __init__(
        self, width: int, heads: int, bias: RelativeBias | None = None, window: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias = bias

    def forward(
        self, x: Tensor, size: tuple[int, int] | None = None, turn: Tensor | None = None
    ) -> Tensor:
        """Attend among `x` [B, P + N, d]; `size` is the grid of the last N, `turn` [2, N, d/heads]
        their rotation."""
        if self.window and size is not None:
            squares = self._among(to_windows(x, size, self.window), None, None)
            return from_windows(squares, size, self.window)
        return self._among(x, size, turn)

    def _among(self, x: Tensor, size: tuple[int, int] | None, turn: Tensor | None) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        bias = None
        if self.bias is not None and size is not None:
            bias = self.bias(size).to(q.dtype)
        if torch.onnx.is_in_onnx_export() or not x.is_cuda:  # backward is faster so on a CPU
            scores = (q * (d // self.heads) ** -0.5) @ k.transpose(-2, -1)
            attended = (scores if bias is None else scores + bias).softmax(-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    """Pre-norm transformer block with optional LayerScale."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        drop_path: float,
        layer_scale: float | None,
        eps: float = EPS,
        bias: RelativeBias | None = None,
        window: int = 0,
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, bias, window)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.drop_path = DropPath(drop_path)
        self.scale1: nn.Parameter | float = 1.0
        self.scale2: nn.Parameter | float = 1.0
        if layer_scale is not None:
            self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
            self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(
        self, x: Tensor, size: tuple[int, int] | None = None, turn: Tensor | None = None
    ) -> Tensor:
        x = x + self.drop_path(self.scale1 * self.attn(self.norm1(x), size, turn))
        return x + self.drop_path(self.scale2 * self.mlp(self.norm2(x)))


def to_windows(x: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Tokens [B, N, d] of a grid of `size` as squares [B * windows, side * side, d], row by row;
    zeros where the last squares leave the grid."""
    rows, columns = size
    x = F.pad(x.unflatten(1, size), (0, 0, 0, -columns % side, 0, -rows % side))
    squares = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    return squares.flatten(0, 2).flatten(1, 2)


def from_windows(x: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """The tokens [B, N, d] that `to_windows` made the squares `x` of."""
    down, across = (-(-extent // side) for extent in size)
    squares = x.unflatten(1, (side, side)).unflatten(0, (-1, down, across))
    grid = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return grid[:, : size[0], : size[1]].flatten(1, 2)


class VisionTransformer(nn.Module):
    """Patch embedding, position embedding and blocks. The adapter calls the parts itself.

    Args:
        width, depth, heads, mlp_ratio: the transformer's size.
        patch: side of a patch in pixels.
        grid: (rows, columns) that positions are stored for; resized for other grids.
        drop_path: rate of the last block, rising linearly from 0.
        layer_scale: initial value, or None for none.
        position: "absolute" is a learnt embedding, "relative" BEiT's bias in each block, "rotary"
            DINOv3's rotations of queries and keys, which have no weights.
        prefix: number of tokens before the patches, for class and register tokens.
        eps: of the layer norms.
        window, global_blocks: side of the squares of patches that attend to each other, and the
            blocks in which all do; 0 is no squares. Trunks with other positions or with prefix
            tokens were trained without, and have none.

    `checkpointing` trades time for memory in training: what is inside a block (and, in the
    adapter, inside an injector or extractor) is computed again on the way back.
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
        position: Position = "absolute",
        prefix: int = 0,
        eps: float = EPS,
        rotary_base: float = 100.0,
        window: int = 0,
        global_blocks: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        plain = position == "absolute" and not prefix
        self.checkpointing = False
        self.width, self.heads, self.grid, self.rotary_base = width, heads, grid, rotary_base
        self.position_kind = position
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        if position == "absolute":
            self.pos_embed = nn.Parameter(torch.empty(1, width, *grid))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.prefix = nn.Parameter(torch.empty(1, prefix, width)) if prefix else None
        if self.prefix is not None:
            nn.init.trunc_normal_(self.prefix, std=0.02)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        relative = position == "relative"
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                mlp_ratio,
                rate,
                layer_scale,
                eps,
                RelativeBias(heads, grid, prefix) if relative else None,
                window if plain and i not in global_blocks else 0,
            )
            for i, rate in enumerate(rates)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def embed(self, image: Tensor) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
        """Patches [B, N, d] of `image` [B, 3, H, W], the tokens before them [B, P, d] or None, and
        the patches' grid (H/16, W/16)."""
        x = self.patch_embed(image)
        size = (int(x.shape[2]), int(x.shape[3]))
        if self.position_kind == "absolute":
            x = x + self.position(size)
        prefix = None if self.prefix is None else self.prefix.expand(len(x), -1, -1)
        return x.flatten(2).transpose(1, 2), prefix, size

    def position(self, size: tuple[int, int]) -> Tensor:
        """The position embedding for a grid of `size`: [1, d, rows, columns]."""
        if size == self.grid:
            return self.pos_embed
        return F.interpolate(self.pos_embed, size=size, mode="bicubic", align_corners=False)

    def run_blocks(
        self, x: Tensor, prefix: Tensor | None, size: tuple[int, int], first: int, last: int
    ) -> tuple[Tensor, Tensor | None]:
        """Patches and prefix after the blocks `first` to `last`, last included."""
        turn = None
        if self.position_kind == "rotary":
            turn = rotations(size, self.width // self.heads, self.rotary_base, x)
        if prefix is not None:
            x = torch.cat([prefix, x], 1)
        for block in self.blocks[first : last + 1]:
            x = self.run(block, x, size, turn)
        if prefix is None:
            return x, None
        count = prefix.shape[1]
        return x[:, count:], x[:, :count]

    def run(self, module: nn.Module, *inputs: Any) -> Tensor:
        """The module's output; with `checkpointing`, its inside is not kept for the way back."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)
