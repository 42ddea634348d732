"""The configuration of a training run: typed, with defaults, unknown keys refused."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cropseg_edge.errors import ConfigError


def ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    """The bounds of a range as they are; ValueError unless the lower one comes first."""
    if bounds[0] > bounds[1]:
        raise ValueError("the lower bound comes first")
    return bounds


Positive = Annotated[float, Field(gt=0)]
Factors = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]  # least, most
Pixels = Annotated[int, Field(ge=32)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(Section):
    """Where pictures come from and how often each set is drawn.

    `weights` are relative and name every set that is used. `roots` are folders with `splits.csv`
    and `datasets.yaml`, or shards of such; the first one that has a set is where it is read.
    """

    roots: list[Path]
    weights: dict[str, Positive] = Field(min_length=1)
    split: str = "train"
    # By set whose outlines are drawn loosely: pixels to either side of one that are unknown.
    loose: dict[str, Annotated[int, Field(ge=1, le=32)]] = Field({})
    validation: float = Field(0.04, ge=0, lt=1)  # share of each set held out of training
    crop: int = Field(320, ge=64, multiple_of=32)
    frame: tuple[Pixels, Pixels] = (640, 480)  # width, height a picture is fitted into: scale 1
    label_step: Literal[1, 2, 4] = 1  # pixels of a crop from one label to the next
    workers: int = Field(1, ge=0)
    resident: bool = False  # keep all pictures in the GPU's memory and make crops there
    cache: float = Field(4.0, ge=0)  # GB of decoded pictures that each worker keeps


class AugmentationConfig(Section):
    """Ranges and probabilities; see `training.data.augmentation` for what each does."""

    scale: Factors = (0.6, 1.8)
    rotate: float = Field(0.5, ge=0, le=1)
    colour: float = Field(0.9, ge=0, le=1)
    gamma: Factors = (0.5, 2.0)
    dusk: float = Field(0.1, ge=0, le=1)
    shadow: float = Field(0.25, ge=0, le=1)
    blur: float = Field(0.25, ge=0, le=1)
    noise: float = Field(0.3, ge=0, le=1)


class OptimiserConfig(Section):
    """AdamW, linear warm-up, then one of the schedules of `training.optimiser.learning_rate`."""

    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: int = Field(300, ge=0)
    schedule: Literal["constant-linear", "cosine", "poly"] = "constant-linear"
    decay: float = Field(0.4, ge=0, le=1)  # constant-linear: share of the steps that decay
    power: float = Field(1.0, gt=0)  # poly
    layer_decay: float = Field(1.0, gt=0, le=1)  # rate of a trunk layer relative to the next one
    clip: float = Field(1.0, gt=0)
    ema: float = Field(0.999, ge=0, lt=1)


class TrainConfig(Section):
    """One run of `python -m training train`.

    `batch` is what one optimiser step sees, over all processes and accumulated parts together, so
    that the samples of a step do not depend on how many machines there are.
    """

    size: str = "nano"
    drop_path: float | None = Field(None, ge=0, lt=1)  # instead of the size's own
    last_step: Literal["fade", "bilinear"] | None = None  # instead of the size's own
    fine: int | None = Field(None, ge=1, le=4)  # instead of the size's own
    subpixel: Literal[1, 2] | None = None  # instead of the size's own
    init: Path | None = None  # checkpoint of an earlier stage whose weights this run starts from
    trunk: str | None = None  # ViT, BEiT or DINO weights to start from: file, folder or hub name
    steps: int = Field(ge=1)
    batch: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1)  # parts that a process takes its share of the batch in
    seed: int = Field(0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"  # how torchrun's processes share the work
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    channels_last: bool = True
    checkpointing: bool = False  # compute activations again in the backward pass: less memory
    compile: bool = False
    graph: bool = False  # record a step once as a CUDA graph: no time to start small kernels
    dice: float = Field(0.5, ge=0)
    crop_weight: float = Field(1.0, ge=1)  # crop called weed counts so often as weed called crop
    save_every: int = Field(100, ge=1)
    validate_every: int = Field(500, ge=1)  # of the steps at which it is saved
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    optimiser: OptimiserConfig = OptimiserConfig()


Config = TypeVar("Config", bound=Section)


def load_config(
    path: Path,
    overrides: tuple[str, ...] = (),
    kind: type[Config] = TrainConfig,  # type: ignore[assignment]
) -> Config:
    """Read a YAML file as a `kind`; `overrides` are `key.key=value` and win.

    Raises:
        ConfigError: unreadable, unknown key, wrong type or out of range; names the key.
    """
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the configuration {path} must be keys with values, got {values!r:.80}")
    return configured(values, overrides, kind, str(path))


def configured(
    values: dict[str, Any], overrides: tuple[str, ...], kind: type[Config], source: str
) -> Config:
    """A `kind` of plain values, which came from `source`; errors as in `load_config`."""
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set expects key.key=value, got {override!r}")
        *parents, leaf = key.split(".")
        section = values
        try:
            for parent in parents:
                section = section.setdefault(parent, {})
            section[leaf] = yaml.safe_load(text)
        except (AttributeError, TypeError, yaml.YAMLError) as error:
            raise ConfigError(f"--set {override}: no such section, or no YAML value") from error
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{source}: {key}: {first['msg']} (got {first['input']!r})") from error


def dump_config(config: Section) -> str:
    """The effective configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def changes(began: dict[str, Any], config: Section) -> list[str]:
    """How a configuration differs from an earlier one's plain values, a line a key; keys that the
    earlier one did not know are left out."""
    before, now = _flat(began), _flat(config.model_dump(mode="json"))
    return [
        f"{key} {value} instead of {before[key]}"
        for key, value in now.items()
        if key in before and before[key] != value
    ]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Values by key, those of a section as `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        section = value.items() if isinstance(value, dict) else ()
        flat |= {f"{key}.{own}": entry for own, entry in section} or {key: value}
    return flat


def samples_of(config: TrainConfig | dict[str, Any]) -> dict[str, object]:
    """What decides which pictures a run sees and which it holds out, by key."""
    values = config if isinstance(config, dict) else config.model_dump(mode="json")
    data = values["data"]
    own = {key: values.get(key) for key in ("seed", "batch")}
    return own | {f"data.{key}": data.get(key) for key in ("weights", "split", "validation")}
