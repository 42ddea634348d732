"""SegFormer (Xie et al., NeurIPS 2021) through `transformers`, its classes mapped to ours."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cropseg_edge.errors import ConfigError
from cropseg_edge.mask import CLASSES
from training.evaluation.keys import digest
from training.evaluation.networks import NetworkSegmenter, weights_key

FRAME = (640, 480)


def segformer(
    source: str, labels: Mapping[str, str], device: str
) -> tuple[NetworkSegmenter, str, str]:
    """A `SegformerForSemanticSegmentation` from a local folder or by name: segmenter, key, note.

    Args:
        source: folder with config.json and weights (safetensors), or a name on the hub.
        labels: its label (name or number) to our class; labels not named are background. Empty
            where its labels are background, crop, weed, or background and plants (called crop).
        device: of PyTorch.

    Raises:
        ConfigError: it cannot be loaded, or its labels are not ours and no mapping is given.
    """
    model = load_pretrained("SegformerForSemanticSegmentation", source)
    names = {int(number): str(name) for number, name in model.config.id2label.items()}
    classes = _classes(names, labels, source)

    def logits(image: Tensor) -> Tensor:
        found: Tensor = model(pixel_values=image).logits
        return found

    network = NetworkSegmenter(model, FRAME, classes=classes, logits=logits, device=device)
    mapping = json.dumps(classes)
    used = ", ".join(f"{names[i]} is {CLASSES[c]}" for i, c in enumerate(classes) if c)
    note = f"transformers, input {FRAME[0]}x{FRAME[1]}; {used}; the rest background"
    return network, digest("segformer", weights_key(model), mapping, json.dumps(FRAME)), note


def load_pretrained(kind: str, source: str) -> Any:
    """A model of `transformers` in eval mode, float32; weights from safetensors only.

    Raises:
        ConfigError: `transformers` is missing, or the source holds no such model.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("this baseline needs transformers: pip install transformers") from error
    transformers.utils.logging.disable_progress_bar()
    try:
        loaded, report = getattr(transformers, kind).from_pretrained(
            source, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:160]
        raise ConfigError(
            f"{source} is no folder or name of a {kind} with safetensors: {reason}"
        ) from error
    if missing := report["missing_keys"]:
        raise ConfigError(f"{source} lacks weights of a {kind}: {', '.join(sorted(missing)[:3])}")
    return loaded.eval()


def _classes(names: Mapping[int, str], labels: Mapping[str, str], source: str) -> list[int]:
    """Our class of each of the model's labels."""
    ordered = [names[number] for number in sorted(names)]
    if not labels:
        if [name.lower() for name in ordered] == list(CLASSES):
            return [0, 1, 2]
        if len(ordered) == 2:
            return [0, 1]
        raise ConfigError(
            f"{source} has {len(ordered)} labels ({', '.join(ordered[:4])}, ...): say which are "
            "plants with --segformer-label NAME=crop or NAME=weed"
        )
    wanted = {key.lower(): CLASSES.index(value) for key, value in labels.items()}
    known = {name.lower() for name in ordered} | {str(number) for number in names}
    if unknown := set(wanted) - known:
        raise ConfigError(f"{source} has no label {sorted(unknown)}; its config.json lists them")
    return [wanted.get(name.lower(), wanted.get(str(i), 0)) for i, name in enumerate(ordered)]
