"""Depth Anything V2 through `transformers`: picture in, depth out, larger is farther.

Yang et al.: Depth Anything V2, NeurIPS 2024. The relative models give inverse depth with an unknown
scale and shift; the metric ones give metres.
"""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import ConfigError

F32 = NDArray[np.float32]
log = logging.getLogger(__name__)

DEFAULT_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
_SIDE = 518  # the shorter side that the model was trained with, pixels
_PATCH = 14
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of ImageNet, RGB
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_FARTHEST = 1000.0  # relative depth of what the model puts at infinity; the nearest is 1

# Width of the backbone -> size and licence, as the authors publish them.
_SIZES = {
    384: ("Small", "Apache-2.0"),
    768: ("Base", "CC-BY-NC-4.0"),
    1024: ("Large", "CC-BY-NC-4.0"),
    1536: ("Giant", "CC-BY-NC-4.0"),
}


class DepthAnything:
    """A loaded model.

    Attributes:
        licence: SPDX name of the weights' licence, or `unknown`.
        terms: one line on size and licence.
        metric: the depth is in metres.
    """

    def __init__(self, model: str = DEFAULT_MODEL, device: str = "cpu", side: int = _SIDE) -> None:
        """
        Args:
            model: a local folder (config.json, model.safetensors) or a hub name.
            device: as torch names it.
            side: the shorter side that pictures are resized to; a multiple of 14 is taken.

        Raises:
            ConfigError: `transformers` is missing, the model cannot be loaded, or PyTorch has no
                such device.
        """
        try:
            from transformers import AutoConfig, DepthAnythingForDepthEstimation
        except ImportError as error:
            raise ConfigError(
                "Depth Anything needs transformers: pip install 'cropseg-edge[train]'"
            ) from error
        from training.evaluation.networks import torch_device

        self._device = torch_device(device)
        logging.getLogger("huggingface_hub").propagate = False  # it prints its lines itself
        local = Path(model).is_dir()
        try:
            config = AutoConfig.from_pretrained(model, local_files_only=local)
            if config.model_type != "depth_anything":
                raise ConfigError(f"{model} is a {config.model_type}, not a Depth Anything model")
            # Safetensors only: other weight files are pickles, which can run code.
            network, report = DepthAnythingForDepthEstimation.from_pretrained(
                model, local_files_only=local, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ConfigError(
                f"cannot load Depth Anything from {model}: {reason}; --model takes a local folder "
                "with config.json and model.safetensors, or a hub name where the network allows"
            ) from error
        if report["missing_keys"]:
            raise ConfigError(
                f"{model} lacks {len(report['missing_keys'])} weights, such as "
                f"{sorted(report['missing_keys'])[0]}: not a whole Depth Anything checkpoint"
            )
        width = int(config.backbone_config.hidden_size)
        self.licence, self.terms = _size(width)[1], terms(width)
        self.metric = getattr(config, "depth_estimation_type", "relative") == "metric"
        self._side = side
        self._network: Any = network.eval().to(self._device)

    def __call__(self, image: NDArray[np.uint8]) -> F32:
        """Depth of a picture.

        Args:
            image: uint8 [H, W, 3] BGR.

        Returns:
            float32 [H, W]: metres, or relative from 1 (nearest) to 1000 (infinitely far), whose
            inverse is the model's output but for scale. NaN where the model says nothing finite.
        """
        import torch

        height, width = image.shape[:2]
        scale = self._side / min(height, width)
        rows, columns = (max(_PATCH, round(n * scale / _PATCH) * _PATCH) for n in (height, width))
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        rgb = cv2.resize(rgb, (columns, rows), interpolation=cv2.INTER_CUBIC)
        normal = (rgb.astype(np.float32) / 255 - _MEAN) / _DEVIATION
        pixels = torch.from_numpy(normal.transpose(2, 0, 1)[None].copy()).to(self._device)
        with torch.inference_mode():
            out = self._network(pixel_values=pixels).predicted_depth[0].float().cpu().numpy()
        out = cv2.resize(out, (width, height), interpolation=cv2.INTER_LINEAR)
        if self.metric:
            return np.where(out > 0, out, np.nan).astype(np.float32)
        return relative_depth(out)


def _size(width: int) -> tuple[str, str]:
    return _SIZES.get(width, (f"of width {width}", "unknown"))


def terms(width: int) -> str:
    """One line on what the licence of the weights of a backbone's width allows."""
    size, licence = _size(width)
    line = f"Depth Anything V2 {size}, licence {licence}"
    if "NC" in licence:
        return f"{line}: not for commercial use, nor what is trained on its labels"
    if licence == "unknown":
        return f"{line}: look it up before you use what comes of it"
    return line


def relative_depth(inverse: F32) -> F32:
    """Inverse depth of any scale as depth: the nearest is 1, infinitely far 1000, NaN unknown."""
    nearest = float(np.nanmax(inverse)) if np.isfinite(inverse).any() else 0.0
    if not nearest > 0:
        return np.full(inverse.shape, np.nan, np.float32)
    return np.asarray(1 / np.maximum(inverse / nearest, 1 / _FARTHEST), np.float32)
