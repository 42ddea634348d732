"""Weights of a smaller network become those of a larger one that computes the same.

Chen, Goodfellow, Shlens: "Net2Net", ICLR 2016: channels are repeated, and what reads them shares
its weights among the copies; unequal shares let the copies part while training. A network whose
stem reads finer pictures starts by averaging squares of their pixels, one with sub-pixels by giving
all of a pixel the same. New channels of the stem, which are there to see what the old ones do not,
begin with fresh weights and unread. Only windows of attention change what is computed, until it is
trained.
"""

from dataclasses import fields, replace

import torch
from torch import Tensor

from cropseg_edge.errors import ConfigError
from training.models.registry import build
from training.models.sizes import ModelSize

GROWING = {"width", "heads", "decoder_width", "fine", "subpixel", "stem"}
FREE = {"name", "drop_path", "window", "global_blocks"}
INPUTS = {"backbone.up.weight": 0}  # dimension that reads channels; otherwise 1
NO_INPUTS = ("level_embed", "pos_embed", "prefix")
STEM = "backbone.prior.stem.0.0.weight"
GUIDE = "upsampler.align."


def grow(weights: dict[str, Tensor], old: ModelSize, new: ModelSize) -> dict[str, Tensor]:
    """The state of a `new` network that gives for pictures what the `old` one gives for them at
    `old.fine / new.fine` of their size, with `weights`.

    Raises:
        ConfigError: `new` is not `old` with more channels, more heads of the same width, or a finer
            stem.
    """
    _check(old, new)
    if new.stem > old.stem:
        old = replace(old, stem=new.stem)
        weights = _wider_stem(weights, old)
    with torch.device("meta"):
        targets = build(new).state_dict()
    generator = torch.Generator().manual_seed(0)
    grown = {}
    for name, target in targets.items():
        weight = weights[name]
        if name == STEM and new.fine > old.fine:
            factor = new.fine // old.fine
            weight = weight.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2
        if name.startswith(GUIDE):
            weight = weight.repeat_interleave(target.shape[0] // weight.shape[0], 0)
        reads = None if weight.dim() < 2 or name.endswith(NO_INPUTS) else INPUTS.get(name, 1)
        for dim in range(min(weight.dim(), 2)):
            before, after = weight.shape[dim], target.shape[dim]
            if before == after:
                continue
            index = _repeated(_rows(name, dim, new.adapter_heads), before, after)
            weight = weight.index_select(dim, index)
            if dim == reads:
                shares = _shares(index, generator)
                weight = weight * shares.view([-1 if d == dim else 1 for d in range(weight.dim())])
        grown[name] = weight
    return grown


def _wider_stem(weights: dict[str, Tensor], size: ModelSize) -> dict[str, Tensor]:
    """`weights` among a fresh network's of `size`, which differs in the stem; none of its new
    channels is read yet by an old one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wider = build(size).state_dict()
    for name, weight in weights.items():
        if weight.dim() < 2:
            wider[name][tuple(slice(n) for n in weight.shape)] = weight
        else:
            old, read = weight.shape[:2]
            wider[name][:old, read:] = 0
            wider[name][:old, :read] = weight
    return wider


def _check(old: ModelSize, new: ModelSize) -> None:
    differs = [
        field.name
        for field in fields(ModelSize)
        if getattr(old, field.name) != getattr(new, field.name) and field.name not in FREE
    ]
    fits = (
        new.width % old.width == 0
        and new.width * old.heads == old.width * new.heads
        and new.decoder_width >= old.decoder_width
        and new.stem >= old.stem
        and new.fine % old.fine == 0
        and (old.subpixel == 1 or new.subpixel == old.subpixel)
    )
    if not fits or set(differs) - GROWING:
        raise ConfigError(
            f"the checkpoint is of size {old.name} with another {', '.join(differs)} than "
            f"{new.name} has here; a network can grow by whole multiples of width, heads and fine, "
            "and by decoder_width and stem"
        )


def _rows(name: str, dim: int, adapter_heads: int) -> int:
    """Rows that a dimension's channels are laid out in: queries, keys and values, or heads."""
    if dim == 0 and ".attn.qkv." in name:
        return 3
    values = (dim == 0 and ".attn.value." in name) or (dim == 1 and ".attn.output." in name)
    return adapter_heads if values else 1


def _repeated(rows: int, old: int, new: int) -> Tensor:
    """For each of `new` channels the one of `old` that it repeats, row by row."""
    start = torch.arange(rows)[:, None] * (old // rows)
    return (start + torch.arange(new // rows) % (old // rows)).flatten()


def _shares(index: Tensor, generator: torch.Generator) -> Tensor:
    """Random shares of each repeated channel; those of one channel's copies add up to 1."""
    shares = torch.empty(len(index)).uniform_(0.5, 1.5, generator=generator)
    total = torch.zeros(int(index.max()) + 1).index_add(0, index, shares)
    return shares / total[index]
