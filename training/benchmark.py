"""A configuration in, the speed of training with it out: images/s and the share of a GPU's peak."""

import itertools
import logging
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from cropseg_edge.errors import ConfigError
from training.config import TrainConfig
from training.models.cost import cost, total
from training.models.sizes import SIZES
from training.run import Run

log = logging.getLogger("training")
FLOPS_A_MAC = 6  # multiply and add, forward once and backward twice
PEAKS = {  # dense bf16 or fp16 with fp32 sums, TFLOP/s, from the makers' data sheets
    "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "A10G": 70, "A10": 125, "L40S": 362,
    "L4": 121, "4090": 165, "3090": 71,
}  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        images_per_second: over all processes; from the median of the steps.
        tflops: model operations a second and process, in 10^12; recomputed activations do not
            count. `fraction` is its share of `peak`, None where the peak is not known.
        memory_gb: peak of the GPU's memory that torch held; None on a CPU.
    """

    device: str
    processes: int
    size: str
    crop: int
    batch: int
    precision: str
    step_seconds: float
    images_per_second: float
    gmacs_per_image: float
    tflops: float
    peak: float | None
    fraction: float | None
    memory_gb: float | None


class FixedBatch(Run):
    """A run that sees one random batch again and again, so that no reading is measured."""

    def batches(self) -> Iterable[Any]:
        crop, share = self.config.data.crop, self.config.batch // self.workers.world
        generator = torch.Generator().manual_seed(self.config.seed)
        image = torch.randn(share, 3, crop, crop, generator=generator)
        labels = crop // self.config.data.label_step
        sets = torch.randint(1, 8, (share, labels, labels), generator=generator).to(torch.uint8)
        return itertools.repeat((image, sets))


def benchmark(
    config: TrainConfig,
    *,
    warmup: int,
    steps: int,
    kind: type[Run] = FixedBatch,
    peak: float | None = None,
) -> Speed:
    """Train for `warmup` + `steps` steps and time the latter.

    Args:
        kind: `FixedBatch`, or `Run` to read the configuration's data, too.
        peak: of the device at this precision, TFLOP/s; None looks it up for bf16 and fp16.

    Raises:
        ConfigError: as `Run`; the GPU's memory does not suffice.
        FrameError: data cannot be read.
    """
    if config.size not in SIZES:
        raise ConfigError(f"size must be one of {', '.join(SIZES)}; got {config.size!r}")
    run = kind(config.model_copy(update={"steps": warmup + steps}))
    cuda = run.device.type == "cuda"
    name = torch.cuda.get_device_name(run.device) if cuda else "cpu"
    seconds = []
    for batch in itertools.islice(run.batches(), warmup + steps):
        started = time.perf_counter()
        run.train_step(batch).item()  # waits for the GPU
        seconds.append(time.perf_counter() - started)
        log.info("step %d of %d: %.3f s", run.step, warmup + steps, seconds[-1])
    step = statistics.median(seconds[warmup:])
    macs = total(cost(run.size, config.data.crop, config.data.crop)).macs
    tflops = FLOPS_A_MAC * macs * config.batch / run.workers.world / step / 1e12
    if peak is None and config.precision != "fp32":
        peak = next((value for key, value in PEAKS.items() if key in name), None)
    return Speed(
        device=name,
        processes=run.workers.world,
        size=config.size,
        crop=config.data.crop,
        batch=config.batch,
        precision=config.precision,
        step_seconds=round(step, 5),
        images_per_second=round(config.batch / step, 3),
        gmacs_per_image=float(f"{macs / 1e9:.4g}"),
        tflops=float(f"{tflops:.4g}"),
        peak=peak,
        fraction=float(f"{tflops / peak:.4g}") if peak else None,
        memory_gb=round(torch.cuda.max_memory_allocated() / 1e9, 2) if cuda else None,
    )
