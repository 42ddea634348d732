"""Segment Anything (Kirillov et al., ICCV 2023) through `transformers`, as a vegetation baseline.

SAM finds segments and does not name them. Masks are made automatically from a grid of points, with
the paper's thresholds (predicted IoU 0.88, stability 0.95 at +-1); a segment is vegetation where
its mean excess green is above 0.1. Their union is the prediction, every plant called crop.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cropseg_edge.labelled import Labels
from training.data.batches import normalise
from training.evaluation.colour_indices import EXG_THRESHOLD, excess_green
from training.evaluation.keys import digest
from training.evaluation.networks import torch_device, weights_key
from training.evaluation.segformer import load_pretrained

RULE = (
    "SAM, masks from a grid of points; those with a mean ExG above 0.1 are vegetation, "
    "every plant is called crop"
)
STABILITY_OFFSET = 1.0


class SamSettings(NamedTuple):
    """The automatic mask generator's settings: those of the paper."""

    points_a_side: int = 32
    points_at_once: int = 64
    predicted_iou: float = 0.88
    stability: float = 0.95


class SamVegetation:
    """BGR uint8 [H, W, 3] in, labels uint8 [H, W] of 0 and 1 out."""

    def __init__(self, model: Any, settings: SamSettings, device: str = "cpu") -> None:
        self.device = torch_device(device)
        self.model = model.to(self.device).eval()
        self.settings = settings
        self.side = int(model.config.vision_config.image_size)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.key = digest("sam", weights_key(model), repr(settings), RULE)

    @classmethod
    def load(cls, source: str, device: str, settings: SamSettings | None = None) -> "SamVegetation":
        """A `SamModel` from a local folder or by name. Raises ConfigError."""
        return cls(load_pretrained("SamModel", source), settings or SamSettings(), device)

    @torch.inference_mode()
    def __call__(self, image: Labels) -> Labels:
        """The union of the segments that are green, at the picture's size."""
        height, width = image.shape[:2]
        scale = self.side / max(height, width)
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        resized = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA))
        tensor = F.pad(normalise(resized), (0, self.side - columns, 0, self.side - rows))
        embedding = self.model.get_image_embeddings(tensor[None].to(self.device))
        union: Tensor | None = None
        for logits in self._segments(embedding, rows, columns):
            plants = logits[self._green(logits, resized)]
            if len(plants):
                best = plants.amax(0)
                union = best if union is None else torch.maximum(union, best)
        if union is None:
            return np.zeros((height, width), np.uint8)
        whole = F.interpolate(union[None, None], (self.side, self.side), mode="bilinear")
        whole = F.interpolate(whole[..., :rows, :columns], (height, width), mode="bilinear")
        return (whole[0, 0] > 0).to(torch.uint8).cpu().numpy()

    def _segments(self, embedding: Tensor, rows: int, columns: int) -> Iterator[Tensor]:
        """Mask logits [K, h, w] of the segments that pass, one batch of points at a time."""
        side, batch = self.settings.points_a_side, self.settings.points_at_once
        steps = (torch.arange(side) + 0.5) / side
        points = torch.cartesian_prod(steps * columns, steps * rows)  # x, y in the resized picture
        for part in points.split(batch):
            found = self.model(
                image_embeddings=embedding,
                input_points=part[None, :, None].to(self.device),  # [1, P, 1, 2]
                multimask_output=True,
            )
            logits = found.pred_masks[0].flatten(0, 1)  # [P * 3, h, w]
            keep = found.iou_scores[0].flatten() > self.settings.predicted_iou
            keep &= stability(logits) > self.settings.stability
            yield logits[keep]

    def _green(self, logits: Tensor, resized: Labels) -> Tensor:
        """Which of the segments [K, h, w] are vegetation, bool [K]."""
        h, w = logits.shape[-2:]
        rows, columns = (
            -(-n * s // self.side) for n, s in zip(resized.shape, (h, w), strict=False)
        )
        small = cv2.resize(resized, (columns, rows), interpolation=cv2.INTER_AREA)
        index = torch.from_numpy(excess_green(small)).to(self.device)
        inside = (logits[:, :rows, :columns] > 0).float()
        area = inside.sum((1, 2))
        return (area > 0) & ((inside * index).sum((1, 2)) > EXG_THRESHOLD * area)


def stability(logits: Tensor) -> Tensor:
    """IoU of each mask [K, h, w] thresholded at +1 and at -1; 0 for an empty one."""
    inner = (logits > STABILITY_OFFSET).sum((1, 2)).float()
    outer = (logits > -STABILITY_OFFSET).sum((1, 2)).float()
    return torch.where(outer > 0, inner / outer.clamp(min=1), torch.zeros_like(outer))
