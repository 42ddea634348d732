"""Overlay: the frame with its mask drawn over it, for people."""

import cv2
import numpy as np
from numpy.typing import NDArray

from cropseg_edge.frames.frame import Frame
from cropseg_edge.mask import CROP, UNKNOWN, WEED, CropMask, Status

# BGR of area and outline. Green and magenta stay apart in every common form of colour blindness
# (they differ in blue and in lightness), and so do their outlines.
_STYLES: dict[int, tuple[tuple[int, int, int], float, tuple[int, int, int] | None]] = {
    CROP: ((60, 215, 40), 0.38, (150, 255, 190)),
    WEED: ((200, 20, 235), 0.50, (255, 190, 255)),
    UNKNOWN: ((150, 150, 150), 0.45, None),
}
_BANNER_COLOUR = {Status.DEGRADED: (0, 150, 235), Status.INVALID: (40, 30, 200)}
_HATCH_PERIOD = 12  # pixels between the lines over unknown areas


def draw_overlay(
    image_bgr: NDArray[np.uint8], labels: NDArray[np.uint8], mask: CropMask | None = None
) -> NDArray[np.uint8]:
    """Draw labels over a frame: crop green, weed magenta, unknown grey and hatched.

    Args:
        image_bgr: uint8 [H, W, 3].
        labels: uint8 [H, W]: 0 background, 1 crop, 2 weed, 255 unknown.
        mask: where given and its status is not OK, a banner names the status and the reason.

    Returns:
        A new uint8 [H, W, 3] BGR image.
    """
    out = np.array(image_bgr, np.uint8)
    unit = max(1, round(min(labels.shape) / 540))
    for label, (colour, opacity, outline) in _STYLES.items():
        area = np.asarray(labels == label, np.uint8)
        if not area.any():
            continue
        _tint(out, area, colour, opacity)
        if outline is None:
            _hatch(out, area)
        else:
            contours, _ = cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(out, contours, -1, outline, unit, cv2.LINE_AA)
    if mask is not None and mask.status is not Status.OK:
        _banner(out, mask)
    return out


def _tint(
    out: NDArray[np.uint8], area: NDArray[np.uint8], colour: tuple[int, int, int], opacity: float
) -> None:
    """Blend a colour into the area, in place."""
    levels = np.arange(256)[:, None] * (1 - opacity) + np.array(colour) * opacity
    table = np.round(levels).astype(np.uint8).reshape(1, 256, 3)
    cv2.copyTo(cv2.LUT(out, table), area, out)


def _hatch(out: NDArray[np.uint8], area: NDArray[np.uint8]) -> None:
    """Draw light diagonal lines over the area, in place."""
    height, width = area.shape
    diagonal = np.add.outer(np.arange(height), np.arange(width)) % _HATCH_PERIOD
    lines = (diagonal < 2) & (area > 0)
    out[lines] = out[lines] // 2 + 100


def _banner(out: NDArray[np.uint8], mask: CropMask) -> None:
    """Draw a bar with the status and its reason along the upper edge, in place."""
    height, width = out.shape[:2]
    scale = max(0.3, min(height, width) / 900)
    text = f"{mask.status.name}  {mask.reason}".encode("ascii", "replace").decode()
    thickness = max(1, round(scale * 1.6))
    font = cv2.FONT_HERSHEY_SIMPLEX
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, thickness)
    if text_width > width - 16:
        text = text[: max(4, int(len(text) * (width - 16) / text_width) - 3)] + "..."
    bar = min(height, 2 * text_height + 6)
    cv2.rectangle(out, (0, 0), (width, bar), _BANNER_COLOUR[mask.status], cv2.FILLED)
    baseline = (bar + text_height) // 2
    cv2.putText(out, text, (8, baseline), font, scale, (255, 255, 255), thickness, cv2.LINE_AA)


class OverlayPainter:
    """Draws the overlay of a frame once, however many sinks ask for it."""

    def __init__(self) -> None:
        self._mask: CropMask | None = None
        self._image: NDArray[np.uint8] | None = None

    def draw(self, frame: Frame, mask: CropMask) -> NDArray[np.uint8]:
        """The overlay, uint8 [H, W, 3] BGR, shared: do not write into it."""
        if self._image is None or self._mask is not mask:
            self._image = draw_overlay(frame.image, mask.labels, mask)
            self._mask = mask
        return self._image
