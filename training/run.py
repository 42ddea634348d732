"""What changes while a network is trained, and one step of it; other ways to train build on it.

A subclass that trains otherwise overrides `batches` (what is seen), `loss` (what is asked) and,
where it carries more than the network (an EMA teacher), `after_step`, `figures`, `extra_state`
and `load_extra_state`; `training.train.train(config, out, MyRun)` does the rest.
"""

import logging
from collections.abc import Iterable
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from cropseg_edge.errors import ConfigError
from training.checkpoint import Average, size_state
from training.config import TrainConfig, dump_config
from training.data.batches import batches
from training.losses import partial_cross_entropy, set_dice
from training.models.fade import bilinear_like
from training.models.registry import SIZES, build
from training.optimiser import learning_rate, make_optimiser

log = logging.getLogger("training")


class Run:
    """What changes while a network is trained: weights, their average, optimiser, step."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        if config.size not in SIZES:
            raise ConfigError(f"size must be one of {', '.join(SIZES)}; got {config.size!r}")
        self.size = SIZES[config.size]
        self.model = build(self.size).to(memory_format=torch.channels_last)
        self.average = Average.of(self.model, config.optimiser.ema)
        self.optimiser = make_optimiser(self.model, config.optimiser)
        self.step = 0
        self.steps_before = 0  # of the stages that this run started from

    def state(self) -> dict[str, object]:
        """Everything that a resumed run needs."""
        return {
            "size": size_state(self.size),
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "steps_before": self.steps_before,
            "config": dump_config(self.config),
            "extra": self.extra_state(),
        }

    def start_from(self, state: dict) -> None:
        """Take over the averaged weights of an earlier stage; ConfigError if of another size."""
        self._check_size(state)
        self.model.load_state_dict(state["ema"])
        self.average = Average.of(self.model, self.config.optimiser.ema)
        self.steps_before = state.get("steps_before", 0) + state["step"]

    def load_state(self, state: dict) -> None:
        """Go on from `state()`; raises ConfigError if that is of another size or other data."""
        self._check_size(state)
        began, now = samples_of(yaml.safe_load(state["config"])), samples_of(self.config)
        if changed := [key for key in now if began.get(key) != now[key]]:
            raise ConfigError(
                f"the run there began with another {', '.join(changed)} (see its config.yaml), and "
                "what it has seen could no longer be told; choose another --out"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.average.model.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.load_extra_state(state.get("extra", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ConfigError("the checkpoint's weights do not fit its size") from error
        self.step = state["step"]
        self.steps_before = state.get("steps_before", 0)

    def _check_size(self, state: dict) -> None:
        if state["size"] != size_state(self.size):
            raise ConfigError(
                f"the checkpoint is of size {state['size']['name']} with other widths than "
                f"{self.size.name} has here; choose another --out"
            )

    def batches(self) -> Iterable[Any]:
        """What the remaining steps see, from `self.step` on, one item a step.

        Item i must be a function of the configuration and i alone, or a resumed run differs.
        """
        return batches(self.config, self.step)

    def predict(self, image: Tensor) -> Tensor:
        """Logits of the network in training, float32 [B, classes, H, W], for float32 [B, 3, H, W]
        RGB normalised; under the configured precision."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bf16"):
            logits = self.model(image.to(memory_format=torch.channels_last))
        return bilinear_like(logits.float(), image.shape[-2:])

    def loss(self, batch: Any) -> Tensor:
        """The scalar to be minimised, for one item of `batches`: here, crops and class sets."""
        image, sets = batch
        logits = self.predict(image)
        return partial_cross_entropy(logits, sets) + self.config.dice * set_dice(logits, sets)

    def after_step(self) -> None:
        """Called after each step that changed the weights, before `self.step` counts it."""

    def figures(self) -> dict[str, object]:
        """What a subclass adds to each line of the log; the same keys every time."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """What a subclass adds to the checkpoint: tensors and plain values."""
        return {}

    def load_extra_state(self, extra: dict[str, Any]) -> None:
        """Take `extra_state` back; ({} from a checkpoint of a plain run)."""

    def train_step(self, batch: Any) -> float:
        """One optimiser step on a batch; returns the loss. A gradient that is not finite is
        left out with a warning."""
        config = self.config
        self.model.train()
        torch.manual_seed(config.seed * 1_000_003 + self.step)  # dropout survives a resume
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, config.steps, config.optimiser)
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip)
        if torch.isfinite(norm):
            self.optimiser.step()
            self.average.update(self.model, self.step)
            self.after_step()
        else:
            log.warning("step %d: gradient is not finite, step left out", self.step)
        self.step += 1
        return loss.item()


def samples_of(config: TrainConfig | dict[str, Any]) -> dict[str, object]:
    """What decides which pictures a run sees and which it holds out, by key."""
    values = config if isinstance(config, dict) else config.model_dump(mode="json")
    data = values["data"]
    own = {key: values.get(key) for key in ("seed", "batch")}
    return own | {f"data.{key}": data.get(key) for key in ("weights", "split", "validation")}
