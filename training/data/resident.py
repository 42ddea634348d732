"""Pictures kept in the device's memory, and crops made there by the batch.

For GPUs that train a small network faster than processes can read crops: every picture is decoded
once, and what `training.data.augmentation` does to one crop is done to a whole batch at once.
"""

import itertools
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import TrainConfig
from training.data.augmentation import (
    COARSE,
    GREY,
    Geometry,
    Light,
    draw_geometry,
    draw_light,
)
from training.data.batches import MEAN, STD, CropDataset
from training.distributed import ALONE, Workers

log = logging.getLogger("training")


class ResidentCrops:
    """Batches of crops like those of `CropDataset`, of pictures in the memory of `workers.device`.

    The same draws from the same distributions, but for two approximations: a shadow's edge is
    that of straight lines instead of a blurred polygon, and a picture that is made smaller than
    0.6 is averaged over four samples a pixel instead of being blurred before.

    Pixels lie one after the other, four bytes each: blue, green, red, class set.
    """

    def __init__(self, config: TrainConfig, workers: Workers = ALONE) -> None:
        self.config, self.workers = config, workers
        drawn = CropDataset(config, 0)
        self.weights = drawn.weights
        keys = [(s, stem) for s, stems in enumerate(drawn.stems) for stem in stems]
        firsts = np.cumsum([0, *(len(stems) for stems in drawn.stems)])
        self.numbers = [range(a, b) for a, b in itertools.pairwise(firsts)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pictures = list(pool.map(lambda key: packed(*drawn.read(*key)), keys))
        self.extents = [picture.shape for picture in pictures]
        ends = np.cumsum([picture.size for picture in pictures])
        self.starts = ends - [picture.size for picture in pictures]
        self.pixels = torch.empty(int(ends[-1]), dtype=torch.int32, device=workers.device)
        for start, picture in zip(self.starts, pictures, strict=True):
            part = torch.from_numpy(picture.ravel())
            self.pixels[start : start + picture.size].copy_(part)
        log.info("%d pictures in memory, %.1f GB", len(keys), 4 * ends[-1] / 1e9)

    def from_step(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of the batches of the steps `first` to the last."""
        for step in range(first, self.config.steps):
            yield self.batch(step)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Crops float32 [B, 3, size, size] RGB normalised and class sets uint8 [B, n, n] with
        n = size / label_step, both on the device; a function of the configuration and `step`."""
        config, data, world = self.config, self.config.data, self.workers.world
        share = config.batch // world
        chosen, geometries, lights = [], [], []
        for sample in range(share):
            index = step * config.batch + self.workers.rank * share + sample
            rng = np.random.default_rng((config.seed, index))
            numbers = self.numbers[int(rng.choice(len(self.numbers), p=self.weights))]
            number = numbers[int(rng.integers(len(numbers)))]
            chosen.append(number)
            geometries.append(
                draw_geometry(self.extents[number], data.crop, data.frame, config.augmentation, rng)
            )
            lights.append(draw_light((data.crop, data.crop), config.augmentation, rng))
        image, sets = self._crops(chosen, geometries)
        generator = torch.Generator(self.workers.device)
        generator.manual_seed(config.seed * 1_000_003 + step * world + self.workers.rank)
        return normalised(lit(image, lights, generator)), sets

    def _crops(self, chosen: list[int], geometries: list[Geometry]) -> tuple[Tensor, Tensor]:
        """Pictures float32 [B, 3, size, size] BGR 0 to 1, and sets."""
        size, step = self.config.data.crop, self.config.data.label_step
        inverses = np.stack([_inverse(g.matrix) for g in geometries])
        device = self.workers.device
        back = torch.from_numpy(inverses).to(device, torch.float32)
        start = torch.from_numpy(self.starts[chosen]).to(device)
        extent = torch.tensor([self.extents[i] for i in chosen], device=device)
        at = _grid(size, 1, device)
        image = self._bilinear(*_back(back, at), start, extent)
        coarse = [i for i, g in enumerate(geometries) if g.scale < COARSE]
        if coarse:  # the mean of four samples, as far apart as the crop's pixels are
            few = torch.tensor(coarse, device=device)
            total = torch.zeros_like(image[few])
            for dx in (-0.25, 0.25):
                for dy in (-0.25, 0.25):
                    shifted = at + at.new_tensor([dx, dy])
                    total += self._bilinear(*_back(back[few], shifted), start[few], extent[few])
            image[few] = total / 4
        x, y = _back(back, _grid(size // step, step, device))
        inside, index = _indices(x.round().long(), y.round().long(), start, extent)
        sets = torch.where(inside, (self.pixels[index] >> 24) & 255, 0).to(torch.uint8)
        return image, sets

    def _bilinear(self, x: Tensor, y: Tensor, start: Tensor, extent: Tensor) -> Tensor:
        """Samples [B, 3, n, n] at picture positions [B, n, n]; grey outside."""
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        grey = sum(level << (8 * i) for i, level in enumerate(GREY))
        result = x.new_zeros(x.shape[0], 3, *x.shape[1:])
        for dy in (0, 1):
            for dx in (0, 1):
                weight = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
                inside, index = _indices(x0.long() + dx, y0.long() + dy, start, extent)
                pixel = torch.where(inside, self.pixels[index], grey)
                for channel in range(3):
                    level = (pixel >> (8 * channel)) & 255
                    result[:, channel] += level * weight
        return result / 255


def packed(image: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] BGR and uint8 [H, W] as int32 [H, W]."""
    return np.ascontiguousarray(np.dstack([image, sets])).view(np.int32)[..., 0]


def lit(x: Tensor, lights: list[Light], generator: torch.Generator) -> Tensor:
    """Each of x float32 [B, 3, n, n] BGR 0 to 1 in its light, clipped to 0 to 1."""
    device, n = x.device, x.shape[-1]

    def table(rows: list[object]) -> Tensor:
        return torch.tensor(np.array(rows, np.float32), device=device)

    unit = np.eye(3, dtype=np.float32)
    mix = table([unit if light.mix is None else light.mix for light in lights])
    shift = table([light.shift for light in lights]).view(-1, 1, 1)
    x = (mix.transpose(1, 2) @ x.flatten(2) + shift).view(x.shape)
    x = x.clamp(0, 1) ** table([light.gamma for light in lights]).view(-1, 1, 1, 1)
    for i, light in enumerate(lights):
        if light.shade is not None:
            x[i] *= _shadow(light, n, device)
        if light.dusk is not None:
            x[i] = _darkened(x[i], light, device)
        if light.kernel is not None:
            kernel = torch.from_numpy(light.kernel).to(device).expand(3, 1, -1, -1)
            edge = [light.kernel.shape[0] // 2] * 4
            x[i] = F.conv2d(F.pad(x[i : i + 1], edge, mode="reflect"), kernel, groups=3)[0]
    sigma = table([light.noise for light in lights]).view(-1, 1, 1, 1)
    noise = torch.randn(x.shape, generator=generator, device=device)
    return (x + noise * sigma).clamp(0, 1)


def normalised(x: Tensor) -> Tensor:
    """[B, 3, H, W] BGR 0 to 1 as the network takes it: RGB, `MEAN` and `STD` of 0 to 255."""
    mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (x.flip(1) * 255 - mean) / std


def _shadow(light: Light, n: int, device: torch.device) -> Tensor:
    """Gain map [n, n] of the light's shade: inside of all the hull's edges, each blurred."""
    shade = light.shade
    assert shade is not None
    at = _grid(n, 1, device)
    inside = at.new_ones(n, n)
    corners = shade.hull.astype(float)
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        normal = np.array([a[1] - b[1], b[0] - a[0]])
        length = np.hypot(*normal)
        if length == 0:
            continue
        distance = ((at[..., 0] - a[0]) * normal[0] + (at[..., 1] - a[1]) * normal[1]) / length
        inside = inside * (distance / (shade.blur * 2**0.5)).erf().add(1).mul(0.5)
    return 1 - shade.depth * (1 - inside if shade.inverted else inside)


def _darkened(x: Tensor, light: Light, device: torch.device) -> Tensor:
    dusk = light.dusk
    assert dusk is not None
    x = x.clamp(0, 1) ** dusk.gamma * torch.from_numpy(dusk.gain).to(device).view(3, 1, 1)
    if dusk.lamp is None:
        return x
    cx, cy, spread, strength = dusk.lamp
    at = _grid(x.shape[-1], 1, device)
    square = (at[..., 0] - cx) ** 2 + (at[..., 1] - cy) ** 2
    return x * (0.4 + strength * (-square / (2 * spread**2)).exp())


def _grid(n: int, step: int, device: torch.device) -> Tensor:
    """Centres (x, y) of n x n squares of `step` pixels: float32 [n, n, 2]."""
    line = torch.arange(n, device=device, dtype=torch.float32) * step + (step - 1) / 2
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """The affine map [2, 3] back."""
    turn = np.linalg.inv(matrix[:, :2])
    return np.concatenate([turn, -turn @ matrix[:, 2:]], 1)


def _back(inverse: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """x and y [B, n, n] in the picture of the crop's positions [n, n, 2]."""
    m = inverse.view(-1, 6, 1, 1)
    x, y = at[..., 0], at[..., 1]
    return m[:, 0] * x + m[:, 1] * y + m[:, 2], m[:, 3] * x + m[:, 4] * y + m[:, 5]


def _indices(x: Tensor, y: Tensor, start: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Whether whole positions [B, n, n] are in the picture, and where in the pixels they lie."""
    h, w = extent[:, 0].view(-1, 1, 1), extent[:, 1].view(-1, 1, 1)
    inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
    index = start.view(-1, 1, 1) + y * w + x
    return inside, torch.where(inside, index, 0)
