"""A size in, parameters and multiply-accumulates of each part out; nothing is computed for it."""

import re
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.models.registry import build
from training.models.segmenter import CropSegmenter
from training.models.sizes import ModelSize

CLASSES, TAPS = 3, 25
PARTS = {
    "trunk": r"backbone\.vit\.(patch_embed|blocks\.\d+)",
    "prior": r"backbone\.prior",
    "interactions": r"backbone\.(injectors|extractors)\.\d+",
    "up": r"backbone\.up",
    "decoder": r"decoder\.(laterals\.\d+|fuse)",
    "steps": r"decoder\.steps\.\d+",
    "detail": r"detail",
}


class Cost(NamedTuple):
    """Number of parameters, and multiply-accumulates for one image."""

    parameters: int
    macs: int


def cost(size: ModelSize, height: int = 512, width: int = 512) -> dict[str, Cost]:
    """What each part costs for an image of `height` x `width` pixels, both multiples of 32 * fine.

    The parts: the ViT trunk; the convolutional prior with its 1x1 projections; injectors and
    extractors; the transposed convolution to stride 4 with the four norms; laterals and fusion of
    the decoder; its FADE steps; the detail block; and the last step with the classifier.
    Counted are convolutions, matrix products, deformable attention's samples (five each: four
    corners and a weight) and FADE's reassembly; not norms, activations, softmax and blends.
    """
    return dict(count(size, height, width))


@lru_cache(maxsize=16)
def count(size: ModelSize, height: int, width: int) -> dict[str, Cost]:
    """`cost`, remembered."""
    with torch.device("meta"):
        model = build(size).eval()
        image = torch.empty(1, 3, height, width)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.grid_sampler_2d: sampling_flops}
    )
    with counter, torch.no_grad():
        model(image)
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    parameters = parameters_by_part(model)
    costs = {}
    rest = flops["CropSegmenter"] // 2
    for part, pattern in PARTS.items():
        macs = sum(f for name, f in flops.items() if re.fullmatch(f"CropSegmenter.{pattern}", name))
        rest -= macs // 2
        costs[part] = Cost(parameters[part], macs // 2)
    area = height * width // size.fine**2
    pixels = [area // stride**2 for stride in (16, 8, 4)] if size.fade_steps else []
    steps = costs["steps"]
    costs["steps"] = steps._replace(macs=steps.macs + TAPS * size.decoder_width * sum(pixels))
    if size.last_step == "fade":
        rest += TAPS * CLASSES * area // 4
    return costs | {"last": Cost(parameters["last"], rest)}


def parameters_by_part(model: CropSegmenter) -> dict[str, int]:
    """Parameters of the parts of `cost`."""
    adapter, decoder = model.backbone, model.decoder
    modules = {
        "trunk": [adapter.vit],
        "prior": [adapter.prior],
        "interactions": [adapter.injectors, adapter.extractors],
        "up": [adapter.up, adapter.norms],
        "decoder": [decoder.laterals, decoder.fuse],
        "steps": [decoder.steps],
        "detail": [] if model.detail is None else [model.detail],
        "last": [model.upsampler, model.classifier],
    }
    counts = {
        part: sum(p.numel() for module in group for p in module.parameters())
        for part, group in modules.items()
    }
    counts["prior"] += adapter.level_embed.numel()
    return counts


def sampling_flops(*_: object, out_shape: torch.Size, **__: object) -> int:
    """Of GridSample: bilinear corners and the attention weight, two operations each."""
    return 2 * 5 * out_shape.numel()


def total(costs: dict[str, Cost]) -> Cost:
    """Of all parts."""
    return Cost(sum(c.parameters for c in costs.values()), sum(c.macs for c in costs.values()))
