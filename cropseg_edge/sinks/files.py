"""Files appear under their final name only when they are complete."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


def partial_path(path: Path) -> Path:
    """The name beside `path` while this process writes it: hidden, with the same suffix (encoders
    look at it)."""
    return path.with_name(f".{path.stem[:40]}.{os.getpid()}.part{path.suffix}")


def encode_image(suffix: str, image: NDArray[np.uint8], options: list[int]) -> bytes:
    """Encode a BGR [H, W, 3] or grey [H, W] image as the file type of `suffix` (".png", ".jpg")."""
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise ValueError(f"OpenCV cannot encode a {image.shape} image as {suffix}")
    return data.tobytes()
