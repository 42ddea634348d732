"""Is a frame fit to be segmented? Unusable ones are refused, doubtful ones get a status."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.errors import FrameError
from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import Status

MIN_SIDE = 16
MAX_PIXELS = 50_000_000

DARK_LEVEL, BRIGHT_LEVEL = 8, 250
DOUBTFUL, USELESS = 0.5, 0.9
MIN_CONTRAST = 2.0
MAX_GREY, COLOURLESS = 4, 0.98
NO_COLOUR = (
    "the picture has no colour (a grey camera, or a mosaic that was not demosaiced); "
    "the network needs colour"
)
TILES, COVERED = 8, 0.25
BLURRED = 0.06
SAMPLES_A_SIDE = 160


def check_frame(frame: Frame) -> None:
    """Refuse what is not a picture of a camera.

    Raises:
        FrameError: not uint8 [H, W, 3], a side under 16 pixels, or more than 50 megapixels.
    """
    image = frame.image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise FrameError(f"frame {frame.name}: the image must be uint8, got {kind}")
    if image.ndim != 3 or image.shape[2] != 3:
        shape = list(image.shape)
        raise FrameError(f"frame {frame.name}: the image must be [H, W, 3] in BGR, got {shape}")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise FrameError(
            f"frame {frame.name}: {width}x{height} is too small; at least {MIN_SIDE} pixels a side"
        )
    if height * width > MAX_PIXELS:
        raise FrameError(
            f"frame {frame.name}: {width}x{height} is too large; at most {MAX_PIXELS // 10**6} MP"
        )


def judge(frame: Frame) -> tuple[Status, str]:
    """How far a picture can be trusted, and why no further.

    What is not seen must not be called background. On a grid of at most 320x320 pixels:

    - A pixel is black where every channel is at most 8, saturated where every channel is at least
      250: DEGRADED from half of the pixels on, INVALID from 90 %.
    - A uniform picture is INVALID (standard deviation of the green channel under 2: less than any
      sensor's noise and any field's texture). So is one without colour (channels at most 4 apart
      in 98 % of the pixels), in which the network sees hardly a plant.
    - Of 8x8 tiles those are counted that are uniform, as where dirt covers a part of the lens:
      DEGRADED from a quarter on, INVALID from 90 %.
    - In each tile samples a 160th of the picture apart are compared: half their mean square
      difference as a share of the variance. Where the median of the tiles is small there is no
      detail of that size, as out of focus: DEGRADED below 0.06.

    In 1866 field photographs at most 3 % of the pixels are black (in simulated night and dusk at
    most 18 %), at most 73 % are without colour, and no tile is uniform: the least standard
    deviation is 4.8; none becomes so by JPEG of quality 10. The blurriest has a detail of 0.10; a
    Gaussian of 1 % of the width leaves 0.02 to 0.05, one of 4 % 0.007 to 0.02, and then the network
    misses up to half of the small plants.
    """
    image = frame.image
    step_y, step_x = (max(1, side // SAMPLES_A_SIDE) for side in image.shape[:2])
    blue, green, red = cv2.split(np.ascontiguousarray(image[::step_y, ::step_x]))
    highest, lowest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
    black, saturated = _share(highest, 0, DARK_LEVEL), _share(lowest, BRIGHT_LEVEL, 255)
    if black + saturated >= DOUBTFUL:
        what = "dark" if black > saturated else "overexposed"
        shares = f"{black:.0%} of the pixels are black, {saturated:.0%} saturated"
        return _status(black + saturated), f"{what} picture ({shares})"
    contrast = float(cv2.meanStdDev(green)[1].item())
    if contrast < MIN_CONTRAST:
        return Status.INVALID, f"uniform picture (standard deviation {contrast:.1f} of 255)"
    if _share(cv2.subtract(highest, lowest), 0, MAX_GREY) >= COLOURLESS:
        return Status.INVALID, NO_COLOUR
    samples = np.asarray(green, np.float32)
    variance = _tiles(samples * samples) - _tiles(samples) ** 2
    textured = variance >= MIN_CONTRAST**2
    covered = 1 - float(textured.mean())
    if covered >= COVERED:
        return _status(covered), f"partly covered picture ({covered:.0%} of it is uniform)"
    detail = float(np.median(_differences(samples)[textured] / variance[textured]))
    if detail < BLURRED:
        reason = f"blurred picture (detail {detail:.3f}; a field in focus has 0.1 or more)"
        return Status.DEGRADED, reason
    return Status.OK, ""


def _share(levels: cv2.typing.MatLike, low: int, high: int) -> float:
    """Of the pixels, from `low` to `high`, both included."""
    return cv2.countNonZero(cv2.inRange(levels, low, high)) / levels.size


def _tiles(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each tile."""
    return np.asarray(cv2.resize(samples, (TILES, TILES), interpolation=cv2.INTER_AREA), np.float32)


def _differences(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """For each tile half the mean square difference of samples a 160th of the picture apart."""
    down, right = (max(1, round(side / SAMPLES_A_SIDE)) for side in samples.shape)
    vertical, horizontal = (
        samples[down:] - samples[:-down],
        samples[:, right:] - samples[:, :-right],
    )
    sum_of_squares = _tiles(vertical * vertical) + _tiles(horizontal * horizontal)
    return np.asarray(sum_of_squares / 4, np.float32)


def _status(share: float) -> Status:
    return Status.INVALID if share >= USELESS else Status.DEGRADED
