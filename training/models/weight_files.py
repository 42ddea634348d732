"""A file, folder or hub name in, tensors by name out; nothing in a file can run code."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cropseg_edge.errors import ConfigError

WRAPPERS = ("model", "state_dict", "teacher", "module", "model_ema")
SAFE = ("config.json", "*.safetensors", "*.safetensors.index.json")
PICKLED = ("config.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")


def read_weights(source: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and what `config.json` beside them says (empty without one).

    Args:
        source: a `.safetensors` or PyTorch file, a folder as `save_pretrained` writes it, or a
            name on the Hugging Face hub, "owner/name".

    Raises:
        ConfigError: not found, damaged, or a pickle with more in it than tensors.
    """
    path = Path(source)
    if not path.exists():
        path = download(str(source))
    if path.is_file():
        return read_file(path), read_json(path.with_name("config.json"))
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        if files := sorted(path.glob(pattern)):
            tensors = {name: t for file in files for name, t in read_file(file).items()}
            return tensors, read_json(path / "config.json")
    raise ConfigError(f"{path} holds neither model.safetensors nor pytorch_model.bin")


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ConfigError(f"{path} needs safetensors: pip install safetensors") from error
    except Exception as error:  # torch and safetensors raise many types, one for each damage
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ConfigError(
            f"{path} cannot be read as tensors alone, and nothing else of it is loaded ({reason}); "
            "save its state_dict as safetensors"
        ) from error
    while isinstance(values, dict):
        inner = next((values[k] for k in WRAPPERS if isinstance(values.get(k), dict)), None)
        if inner is None:
            break
        values = inner
    tensors = (
        {str(name): t for name, t in values.items() if isinstance(t, Tensor)}
        if isinstance(values, dict)
        else {}
    )
    if not tensors:
        raise ConfigError(f"{path} holds no state_dict: expected tensors by name")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """The values of a JSON file, none if there is no file."""
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no JSON that can be read: {error}") from error
    return values if isinstance(values, dict) else {}


def download(name: str) -> Path:
    """The folder of a hub name, from the local cache or the network; safetensors if there are."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"no weights at {name}: expected a file, a folder or a hub's owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(
            f"there is no file {name}, and a hub name needs: pip install huggingface_hub"
        ) from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(SAFE)))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=list(PICKLED)))
    except (OSError, ValueError) as error:  # the hub's own errors are among these
        reason = str(error).splitlines()[0][:160]
        raise ConfigError(
            f"{name} is no file here and cannot be had from the hub: {reason}"
        ) from error
    return folder
