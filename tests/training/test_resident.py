"""Crops made by the batch in a device's memory: those that are made one by one, and a step that can
be recorded as a graph."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cropseg_edge.errors import ConfigError
from training.config import AugmentationConfig, load_config
from training.data import augmentation, resident
from training.data.batches import CropDataset, normalise
from training.losses import partial_cross_entropy, set_dice
from training.models.registry import build
from training.run import Run

STILL = AugmentationConfig(rotate=1, colour=0, shadow=0, dusk=0, blur=0, noise=0)
SIZE = 96


def picture(rng, h=70, w=110):
    image = cv2.GaussianBlur(rng.integers(0, 255, (h, w, 3), dtype=np.uint8), (0, 0), 2)
    return image, (1 << rng.integers(0, 3, (h, w))).astype(np.uint8)


def crops_of(pictures, geometries, label_step=1):
    """What `ResidentCrops` makes of pictures in memory, without a data set on disk."""
    crops = resident.ResidentCrops.__new__(resident.ResidentCrops)
    packed = [resident.packed(*p) for p in pictures]
    crops.extents = [p.shape for p in packed]
    crops.starts = np.cumsum([p.size for p in packed]) - [p.size for p in packed]
    crops.pixels = torch.from_numpy(np.concatenate([p.ravel() for p in packed]))
    crops.config = type("C", (), {"data": type("D", (), {"crop": SIZE, "label_step": label_step})})
    crops.workers = resident.ALONE
    image, sets = crops._crops(list(range(len(pictures))), geometries)
    return image.permute(0, 2, 3, 1).numpy() * 255, sets.numpy()


@pytest.mark.parametrize("label_step", [1, 2])
def test_crops_are_those_of_the_warp(label_step):
    rng = np.random.default_rng(3)
    pictures = [picture(rng), picture(rng, 90, 64)]
    one_by_one, geometries = [], []
    for seed, (image, sets) in enumerate(pictures):
        arguments = (SIZE, (160, 120), STILL)
        drawn = np.random.default_rng(seed)
        one_by_one.append(
            augmentation.random_crop(image, sets, *arguments, drawn, label_step=label_step)
        )
        drawn = np.random.default_rng(seed)
        geometries.append(augmentation.draw_geometry(image.shape[:2], *arguments, drawn))
    images, labels = crops_of(pictures, geometries, label_step)
    for got, got_sets, (expected, expected_sets) in zip(images, labels, one_by_one, strict=True):
        near = np.abs(got - expected).max(-1) < 4  # the warp's positions have five bits
        assert near.mean() > 0.98
        assert (got_sets == expected_sets).mean() > 0.97


def test_pictures_made_much_smaller_are_averaged():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (400, 400, 3), dtype=np.uint8)
    matrix = np.array([[0.3, 0, 0], [0, 0.3, 0]])
    fine = augmentation.Geometry(matrix, 1.0)  # as if it were not small
    coarse = augmentation.Geometry(matrix, 0.3)
    pictures = [(noise, np.ones((400, 400), np.uint8))] * 2
    (plain, smooth), _ = crops_of(pictures, [fine, coarse])
    assert smooth.std() < 0.7 * plain.std()


def test_light_is_that_of_one_crop():
    config = AugmentationConfig(colour=1, shadow=1, dusk=1, blur=1, noise=0)
    rng = np.random.default_rng(1)
    images = np.stack([picture(rng, SIZE, SIZE)[0] for _ in range(6)])
    expected = [
        augmentation.photometric(image, config, np.random.default_rng(i))
        for i, image in enumerate(images)
    ]
    lights = [
        augmentation.draw_light((SIZE, SIZE), config, np.random.default_rng(i)) for i in range(6)
    ]
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    got = resident.lit(x, lights, torch.Generator()).permute(0, 2, 3, 1).numpy() * 255
    difference = np.abs(got - np.stack(expected)).mean((1, 2, 3))
    assert difference.max() < 2.5  # of 255; edges of shadows are drawn otherwise


def test_normalised_is_what_single_crops_are():
    image = picture(np.random.default_rng(2))[0]
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(resident.normalised(x)[0], normalise(image), rtol=0, atol=1e-4)


def test_batches_depend_on_their_step_alone(config_file):
    config = load_config(config_file, ("data.resident=true", "steps=4"))
    crops = resident.ResidentCrops(config)
    first = list(crops.from_step(0))
    again = list(resident.ResidentCrops(config).from_step(2))
    assert len(first) == 4
    assert torch.equal(first[2][0], again[0][0])
    assert torch.equal(first[3][1], again[1][1])
    assert not torch.equal(first[0][0], first[1][0])
    one, other = CropDataset(config, 8)[0], first[0]
    assert (one[0].shape, one[1].shape) == (other[0].shape[1:], other[1].shape[1:])
    assert (one[0].dtype, one[1].dtype) == (other[0].dtype, other[1].dtype)


class HostTraffic(TorchDispatchMode):
    """Notes the operators that copy from or to the host: none may be in a recorded graph."""

    FORBIDDEN = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(name in str(func) for name in self.FORBIDDEN):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("size", ["nano", "tiny", "segformer-b0"])
def test_a_step_has_nothing_that_a_graph_cannot_hold(size):
    if size == "segformer-b0":
        pytest.importorskip("transformers")
    model = build(size).train()
    image = torch.randn(2, 3, 128, 128)
    with HostTraffic() as traffic:
        logits = model(image).float()
        sets = torch.ones(2, *logits.shape[-2:], dtype=torch.uint8)
        (partial_cross_entropy(logits, sets, 2.0) + set_dice(logits, sets)).backward()
    assert traffic.seen == []


def test_a_graph_is_for_a_gpu(config_file):
    with pytest.raises(ConfigError, match="graph: true is for `train` in one process on a GPU"):
        Run(load_config(config_file, ("graph=true", "device=cpu")))


def test_a_run_that_sees_other_batches_refuses_resident_ones(config_file):
    class Other(Run):
        def batches(self):
            return []

    with pytest.raises(ConfigError, match=r"data\.resident: true is for `train` alone"):
        Other(load_config(config_file, ("data.resident=true",)))
