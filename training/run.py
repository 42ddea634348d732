"""What changes while a network is trained, and one step of it; other ways to train build on it.

A subclass that trains otherwise overrides `batches` (what is seen), `loss` (what is asked) and,
where it carries more than the network (an EMA teacher), `after_step`, `figures`, `extra_state`
and `load_extra_state`; `training.train.train(config, out, MyRun)` does the rest.
"""

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cropseg_edge.errors import ConfigError
from training.checkpoint import Average, images_seen, misfit, size_state
from training.config import TrainConfig, dump_config, samples_of
from training.data.batches import batches
from training.data.resident import ResidentCrops
from training.distributed import fill, fill_optimiser, join, replicate, shard, whole
from training.graph import StepGraph, plain
from training.losses import partial_cross_entropy, set_dice
from training.models.fade import bilinear_like
from training.optimiser import learning_rate, make_optimiser, set_rate
from training.provenance import SetRecord, sets_of
from training.start import check_finite, check_size, stage_weights, start

log = logging.getLogger("training")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Run:
    """What changes while a network is trained: weights, their average, optimiser, step.

    Attributes:
        model: the bare network; `average` the moving average of its weights.
        workers: this process among those that train the same network.
        losses: of the steps since the last line of the log, numbers or tensors of one.
        last_loss: of the last step; a number or a tensor of one.
        left_out: steps in a row, up to the last one, whose gradient was not finite.
        saved: the step of the state that lies on disk; None where there is none.
    """

    def __init__(self, config: TrainConfig, saved: Path | None = None) -> None:
        """`saved` is the checkpoint that `load_state` will be given, if any; see `start`."""
        self.config = config
        self.workers = join(config.device)
        if config.batch % (self.workers.world * config.accumulate):
            raise ConfigError(
                f"batch {config.batch} cannot be shared by {self.workers.world} processes in "
                f"{config.accumulate} parts each; choose a multiple"
            )
        if config.data.resident and type(self).batches is not Run.batches:
            raise ConfigError("data.resident: true is for `train` alone; leave it out")
        self.device = self.workers.device
        torch.manual_seed(config.seed)
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.size, model = start(config, saved)
        if config.data.crop % model.multiple:
            raise ConfigError(
                f"data.crop {config.data.crop} must be a multiple of {model.multiple} for size "
                f"{self.size.name}"
            )
        self.model = model.to(self.device)
        if config.parallel == "ddp":  # FSDP takes contiguous weights only
            self.model = self.model.to(memory_format=self.layout)
        if self.workers.world > 1 and self.device.type == "cuda":  # there is none for the CPU
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.average = Average.of(self.model, config.optimiser.ema)
        self._replicated = self._prepare()
        self.optimiser = make_optimiser(self.model, config.optimiser)
        enabled = config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=enabled)
        self.losses: list[float | Tensor] = []
        self._graph = self._prepare_graph()
        self.step, self.left_out = 0, 0
        self.saved: int | None = None
        self.last_loss: float | Tensor = 0.0
        # Of the stages that this run started from.
        self.steps_before = self.images_before = 0
        self.sets: dict[str, SetRecord] = {}  # likewise, and this run's own once `begin` is done

    def _prepare(self) -> nn.Module:
        """The network as training calls it: recomputing, compiled, shared by the processes."""
        config = self.config
        if config.parallel == "fsdp":
            if config.precision == "fp16":
                raise ConfigError("precision fp16 does not go with parallel: fsdp; use bf16")
            shard(self.model)
            shard(self.average.model)
        if config.checkpointing:
            self.model.backbone.vit.checkpointing = True
        if config.compile:
            self.model.compile()
        return replicate(self.model, self.workers)

    def _prepare_graph(self) -> StepGraph | None:
        config = self.config
        if not config.graph:
            return None
        plain_run = type(self).loss is Run.loss and type(self).after_step is Run.after_step
        alone = self.device.type == "cuda" and self.workers.world == 1
        if not plain_run or not alone or config.precision == "fp16" or config.compile:
            raise ConfigError(
                "graph: true is for `train` in one process on a GPU, in bf16 or fp32 and without "
                "compile; leave it out"
            )
        return StepGraph(self.gradients, self.optimiser)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs; the same for any number of processes, all of which
        must call this."""
        return {
            "size": size_state(self.size),
            "model": whole(self.model.state_dict()),
            "ema": whole(self.average.model.state_dict()),
            "optimiser": whole(plain(self.optimiser.state_dict())),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "steps_before": self.steps_before,
            "images_before": self.images_before,
            "sets": self.sets,
            "losses": [float(loss) for loss in self.losses],
            "config": dump_config(self.config),
            "extra": whole(self.extra_state()),
        }

    def start_from(self, state: dict[str, Any]) -> None:
        """Take over the averaged weights of an earlier stage, of this size or of one that can grow
        into it; ConfigError otherwise."""
        self.start_from_weights(stage_weights(state, self.size))
        self.steps_before = state.get("steps_before", 0) + state["step"]
        self.images_before = images_seen(state)
        self.sets = sets_of(state)

    def start_from_weights(self, weights: dict[str, Tensor]) -> None:
        """Put whole weights into the network and its average; ConfigError where they do not fit."""
        try:
            for model in (self.model, self.average.model):
                fill(model, weights)
        except (KeyError, RuntimeError) as error:
            raise ConfigError(
                f"the weights do not fit size {self.size.name}: {misfit(error)}"
            ) from error

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`; raises ConfigError if that is of another size, other data or
        another kind of run, or if its weights are not finite."""
        check_size(state, self.size)
        began, now = samples_of(yaml.safe_load(state["config"])), samples_of(self.config)
        if changed := [key for key in now if began.get(key) != now[key]]:
            raise ConfigError(
                f"the run there began with another {', '.join(changed)} (see its config.yaml), and "
                "what it has seen could no longer be told; choose another --out"
            )
        try:
            self.load_extra_state(state.get("extra", {}))
            fill(self.model, state["model"])
            fill(self.average.model, state["ema"])
            fill_optimiser(self.optimiser, state["optimiser"])
            self.scaler.load_state_dict(state.get("scaler") or self.scaler.state_dict())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"the checkpoint's weights do not fit its size: {misfit(error)}"
            ) from error
        for part in ("model", "ema"):
            check_finite(state[part])
        self.step = self.saved = state["step"]
        self.steps_before = state.get("steps_before", 0)
        self.images_before = images_seen(state | {"step": 0})
        self.sets = sets_of(state)
        self.losses = list(state.get("losses", []))

    def batches(self) -> Iterable[Any]:
        """What this process sees in the remaining steps, from `self.step` on, one item a step:
        tensors in tuples, lists or dictionaries, the first dimension a multiple of `accumulate`.

        Item i must be a function of the configuration and i alone, or a resumed run differs.
        """
        if self.config.data.resident:
            return ResidentCrops(self.config, self.workers).from_step(self.step)
        return batches(self.config, self.step, self.workers)

    def call(self, method: str, *inputs: Tensor) -> Any:
        """`model.method(*inputs)` in training, under the configured precision, such that the
        processes' gradients meet. Losses must call the network so, or through `predict`."""
        dtype = AUTOCAST.get(self.config.precision)
        inputs = tuple(
            x.contiguous(memory_format=self.layout) if x.dim() == 4 else x for x in inputs
        )
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            return self._replicated(method, *inputs)

    def predict(self, image: Tensor, labels: Tensor) -> Tensor:
        """Logits of the network in training, float32 [B, classes, h, w], for float32 [B, 3, H, W]
        RGB normalised; where the `labels` [B, h, w] of the same pictures lie."""
        return bilinear_like(self.call("forward", image).float(), labels.shape[-2:])

    def loss(self, batch: Any) -> Tensor:
        """The scalar to be minimised, for one item of `batches`: here, crops and class sets."""
        image, sets = batch
        return self.labelled_loss(self.predict(image, sets), sets)

    def labelled_loss(self, logits: Tensor, sets: Tensor) -> Tensor:
        """The configured loss of logits [B, classes, h, w] under class sets uint8 [B, h, w]."""
        entropy = partial_cross_entropy(logits, sets, self.config.crop_weight)
        return entropy + self.config.dice * set_dice(logits, sets)

    def after_step(self) -> None:
        """Called after each step that changed the weights, before `self.step` counts it."""

    def figures(self) -> dict[str, object]:
        """What a subclass adds to each line of the log; the same keys every time."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """What a subclass adds to the checkpoint: tensors and plain values."""
        return {}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take `extra_state` back ({} from a checkpoint of a plain run); ConfigError where it is of
        another kind of run."""
        if "teacher" in extra:
            raise ConfigError(
                "the run there learns from a teacher: go on with the command that began it "
                "(self-train or distill), or choose another --out"
            )

    def train_step(self, batch: Any) -> Tensor:
        """One optimiser step on an item of `batches`; returns the loss [], averaged over processes.
        A gradient that is not finite is left out, with a warning unless the step is a graph."""
        config = self.config
        self.model.train()
        seed = config.seed * 1_000_003 + self.step + self.workers.rank * 1_000_000_000_039
        torch.manual_seed(seed)  # dropout survives a resume
        set_rate(self.optimiser, learning_rate(self.step, config.steps, config.optimiser))
        if self._graph is not None:
            loss = self._graph(batch)
            self.average.update(self.model, self.step)
            self.step += 1
            return loss
        total, norm = self.gradients(batch)
        if torch.isfinite(whole(norm)):
            self.left_out = 0
            self.scaler.step(self.optimiser)
            self.workers.average_buffers(self.model)
            self.average.update(self.model, self.step)
            self.after_step()
        else:
            self.left_out += 1
            log.warning("step %d: gradient is not finite, step left out", self.step)
        self.scaler.update()
        self.step += 1
        return self.workers.mean(total)

    def gradients(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The loss [] of this process on an item of `batches` and the norm [] of the gradient,
        which is then clipped."""
        config = self.config
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        try:
            for number in range(config.accumulate):
                part = tree_map(partial(self._part, number=number), batch)
                with self._exchange(last=number == config.accumulate - 1):
                    loss = self.loss(part) / config.accumulate
                    self.scaler.scale(loss).backward()
                total += loss.detach()
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"the GPU's memory does not suffice for {config.batch} pictures a step in "
                f"{config.accumulate} parts; raise accumulate, or set checkpointing: true"
            ) from error
        self.scaler.unscale_(self.optimiser)
        return total, nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip)

    def _part(self, value: Any, number: int) -> Any:
        """Part `number` of a tensor's first dimension, on the device; other values as they are."""
        if not isinstance(value, Tensor):
            return value
        parts = value.chunk(self.config.accumulate) if value.dim() else [value] * (number + 1)
        return parts[number].to(self.device, non_blocking=True)

    def _exchange(self, last: bool) -> Any:
        """DDP exchanges gradients with the last part only."""
        wrapped = self._replicated
        waits = not last and isinstance(wrapped, nn.parallel.DistributedDataParallel)
        return wrapped.no_sync() if waits else nullcontext()
