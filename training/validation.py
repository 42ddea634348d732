"""Watching a run: figures on training pictures that were held out, never on an evaluation set."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch

from training.config import TrainConfig
from training.data.batches import normalise
from training.data.fields import FieldSet, find_set, held_out
from training.models.fade import bilinear_like
from training.models.segformer import SegFormer
from training.models.segmenter import CropSegmenter

PICTURES_A_SET = 16
READINGS = {"vegetation": 0b110, "crop": 0b010}  # classes as bits


def validation_pictures(config: TrainConfig) -> Iterator[tuple[FieldSet, str]]:
    """The held-out share of the training pictures, at most 16 a set."""
    for name in config.data.weights:
        field = find_set(config.data.roots, name, config.data.split)
        stems = [s for s in field.pairs if held_out(s, config.data.validation)]
        yield from ((field, stem) for stem in stems[:PICTURES_A_SET])


@torch.no_grad()
def validate(
    model: CropSegmenter | SegFormer,
    pictures: Iterable[tuple[FieldSet, str]],
    frame: tuple[int, int],
) -> dict[str, float]:
    """`vegetation_miou` and `crop_miou` in percent, the pixels of all pictures pooled.

    A figure is left out where the labels know only one of its sides: crop, where they tell plants
    from soil but never crop from weed.

    Args:
        frame: width and height that each picture is fitted into, as on the robot.

    Raises:
        FrameError: a picture or mask cannot be read.
    """
    step = model.multiple
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    counts = np.zeros((len(READINGS), 2, 2), np.int64)  # reading, truth, prediction
    for field, stem in pictures:
        image, sets = field.read(stem)
        scale = min(frame[0] / image.shape[1], frame[1] / image.shape[0])
        size = [max(1, round(x * scale / step)) * step for x in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        sets = cv2.resize(sets, size, interpolation=cv2.INTER_NEAREST)
        logits = bilinear_like(model(normalise(image)[None].to(device)), image.shape[:2])[0]
        p = logits.softmax(0).cpu().numpy()
        labels = np.where(p[0] > 0.5, 0, 1 + p[1:].argmax(0))  # as the robot decodes
        for i, class_bits in enumerate(READINGS.values()):
            inside, outside = sets & class_bits > 0, sets & (0b111 ^ class_bits) > 0
            decided = inside != outside
            predicted = (class_bits >> labels) & 1
            pairs = 2 * inside[decided] + predicted[decided]
            counts[i] += np.bincount(pairs, minlength=4).reshape(2, 2)
    return {
        f"{name}_miou": miou(found)
        for name, found in zip(READINGS, counts, strict=True)
        if found.any(axis=1).all()
    }


def miou(counts: np.ndarray) -> float:
    """Mean IoU of both classes in percent, from a 2 x 2 confusion matrix."""
    hit = np.diag(counts)
    return float(100 * np.mean(hit / np.maximum(counts.sum(0) + counts.sum(1) - hit, 1)))
