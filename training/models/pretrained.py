"""Weights of somebody's ViT, BEiT, DINOv2 or DINOv3 in, our trunk started from them, and a report.

weights = read_trunk("facebook/dinov2-small")
size = weights.fit_size(SIZES["small"])
model = build(size)
print(weights.load_into(model.backbone.vit))
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cropseg_edge.errors import ConfigError
from training.models.resizing import resize_patches, resize_table, split_positions, split_table
from training.models.sizes import ModelSize
from training.models.vit import Position, VisionTransformer
from training.models.weight_files import read_weights
from training.models.weight_names import Named, rename

ROTARY_BASE = 100.0


@dataclass
class TrunkReport:
    """What became of a checkpoint: tensors taken, resized, left over, and those it lacked."""

    source: str
    position: Position
    taken: int = 0
    resized: list[str] = field(default_factory=list)
    unused: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.taken} tensors taken, {self.position} positions"]
        lines += [f"  resized: {what}" for what in self.resized]
        for word, names in (("not used", self.unused), ("not in it, fresh", self.fresh)):
            if names:
                more = f" and {len(names) - 8} more" if len(names) > 8 else ""
                lines.append(f"  {word}: {', '.join(names[:8])}{more}")
        return "\n".join(lines)


def read_trunk(source: str | Path) -> "TrunkWeights":
    """The trunk's weights in a file, folder or hub name; see `read_weights`.

    Raises:
        ConfigError: cannot be read, or no plain ViT that our trunk can be.
    """
    tensors, config = read_weights(source)
    try:
        return TrunkWeights(str(source), rename(tensors), config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


class TrunkWeights:
    """A checkpoint sorted by our names.

    Attributes:
        width, depth, patch: of the ViT; `prefix` counts its class and register tokens.
        position: how it tells its tokens where they are.
        layer_scale: whether its residual branches are scaled by channel.
    """

    def __init__(self, source: str, named: Named, config: dict[str, Any]) -> None:
        self.source, self.named, self.config = source, named, config
        embedding, first = named.embedding, named.blocks[0]
        if "patch.weight" not in embedding or "fc1.weight" not in first:
            raise ConfigError("no plain ViT: no patch embedding or no feed-forward in it")
        kernel = embedding["patch.weight"]
        self.width, self.depth, self.patch = len(kernel), len(named.blocks), kernel.shape[-1]
        if kernel.shape[1:] != (3, self.patch, self.patch):
            shape = tuple(kernel.shape)
            raise ConfigError(f"the patch embedding must read square RGB patches, got {shape}")
        self.mlp_ratio = len(first["fc1.weight"]) / self.width
        self.layer_scale = "scale1" in first
        self.position = self._position()
        self.tokens = [t.reshape(1, -1, self.width) for t in self._tokens()]
        self.prefix = sum(t.shape[1] for t in self.tokens)
        if self.config.get("hidden_act", "gelu") != "gelu":
            raise ConfigError(f"its activation is {self.config['hidden_act']}, ours is gelu")
        theta = float(self.config.get("rope_theta", ROTARY_BASE))
        if self.position == "rotary" and theta != ROTARY_BASE:
            raise ConfigError(f"its rotary base is {theta:g}, ours is {ROTARY_BASE:g}")

    def _position(self) -> Position:
        embedding = self.named.embedding
        if "table" in embedding or "table" in self.named.blocks[0]:
            if "positions" in embedding:
                raise ConfigError("absolute and relative positions at once are not supported")
            return "relative"
        if "positions" in embedding:
            return "absolute"
        if "rotary" in embedding or self.config.get("model_type") == "dinov3_vit":
            return "rotary"
        if "registers" in embedding:  # DINOv3 alone has registers and no stored positions
            return "rotary"
        raise ConfigError("it holds no positions that are understood")

    def _tokens(self) -> list[Tensor]:
        return [self.named.embedding[k] for k in ("cls", "dist", "registers") if k in self.named[0]]

    def fit_size(self, size: ModelSize) -> ModelSize:
        """`size` with the positions, prefix tokens, LayerScale and norms that the weights need.

        Raises:
            ConfigError: width, depth, heads or feed-forward differ.
        """
        own = {
            "width": self.width,
            "depth": self.depth,
            "mlp_ratio": self.mlp_ratio,
            "heads": self.config.get("num_attention_heads", size.heads),
        }
        if wrong := [f"{key} {v:g}" for key, v in own.items() if v != getattr(size, key)]:
            expected = ", ".join(f"{key} {getattr(size, key):g}" for key in own)
            raise ConfigError(
                f"{self.source} has {', '.join(wrong)}, but {size.name} has {expected}; choose the "
                "size or the weights to match"
            )
        eps = float(self.config.get("layer_norm_eps", 1e-5 if self.position == "rotary" else 1e-6))
        scale = (size.layer_scale or 1.0) if self.layer_scale else None
        return replace(size, position=self.position, prefix=self.prefix, layer_scale=scale, eps=eps)

    @torch.no_grad()
    def load_into(self, vit: VisionTransformer) -> TrunkReport:
        """Put the weights into a trunk that was built with `fit_size`; positions are resized.

        Raises:
            ConfigError: the trunk is of another size or has other positions.
        """
        report = TrunkReport(self.source, self.position, unused=self.named.unused)
        if vit.position_kind != self.position:
            raise ConfigError(
                f"{self.source} has {self.position} positions and the trunk {vit.position_kind} "
                "ones; build it with fit_size"
            )
        state = self._embeddings(vit, report)
        for i, block in enumerate(self.named.blocks):
            try:
                named = self._block(block, vit, report)
            except KeyError as error:
                raise ConfigError(f"{self.source}: its block {i} has no {error}") from error
            state |= {f"blocks.{i}.{name}": tensor for name, tensor in named.items()}
        own = vit.state_dict()
        for name, tensor in state.items():
            expected = tuple(own[name].shape) if name in own else None
            if expected != tuple(tensor.shape):
                raise ConfigError(
                    f"{self.source}: {name} is {tuple(tensor.shape)} and the trunk's {expected}; "
                    "build it with fit_size"
                )
        vit.load_state_dict(state, strict=False)
        report.taken = len(state)
        report.fresh = tuple(name for name in own if name not in state)
        return report

    def _embeddings(self, vit: VisionTransformer, report: TrunkReport) -> dict[str, Tensor]:
        embedding = self.named.embedding
        kernel, side = embedding["patch.weight"], vit.patch_embed.kernel_size[0]
        if side != self.patch:
            report.resized.append(f"patches of {self.patch} to {side} pixels")
            kernel = resize_patches(kernel, side)
        bias = embedding.get("patch.bias", torch.zeros(self.width))
        state = {"patch_embed.weight": kernel, "patch_embed.bias": bias}
        tokens = list(self.tokens)
        if self.position == "absolute":
            own, patches, grid = split_positions(
                embedding["positions"].reshape(-1, self.width),
                sum(k in embedding for k in ("cls", "dist")),
                self.config.get("image_size"),
            )
            for i, position in enumerate(own):
                tokens[i] = tokens[i] + position
            patches = patches.T.reshape(1, self.width, *grid)
            if grid != vit.grid:
                report.resized.append(f"position embedding {grid} to {vit.grid}")
                patches = F.interpolate(patches.float(), size=vit.grid, mode="bicubic")
            state["pos_embed"] = patches
        if tokens:
            state["prefix"] = torch.cat(tokens, 1)
        return state

    def _block(
        self, block: dict[str, Tensor], vit: VisionTransformer, report: TrunkReport
    ) -> dict[str, Tensor]:
        d = self.width
        if "qkv.weight" in block:
            qkv = block["qkv.weight"]
        else:
            qkv = torch.cat([block[f"{x}.weight"] for x in "qkv"])
        zeros = qkv.new_zeros(d)  # BEiT and DINOv3 have no bias on the keys
        bias = block.get("qkv.bias")
        if bias is None:
            bias = torch.cat([block.get(f"{x}.bias", zeros) for x in "qkv"])
        if "qkv.bias_mask" in block:  # DINOv3's own files: the keys' bias is masked out
            bias = torch.where(block["qkv.bias_mask"] == 0, 0.0, bias)
        state = {"attn.qkv.weight": qkv, "attn.qkv.bias": bias}
        for ours, theirs in (("attn.proj", "proj"), ("mlp.0", "fc1"), ("mlp.2", "fc2")):
            state[f"{ours}.weight"] = weight = block[f"{theirs}.weight"]
            state[f"{ours}.bias"] = block.get(f"{theirs}.bias", weight.new_zeros(len(weight)))
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            state[name] = block[name]
        state |= {name: block[name] for name in ("scale1", "scale2") if name in block}
        if self.position == "relative":
            table = sum(t["table"] for t in (block, self.named.embedding) if "table" in t)
            offsets, cls, grid = split_table(table, self.config.get("image_size"), self.patch)
            what = f"relative bias {grid} to {vit.grid}"
            if grid != vit.grid and what not in report.resized:
                report.resized.append(what)
            state["attn.bias.table"] = resize_table(offsets.float(), vit.grid)
            state["attn.bias.cls"] = cls
        return state
